"""DeleteRecords: the log start moves, for good."""

import shutil

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)


def delete(*asked):
    return DeleteRecordsRequest(
        topics=[
            DeleteRecordsTopic(
                name=name,
                partitions=[
                    DeleteRecordsPartition(partition_index=index, offset=offset)
                    for index, offset in partitions
                ],
            )
            for name, partitions in asked
        ],
        timeout_ms=1000,
    )


def rows(answer):
    return [
        (topic.name, row.partition_index, row.low_watermark, row.error_code)
        for topic in answer.topics
        for row in topic.partitions
    ]


@pytest.mark.parametrize("version", range(3))
def test_the_start_moves(on_node, version):
    async def test(node):
        await node.topic("a", 2)
        await node.produce("a", 5)
        partition = await node.produce("a", 4, index=1)
        answer = await node.ask(delete(("a", [(0, 3), (1, -1)])), version)
        assert rows(answer) == [("a", 0, 3, 0), ("a", 1, 4, 0)]
        assert node.services.replicas.leader_of("a", 0).log.log_start_offset == 3
        assert partition.log.log_start_offset == 4

    on_node(test)


def test_it_never_moves_back(on_node):
    async def test(node):
        await node.topic("a")
        await node.produce("a", 5)
        for offset, start in ((3, 3), (1, 3), (0, 3), (3, 3)):
            assert rows(await node.ask(delete(("a", [(0, offset)])))) == [("a", 0, start, 0)]

    on_node(test)


@pytest.mark.parametrize(
    ("topic", "index", "offset", "code"),
    [
        ("a", 0, 6, ErrorCode.OFFSET_OUT_OF_RANGE),
        ("a", 0, -2, ErrorCode.OFFSET_OUT_OF_RANGE),
        ("a", 7, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("a", -1, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("none", 0, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("compacted", 0, 1, ErrorCode.POLICY_VIOLATION),
        ("__consumer_offsets", 0, 0, ErrorCode.INVALID_TOPIC_EXCEPTION),
    ],
)
def test_refused(on_node, topic, index, offset, code):
    async def test(node):
        await node.topic("a")
        await node.topic("compacted", cleanup_policy="compact")
        await node.topic("__consumer_offsets")
        partition = await node.produce("a", 5)
        answer = await node.ask(delete((topic, [(index, offset)])))
        assert rows(answer) == [(topic, index, -1, code)]
        assert partition.log.log_start_offset == 0

    on_node(test)


def test_a_topic_that_is_compacted_and_deleted_allows_it(on_node):
    async def test(node):
        await node.topic("a", cleanup_policy="compact,delete")
        assert rows(await node.ask(delete(("a", [(0, 0)])))) == [("a", 0, 0, 0)]

    on_node(test)


def test_the_new_start_is_on_the_disk_when_the_answer_is_there(on_node, tmp_path):
    async def test(node):
        await node.topic("a", 2)
        await node.produce("a", 5)
        await node.produce("a", 5, index=1)
        await node.ask(delete(("a", [(0, 3)])))
        (checkpoint,) = tmp_path.glob("*/log-start-offset-checkpoint")
        assert checkpoint.read_text() == "0\n1\na 0 3\n"
        assert (checkpoint.parent / "a-0").is_dir()

    on_node(test, log_dirs=2)


def test_what_could_not_be_saved_is_not_said_to_be_gone(on_node, monkeypatch):
    async def test(node):
        await node.topic("a")
        await node.produce("a", 5)
        (directory,) = node.services.replicas.directories

        def fail(high_watermarks, offload, done):
            node.services.loop.call_soon(done, OSError(5, "Input/output error"))

        with monkeypatch.context() as patched:
            patched.setattr(
                type(directory.log_dir), "write_checkpoints", lambda _, *args: fail(*args)
            )
            answer = await node.ask(delete(("a", [(0, 3)])))
        assert rows(answer) == [("a", 0, -1, ErrorCode.KAFKA_STORAGE_ERROR)]
        answer = await node.ask(delete(("a", [(0, 3)])))
        assert rows(answer) == [("a", 0, -1, ErrorCode.KAFKA_STORAGE_ERROR)]

    on_node(test)


def test_a_full_disk_is_waited_out(on_node, monkeypatch):
    async def test(node):
        await node.topic("a")
        await node.produce("a", 5)
        (directory,) = node.services.replicas.directories

        def fail(_, high_watermarks, offload, done):
            node.services.loop.call_soon(done, OSError(28, "No space left on device"))

        with monkeypatch.context() as patched:
            patched.setattr(type(directory.log_dir), "write_checkpoints", fail)
            for _ in range(2):
                answer = await node.ask(delete(("a", [(0, 3)])))
                assert rows(answer) == [("a", 0, -1, ErrorCode.KAFKA_STORAGE_ERROR)]
        assert not directory.log_dir.is_offline
        answer = await node.ask(delete(("a", [(0, 3)])))
        assert rows(answer) == [("a", 0, 3, 0)]

    on_node(test)


def test_a_crash_right_after_the_answer_brings_nothing_back(on_node, tmp_path):
    crashed = tmp_path / "crashed"

    async def before(node):
        await node.topic("a")
        await node.produce("a", 5)
        assert rows(await node.ask(delete(("a", [(0, 3)])))) == [("a", 0, 3, 0)]
        shutil.copytree(tmp_path / "logs-0", crashed / "logs-0")

    async def after(node):
        log = node.services.replicas.leader_of("a", 0).log
        assert (log.log_start_offset, log.log_end_offset) == (3, 5)

    on_node(before)
    on_node(after, directory=crashed)


def test_the_high_watermark_is_the_end_of_what_may_go(on_node):
    async def test(node):
        await node.topic("a")
        partition = await node.produce("a", 5)
        partition.high_watermark = 2
        asked = delete(("a", [(0, 3)]))
        assert rows(await node.ask(asked)) == [("a", 0, -1, ErrorCode.OFFSET_OUT_OF_RANGE)]
        assert rows(await node.ask(delete(("a", [(0, -1)])))) == [("a", 0, 2, 0)]

    on_node(test)
