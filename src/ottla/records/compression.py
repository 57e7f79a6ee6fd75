"""The codecs of record batches, by their number on the wire, with memory that a sender cannot set.

    number  codec    framing of the payload
       0    none
       1    gzip     members (RFC 1952)
       2    snappy   xerial: 82 'SNAPPY' 00, i32 version, i32 lowest reader, then blocks of
                     i32 size + raw snappy; or one raw snappy block without any framing, which
                     librdkafka and Java read too
       3    lz4      LZ4 frames; written with independent 64 KiB blocks (Java reads no other)
       4    zstd     frames (RFC 8878)

`decompress` never holds more than a small multiple of `max_bytes`, whatever a header claims:
a claimed size is compared with the bound before anything is allocated for it, and a payload
that claims none is unpacked no further than one byte past the bound. A frame that is cut short
and bytes behind the last frame are errors, since the libraries keep silent about both.
Several frames in a row are read as one, up to `FRAMES_COUNT`: no client writes more than one,
and the libraries copy the rest of the payload at each.

Levels are Kafka's (`compression.gzip.level` ...); None is the default of the codec.
Libraries load at the first use of their codec, so that a node without compression starts sooner.
"""

import zlib
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.world import Bytes

NONE: Final = 0
GZIP: Final = 1
SNAPPY: Final = 2
LZ4: Final = 3
ZSTD: Final = 4
CODEC_NAMES: Final = ("none", "gzip", "snappy", "lz4", "zstd")
"""Kafka's name of each codec, at its number."""
CODEC_NUMBERS: Final = {name: number for number, name in enumerate(CODEC_NAMES)}

FRAMES_COUNT: Final = 100
FIRST_PIECE_BYTES: Final = 64 * 1024
GZIP_WBITS: Final = 31
LZ4_DEFAULT_LEVEL: Final = 9
LZ4_LOWEST_HIGH_LEVEL: Final = 3
ZSTD_DEFAULT_LEVEL: Final = 3
ZSTD_WINDOW_BYTES: Final = 1 << 27
ZSTD_HEAD_BYTES: Final = 18
ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"
XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
XERIAL_HEADER: Final = XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"
XERIAL_BLOCK_BYTES: Final = 32 * 1024
XERIAL_SIZE: Final = Struct(">i")


def compress(codec: int, data: Bytes, level: int | None = None) -> bytes:
    """`data` as the records section of a batch with this codec."""
    return _codec(codec).compress(data, level)


def decompress(codec: int, data: Bytes, max_bytes: int) -> bytes:
    """What was packed, at most `max_bytes` of it.

    KafkaError: INVALID_RECORD where `data` is not of this codec, MESSAGE_TOO_LARGE where it
    unpacks to more, UNSUPPORTED_COMPRESSION_TYPE where there is no such codec.
    """
    return _codec(codec).decompress(memoryview(data), max_bytes)


class _Output:
    """Pieces that come out, held to a bound, from a bounded count of frames."""

    def __init__(self, max_bytes: int) -> None:
        self.pieces: list[bytes] = []
        self.room = max_bytes
        self.frames = 0

    def add(self, piece: bytes) -> None:
        self.claim(len(piece))
        self.room -= len(piece)
        self.pieces.append(piece)

    def claim(self, size: int) -> None:
        """Refuse a size, be it claimed or come true, for which there is no room."""
        if size > self.room:
            raise KafkaError(
                ErrorCode.MESSAGE_TOO_LARGE, "Compressed records unpack to more than is allowed"
            )

    def start_frame(self) -> None:
        self.frames += 1
        if self.frames > FRAMES_COUNT:
            raise _invalid("too many frames")

    def joined(self) -> bytes:
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


def _invalid(cause: object) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_RECORD, f"Compressed records cannot be read: {cause}")


def _compress_none(data: Bytes, level: int | None) -> bytes:
    return bytes(data)


def _decompress_none(data: memoryview, max_bytes: int) -> bytes:
    _Output(max_bytes).claim(len(data))
    return bytes(data)


def _compress_gzip(data: Bytes, level: int | None) -> bytes:
    return zlib.compress(data, -1 if level is None else level, GZIP_WBITS)


def _decompress_gzip(data: memoryview, max_bytes: int) -> bytes:
    out = _Output(max_bytes)
    rest: Bytes = data
    while rest or not out.frames:
        out.start_frame()
        member = zlib.decompressobj(GZIP_WBITS)
        try:
            out.add(member.decompress(rest, out.room + 1))
        except zlib.error as error:
            raise _invalid(error) from None
        if not member.eof:
            raise _invalid("gzip member is cut short")
        rest = member.unused_data
    return out.joined()


def _compress_snappy(data: Bytes, level: int | None) -> bytes:
    from cramjam import snappy

    view = memoryview(data)
    parts = [XERIAL_HEADER]
    for at in range(0, len(view), XERIAL_BLOCK_BYTES):
        block = bytes(snappy.compress_raw(view[at : at + XERIAL_BLOCK_BYTES]))
        parts += (XERIAL_SIZE.pack(len(block)), block)
    return b"".join(parts)


