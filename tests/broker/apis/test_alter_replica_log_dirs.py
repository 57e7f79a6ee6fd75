"""AlterReplicaLogDirs over the wire; how a move goes is told in tests/replica/test_mover.py."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from ottla.protocol.messages.describe_log_dirs import DescribeLogDirsRequest


def asked(*moves):
    return AlterReplicaLogDirsRequest(
        dirs=[
            AlterReplicaLogDir(
                path=str(path),
                topics=[AlterReplicaLogDirTopic(name=name, partitions=list(indexes))],
            )
            for path, name, indexes in moves
        ]
    )


def codes(answer):
    return {
        (topic.topic_name, row.partition_index): row.error_code
        for topic in answer.results
        for row in topic.partitions
    }


async def places(node, name):
    """{directory: [(partition, is future, lag)]}"""
    answer = await node.ask(DescribeLogDirsRequest(topics=None))
    return {
        result.log_dir: [
            (row.partition_index, row.is_future_key, row.offset_lag)
            for topic in result.topics
            if topic.name == name
            for row in topic.partitions
        ]
        for result in answer.results
    }


@pytest.mark.parametrize("version", [1, 2])
def test_partitions_move(on_node, tmp_path, version):
    first, second = (str(tmp_path / f"logs-{number}") for number in range(2))

    async def test(node):
        await node.topic("a", 2)
        for index in range(2):
            await node.produce("a", 10, index=index)
        answer = await node.ask(asked((first, "a", [0, 1])), version)
        assert codes(answer) == {("a", 0): 0, ("a", 1): 0}
        async with asyncio.timeout(60):
            while (await places(node, "a"))[second]:
                await asyncio.sleep(0.002)
        assert sorted((await places(node, "a"))[first]) == [(0, False, 0), (1, False, 0)]
        await node.produce("a", 10, index=1)

    on_node(test, log_dirs=2)


def test_a_move_is_described_while_it_lasts(on_node, tmp_path, monkeypatch):
    monkeypatch.setattr("ottla.replica.mover.STEP_BYTES", 0)
    monkeypatch.setattr("ottla.replica.mover.LAST_BYTES", -1)
    first, second = (str(tmp_path / f"logs-{number}") for number in range(2))

    async def test(node):
        await node.topic("a")
        await node.produce("a", 10)
        await node.ask(asked((second, "a", [0])))
        async with asyncio.timeout(60):
            while not (await places(node, "a"))[second]:
                await asyncio.sleep(0.002)
        found = await places(node, "a")
        assert found[first] == [(0, False, 0)]
        [(_, is_future, lag)] = found[second]
        assert is_future
        assert lag > 0
        await node.ask(asked((first, "a", [0])))
        async with asyncio.timeout(60):
            while list((tmp_path / "logs-1").glob("a-0.*-future")):
                await asyncio.sleep(0.002)
        assert await places(node, "a") == {first: [(0, False, 0)], second: []}

    on_node(test, log_dirs=2)


def test_errors_by_partition(on_node, tmp_path):
    async def test(node):
        await node.topic("a")
        second = tmp_path / "logs-1"
        answer = await node.ask(
            asked((second, "a", [7]), (tmp_path / "none", "a", [0]), (second, "b", [0]))
        )
        assert codes(answer) == {
            ("a", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ("a", 0): ErrorCode.LOG_DIR_NOT_FOUND,
            ("b", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        }
        node.services.replicas.directories[1].go_offline(OSError(5, "Input/output error"))
        answer = await node.ask(asked((second, "a", [0])))
        assert codes(answer) == {("a", 0): ErrorCode.KAFKA_STORAGE_ERROR}

    on_node(test, log_dirs=2)
