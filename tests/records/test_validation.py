"""The produce path: what passes untouched, what is rewritten, and the exact code of a refusal."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base import limits
from ottla.base.errors import ErrorCode, KafkaError
from ottla.records import validation
from ottla.records.batch import HEADER_BYTES, read_header, seal_batch
from ottla.records.builder import build_batch
from ottla.records.record import Record, iterate_records
from ottla.records.validation import BatchRules, Checked, RecordsRejected, check_produced

MIB = 1 << 20
NOW = 1_700_000_000_000
HOUR = 3_600_000
PLAIN = BatchRules()
DEEP = BatchRules(deep=True)


def records_of(count: int = 3, timestamp: int = NOW, key: bytes | None = b"k") -> list[Record]:
    return [Record(n, timestamp + n, key, b"value" * 20, (("h", b"x"),)) for n in range(count)]


def check(batch: bytes, rules: BatchRules = PLAIN, *, zstd_allowed: bool = True) -> Checked:
    return check_produced(memoryview(bytearray(batch)), rules, NOW, zstd_allowed=zstd_allowed)


def refusal(batch: bytes, rules: BatchRules = PLAIN, *, zstd_allowed: bool = True) -> KafkaError:
    with pytest.raises(KafkaError) as caught:
        check(batch, rules, zstd_allowed=zstd_allowed)
    return caught.value


@pytest.mark.parametrize("rules", [PLAIN, DEEP, BatchRules(compacted=True)])
@pytest.mark.parametrize("codec", range(5))
def test_a_good_batch_passes_as_it_is(codec: int, rules: BatchRules) -> None:
    batch = build_batch(records_of(), codec=codec, producer_id=3, producer_epoch=0, base_sequence=0)
    view = memoryview(bytearray(batch))
    checked = check_produced(view, rules, NOW)
    assert checked.records is view and bytes(view) == batch
    assert checked.batches == (read_header(batch),)


def patched(at: int, form: str, value: int, *, seal: bool = True) -> bytearray:
    batch = build_batch(records_of(), producer_id=3, producer_epoch=0, base_sequence=0)
    struct.pack_into(">" + form, batch, at, value)
    if seal:
        seal_batch(batch)
    return batch


def counting(count: int, last_delta: int) -> bytearray:
    batch = patched(57, "i", count)
    struct.pack_into(">i", batch, 23, last_delta)
    seal_batch(batch)
    return batch


def no_producer(**fields: int) -> bytearray:
    return build_batch(records_of(), **fields)


LENGTH = len(build_batch(records_of())) - 12
C = ErrorCode
REFUSED: dict[str, tuple[bytes, ErrorCode]] = {
    "nothing": (b"", C.INVALID_RECORD),
    "sixteen bytes": (bytes(build_batch(records_of())[:16]), C.INVALID_RECORD),
    "length 0": (patched(8, "i", 0), C.CORRUPT_MESSAGE),
    "length -1": (patched(8, "i", -1), C.CORRUPT_MESSAGE),
    "length 13": (patched(8, "i", 13), C.CORRUPT_MESSAGE),
    "length below the header": (patched(8, "i", 48), C.CORRUPT_MESSAGE),
    "length one less": (patched(8, "i", LENGTH - 1), C.INVALID_RECORD),
    "length one more": (patched(8, "i", LENGTH + 1), C.INVALID_RECORD),
    "length 2^31-1": (patched(8, "i", 2**31 - 1), C.INVALID_RECORD),
    "length 13, magic 1": (
        struct.pack(">qiibi", 0, 13, 0, 1, 0) + bytes(4),
        C.CORRUPT_MESSAGE,
    ),
    "cut short": (bytes(build_batch(records_of())[:-1]), C.INVALID_RECORD),
    "bytes behind": (bytes(build_batch(records_of())) + b"\0", C.INVALID_RECORD),
    "two batches": (bytes(build_batch(records_of())) * 2, C.INVALID_RECORD),
    "magic 0": (patched(16, "b", 0), C.INVALID_RECORD),
    "magic 1": (patched(16, "b", 1), C.INVALID_RECORD),
    "magic 3": (patched(16, "b", 3), C.CORRUPT_MESSAGE),
    "magic -1": (patched(16, "b", -1), C.CORRUPT_MESSAGE),
    "CRC": (patched(17, "I", 0, seal=False), C.CORRUPT_MESSAGE),
    "last byte": (
        patched(LENGTH + 11, "B", 0x55, seal=False),
        C.CORRUPT_MESSAGE,
    ),
    "base offset 1": (patched(0, "q", 1), C.INVALID_RECORD),
    "base offset -1": (patched(0, "q", -1), C.INVALID_RECORD),
    "codec 5": (patched(21, "h", 5), C.UNSUPPORTED_COMPRESSION_TYPE),
    "codec 7": (patched(21, "h", 7), C.UNSUPPORTED_COMPRESSION_TYPE),
    "log-append time": (patched(21, "h", 8), C.INVALID_TIMESTAMP),
    "control": (patched(21, "h", 0x20), C.INVALID_RECORD),
    "control, transactional": (patched(21, "h", 0x30), C.INVALID_RECORD),
    "delete horizon": (patched(21, "h", 0x40), C.INVALID_RECORD),
    "bit 7": (patched(21, "h", 0x80), C.INVALID_RECORD),
    "bit 15": (patched(21, "h", -0x8000), C.INVALID_RECORD),
    "last delta one more": (patched(23, "i", 3), C.INVALID_RECORD),
    "last delta one less": (patched(23, "i", 1), C.INVALID_RECORD),
    "last delta -1": (patched(23, "i", -1), C.INVALID_RECORD),
    "last delta 2^31-1": (patched(23, "i", 2**31 - 1), C.INVALID_RECORD),
    "count 0": (patched(57, "i", 0), C.INVALID_RECORD),
    "count 0 and last delta -1": (counting(0, -1), C.INVALID_RECORD),
    "count -1 and last delta -2": (counting(-1, -2), C.INVALID_RECORD),
    "count -1": (patched(57, "i", -1), C.INVALID_RECORD),
    "count one more": (patched(57, "i", 4), C.INVALID_RECORD),
    "count 2^31-1": (patched(57, "i", 2**31 - 1), C.INVALID_RECORD),
    "epoch -1 of a producer": (patched(51, "h", -1), C.INVALID_RECORD),
    "sequence -1 of a producer": (patched(53, "i", -1), C.INVALID_RECORD),
    "sequence -2^31 of a producer": (patched(53, "i", -(2**31)), C.INVALID_RECORD),
    "producer -2": (patched(43, "q", -2), C.INVALID_RECORD),
    "transactional without a producer": (no_producer(transactional=True), C.INVALID_RECORD),
    "base timestamp too late": (patched(27, "q", NOW + HOUR + 1), C.INVALID_TIMESTAMP),
    "max timestamp too late": (patched(35, "q", NOW + HOUR + 1), C.INVALID_TIMESTAMP),
    "max timestamp 2^63-1": (patched(35, "q", 2**63 - 1), C.INVALID_TIMESTAMP),
    "base timestamp -2^63": (patched(27, "q", -(2**63)), C.INVALID_TIMESTAMP),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("rules", [PLAIN, DEEP])
def test_refused_with_kafkas_code(name: str, rules: BatchRules) -> None:
    batch, code = REFUSED[name]
    error = refusal(batch, rules)
    assert error.code is code
    assert error.message != code.name


PASSING: dict[str, bytes] = {
    "sequence without a producer, as some clients send": no_producer(base_sequence=0),
    "highest sequence": patched(53, "i", 2**31 - 1),
    "any leader epoch": patched(12, "i", 77),
    "latest timestamp": build_batch([Record(0, NOW + HOUR)]),
    "oldest timestamp": build_batch([Record(0, 0)]),
    "no timestamp": build_batch([Record(0, -1)]),
    "transactional": build_batch(
        records_of(), producer_id=0, producer_epoch=0, base_sequence=0, transactional=True
    ),
}


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("rules", [PLAIN, DEEP])
def test_limits_that_just_pass(name: str, rules: BatchRules) -> None:
    assert bytes(check(PASSING[name], rules).records) == PASSING[name]


def test_size_is_that_of_the_whole_batch() -> None:
    batch = build_batch(records_of())
    check(batch, BatchRules(max_message_bytes=len(batch)))
    error = refusal(batch, BatchRules(max_message_bytes=len(batch) - 1))
    assert error.code is ErrorCode.MESSAGE_TOO_LARGE


def test_zstd_needs_produce_7() -> None:
    batch = build_batch(records_of(), codec=4)
    check(batch)
    assert refusal(batch, zstd_allowed=False).code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    check(build_batch(records_of(), codec=3), zstd_allowed=False)


@pytest.mark.parametrize("deep", [False, True])
def test_timestamp_bounds_of_the_topic(deep: bool) -> None:
    rules = BatchRules(timestamp_before_max_ms=1_000, timestamp_after_max_ms=50, deep=deep)
    for ages, passes in [((1_000, -50), True), ((1_001, 0), False), ((0, -51), False)]:
        batch = build_batch([Record(n, NOW - age) for n, age in enumerate(ages)])
        if passes:
            check(batch, rules)
        else:
            assert refusal(batch, rules).code is ErrorCode.INVALID_TIMESTAMP
        check(build_batch([Record(0, -1)]), rules)
        appending = BatchRules(timestamp_before_max_ms=0, log_append_time=True, deep=deep)
        check(batch, appending)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("codec", range(5))
def test_log_append_time_is_patched_in_place(codec: int, deep: bool) -> None:
    view = memoryview(build_batch(records_of(timestamp=5), codec=codec))
    before = read_header(view)
    rules = BatchRules(log_append_time=True, deep=deep)
    checked = check_produced(view, rules, NOW)
    assert checked.records is view
    (header,) = checked.batches
    assert header == read_header(view)
    assert header.is_log_append_time and header.max_timestamp == NOW
    assert header.base_timestamp == before.base_timestamp and header.codec == codec
    expected = [record._replace(timestamp=NOW) for record in records_of(timestamp=5)]
    assert list(iterate_records(view, MIB)) == expected
    assert_sealed(view)


@pytest.mark.parametrize("append_time", [False, True])
@pytest.mark.parametrize("target", range(5))
@pytest.mark.parametrize("source", range(5))
def test_a_forced_codec(source: int, target: int, append_time: bool) -> None:
    batch = build_batch(
        records_of(),
        codec=source,
        producer_id=8,
        producer_epoch=1,
        base_sequence=6,
        transactional=True,
    )
    checked = check(batch, BatchRules(codec=target, log_append_time=append_time))
    (header,) = checked.batches
    assert header == read_header(checked.records)
    assert header.codec == target and header.is_log_append_time == append_time
    before = read_header(batch)
    assert header[6:8] == before[6:8] and header[9:] == before[9:]
    expected = records_of()
    if append_time:
        expected = [record._replace(timestamp=NOW) for record in expected]
    assert list(iterate_records(checked.records, MIB)) == expected
    assert_sealed(checked.records)


def test_a_forced_codec_may_make_a_batch_too_large() -> None:
    batch = build_batch([Record(0, NOW, None, bytes(10_000))], codec=4)
    rules = BatchRules(codec=0, max_message_bytes=5_000)
    assert refusal(batch, rules).code is ErrorCode.MESSAGE_TOO_LARGE


def assert_sealed(batch: bytes | memoryview | bytearray) -> None:
    again = bytearray(batch)
    seal_batch(again)
    assert again == batch


@pytest.mark.parametrize("codec", range(5))
def test_null_keys_on_a_compacted_topic_are_named(codec: int) -> None:
    keys = [b"a", None, b"", None]
    batch = build_batch([Record(n, NOW, key) for n, key in enumerate(keys)], codec=codec)
    check(batch, DEEP)
    error = refusal(batch, BatchRules(compacted=True))
    assert isinstance(error, RecordsRejected) and error.code is ErrorCode.INVALID_RECORD
    assert [index for index, _ in error.record_errors] == [1, 3]
    assert all("key" in message for _, message in error.record_errors)


def test_only_so_many_errors_are_named() -> None:
    batch = build_batch([Record(n, NOW) for n in range(validation.RECORD_ERRORS_COUNT + 50)])
    error = refusal(batch, BatchRules(compacted=True))
    assert isinstance(error, RecordsRejected)
    assert len(error.record_errors) == validation.RECORD_ERRORS_COUNT


def with_records(records: list[Record], codec: int = 0) -> bytearray:
    """A batch whose header counts as if its offsets were in order."""
    batch = build_batch(records, codec=codec)
    struct.pack_into(">i", batch, 23, len(records) - 1)
    seal_batch(batch)
    return batch


@pytest.mark.parametrize("codec", range(5))
def test_deep_sees_offsets_out_of_order(codec: int) -> None:
    batch = with_records([Record(0, NOW), Record(2, NOW), Record(1, NOW)], codec)
    check(batch)
    error = refusal(batch, DEEP)
    assert isinstance(error, RecordsRejected) and error.code is ErrorCode.INVALID_RECORD
    assert [index for index, _ in error.record_errors] == [1, 2]


def test_deep_sees_a_timestamp_that_the_header_hides() -> None:
    batch = build_batch([Record(0, NOW), Record(1, NOW + HOUR + 1), Record(2, NOW)])
    struct.pack_into(">q", batch, 35, NOW)
    seal_batch(batch)
    check(batch)
    error = refusal(batch, DEEP)
    assert isinstance(error, RecordsRejected) and error.code is ErrorCode.INVALID_TIMESTAMP
    assert [index for index, _ in error.record_errors] == [1]


@pytest.mark.parametrize("codec", range(5))
def test_deep_sees_what_the_header_cannot(codec: int) -> None:
    more = build_batch(records_of(3), codec=codec)
    struct.pack_into(">i", more, 57, 2)
    struct.pack_into(">i", more, 23, 1)
    seal_batch(more)
    check(more)
    assert refusal(more, DEEP).code is ErrorCode.INVALID_RECORD
    struct.pack_into(">i", more, 57, 4)
    struct.pack_into(">i", more, 23, 3)
    seal_batch(more)
    check(more)
    assert refusal(more, DEEP).code is ErrorCode.INVALID_RECORD


@pytest.mark.parametrize(
    ("rules", "sent", "kept"),
    [
        (DEEP, NOW + 500, NOW + 2),
        (DEEP, -1, NOW + 2),
        (PLAIN, NOW + 500, NOW + 500),
        (PLAIN, -1, NOW),
        (BatchRules(codec=1), -1, NOW),
    ],
)
def test_a_wrong_largest_timestamp_is_put_right(rules: BatchRules, sent: int, kept: int) -> None:
    batch = build_batch(records_of())
    struct.pack_into(">q", batch, 35, sent)
    seal_batch(batch)
    checked = check(batch, rules)
    (header,) = checked.batches
    assert header == read_header(checked.records) and header.max_timestamp == kept
    assert_sealed(checked.records)


def test_unpacking_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "DECOMPRESSED_BYTES", MIB)
    assert limits.DECOMPRESSED_BYTES > MIB
    for codec in (1, 2, 3, 4):
        batch = build_batch([Record(0, NOW, b"k", bytes(MIB))], codec=codec)
        check(batch)
        for rules in (DEEP, BatchRules(codec=0, max_message_bytes=4 * MIB)):
            assert refusal(batch, rules).code is ErrorCode.MESSAGE_TOO_LARGE


ALL_RULES = (
    PLAIN,
    DEEP,
    BatchRules(compacted=True, log_append_time=True),
    BatchRules(codec=0),
    BatchRules(codec=3, deep=True, log_append_time=True),
)


@pytest.mark.parametrize("codec", range(5))
def test_every_prefix_is_refused(codec: int) -> None:
    batch = bytes(build_batch(records_of(), codec=codec))
    for size in range(len(batch)):
        assert refusal(batch[:size]).code is ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("seal", [False, True], ids=["as it is", "sealed anew"])
def test_every_byte_changed_is_answered(codec: int, seal: bool) -> None:
    good = build_batch(records_of(2), codec=codec, producer_id=1, producer_epoch=1, base_sequence=1)
    for at in range(len(good)):
        for change in (0x01, 0x10, 0x80, 0xFF):
            batch = bytearray(good)
            batch[at] ^= change
            if seal:
                seal_batch(batch)
            for rules in ALL_RULES if seal else (PLAIN,):
                passed = answered(batch, rules)
            if not seal:
                assert passed == (12 <= at < 16), (at, change)


def answered(batch: bytes, rules: BatchRules) -> bool:
    """Whether it passes, and is a whole sealed batch then; if not, it is by a KafkaError."""
    try:
        checked = check(batch, rules)
    except KafkaError:
        return False
    (header,) = checked.batches
    assert header == read_header(checked.records)
    assert header.size_bytes == len(checked.records) >= HEADER_BYTES
    assert_sealed(checked.records)
    if rules.deep:
        records = list(iterate_records(checked.records, MIB))
        assert [record.offset for record in records] == list(range(header.record_count))
    return True


def noisy_body(body: bytes, codec: int) -> bytearray:
    batch = build_batch([Record(0, NOW)], codec=codec)[:HEADER_BYTES] + body
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    seal_batch(batch)
    return batch


@settings(max_examples=300)
@given(st.binary(max_size=150), st.sampled_from(range(5)), st.sampled_from(ALL_RULES))
def test_noise_is_answered(body: bytes, codec: int, rules: BatchRules) -> None:
    answered(body, rules)
    answered(noisy_body(body, codec), rules)


@settings(max_examples=200)
@given(
    st.tuples(
        *(
            st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) | st.sampled_from([-1, 0, 1])
            for bits in (16, 32, 64, 64, 64, 16, 32, 32)
        )
    ),
    st.sampled_from(ALL_RULES),
)
def test_any_header_is_answered(fields: tuple[int, ...], rules: BatchRules) -> None:
    batch = build_batch(records_of())
    struct.pack_into(">hiqqqhii", batch, 21, *fields)
    seal_batch(batch)
    answered(batch, rules)
