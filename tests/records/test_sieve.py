"""What compaction does to the bytes of a batch, at its edges."""

import pytest

from ottla.base.errors import KafkaError
from ottla.records import sieve
from ottla.records.batch import HEADER_BYTES, BatchHeader, read_header
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.records.sieve import Packing, filler_batch, raw_records, rebuild
from ottla.records.varint import encode_varint

GZIP = 1


def batch_of(*values: bytes | None) -> tuple[BatchHeader, bytes]:
    batch = bytes(build_batch([Record(at, 5, b"k", value) for at, value in enumerate(values)]))
    return read_header(batch), batch[HEADER_BYTES:]


def record(
    *, size: int | None = None, delta: bytes = b"\0", key: int = -1, value: int = -1
) -> bytes:
    """The bytes of a record whose lengths say what they are told to say."""
    inside = b"\0" + delta + b"\0" + encode_varint(key) + encode_varint(value) + b"\0"
    return encode_varint(len(inside) if size is None else size) + inside


def test_an_empty_value_is_one_and_an_empty_key_too() -> None:
    header, body = batch_of(b"", None, b"v")
    assert [each.has_value for each in raw_records(header, body)] == [True, False, True]
    header, _ = batch_of(b"v")
    assert [each.key for each in raw_records(header, record(key=0))] == [b""]
    assert [each.key for each in raw_records(header, record())] == [None]


@pytest.mark.parametrize(
    "body",
    [
        record(key=-2),
        record(value=-2),
        record(value=1),
        record(size=0),
        record(size=-1),
        record(size=7),
        record() + b"\0",
        record(delta=b"\xff" * 9 + b"\x03"),
        b"",
    ],
)
def test_lengths_that_do_not_fit(body: bytes) -> None:
    header, _ = batch_of(b"v")
    with pytest.raises(KafkaError):
        list(raw_records(header, body))


def test_a_time_may_have_64_bits() -> None:
    header, _ = batch_of(b"v")
    (found,) = raw_records(header, record(delta=b"\xff" * 9 + b"\x01"))
    assert found.timestamp_delta == -(1 << 63)


@pytest.mark.parametrize(("more", "codec"), [(0, GZIP), (1, 0)])
def test_a_codec_is_taken_where_the_batch_does_not_grow(
    monkeypatch: pytest.MonkeyPatch, more: int, codec: int
) -> None:
    header, body = batch_of(b"v", b"w")
    packed = b"x" * (len(body) + more)
    monkeypatch.setattr(
        sieve, "compress", lambda codec, records, level: packed if codec else records
    )
    kept = list(raw_records(header, body))
    rebuilt = rebuild(header, body, kept, Packing(GZIP))
    assert read_header(rebuilt).codec == codec
    assert rebuilt[HEADER_BYTES:] == (packed if codec else body)


@pytest.mark.parametrize(("own", "level"), [(GZIP, 9), (2, None)])
def test_a_level_is_for_its_own_codec(
    monkeypatch: pytest.MonkeyPatch, own: int, level: int | None
) -> None:
    """A batch that keeps the codec it had is not packed by the level of another one."""
    asked = []

    def compress(codec: int, records: bytes, level: int | None) -> bytes:
        asked.append((codec, level))
        return b"x" * 1_000

    monkeypatch.setattr(sieve, "compress", compress)
    header, body = batch_of(b"v")
    kept = list(raw_records(header, body))
    rebuild(header._replace(attributes=own), body, kept, Packing(GZIP, 9))
    assert asked[-1] == (own, level)


def test_a_filler_tells_its_offsets_and_nothing_else() -> None:
    header, _ = batch_of(b"v", b"w")
    filler = read_header(filler_batch(header._replace(producer_id=7, producer_epoch=3)))
    assert (filler.base_offset, filler.last_offset) == (header.base_offset, header.last_offset)
    assert (filler.producer_id, filler.producer_epoch, filler.base_sequence) == (-1, -1, -1)
    assert (filler.record_count, filler.attributes) == (0, 0)
    assert (filler.base_timestamp, filler.max_timestamp) == (-1, -1)
