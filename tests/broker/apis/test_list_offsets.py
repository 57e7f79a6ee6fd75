"""ListOffsets: moments and special timestamps, by version; epochs, errors, isolation."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.broker.apis import list_offsets
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.records.builder import build_batch
from ottla.records.record import Record

VERSIONS = range(1, 12)
LATEST, EARLIEST, MAX_TIMESTAMP, LOCAL, TIERED, PENDING = range(-1, -7, -1)
NONE = (-1, -1, -1)
START = 1_700_000_000_000
DEBUGGING = -2
"""Replica id of a debugging consumer: any client may use it."""


def listed(*asked, epoch=-1, **options):
    """`asked` are (topic, index, timestamp)."""
    options = {"replica_id": -1, **options}
    return ListOffsetsRequest(
        topics=[
            ListOffsetsTopic(
                name=topic,
                partitions=[
                    ListOffsetsPartition(
                        partition_index=index, current_leader_epoch=epoch, timestamp=timestamp
                    )
                ],
            )
            for topic, index, timestamp in asked
        ],
        **options,
    )


def rows(answer):
    return [row for topic in answer.topics for row in topic.partitions]


async def found(node, timestamp, version=11, **options):
    """(timestamp, offset, leader epoch) of that moment in partition 0 of `a`."""
    (row,) = rows(await node.ask(listed(("a", 0, timestamp), **options), version))
    assert row.error_code == 0
    return (row.timestamp, row.offset, row.leader_epoch)


async def refused(node, *asked, version=11, **options):
    answer = rows(await node.ask(listed(*asked, **options), version))
    assert all((row.timestamp, row.offset, row.leader_epoch) == NONE for row in answer)
    return [row.error_code for row in answer]


async def append(node, *timestamps, codec=0):
    """One batch of records with these timestamps, counted from START, to `a`."""
    partition = node.services.replicas.leader_of("a", 0)
    records = [Record(at, START + ms, None, b"v") for at, ms in enumerate(timestamps)]
    batch = memoryview(build_batch(records, codec=codec))
    partition.append(batch, acks_all=True, now_ms=START + 100, version=9)
    await node.flushed(partition)
    return partition


@pytest.mark.parametrize("version", VERSIONS)
def test_moments(on_node, version):
    epoch = 0 if version >= 4 else -1

    async def test(node):
        await node.topic("a")
        await append(node, 10, 20, 20)
        await append(node, 5, 30, codec=1)
        for ms, expected in (
            (0, (10, 0)),
            (10, (10, 0)),
            (11, (20, 1)),
            (20, (20, 1)),
            (21, (30, 4)),
            (30, (30, 4)),
        ):
            timestamp, offset = expected
            assert await found(node, START + ms, version) == (START + timestamp, offset, epoch)
        assert await found(node, START + 31, version) == NONE
        assert await found(node, 0, version) == (START + 10, 0, epoch)

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_special_timestamps(on_node, version):
    epoch = 0 if version >= 4 else -1
    known = {
        LATEST: (1, (-1, 5, epoch)),
        EARLIEST: (1, (-1, 2, epoch)),
        MAX_TIMESTAMP: (7, (START + 30, 3, epoch)),
        LOCAL: (8, (-1, 2, epoch)),
        TIERED: (9, NONE),
        PENDING: (11, NONE),
    }

    async def test(node):
        await node.topic("a")
        await append(node, 10, 20, 20)
        partition = await append(node, 30, 5)
        partition.log.advance_start(2)
        for timestamp, (since, expected) in known.items():
            if version >= since:
                assert await found(node, timestamp, version) == expected
            else:
                codes = await refused(node, ("a", 0, timestamp), version=version)
                assert codes == [ErrorCode.UNSUPPORTED_VERSION]
        for timestamp in (-7, -(2**63)):
            codes = await refused(node, ("a", 0, timestamp), version=version)
            assert codes == [ErrorCode.UNSUPPORTED_VERSION]

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_empty_partition(on_node, version):
    async def test(node):
        await node.topic("a")
        epoch = 0 if version >= 4 else -1
        assert await found(node, LATEST, version) == (-1, 0, epoch)
        assert (await found(node, EARLIEST, version))[:2] == (-1, 0)
        assert await found(node, START, version) == NONE
        if version >= 7:
            assert await found(node, MAX_TIMESTAMP, version) == NONE

    on_node(test)


def append_unflushed(node):
    partition = node.services.replicas.leader_of("a", 0)
    batch = memoryview(build_batch([Record(0, START + 50, None, b"v")]))
    partition.append(batch, acks_all=False, now_ms=START + 100, version=9)
    return partition


@pytest.mark.parametrize("version", range(2, 12))
@pytest.mark.parametrize("isolation", [0, 1])
def test_what_cannot_be_flushed_is_not_there(on_node, flushes, monkeypatch, version, isolation):
    monkeypatch.setattr(list_offsets, "FLUSH_WAIT_S", 0)

    async def test(node):
        await node.topic("a")
        await append(node, 10)
        with flushes.held():
            partition = append_unflushed(node)
            options = {"isolation_level": isolation}
            assert (await found(node, LATEST, version, **options))[1] == 1
            assert await found(node, START + 20, version, **options) == NONE
            if version >= 7:
                assert await found(node, MAX_TIMESTAMP, version, **options) == NONE
        await node.flushed(partition)
        assert (await found(node, LATEST, version, **options))[1] == 2
        assert (await found(node, START + 20, version, **options))[1] == 1

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_acknowledged_before_its_flush_is_waited_for(on_node, flushes, version):
    async def test(node):
        await node.topic("a")
        with flushes.held():
            append_unflushed(node)
            answer = node.begin(listed(("a", 0, LATEST), ("none", 0, LATEST)), version)
            for _ in range(5):
                await asyncio.sleep(0)
            assert not answer.done()
        assert [row.offset for row in rows(await answer)] == [1, -1]

    on_node(test)


def test_the_leader_epoch_that_a_client_knows(on_node):
    async def test(node):
        await node.topic("a")
        partition = await append(node, 10)
        partition.leader_epoch = 4
        await append(node, 20)
        assert await found(node, LATEST, epoch=4) == (-1, 2, 4)
        assert await found(node, LATEST, epoch=-1) == (-1, 2, 4)
        assert await found(node, EARLIEST, epoch=4) == (-1, 0, 0)
        assert await found(node, START + 20, epoch=4) == (START + 20, 1, 4)
        assert await refused(node, ("a", 0, LATEST), epoch=3) == [ErrorCode.FENCED_LEADER_EPOCH]
        assert await refused(node, ("a", 0, LATEST), epoch=5) == [ErrorCode.UNKNOWN_LEADER_EPOCH]
        assert await found(node, LATEST, 3) == (-1, 2, -1)

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_partition_is_answered_on_its_own(on_node, version):
    async def test(node):
        await node.topic("a")
        await append(node, 10)
        asked = [("none", 0, LATEST), ("a", 7, LATEST), ("a", -1, LATEST), ("a", 0, LATEST)]
        answer = await node.ask(listed(*asked), version)
        assert [topic.name for topic in answer.topics] == ["none", "a", "a", "a"]
        assert [(row.partition_index, row.error_code, row.offset) for row in rows(answer)] == [
            (0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
            (7, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
            (-1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
            (0, 0, 1),
        ]
        assert (await node.ask(listed(), version)).topics == []

    on_node(test)


def test_a_partition_named_twice(on_node):
    async def test(node):
        await node.topic("a", 2)
        asked = [("a", 0, LATEST), ("a", 1, LATEST), ("a", 0, EARLIEST)]
        answer = rows(await node.ask(listed(*asked)))
        assert [row.error_code for row in answer] == [
            ErrorCode.INVALID_REQUEST,
            0,
            ErrorCode.INVALID_REQUEST,
        ]

    on_node(test)


def test_a_client_does_not_pass_for_a_replica(on_node):
    async def test(node):
        await node.topic("a")
        for replica in (0, 1, 2**31 - 1):
            codes = await refused(node, ("a", 0, LATEST), replica_id=replica)
            assert codes == [ErrorCode.CLUSTER_AUTHORIZATION_FAILED]
        assert (await found(node, LATEST, replica_id=DEBUGGING))[1] == 0

    on_node(test)


def test_a_directory_that_went_offline(on_node):
    async def test(node):
        await node.topic("a")
        (directory,) = node.services.replicas.directories
        directory.go_offline(OSError(5, "Input/output error"))
        codes = await refused(node, ("a", 0, LATEST))
        assert codes == [ErrorCode.KAFKA_STORAGE_ERROR]

    on_node(test)
