"""What strangers send, over real sockets: the right error or a closed connection, one log line,
and nobody else is disturbed. Every byte of every request is tried in tests/fuzz, in process.
"""

import logging
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from crc32c import crc32c

import ottla
from ottla.base.errors import ErrorCode
from ottla.broker.registry import ENDPOINTS
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from ottla.protocol.registry import APIS, ApiKey
from ottla.records.batch import CRC_START, HEADER, HEADER_BYTES, read_header, seal_batch
from ottla.records.builder import build_batch
from ottla.records.record import Record
from tests.fuzz.bench import batch
from tests.fuzz.changes import byte_changes
from tests.fuzz.valid import SERVED, frame_of, sized
from tests.fuzz.wire import Raw

HELLO = ApiVersionsRequest(client_software_name="x", client_software_version="1")
CAP = 100_000


@pytest.fixture
def capped(start_broker: Callable[..., ottla.Broker]) -> ottla.Broker:
    """A broker that takes frames of CAP bytes."""
    return start_broker(settings={"socket.request.max.bytes": str(CAP)})


@pytest.fixture
def honest(capped: ottla.Broker) -> Iterator[Raw]:
    """A client that came first and must be served to the end."""
    with Raw(capped.address) as raw:
        assert raw.ask(HELLO).error_code == 0
        yield raw
        assert raw.ask(HELLO).error_code == 0


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[Raw], list[str]]:
    """What was logged about a connection; a traceback anywhere fails."""
    caplog.set_level(logging.INFO, "ottla")

    def about(raw: Raw) -> list[str]:
        assert not [record for record in caplog.records if record.exc_info]
        texts = [record.getMessage() for record in caplog.records]
        return [text for text in texts if raw.name in text]

    return about


def make_topic(raw: Raw, name: str, **configs: str) -> Any:
    topic = CreatableTopic(
        name=name,
        num_partitions=1,
        replication_factor=1,
        assignments=[],
        configs=[
            CreatableTopicConfig(name=key.replace("_", "."), value=value)
            for key, value in configs.items()
        ],
    )
    return raw.ask(CreateTopicsRequest(topics=[topic])).topics[0]


def produce(raw: Raw, topic: str, records: Any, version: int = 9, acks: int = -1) -> Any:
    """The answer for partition 0."""
    data = TopicProduceData(
        name=topic, partition_data=[PartitionProduceData(index=0, records=records)]
    )
    request = ProduceRequest(acks=acks, timeout_ms=10_000, topic_data=[data])
    return raw.ask(request, version).responses[0].partition_responses[0]


def end_offset(raw: Raw, topic: str) -> int:
    asked = ListOffsetsPartition(partition_index=0, timestamp=-1)
    request = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[asked])]
    )
    offset: int = raw.ask(request, 5).topics[0].partitions[0].offset
    return offset


# --- frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 1, 7, -1, -(2**31), 2**31 - 1, 352518912, struct.unpack(">i", b"GET ")[0], CAP + 1]
)
def test_a_hostile_length_closes(
    size: int, capped: ottla.Broker, honest: Raw, lines: Callable[[Raw], list[str]]
) -> None:
    with Raw(capped.address) as raw:
        raw.send(struct.pack(">i", size))
        assert raw.is_closed()
        [line] = lines(raw)
        assert f"frame of {size} bytes" in line


def test_a_frame_of_the_cap_is_taken(capped: ottla.Broker) -> None:
    frame = frame_of(ApiKey.API_VERSIONS, 3)
    with Raw(capped.address) as raw:
        raw.send(sized(frame[4:].ljust(CAP, b"\0")))
        assert raw.answer(ApiKey.API_VERSIONS, 3, 7).error_code == 0


def test_every_request_a_byte_at_a_time(capped: ottla.Broker, honest: Raw) -> None:
    make_topic(honest, "fuzzed")
    with Raw(capped.address) as raw:
        for key, version in SERVED:
            if version == APIS[key].last:
                for byte in frame_of(key, version, records=bytes(batch())):
                    raw.send(bytes([byte]))
                raw.answer(key, version, 7)


