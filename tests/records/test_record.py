"""Records both ways, against two other implementations, and every way a batch can lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.records.batch import HEADER_BYTES, read_header, seal_batch
from ottla.records.builder import build_batch
from ottla.records.record import Record, iterate_records
from ottla.records.varint import encode_varint
from tests.records.oracles import READERS, WRITERS, need_codec

MIB = 1 << 20
RECORDS = [
    Record(0, 1_700_000_000_000, b"key", b"value"),
    Record(1, 1_700_000_000_005, None, b"x" * 300, (("name", b"v"), ("ünï", None), ("", b""))),
    Record(2, 1_699_999_999_000, b"", None),
    Record(3, 1_700_000_100_000, b"k" * 70, b"", (("name", b"w" * 130),)),
]


def assert_reads(batch: bytes, records: list[Record]) -> None:
    assert list(iterate_records(batch, MIB)) == records


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("oracle", WRITERS)
@pytest.mark.parametrize("producer", [(-1, -1, -1, False), (9, 3, 40, True)])
def test_other_writers(oracle: str, codec: int, producer: tuple[int, int, int, bool]) -> None:
    need_codec(oracle, codec)
    theirs = WRITERS[oracle](RECORDS, codec, *producer)
    assert_reads(theirs, RECORDS)
    pid, epoch, sequence, transactional = producer
    ours = build_batch(
        RECORDS,
        codec=codec,
        producer_id=pid,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=transactional,
        leader_epoch=read_header(theirs).partition_leader_epoch,
    )
    if codec == 0:
        assert ours == theirs
    else:
        header = read_header(theirs)
        mine = read_header(ours)
        assert mine._replace(crc=0, batch_length=0) == header._replace(crc=0, batch_length=0)


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("oracle", READERS)
def test_other_readers(oracle: str, codec: int) -> None:
    need_codec(oracle, codec)
    records = [record._replace(offset=record.offset + 77) for record in RECORDS]
    batch = bytes(build_batch(records, base_offset=77, codec=codec))
    assert READERS[oracle](batch) == records
    appended = bytes(build_batch(records, base_offset=77, codec=codec, log_append_time=5))
    assert READERS[oracle](appended) == [record._replace(timestamp=5) for record in records]
    assert_reads(appended, [record._replace(timestamp=5) for record in records])


nullable = st.none() | st.binary(max_size=200)
names = st.text(max_size=20)


@st.composite
def record_lists(draw: st.DrawFn) -> list[Record]:
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 1 << 20),
                st.integers(-1, 1 << 60),
                nullable,
                nullable,
                st.lists(st.tuples(names, nullable), max_size=3).map(tuple),
            ),
            min_size=1,
            max_size=8,
        )
    )
    offset = draw(st.integers(0, 1 << 40))
    records = []
    for gap, *fields in rows:
        offset += gap
        records.append(Record(offset, *fields))
        offset += 1
    return records


@given(record_lists(), st.sampled_from(range(5)))
def test_round_trip_with_gaps(records: list[Record], codec: int) -> None:
    batch = build_batch(records, base_offset=records[0].offset, codec=codec)
    assert_reads(batch, records)
    header = read_header(batch)
    assert header.last_offset == records[-1].offset
    assert header.max_timestamp == max(record.timestamp for record in records)


def test_names_that_are_not_utf8_come_back_as_they_were() -> None:
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    batch = build_batch([Record(0, 1, headers=((name, None),))])
    (record,) = iterate_records(batch, MIB)
    assert build_batch([record]) == batch


def one_record(payload: bytes) -> bytes:
    return encode_varint(len(payload)) + payload


def with_body(body: bytes, count: int = 1) -> bytearray:
    batch = build_batch([Record(n, 0) for n in range(count)])[:HEADER_BYTES] + body
    batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
    seal_batch(batch)
    return batch


GOOD = bytes.fromhex("00 00 00 01 01 00".replace(" ", ""))
LYING_BODIES = {
    "no record at all": b"",
    "length 0": b"\x00",
    "negative length": b"\x01" + GOOD,
    "longer than the batch": encode_varint(7) + GOOD,
    "length of 2^31-1": encode_varint(2**31 - 1) + GOOD,
    "six-byte length": b"\x80\x80\x80\x80\x80\x00" + GOOD,
    "unfinished length": b"\x80",
    "shorter than its fields": encode_varint(5) + GOOD,
    "longer than its fields": one_record(GOOD + b"\x00"),
    "only attributes": one_record(b"\x00"),
    "unfinished timestamp": one_record(b"\x00" + b"\xff" * 9),
    "timestamp of 70 bits": one_record(b"\x00" + b"\xff" * 9 + b"\x7f\x00\x01\x01\x00"),
    "key past the record": one_record(b"\x00\x00\x00\x14\x01\x00"),
    "key of length -2": one_record(b"\x00\x00\x00\x03\x01\x00"),
    "value past the record": one_record(b"\x00\x00\x00\x01\x14\x00"),
    "value of 2^31-1": one_record(b"\x00\x00\x00\x01" + encode_varint(2**31 - 1) + b"\x00"),
    "header count -1": one_record(b"\x00\x00\x00\x01\x01\x01"),
    "header count past the record": one_record(b"\x00\x00\x00\x01\x01\x04\x00"),
    "header count 2^31-1": one_record(b"\x00\x00\x00\x01\x01" + encode_varint(2**31 - 1)),
    "null header name": one_record(b"\x00\x00\x00\x01\x01\x02\x01\x01"),
    "header name past the record": one_record(b"\x00\x00\x00\x01\x01\x02\x08\x01"),
    "header value past the record": one_record(b"\x00\x00\x00\x01\x01\x02\x00\x08"),
    "one more record": one_record(GOOD) * 2,
    "one more byte": one_record(GOOD) + b"\x00",
}


@pytest.mark.parametrize("name", LYING_BODIES)
def test_bodies_that_are_not_what_they_say(name: str) -> None:
    assert_refused(with_body(LYING_BODIES[name]), ErrorCode.INVALID_RECORD)


def test_the_good_body_among_them_is_good() -> None:
    assert_reads(with_body(one_record(GOOD)), [Record(0, 0)])


def test_fewer_records_than_counted() -> None:
    assert_refused(with_body(one_record(GOOD), count=2), ErrorCode.INVALID_RECORD)


def test_a_record_inside_another() -> None:
    body = one_record(GOOD + one_record(GOOD))
    assert_refused(with_body(body, count=1), ErrorCode.INVALID_RECORD)
    assert_refused(with_body(body, count=2), ErrorCode.INVALID_RECORD)


@pytest.mark.parametrize(("edge", "delta"), [(2**63 - 1, b"\x02"), (-(2**63), b"\x01")])
def test_a_timestamp_past_64_bits(edge: int, delta: bytes) -> None:
    batch = build_batch([Record(0, edge)])
    batch[HEADER_BYTES:] = one_record(b"\x00" + delta + b"\x00\x01\x01\x00")
    assert_refused(batch, ErrorCode.INVALID_RECORD)


def test_headers_that_are_not_of_the_batch() -> None:
    batch = build_batch(RECORDS)
    assert_refused(batch[:-1], ErrorCode.CORRUPT_MESSAGE)
    assert_refused(batch + b"\0", ErrorCode.CORRUPT_MESSAGE)
    assert_refused(batch[:20], ErrorCode.CORRUPT_MESSAGE)
    old = bytearray(batch)
    old[16] = 1
    assert_refused(old, ErrorCode.CORRUPT_MESSAGE)
    negative = bytearray(batch)
    negative[57] = 0x80
    assert_refused(negative, ErrorCode.CORRUPT_MESSAGE)


def test_unpacking_is_bounded() -> None:
    batch = build_batch([Record(0, 1, None, bytes(MIB))], codec=4)
    assert_refused(batch, ErrorCode.MESSAGE_TOO_LARGE)


def assert_refused(batch: bytes, code: ErrorCode) -> None:
    with pytest.raises(KafkaError) as caught:
        list(iterate_records(batch, MIB))
    assert caught.value.code is code
