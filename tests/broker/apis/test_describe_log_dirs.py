"""DescribeLogDirs: sizes that are those of the files, and directories that failed."""

import os
from pathlib import Path

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.describe_log_dirs import (
    DescribableLogDirTopic,
    DescribeLogDirsRequest,
)


def partitions(result):
    return {
        (topic.name, row.partition_index): row.partition_size
        for topic in result.topics
        for row in topic.partitions
    }


@pytest.mark.parametrize("version", range(1, 6))
def test_all_partitions(on_node, tmp_path, version):
    async def test(node):
        await node.topic("a", 2)
        await node.topic("b")
        await node.produce("a", 100, index=1)
        answer = await node.ask(DescribeLogDirsRequest(topics=None), version)
        assert answer.error_code == 0
        assert [result.log_dir for result in answer.results] == [
            str(tmp_path / "logs-0"),
            str(tmp_path / "logs-1"),
        ]
        sizes = {}
        for result in answer.results:
            assert result.error_code == 0
            assert (result.total_bytes > 0) == (result.usable_bytes > 0) == (version >= 4)
            for (topic, index), size in partitions(result).items():
                directory = Path(result.log_dir, f"{topic}-{index}")
                assert size == sum(path.stat().st_size for path in directory.glob("*.log"))
                sizes[topic, index] = size
        assert sorted(sizes) == [("a", 0), ("a", 1), ("b", 0)]
        assert sizes["a", 1] > sizes["a", 0] == 0

    on_node(test, log_dirs=2)


def test_some_partitions(on_node):
    async def test(node):
        await node.topic("a", 2)
        await node.topic("b")
        asked = [
            DescribableLogDirTopic(topic="a", partitions=[1, 1, 7]),
            DescribableLogDirTopic(topic="none", partitions=[0]),
        ]
        answer = await node.ask(DescribeLogDirsRequest(topics=asked))
        assert list(partitions(answer.results[0])) == [("a", 1)]
        answer = await node.ask(DescribeLogDirsRequest(topics=[]))
        assert partitions(answer.results[0]) == {}
        assert answer.results[0].total_bytes > 0

    on_node(test)


def test_the_size_and_the_room_of_each_directory_s_file_system(on_node, tmp_path, monkeypatch):
    told = {
        str(tmp_path / "logs-0"): os.statvfs_result((8192, 4096, 50, 30, 20, 9, 8, 7, 0, 255)),
        str(tmp_path / "logs-1"): os.statvfs_result((8192, 512, 1 << 40, 3, 0, 9, 8, 7, 0, 255)),
    }

    async def test(node):
        real = [os.statvfs(path) for path in told]
        answer = await node.ask(DescribeLogDirsRequest(topics=[]))
        assert [each.total_bytes for each in answer.results] == [
            each.f_frsize * each.f_blocks for each in real
        ]
        monkeypatch.setattr(os, "statvfs", told.__getitem__)
        answer = await node.ask(DescribeLogDirsRequest(topics=[]))
        assert [(each.total_bytes, each.usable_bytes) for each in answer.results] == [
            (50 * 4096, 20 * 4096),
            (512 << 40, 0),
        ]

    on_node(test, log_dirs=2)


def test_a_directory_that_failed(on_node):
    async def test(node):
        await node.topic("a", 4)
        node.services.replicas.directories[0].go_offline(OSError(5, "Input/output error"))
        answer = await node.ask(DescribeLogDirsRequest(topics=None))
        failed, well = answer.results
        assert (failed.error_code, failed.topics) == (ErrorCode.KAFKA_STORAGE_ERROR, [])
        assert (failed.total_bytes, failed.usable_bytes) == (-1, -1)
        assert (well.error_code, len(partitions(well))) == (0, 2)

    on_node(test, log_dirs=2)
