"""The leader's side of one partition, on a log in memory whose flushes a test makes."""

import errno
from random import Random
from typing import Any

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.options import BrokerSettings, effective_topic
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.replica.partition import HINT_COUNT, Partition
from ottla.replica.topic_rules import batch_rules
from ottla.storage.config import LogConfig
from ottla.storage.log import Log
from tests.storage.memory_disk import MemoryDisk

NOW_MS = 1_700_000_000_000


class Waiter:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def reached(self) -> None:
        self.calls.append("reached")

    def closed(self) -> None:
        self.calls.append("closed")

    def data_arrived(self) -> None:
        self.calls.append("data")


class Flushing:
    """Keeps which flushes were wanted: now, soon, or within so many milliseconds."""

    def __init__(self) -> None:
        self.wanted: list[str | int] = []
        self.errors: list[OSError] = []

    def mark_dirty(self, log: Log) -> None:
        self.wanted.append("now")

    def mark_dirty_soon(self, log: Log) -> None:
        self.wanted.append("soon")

    def failed(self, error: OSError) -> None:
        self.errors.append(error)

    def mark_dirty_within(self, log: Log, ms: int) -> None:
        self.wanted.append(ms)


class Place:
    """A partition, and the logs it wanted to be flushed."""

    def __init__(self, **configs: str) -> None:
        self.disk = disk = MemoryDisk()
        disk.make_directory("data/t-0")
        name = TopicPartition("t", PartitionIndex(0))
        self.log = Log(disk, Random(1), name, "data/t-0", LogConfig())
        self.log.start_at(0, NOW_MS)
        self.flushing = Flushing()
        self.partition = Partition(
            "t", 0, self.log, topic(**configs), leader_epoch=3, flushing=self.flushing
        )

    def append(self, count: int = 1, **options: Any) -> Any:
        acks_all = options.pop("acks_all", True)
        version = options.pop("version", 9)
        records = [Record(n, NOW_MS, b"k", b"v") for n in range(count)]
        data = memoryview(build_batch(records, **options))
        return self.partition.append(data, acks_all=acks_all, now_ms=NOW_MS, version=version)

    def flush(self) -> None:
        """What the flusher does, and what it tells the partition."""
        self.log.flushed_end_offset = self.log.log_end_offset
        self.partition.advance_high_watermark()


def topic(**configs: str) -> Any:
    texts = {key.replace("_", "."): value for key, value in configs.items()}
    return effective_topic(texts, BrokerSettings())


def refusal(call: Any, *arguments: Any, **options: Any) -> int:
    with pytest.raises(KafkaError) as caught:
        call(*arguments, **options)
    return caught.value.code


def test_what_is_appended_is_seen_when_it_is_flushed() -> None:
    place = Place()
    info = place.append(3)
    assert (info.first_offset, info.last_offset) == (0, 2)
    assert place.flushing.wanted == ["now"]
    assert place.partition.high_watermark == 0
    assert place.partition.read(0, 1 << 20, at_least_one=True) is None
    place.flush()
    assert place.partition.high_watermark == place.partition.last_stable_offset == 3
    found = place.partition.read(0, 1 << 20, at_least_one=True)
    assert found is not None
    assert found.length == place.log.active.size_bytes


def test_without_flush_on_ack_the_page_cache_is_trusted() -> None:
    place = Place(flush_on_ack="false")
    place.append(3)
    assert place.partition.high_watermark == 3
    assert place.flushing.wanted == []


def test_flush_messages_counts_what_is_unflushed() -> None:
    place = Place(flush_on_ack="false", flush_messages="3")
    place.append(2)
    assert place.flushing.wanted == []
    place.append(1)
    assert place.flushing.wanted == ["now"]


def test_flush_ms_is_a_deadline() -> None:
    place = Place(flush_on_ack="false", flush_ms="700")
    place.append(2)
    assert place.flushing.wanted == [700]


def test_a_disk_that_refuses_is_a_storage_error() -> None:
    place = Place()
    place.disk.fail_at(1)
    assert refusal(place.append) == ErrorCode.KAFKA_STORAGE_ERROR
    assert place.log.log_end_offset == 0
    assert place.flushing.wanted == []
    assert place.append().first_offset == 0
    assert [error.errno for error in place.flushing.errors] == [errno.EIO]


def test_a_disk_that_cannot_be_read_is_a_storage_error() -> None:
    place = Place()
    place.append()
    place.flush()
    place.log.active.close()
    place.disk.fail_at(1)
    assert refusal(lambda: place.partition.read(0, 1_000, at_least_one=True))
    assert [error.errno for error in place.flushing.errors] == [errno.EIO]


def test_waiters_for_offsets_are_told_in_order_and_once() -> None:
    place = Place()
    waiters = [Waiter() for _ in range(3)]
    for waiter in waiters:
        end = place.append(2).last_offset + 1
        place.partition.wait_for_offset(end, waiter)
    place.log.flushed_end_offset = 4
    place.partition.advance_high_watermark()
    assert [waiter.calls for waiter in waiters] == [["reached"], ["reached"], []]
    place.flush()
    place.flush()
    assert [waiter.calls for waiter in waiters] == [["reached"]] * 3


