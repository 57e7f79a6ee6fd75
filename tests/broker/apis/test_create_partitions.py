"""CreatePartitions: topics only grow."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.limits import PARTITIONS_PER_REQUEST
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)


def grow(*topics, validate_only=False):
    return CreatePartitionsRequest(
        topics=[
            CreatePartitionsTopic(
                name=name,
                count=count,
                assignments=None
                if assignments is None
                else [CreatePartitionsAssignment(broker_ids=brokers) for brokers in assignments],
            )
            for name, count, assignments in topics
        ],
        timeout_ms=1000,
        validate_only=validate_only,
    )


@pytest.mark.parametrize("version", range(4))
def test_new_partitions_are_served_and_old_ones_keep_their_records(on_node, version):
    async def test(node):
        await node.topic("a")
        await node.produce("a", 3)
        answer = await node.ask(grow(("a", 3, None)), version)
        assert [(row.name, row.error_code) for row in answer.results] == [("a", 0)]
        ends = [node.services.replicas.leader_of("a", at).log.log_end_offset for at in range(3)]
        assert ends == [3, 0, 0]

    on_node(test)


@pytest.mark.parametrize(
    ("name", "count", "assignments", "code"),
    [
        ("a", 2, None, ErrorCode.INVALID_PARTITIONS),
        ("a", 1, None, ErrorCode.INVALID_PARTITIONS),
        ("a", -1, None, ErrorCode.INVALID_PARTITIONS),
        ("none", 3, None, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("a", 4, [[1]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("a", 3, [], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("a", 3, [[9]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("a", 3, [[1, 9]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("a", PARTITIONS_PER_REQUEST + 3, None, ErrorCode.POLICY_VIOLATION),
    ],
)
def test_refused(on_node, name, count, assignments, code):
    async def test(node):
        await node.topic("a", 2)
        answer = await node.ask(grow((name, count, assignments)))
        (row,) = answer.results
        assert row.error_code == code, row
        assert row.error_message
        assert len(node.image.topics["a"].partitions) == 2

    on_node(test)


def test_assignments_are_of_the_new_partitions(on_node):
    async def test(node):
        await node.topic("a")
        answer = await node.ask(grow(("a", 3, [[1], [1]])))
        assert answer.results[0].error_code == 0
        assert len(node.image.topics["a"].partitions) == 3

    on_node(test)


def test_validate_only_and_names_that_come_twice(on_node):
    async def test(node):
        await node.topic("a")
        await node.topic("b")
        answer = await node.ask(grow(("a", 5, None), validate_only=True))
        assert answer.results[0].error_code == 0
        answer = await node.ask(grow(("a", 5, None), ("b", 2, None), ("a", 6, None)))
        assert [(row.name, row.error_code) for row in answer.results] == [
            ("a", ErrorCode.INVALID_REQUEST),
            ("b", 0),
        ]
        assert [len(node.image.topics[name].partitions) for name in "ab"] == [1, 2]

    on_node(test)


def test_too_many_in_all(on_node):
    async def test(node):
        await node.topic("a")
        await node.topic("b")
        half = PARTITIONS_PER_REQUEST // 2 + 2
        answer = await node.ask(grow(("a", half, None), ("b", half, None)))
        assert [row.error_code for row in answer.results] == [ErrorCode.POLICY_VIOLATION] * 2

    on_node(test)