HEADERS = {
    "unknown key": struct.pack(">hhih", 9_999, 0, 1, -1),
    "negative key": struct.pack(">hhih", -1, 0, 1, -1),
    "negative version": struct.pack(">hhih", ApiKey.METADATA, -1, 1, -1),
    "version too new": struct.pack(">hhih", ApiKey.METADATA, 99, 1, -1),
    "version too old": struct.pack(">hhih", ApiKey.PRODUCE, 2, 1, -1),
    "a header alone": struct.pack(">hhih", ApiKey.METADATA, 1, 1, -1),
    "no client id": struct.pack(">hhi", ApiKey.METADATA, 1, 1),
    "flexible without its tags": struct.pack(">hhih", ApiKey.METADATA, 9, 1, -1),
    "client id beyond the frame": struct.pack(">hhih", ApiKey.METADATA, 1, 1, 30_000),
    "client id of length -2": struct.pack(">hhih", ApiKey.METADATA, 1, 1, -2) + bytes(9),
    "client id that is not UTF-8": struct.pack(">hhih", ApiKey.METADATA, 1, 1, 1) + b"\xff" * 9,
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_closes(
    name: str, capped: ottla.Broker, honest: Raw, lines: Callable[[Raw], list[str]]
) -> None:
    with Raw(capped.address) as raw:
        raw.send(sized(HEADERS[name]))
        assert raw.is_closed()
        assert len(lines(raw)) == 1


def test_a_null_client_id_is_legal(capped: ottla.Broker) -> None:
    with Raw(capped.address) as raw:
        raw.send(frame_of(ApiKey.METADATA, 9, client_id=None))
        raw.answer(ApiKey.METADATA, 9, 7)


def test_api_versions_too_new_is_answered_in_version_0(capped: ottla.Broker) -> None:
    with Raw(capped.address) as raw:
        raw.send(sized(struct.pack(">hhih", ApiKey.API_VERSIONS, 99, 5, -1) + b"whatever"))
        answer = raw.answer(ApiKey.API_VERSIONS, 0, 5)
        assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
        assert [row.api_key for row in answer.api_keys if row.api_key == ApiKey.API_VERSIONS]
        assert raw.ask(HELLO, 3).error_code == 0


def test_a_second_body_in_a_frame_is_never_looked_at(capped: ottla.Broker) -> None:
    """Bytes behind a request are ignored, as in Kafka: they must not become a request."""
    first = frame_of(ApiKey.API_VERSIONS, 3, correlation_id=1)
    hidden = frame_of(ApiKey.CREATE_TOPICS, 7, correlation_id=2, name="hidden", validate_only=False)
    with Raw(capped.address) as raw:
        raw.send(sized(first[4:] + hidden) + frame_of(ApiKey.API_VERSIONS, 3, correlation_id=3))
        raw.answer(ApiKey.API_VERSIONS, 3, 1)
        raw.answer(ApiKey.API_VERSIONS, 3, 3)
        assert [topic.name for topic in raw.ask(MetadataRequest(topics=None)).topics] == []


def test_one_correlation_id_for_everything(capped: ottla.Broker) -> None:
    with Raw(capped.address) as raw:
        raw.send(frame_of(ApiKey.API_VERSIONS, 3) + frame_of(ApiKey.METADATA, 9) * 2)
        raw.answer(ApiKey.API_VERSIONS, 3, 7)
        raw.answer(ApiKey.METADATA, 9, 7)
        raw.answer(ApiKey.METADATA, 9, 7)


@pytest.mark.parametrize("key", ENDPOINTS)
def test_changed_bytes_over_a_socket(
    key: ApiKey, capped: ottla.Broker, honest: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """A sample of what tests/fuzz tries in process: an answer, or a closed connection."""
    make_topic(honest, "fuzzed")
    changes = list(byte_changes(frame_of(key, APIS[key].last, records=bytes(batch()))))
    for bad in changes[:: max(len(changes) // 40, 1)]:
        with Raw(capped.address) as raw:
            raw.send(bad)
            raw.socket.shutdown(socket.SHUT_WR)  # a frame that wants more is at its end
            answer = raw.frame()
            assert not answer or raw.is_closed()
    assert not [r for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR]


# --- many at once -----------------------------------------------------------------------------


def test_a_thousand_requests_in_flight_are_answered_in_order(
    broker: ottla.Broker, lines: Callable[[Raw], list[str]]
) -> None:
    """Produce acks=all and long polls that park, and barriers between them."""
    with Raw(broker.address) as raw:
        make_topic(raw, "fuzzed")
        kinds = [
            (ApiKey.PRODUCE, 9, {}),
            (ApiKey.FETCH, 12, {"max_wait_ms": 2, "min_bytes": 1 << 20}),
            (ApiKey.PRODUCE, 12, {"acks": 1}),
            (ApiKey.METADATA, 9, {}),
            (ApiKey.FETCH, 11, {"max_wait_ms": 0}),
            (ApiKey.PRODUCE, 3, {}),
            (ApiKey.FETCH, 12, {"fetch_offset": 1 << 40, "max_wait_ms": 500}),
            (ApiKey.CREATE_TOPICS, 7, {}),
        ]
        records = bytes(batch())
        asked = [(number, *kinds[number * 7 % 8]) for number in range(1_000)]
        raw.send(
            b"".join(
                frame_of(key, version, correlation_id=number, records=records, **values)
                for number, key, version, values in asked
            )
        )
        for number, key, version, _ in asked:
            raw.answer(key, version, number)
        produced = sum(key == ApiKey.PRODUCE for _, key, _, _ in asked)
        assert end_offset(raw, "fuzzed") == produced
        assert lines(raw) == []


def test_clients_that_leave_in_the_middle(
    broker: ottla.Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """In a half-sent request, before an answer, in an answer larger than any socket holds."""
    with Raw(broker.address) as honest:
        make_topic(honest, "fuzzed")
        big = build_batch([Record(0, 1_700_000_000_000, b"k", bytes(900_000))])
        for _ in range(12):
            assert produce(honest, "fuzzed", big).error_code == 0
        fetch = frame_of(ApiKey.FETCH, 12, max_bytes=50 << 20, partition_max_bytes=50 << 20)
        wait = frame_of(ApiKey.FETCH, 12, fetch_offset=12, max_wait_ms=60_000)
        store = frame_of(ApiKey.PRODUCE, 9, records=bytes(batch()))
        make = frame_of(ApiKey.CREATE_TOPICS, 7, name="gone", validate_only=False)
        for sent in (fetch, fetch * 3, wait, wait * 50, store * 50, make, fetch[:20], b"\0"):
            for leave in (Raw.close, Raw.reset):
                raw = Raw(broker.address)
                raw.send(sent)
                if sent == fetch:
                    assert len(raw.read(100_000)) == 100_000
                leave(raw)
        assert honest.ask(HELLO).error_code == 0
        assert end_offset(honest, "fuzzed") >= 12
    assert not [r for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR]


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../x", "a\0b", "a b", "x" * 250, "ü", "a\nb", "a:b", "\u202e", "%2e"],
)
def test_a_name_that_no_topic_may_have(name: str, broker: ottla.Broker) -> None:
    with Raw(broker.address) as raw:
        assert make_topic(raw, name).error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
        asked = MetadataRequest(topics=[MetadataRequestTopic(name=name)])
        assert raw.ask(asked).topics[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
        answer = produce(raw, name, batch())
        assert answer.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert raw.ask(MetadataRequest(topics=None)).topics == []


def test_names_that_collide(broker: ottla.Broker) -> None:
    with Raw(broker.address) as raw:
        assert make_topic(raw, "a.b").error_code == 0
        assert make_topic(raw, "a_b").error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
        assert make_topic(raw, "x" * 249).error_code == 0


def test_a_name_that_is_not_utf_8_closes(
    broker: ottla.Broker, lines: Callable[[Raw], list[str]]
) -> None:
    frame = frame_of(ApiKey.METADATA, 9, name="topic")
    with Raw(broker.address) as raw:
        raw.send(frame.replace(b"topic", b"to\xffic"))
        assert raw.is_closed()
        assert len(lines(raw)) == 1


def test_a_hundred_thousand_topics_in_one_request(broker: ottla.Broker) -> None:
    asked = [MetadataRequestTopic(name=f"topic-{number}") for number in range(100_000)]
    with Raw(broker.address) as raw:
        answer = raw.ask(MetadataRequest(topics=asked, allow_auto_topic_creation=False))
        assert len(answer.topics) == 100_000
        assert {row.error_code for row in answer.topics} == {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}


# --- batches ----------------------------------------------------------------------------------


def changed(**fields: Any) -> bytearray:
    """A batch of two records with other fields in its header, and the right CRC."""
    made = batch(2)
    HEADER.pack_into(made, 0, *read_header(made)._replace(**fields))
    seal_batch(made)
    return made


def with_crc(crc: int) -> bytearray:
    made = batch(2)
    struct.pack_into(">I", made, CRC_START - 4, crc)
    return made


def now_ms() -> int:
    return read_header(batch()).base_timestamp


HOUR_MS = 3_600_000
LENGTH = read_header(batch(2)).batch_length
CORRUPT, INVALID = ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD
BATCHES: dict[str, tuple[Callable[[], Any], ErrorCode]] = {
    "null": (lambda: None, INVALID),
    "empty": (lambda: b"", INVALID),
    "half a header": (lambda: batch()[: HEADER_BYTES - 1], INVALID),
    "wrong CRC": (lambda: with_crc(1), CORRUPT),
    "CRC of the whole": (lambda: with_crc(crc32c(batch(2))), CORRUPT),
    "changed record": (lambda: batch(2)[:-1] + b"\xee", CORRUPT),
    "magic 0": (lambda: changed(magic=0), INVALID),
    "magic 1": (lambda: changed(magic=1), INVALID),
    "magic 3": (lambda: changed(magic=3), CORRUPT),
    "magic -1": (lambda: changed(magic=-1), CORRUPT),
    "length - 1": (lambda: changed(batch_length=LENGTH - 1), INVALID),
    "length + 1": (lambda: changed(batch_length=LENGTH + 1), INVALID),
    "length 0": (lambda: changed(batch_length=0), CORRUPT),
    "length -1": (lambda: changed(batch_length=-1), CORRUPT),
    "length 2^31-1": (lambda: changed(batch_length=2**31 - 1), INVALID),
    "two batches": (lambda: batch() + batch(), INVALID),
    "a byte behind": (lambda: batch() + b"\0", INVALID),
    "base offset": (lambda: changed(base_offset=1), INVALID),
    "control batch": (lambda: changed(attributes=0x20), INVALID),
    "transactional without producer": (lambda: changed(attributes=0x10), INVALID),
    "log-append time": (lambda: changed(attributes=0x08), ErrorCode.INVALID_TIMESTAMP),
    "delete horizon": (lambda: changed(attributes=0x40), INVALID),
    "reserved bit": (lambda: changed(attributes=0x80), INVALID),
    "sign bit": (lambda: changed(attributes=-0x8000), INVALID),
    "codec 5": (lambda: changed(attributes=5), ErrorCode.UNSUPPORTED_COMPRESSION_TYPE),
    "codec 7": (lambda: changed(attributes=7), ErrorCode.UNSUPPORTED_COMPRESSION_TYPE),
    "count 0": (lambda: changed(record_count=0), INVALID),
    "count -1": (lambda: changed(record_count=-1), INVALID),
    "count too small": (lambda: changed(record_count=1), INVALID),
    "count too large": (lambda: changed(record_count=3), INVALID),
    "last delta -1": (lambda: changed(last_offset_delta=-1), INVALID),
    "last delta 2^31-1": (lambda: changed(last_offset_delta=2**31 - 1), INVALID),
    "no records": (lambda: changed(record_count=0, last_offset_delta=-1), INVALID),
    "sequence -1": (lambda: changed(producer_id=1, producer_epoch=0), INVALID),
    "epoch -1": (lambda: changed(producer_id=1, base_sequence=0), INVALID),
    "producer -2": (lambda: changed(producer_id=-2), INVALID),
    "future": (lambda: changed(max_timestamp=now_ms() + 2 * HOUR_MS), ErrorCode.INVALID_TIMESTAMP),
    "timestamp -2^63": (lambda: changed(base_timestamp=-(2**63)), ErrorCode.INVALID_TIMESTAMP),
    "sequence gap": (
        lambda: build_batch(
            [Record(0, now_ms(), None, b"v")], producer_id=5, producer_epoch=0, base_sequence=7
        ),
        ErrorCode.NONE,  # of a producer that nobody knows, as in Kafka
    ),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_is_answered_for_what_it_is(
    name: str, broker: ottla.Broker, lines: Callable[[Raw], list[str]]
) -> None:
    make, code = BATCHES[name]
    with Raw(broker.address) as raw:
        make_topic(raw, "t")
        assert produce(raw, "t", batch()).error_code == 0
        answer = produce(raw, "t", make())
        assert answer.error_code == code
        assert answer.base_offset == (-1 if code else 1)
        assert end_offset(raw, "t") == (1 if code else 2)
        assert lines(raw) == []


def test_sequences(broker: ottla.Broker) -> None:
    def one(sequence: int, epoch: int = 0, count: int = 1) -> bytearray:
        records = [Record(n, now_ms(), None, b"v") for n in range(count)]
        return build_batch(records, producer_id=5, producer_epoch=epoch, base_sequence=sequence)

    with Raw(broker.address) as raw:
        make_topic(raw, "t")
        steps = [
            (one(0), ErrorCode.NONE, 1),
            (one(0), ErrorCode.NONE, 1),  # a repeat: answered, not appended
            (one(2), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, 1),
            (one(1, count=3), ErrorCode.NONE, 4),
            (one(1, epoch=1), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, 4),
            (one(0, epoch=1), ErrorCode.NONE, 5),
            (one(4, epoch=0), ErrorCode.INVALID_PRODUCER_EPOCH, 5),
        ]
        for records, code, end in steps:
            assert produce(raw, "t", records).error_code == code
            assert end_offset(raw, "t") == end


def test_the_sequence_wraps(broker: ottla.Broker) -> None:
    def one(sequence: int, count: int) -> bytearray:
        records = [Record(n, now_ms(), None, b"v") for n in range(count)]
        return build_batch(records, producer_id=5, producer_epoch=0, base_sequence=sequence)

    with Raw(broker.address) as raw:
        make_topic(raw, "t")
        assert produce(raw, "t", one(2**31 - 2, 2)).error_code == 0
        assert produce(raw, "t", one(0, 1)).error_code == 0
        assert end_offset(raw, "t") == 3


def test_a_key_is_wanted_on_a_compacted_topic(broker: ottla.Broker) -> None:
    records = [Record(0, now_ms(), b"k", b"v"), Record(1, now_ms(), None, b"v")]
    with Raw(broker.address) as raw:
        make_topic(raw, "t", cleanup_policy="compact")
        answer = produce(raw, "t", build_batch(records))
        assert answer.error_code == ErrorCode.INVALID_RECORD
        assert [row.batch_index for row in answer.record_errors] == [1]
        assert end_offset(raw, "t") == 0


@pytest.mark.parametrize("acks", [2, -2, 32767])
def test_acks_that_nobody_knows(acks: int, broker: ottla.Broker) -> None:
    with Raw(broker.address) as raw:
        make_topic(raw, "t")
        answer = produce(raw, "t", batch(), acks=acks)
        assert answer.error_code == ErrorCode.INVALID_REQUIRED_ACKS
        assert end_offset(raw, "t") == 0


def test_an_error_without_an_answer_closes(
    broker: ottla.Broker, lines: Callable[[Raw], list[str]]
) -> None:
    with Raw(broker.address) as raw:
        raw.send(frame_of(ApiKey.PRODUCE, 9, acks=0, records=bytes(batch())))
        assert raw.is_closed()
        [line] = lines(raw)
        assert "acks=0" in line


def test_a_client_does_not_pass_for_a_replica(broker: ottla.Broker) -> None:
    with Raw(broker.address) as raw:
        make_topic(raw, "fuzzed")
        raw.send(frame_of(ApiKey.FETCH, 12, replica_id=2))
        answer = raw.answer(ApiKey.FETCH, 12, 7)
        assert answer.error_code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED
