"""OffsetCommit, OffsetFetch and OffsetDelete through the handlers, in every version."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)

FEW = {"offsets.topic.num.partitions": "3"}
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def commit(topics, group="g", **fields):
    """`topics` {name or id: {partition: (offset, epoch, metadata)}}."""
    rows = []
    for topic, offsets in topics.items():
        partitions = [
            OffsetCommitRequestPartition(
                partition_index=index,
                committed_offset=offset,
                committed_leader_epoch=epoch,
                committed_metadata=metadata,
            )
            for index, (offset, epoch, metadata) in offsets.items()
        ]
        key = "topic_id" if isinstance(topic, bytes) else "name"
        rows.append(OffsetCommitRequestTopic(**{key: topic}, partitions=partitions))
    return OffsetCommitRequest(group_id=group, topics=rows, **fields)


def codes(answer, by="name"):
    return {
        getattr(topic, by): {row.partition_index: row.error_code for row in topic.partitions}
        for topic in answer.topics
    }


async def ready(node):
    await node.ask(FindCoordinatorRequest(key="g"), 3)
    return await node.topic("t", partitions=3)


async def fetched(node, version, topics=None, group="g"):
    """{topic: {partition: (offset, epoch, metadata, code)}} and the code of the whole."""
    if version < 8:
        rows = topics and [
            OffsetFetchRequestTopic(name=name, partition_indexes=list(indexes))
            for name, indexes in topics.items()
        ]
        answer = await node.ask(OffsetFetchRequest(group_id=group, topics=rows), version)
    else:
        key = "topic_id" if version >= 10 else "name"
        rows = topics and [
            OffsetFetchRequestTopics(**{key: name}, partition_indexes=list(indexes))
            for name, indexes in topics.items()
        ]
        asked = [OffsetFetchRequestGroup(group_id=group, topics=rows)]
        (answer,) = (await node.ask(OffsetFetchRequest(groups=asked), version)).groups
    return answer.error_code, {
        (topic.topic_id if version >= 10 else topic.name): {
            row.partition_index: (
                row.committed_offset,
                row.committed_leader_epoch,
                row.metadata,
                row.error_code,
            )
            for row in topic.partitions
        }
        for topic in answer.topics
    }


@pytest.mark.parametrize("version", range(2, 11))
def test_commit(on_node, version):
    async def test(node):
        topic = await ready(node)
        name, other = ("t", "u") if version < 10 else (topic.id, b"u" * 16)
        missing = UNKNOWN if version < 10 else ErrorCode.UNKNOWN_TOPIC_ID
        epoch = 4 if version >= 6 else -1
        asked = {
            name: {0: (5, epoch, "m"), 7: (1, -1, None), 1: (6, -1, None), 2: (7, -1, "x" * 5_000)},
            other: {0: (1, -1, None)},
        }
        answer = await node.ask(commit(asked), version)
        expected = {0: 0, 7: UNKNOWN, 1: 0, 2: ErrorCode.OFFSET_METADATA_TOO_LARGE}
        by = "name" if version < 10 else "topic_id"
        assert codes(answer, by) == {name: expected, other: {0: missing}}
        _, found = await fetched(node, 7, {"t": [0, 1, 2]})
        assert found == {
            "t": {0: (5, epoch, "m", 0), 1: (6, -1, "", 0), 2: (-1, -1, "", 0)},
        }
        answer = await node.ask(commit({other: {0: (1, -1, None)}}, group="h"), version)
        assert codes(answer, by) == {other: {0: missing}}

    on_node(test, FEW)


@pytest.mark.parametrize("version", range(1, 11))
def test_fetch(on_node, version):
    async def test(node):
        topic = await ready(node)
        name = "t" if version < 10 else topic.id
        await node.ask(commit({"t": {0: (5, 4, "m"), 2: (6, -1, None)}}), 9)
        epoch = 4 if version >= 5 else -1
        code, found = await fetched(node, version, {name: [0, 1]})
        assert code == 0
        assert found == {name: {0: (5, epoch, "m", 0), 1: (-1, -1, "", 0)}}
        if version >= 2:
            everything = {0: (5, epoch, "m", 0), 2: (6, -1, "", 0)}
            assert await fetched(node, version) == (0, {name: everything})
            assert await fetched(node, version, group="nobody") == (0, {})
        nothing = {name: {0: (-1, -1, "", 0)}}
        assert await fetched(node, version, {name: [0]}, group="nobody") == (0, nothing)
        if version >= 10:
            unknown = {b"u" * 16: {0: (-1, -1, "", ErrorCode.UNKNOWN_TOPIC_ID)}}
            assert await fetched(node, version, {b"u" * 16: [0]}) == (0, unknown)

    on_node(test, FEW)


@pytest.mark.parametrize("version", [1, 2, 7, 8, 9])
def test_fetch_without_a_coordinator(on_node, version):
    async def test(node):
        code = ErrorCode.NOT_COORDINATOR
        answer = await fetched(node, version, {"t": [0]})
        if version == 1:
            assert answer == (0, {"t": {0: (-1, -1, "", code)}})
        else:
            assert answer == (code, {})
        await node.topic("t")
        assert codes(await node.ask(commit({"t": {0: (1, -1, None)}}), 9)) == {"t": {0: code}}

    on_node(test)


def test_offsets_outlive_a_restart(on_node):
    async def first(node):
        await ready(node)
        await node.ask(commit({"t": {0: (5, 4, "m")}}), 9)

    async def second(node):
        while (answer := await fetched(node, 7, {"t": [0]}))[0]:
            assert answer[0] == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            await asyncio.sleep(0)
        assert answer == (0, {"t": {0: (5, 4, "m", 0)}})

    on_node(first, FEW)
    on_node(second, FEW)


def test_offsets_of_a_topic_go_with_it(on_node):
    async def test(node):
        topic = await ready(node)
        await node.topic("kept")
        await node.ask(commit({"t": {0: (5, 4, "m")}, "kept": {0: (1, -1, "")}}), 9)
        await node.services.controller.delete_topic(topic.id)
        assert (await fetched(node, 7))[1] == {"kept": {0: (1, -1, "", 0)}}
        await node.topic("t")
        assert (await fetched(node, 7, {"t": [0]}))[1] == {"t": {0: (-1, -1, "", 0)}}

    on_node(test, FEW)


def test_an_answer_waits_for_the_flush(on_node, flushes):
    async def test(node):
        await ready(node)
        with flushes.held():
            done = node.begin(commit({"t": {0: (5, 4, "m")}}), 9)
            read = node.begin(OffsetFetchRequest(group_id="g", topics=None), 7)
            for _ in range(20):
                await node.ask(FindCoordinatorRequest(key="g"), 3)
            assert not done.done()
            assert not read.done()
        assert codes(await done) == {"t": {0: 0}}
        assert (await read).topics[0].partitions[0].committed_offset == 5

    on_node(test, FEW)


def test_delete(on_node):
    async def test(node):
        await ready(node)

        async def delete(group, topics):
            rows = [
                OffsetDeleteRequestTopic(
                    name=name,
                    partitions=[OffsetDeleteRequestPartition(partition_index=i) for i in indexes],
                )
                for name, indexes in topics.items()
            ]
            return await node.ask(OffsetDeleteRequest(group_id=group, topics=rows))

        await node.ask(commit({"t": {0: (5, 4, "m"), 1: (6, -1, "")}}), 9)
        answer = await delete("g", {"t": [0, 2, 9], "u": [0]})
        assert (answer.error_code, codes(answer)) == (
            0,
            {"t": {0: 0, 2: 0, 9: UNKNOWN}, "u": {0: UNKNOWN}},
        )
        assert (await fetched(node, 7))[1] == {"t": {1: (6, -1, "", 0)}}
        answer = await delete("nobody", {"t": [0]})
        assert (answer.error_code, answer.topics) == (ErrorCode.GROUP_ID_NOT_FOUND, [])
        assert (await delete("", {})).error_code == ErrorCode.INVALID_GROUP_ID

    on_node(test, FEW)
