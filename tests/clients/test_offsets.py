"""Where a partition begins and ends, and which offset a moment has."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import aiokafka
import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.clients.kcat import needs_kcat, run_kcat
from tests.clients.peers import CODECS, MARKS, PEERS, kafka
from tests.clients.records import WAIT_S, Sent

pytestmark = MARKS

Maker = Callable[..., Any]
NOW_MS = 1_900_000_000_000
"""Timestamps of these tests lie in a future that topics here allow."""
TIMES = (10, 20, 20, 50, 40, 60)
"""Of the records, after NOW_MS; one is older than its predecessor."""
FIRST_AT = {0: 0, 10: 0, 11: 1, 20: 1, 21: 3, 45: 3, 51: 5, 60: 5, 61: None}
"""The first offset whose record is at or after a moment."""


@pytest.fixture(scope="module", params=CODECS)
def topic(request: pytest.FixtureRequest, bootstrap: str, make_topic: Maker) -> str:
    """A topic of one partition that holds two batches of three records."""
    name: str = make_topic(message_timestamp_after_max_ms=str(2**62))
    records = [Sent(b"k", b"v%d" % n, (), NOW_MS + time) for n, time in enumerate(TIMES)]
    for batch in (records[:3], records[3:]):
        options = {"codec": request.param, "linger.ms": 60_000}
        PEERS["confluent"].produce(bootstrap, name, batch, **options)
    return name


def moments() -> list[int]:
    return [NOW_MS + moment for moment in FIRST_AT]


def by_moment(found: Mapping[int, int | None]) -> dict[int, int | None]:
    return {moment - NOW_MS: offset for moment, offset in found.items()}


def test_librdkafka_finds_offsets_by_time(topic: str, rd_consumer: Maker) -> None:
    consumer = rd_consumer()
    found: dict[int, int | None] = {}
    for moment in moments():
        (one,) = consumer.offsets_for_times([rd.TopicPartition(topic, 0, moment)], WAIT_S)
        assert one.error is None
        found[moment] = None if one.offset == rd.OFFSET_END else one.offset
    assert by_moment(found) == FIRST_AT
    assert consumer.get_watermark_offsets(rd.TopicPartition(topic, 0), WAIT_S) == (0, len(TIMES))


def test_kafka_python_finds_offsets_by_time(topic: str, bootstrap: str) -> None:
    consumer = kafka.KafkaConsumer(bootstrap_servers=bootstrap)
    partition = kafka.TopicPartition(topic, 0)
    try:
        found: dict[int, int | None] = {}
        for moment in moments():
            row = consumer.offsets_for_times({partition: moment})[partition]
            found[moment] = None if row is None else row.offset
            if row is not None:
                assert row.timestamp == NOW_MS + TIMES[row.offset]
        assert by_moment(found) == FIRST_AT
        assert consumer.beginning_offsets([partition]) == {partition: 0}
        assert consumer.end_offsets([partition]) == {partition: len(TIMES)}
    finally:
        consumer.close()


def test_aiokafka_finds_offsets_by_time(topic: str, bootstrap: str) -> None:
    async def ask() -> None:
        partition = aiokafka.TopicPartition(topic, 0)
        async with aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            found: dict[int, int | None] = {}
            for moment in moments():
                row = (await consumer.offsets_for_times({partition: moment}))[partition]
                found[moment] = None if row is None else row.offset
            assert by_moment(found) == FIRST_AT
            assert await consumer.beginning_offsets([partition]) == {partition: 0}
            assert await consumer.end_offsets([partition]) == {partition: len(TIMES)}

    asyncio.run(ask())


@needs_kcat
def test_kcat_consumes_from_a_moment_to_a_moment(topic: str, bootstrap: str) -> None:
    start, end = NOW_MS + 20, NOW_MS + 51
    span = ["-o", f"s@{start}", "-o", f"e@{end}"]
    output = run_kcat(bootstrap, "-C", "-q", "-t", topic, "-p", "0", *span, "-f", "%o ")
    assert output.split() == [b"1", b"2", b"3", b"4"]


def test_the_largest_timestamp_has_an_offset(topic: str, admin: AdminClient) -> None:
    """KIP-734."""
    partition = rd.TopicPartition(topic, 0)
    future = admin.list_offsets({partition: OffsetSpec.max_timestamp()})[partition]
    assert (future.result(WAIT_S).offset, future.result().timestamp) == (5, NOW_MS + 60)


def test_an_empty_partition_has_no_moments(
    bootstrap: str, make_topic: Maker, rd_consumer: Maker, admin: AdminClient
) -> None:
    partition = rd.TopicPartition(make_topic(), 0)
    consumer = rd_consumer()
    assert consumer.get_watermark_offsets(partition, WAIT_S) == (0, 0)
    (one,) = consumer.offsets_for_times([rd.TopicPartition(partition.topic, 0, 0)], WAIT_S)
    assert one.offset == rd.OFFSET_END
    future = admin.list_offsets({partition: OffsetSpec.max_timestamp()})[partition]
    assert (future.result(WAIT_S).offset, future.result().timestamp) == (-1, -1)


def test_what_was_deleted_is_before_the_beginning(
    bootstrap: str, make_topic: Maker, rd_consumer: Maker, admin: AdminClient
) -> None:
    topic = make_topic()
    records = [Sent(b"k", b"v%d" % n) for n in range(10)]
    PEERS["confluent"].produce(bootstrap, topic, records)
    for future in admin.delete_records([rd.TopicPartition(topic, 0, 4)]).values():
        assert future.result(WAIT_S).low_watermark == 4
    consumer = rd_consumer(auto_offset_reset="error")
    assert consumer.get_watermark_offsets(rd.TopicPartition(topic, 0), WAIT_S) == (4, 10)
    consumer.assign([rd.TopicPartition(topic, 0, 3)])
    assert consumer.poll(WAIT_S).error().code() == rd.KafkaError._AUTO_OFFSET_RESET
    for name in ("confluent", "kafka-python", "aiokafka"):
        seen = PEERS[name].consume(bootstrap, topic, {0: 4}, 6)
        assert [row.offset for row in seen] == list(range(4, 10))