def _decompress_snappy(data: memoryview, max_bytes: int) -> bytes:
    out = _Output(max_bytes)
    if bytes(data[: len(XERIAL_MAGIC)]) != XERIAL_MAGIC:
        _unpack_snappy_block(data, out)
        return out.joined()
    at, end = len(XERIAL_HEADER), len(data)
    if at > end:
        raise _invalid("snappy framing is cut short")
    while at < end:
        start = at + XERIAL_SIZE.size
        size = XERIAL_SIZE.unpack_from(data, at)[0] if start <= end else -1
        if not 0 <= size <= end - start:
            raise _invalid("snappy block is cut short")
        at = start + size
        _unpack_snappy_block(data[start:at], out)
    return out.joined()


def _unpack_snappy_block(block: memoryview, out: _Output) -> None:
    from cramjam import DecompressionError, snappy

    try:
        out.claim(snappy.decompress_raw_len(block))
        out.add(bytes(snappy.decompress_raw(block)))
    except DecompressionError as error:
        raise _invalid(error) from None


def _compress_lz4(data: Bytes, level: int | None) -> bytes:
    from lz4 import frame

    fast = level is None or level == LZ4_DEFAULT_LEVEL  # Kafka's default is the fast compressor
    packed: bytes = frame.compress(
        data,
        compression_level=0 if fast else max(level or 0, LZ4_LOWEST_HIGH_LEVEL),
        block_size=frame.BLOCKSIZE_MAX64KB,
        block_linked=False,
        store_size=False,
    )
    return packed


def _decompress_lz4(data: memoryview, max_bytes: int) -> bytes:
    from lz4 import frame

    out = _Output(max_bytes)
    rest: Bytes | None = data
    piece_bytes = max(FIRST_PIECE_BYTES, 4 * len(data))  # the library allocates what it may fill
    while rest or not out.frames:
        out.start_frame()
        decoder = frame.LZ4FrameDecompressor()
        while not decoder.eof:
            try:
                out.add(decoder.decompress(rest, max_length=min(piece_bytes, out.room + 1)))
            except (RuntimeError, EOFError, ValueError, MemoryError) as error:
                raise _invalid(error) from None
            if decoder.needs_input and not decoder.eof:
                raise _invalid("lz4 frame is cut short")
            rest, piece_bytes = b"", piece_bytes * 2
        rest = decoder.unused_data
    return out.joined()


def _compress_zstd(data: Bytes, level: int | None) -> bytes:
    import zstandard

    packer = zstandard.ZstdCompressor(level=ZSTD_DEFAULT_LEVEL if level is None else level)
    return packer.compress(data)


def _decompress_zstd(data: memoryview, max_bytes: int) -> bytes:
    import zstandard

    out = _Output(max_bytes)
    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    at = 0
    while at < len(data) or not out.frames:
        out.start_frame()
        try:
            end, content_bytes = _zstd_frame(data, at)
            if content_bytes > 0:
                out.claim(content_bytes)
                out.add(decoder.decompress(data[at:end], max_output_size=content_bytes))
            elif content_bytes < 0:
                out.add(decoder.stream_reader(data[at:end]).read(out.room + 1))
        except (zstandard.ZstdError, MemoryError) as error:
            raise _invalid(error) from None
        at = end
    return out.joined()


def _zstd_frame(data: memoryview, at: int) -> tuple[int, int]:
    """(end, claimed size of the content, -1 if none is claimed) of the frame at `at`."""
    import zstandard

    head = bytes(data[at : at + ZSTD_HEAD_BYTES])
    if head[1:4] == ZSTD_SKIPPABLE and head[0] >> 4 == 5:
        end, content_bytes = at + 8 + int.from_bytes(head[4:8], "little"), 0
    else:
        parameters = zstandard.get_frame_parameters(head)
        content_bytes = parameters.content_size
        if content_bytes == zstandard.CONTENTSIZE_UNKNOWN:
            content_bytes = -1
        end = at + zstandard.frame_header_size(head)
        is_last = False
        while not is_last and end < len(data):
            block = int.from_bytes(data[end : end + 3], "little")
            is_last = bool(block & 1)
            is_run = block >> 1 & 3 == 1
            end += 3 + (1 if is_run else block >> 3)
        end += 4 * parameters.has_checksum + (not is_last)
    if end > len(data):
        raise _invalid("zstd frame is cut short")
    return end, content_bytes


class _Codec(NamedTuple):
    compress: Callable[[Bytes, int | None], bytes]
    decompress: Callable[[memoryview, int], bytes]


_CODECS: Final = (
    _Codec(_compress_none, _decompress_none),
    _Codec(_compress_gzip, _decompress_gzip),
    _Codec(_compress_snappy, _decompress_snappy),
    _Codec(_compress_lz4, _decompress_lz4),
    _Codec(_compress_zstd, _decompress_zstd),
)


def _codec(number: int) -> _Codec:
    if not 0 <= number < len(_CODECS):
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"Compression codec {number} does not exist"
        )
    return _CODECS[number]
