"""Codecs: round trips, the framings that other clients write, bombs, lies, and cut payloads."""

import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Iterator

import cramjam
import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.records import compression
from ottla.records.compression import CODEC_NAMES, CODEC_NUMBERS, compress, decompress

PACKING = ("gzip", "snappy", "lz4", "zstd")
TEXT = b"".join(b'{"order":%d,"amount":"%d.00"}' % (n, n * 37 % 1000) for n in range(5_000))
MIB = 1 << 20


def code_of(codec: str, data: bytes, max_bytes: int = MIB) -> ErrorCode:
    with pytest.raises(KafkaError) as caught:
        decompress(CODEC_NUMBERS[codec], data, max_bytes)
    return caught.value.code


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("data", [b"", b"a", TEXT[:100], TEXT])
def test_round_trip_up_to_exactly_the_bound(codec: str, data: bytes) -> None:
    number = CODEC_NUMBERS[codec]
    packed = compress(number, memoryview(data))
    assert decompress(number, memoryview(packed), len(data)) == data
    if data:
        assert code_of(codec, packed, len(data) - 1) is ErrorCode.MESSAGE_TOO_LARGE


@given(st.sampled_from(range(5)), st.binary(max_size=3_000), st.sampled_from([None, 1, 9]))
def test_round_trip_of_anything(codec: int, data: bytes, level: int | None) -> None:
    assert decompress(codec, compress(codec, data, level), len(data)) == data


@pytest.mark.parametrize("codec", [-1, 5, 6, 7])
def test_unknown_codec(codec: int) -> None:
    for call in (lambda: compress(codec, b""), lambda: decompress(codec, b"", 10)):
        with pytest.raises(KafkaError) as caught:
            call()
        assert caught.value.code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


def test_a_level_packs_tighter() -> None:
    for codec, low, high in (("gzip", 1, 9), ("lz4", 9, 12), ("zstd", 1, 19)):
        number = CODEC_NUMBERS[codec]
        assert len(compress(number, TEXT, high)) < len(compress(number, TEXT, low))


def test_lz4_blocks_are_independent_and_of_64_kib() -> None:
    info = lz4.frame.get_frame_info(compress(compression.LZ4, TEXT))
    assert not info["block_linked"]
    assert info["block_size_id"] == lz4.frame.BLOCKSIZE_MAX64KB
    assert info["content_size"] == 0


def test_lz4_linked_blocks_and_sizes_are_read() -> None:
    packed = lz4.frame.compress(TEXT, block_linked=True, content_checksum=True)
    assert decompress(compression.LZ4, packed, MIB) == TEXT


def test_zstd_without_a_content_size_is_read() -> None:
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    packed = packer.compress(TEXT) + packer.flush()
    assert zstandard.get_frame_parameters(packed).content_size == zstandard.CONTENTSIZE_UNKNOWN
    assert decompress(compression.ZSTD, packed, len(TEXT)) == TEXT
    assert code_of("zstd", packed, len(TEXT) - 1) is ErrorCode.MESSAGE_TOO_LARGE
    assert code_of("zstd", packed[:-1]) is ErrorCode.INVALID_RECORD


def test_zstd_without_a_size_cut_between_two_blocks() -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    first = packer.compress(TEXT) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    rest = packer.compress(TEXT) + packer.flush()
    assert decompress(compression.ZSTD, first + rest, MIB) == TEXT * 2
    assert code_of("zstd", first) is ErrorCode.INVALID_RECORD


def test_snappy_raw_and_xerial_of_any_block_size_are_read() -> None:
    raw = bytes(cramjam.snappy.compress_raw(TEXT))
    assert decompress(compression.SNAPPY, raw, len(TEXT)) == TEXT
    framed = compression.XERIAL_HEADER + struct.pack(">i", len(raw)) + raw
    assert decompress(compression.SNAPPY, framed, len(TEXT)) == TEXT
    newer = compression.XERIAL_MAGIC + struct.pack(">ii", 9, 1) + struct.pack(">i", len(raw)) + raw
    assert decompress(compression.SNAPPY, newer, len(TEXT)) == TEXT


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_frames_in_a_row_are_one_payload(codec: str) -> None:
    number = CODEC_NUMBERS[codec]
    one, other = compress(number, b"one"), compress(number, b"other")
    assert decompress(number, one + other + one, 11) == b"oneotherone"
    assert code_of(codec, one + other, 7) is ErrorCode.MESSAGE_TOO_LARGE
    assert code_of(codec, one + other[:-1]) is ErrorCode.INVALID_RECORD
    assert code_of(codec, one + b"garbage") is ErrorCode.INVALID_RECORD
    assert code_of(codec, one * (compression.FRAMES_COUNT + 1)) is ErrorCode.INVALID_RECORD


def test_zstd_skippable_frames_are_skipped() -> None:
    skipped = b"\x53\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"
    packed = compress(compression.ZSTD, b"payload")
    assert decompress(compression.ZSTD, skipped + packed, 7) == b"payload"
    assert code_of("zstd", packed + skipped[:-1]) is ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("codec", PACKING)
def test_every_prefix_is_refused(codec: str) -> None:
    packed = compress(CODEC_NUMBERS[codec], TEXT[:300])
    whole = {len(compression.XERIAL_HEADER)} if codec == "snappy" else set()
    for size in range(len(packed)):
        if size in whole:  # xerial framing with no block in it: whole, and empty
            assert decompress(CODEC_NUMBERS[codec], packed[:size], MIB) == b""
        else:
            assert code_of(codec, packed[:size]) is ErrorCode.INVALID_RECORD, size


@pytest.mark.parametrize("codec", PACKING)
def test_every_byte_changed_is_answered(codec: str) -> None:
    number = CODEC_NUMBERS[codec]
    packed = bytearray(compress(number, TEXT[:200]))
    for at in range(len(packed)):
        kept = packed[at]
        for value in (0, 1, 0x7F, 0x80, 0xFF, kept ^ 1, kept ^ 0x10):
            packed[at] = value
            only_kafka_errors(number, bytes(packed))
        packed[at] = kept


@settings(max_examples=300)
@given(st.sampled_from(range(5)), st.binary(max_size=200))
def test_noise_is_answered(codec: int, data: bytes) -> None:
    only_kafka_errors(codec, data)
    only_kafka_errors(codec, compress(codec, b"")[:10] + data)
    only_kafka_errors(compression.SNAPPY, compression.XERIAL_HEADER + data)
    only_kafka_errors(compression.ZSTD, b"\x28\xb5\x2f\xfd" + data)


def only_kafka_errors(codec: int, data: bytes) -> None:
    try:
        assert len(decompress(codec, data, MIB)) <= MIB
    except KafkaError as error:
        assert error.code in (ErrorCode.INVALID_RECORD, ErrorCode.MESSAGE_TOO_LARGE)


def zstd_stream(pieces: Iterator[bytes]) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return b"".join(packer.compress(piece) for piece in pieces) + packer.flush()


def zeros(mib: int) -> Iterator[bytes]:
    return (bytes(MIB) for _ in range(mib))


def bombs() -> dict[str, tuple[str, bytes]]:
    data = bytes(64 * MIB)
    block = struct.pack(">i", 0)
    snappy = bytes(cramjam.snappy.compress_raw(bytes(MIB)))
    block = struct.pack(">i", len(snappy)) + snappy
    return {
        "gzip": ("gzip", zlib.compress(data, 9, 31)),
        "gzip members": ("gzip", gzip.compress(bytes(MIB)) * 64),
        "snappy raw": ("snappy", bytes(cramjam.snappy.compress_raw(data))),
        "snappy blocks": ("snappy", compression.XERIAL_HEADER + block * 64),
        "lz4": ("lz4", compress(compression.LZ4, data)),
        "lz4 with its size": ("lz4", lz4.frame.compress(data, store_size=True)),
        "lz4 frames": ("lz4", compress(compression.LZ4, bytes(MIB)) * 64),
        "zstd with its size": ("zstd", compress(compression.ZSTD, data)),
        "zstd without": ("zstd", zstd_stream(zeros(64))),
        "zstd frames": ("zstd", compress(compression.ZSTD, bytes(MIB)) * 64),
    }


BOMBS = bombs()


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_bounded(name: str) -> None:
    codec, packed = BOMBS[name]
    decompress(CODEC_NUMBERS[codec], compress(CODEC_NUMBERS[codec], b"warm"), 10)
    bound = 2 * MIB
    tracemalloc.start()
    try:
        assert code_of(codec, packed, bound) is ErrorCode.MESSAGE_TOO_LARGE
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * bound + 4 * len(packed)


def zstd_head(descriptor: int, window: bytes, size: bytes) -> bytes:
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + window + size


LIES = {
    "snappy claims 4 GiB": ("snappy", b"\xff\xff\xff\xff\x0fabc", ErrorCode.MESSAGE_TOO_LARGE),
    "snappy claims all that fits": ("snappy", b"\x80\x80\x40abc", ErrorCode.INVALID_RECORD),
    "snappy block of 2 GiB": (
        "snappy",
        compression.XERIAL_HEADER + b"\x7f\xff\xff\xff" + b"abc",
        ErrorCode.INVALID_RECORD,
    ),
    "snappy block of negative size": (
        "snappy",
        compression.XERIAL_HEADER + b"\xff\xff\xff\xff" + b"abc",
        ErrorCode.INVALID_RECORD,
    ),
    "lz4 claims 2^63": (
        "lz4",
        lz4.frame.compress(b"a" * 50, store_size=True)[:6]
        + b"\xff" * 8
        + lz4.frame.compress(b"a" * 50, store_size=True)[14:],
        ErrorCode.INVALID_RECORD,
    ),
    "zstd claims 2^64-2": (
        "zstd",
        zstd_head(0b11100000, b"", b"\xfe" + b"\xff" * 7) + b"\x01\0\0",
        ErrorCode.MESSAGE_TOO_LARGE,
    ),
    "zstd claims all that fits": (
        "zstd",
        zstd_head(0b10100000, b"", struct.pack("<I", MIB)) + b"\x01\0\0",
        ErrorCode.INVALID_RECORD,
    ),
    "zstd claims less than it holds": (
        "zstd",
        zstd_head(0b10100000, b"", struct.pack("<I", 1))
        + (100_000 << 3 | 3).to_bytes(3, "little")
        + b"z",
        ErrorCode.INVALID_RECORD,
    ),
    "zstd with a window of 2 TiB": ("zstd", zstd_head(0, b"\xff", b"") + b"\x01\0\0", None),
}


@pytest.mark.parametrize("name", LIES)
def test_lying_headers_allocate_nothing_past_the_bound(name: str) -> None:
    codec, packed, code = LIES[name]
    tracemalloc.start()
    try:
        assert code_of(codec, packed) is (code or ErrorCode.INVALID_RECORD)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB


def test_codec_names_are_kafkas() -> None:
    assert [CODEC_NAMES[n] for n in range(5)] == ["none", "gzip", "snappy", "lz4", "zstd"]