def test_waiters_for_data_are_told_of_every_advance_until_they_stop() -> None:
    place = Place()
    waiter = Waiter()
    place.partition.wait_for_data(waiter)
    place.flush()
    assert waiter.calls == [], "nothing moved"
    for _ in range(2):
        place.append()
        place.flush()
    assert waiter.calls == ["data"] * 2
    place.partition.stop_waiting_for_data(waiter)
    place.partition.stop_waiting_for_data(waiter)
    place.append()
    place.flush()
    assert waiter.calls == ["data"] * 2


@pytest.mark.parametrize(
    "code", [ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
)
def test_a_closed_partition_tells_whoever_waits(code: ErrorCode) -> None:
    place = Place()
    place.append()
    producer, consumer = Waiter(), Waiter()
    place.partition.wait_for_offset(1, producer)
    place.partition.wait_for_data(consumer)
    place.partition.close(code)
    assert producer.calls == ["closed"]
    assert consumer.calls == ["data"]
    assert place.partition.refusal == code, "whoever looks it up is told"
    place.flush()
    assert producer.calls == ["closed"], "told again"


def test_too_few_in_sync_replicas_take_no_acks_all() -> None:
    place = Place(min_insync_replicas="2")
    assert refusal(place.append) == ErrorCode.NOT_ENOUGH_REPLICAS
    assert place.log.log_end_offset == 0
    assert place.append(acks_all=False).first_offset == 0


def test_a_refused_batch_changes_nothing() -> None:
    place = Place(max_message_bytes="100")
    big = build_batch([Record(0, NOW_MS, None, bytes(200))])
    code = refusal(place.partition.append, memoryview(big), acks_all=True, now_ms=NOW_MS, version=9)
    assert code == ErrorCode.MESSAGE_TOO_LARGE
    assert place.log.log_end_offset == 0
    assert place.flushing.wanted == []


def test_zstd_needs_produce_7() -> None:
    place = Place()
    assert refusal(place.append, codec=4, version=6) == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert place.append(codec=4, version=7).first_offset == 0


def test_a_repeat_gets_the_offset_of_the_original() -> None:
    place = Place()
    options = {"producer_id": 1, "producer_epoch": 0, "base_sequence": 0}
    first = place.append(2, **options)
    place.append()
    again = place.append(2, **options)
    assert (again.first_offset, again.last_offset) == (first.first_offset, first.last_offset)
    assert place.log.log_end_offset == 3


@pytest.mark.parametrize(
    ("epoch", "code"),
    [
        (-1, None),
        (3, None),
        (2, ErrorCode.FENCED_LEADER_EPOCH),
        (4, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ],
)
def test_leader_epochs(epoch: int, code: ErrorCode | None) -> None:
    partition = Place().partition
    if code is None:
        partition.check_leader_epoch(epoch)
    else:
        assert refusal(partition.check_leader_epoch, epoch) == code


def test_reading_out_of_range() -> None:
    place = Place()
    place.append()
    place.flush()
    assert place.partition.read(1, 100, at_least_one=True) is None
    for offset in (-1, 2, 1 << 40):
        code = refusal(place.partition.read, offset, 100, at_least_one=True)
        assert code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_sequential_readers_are_remembered_in_a_bounded_number() -> None:
    place = Place()
    for _ in range(3 * HINT_COUNT):
        place.append()
    place.flush()
    for offset in range(3 * HINT_COUNT):
        found = place.partition.read(offset, 1, at_least_one=True)
        assert found is not None
        assert found.position == offset * found.length
    assert len(place.partition._hints) <= HINT_COUNT


def test_settings_are_taken_on_while_running() -> None:
    place = Place()
    place.partition.configure(topic(cleanup_policy="compact", compression_type="gzip"))
    assert place.partition.rules.compacted
    assert place.partition.rules.codec == 1


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ({}, {"codec": None, "compacted": False, "log_append_time": False, "deep": False}),
        ({"compression_type": "uncompressed"}, {"codec": 0}),
        ({"compression_type": "zstd", "compression_zstd_level": "9"}, {"codec": 4, "level": 9}),
        ({"compression_type": "snappy"}, {"codec": 2, "level": None}),
        ({"message_timestamp_type": "LogAppendTime"}, {"log_append_time": True}),
        ({"cleanup_policy": "compact,delete"}, {"compacted": True}),
        ({"record_validation": "deep"}, {"deep": True}),
        ({"max_message_bytes": "77"}, {"max_message_bytes": 77}),
        ({"message_timestamp_after_max_ms": "5"}, {"timestamp_after_max_ms": 5}),
    ],
)
def test_rules(configs: dict[str, str], expected: dict[str, object]) -> None:
    rules = batch_rules(topic(**configs))
    assert {key: getattr(rules, key) for key in expected} == expected
