"""DescribeProducers: who wrote to a partition, by its own state."""

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest


def describe(*asked):
    return DescribeProducersRequest(
        topics=[TopicRequest(name=name, partition_indexes=indexes) for name, indexes in asked]
    )


def test_active_producers(on_node):
    async def test(node):
        await node.topic("a", 2)
        await node.produce("a", 1)
        await node.produce("a", 3, producer_id=7, producer_epoch=2, base_sequence=0)
        await node.produce("a", 2, producer_id=7, producer_epoch=2, base_sequence=3)
        await node.produce("a", 1, producer_id=9, producer_epoch=0, base_sequence=0)
        answer = await node.ask(describe(("a", [0, 1])))
        first, second = answer.topics[0].partitions
        assert (first.error_code, second.error_code) == (0, 0)
        states = {state.producer_id: state for state in first.active_producers}
        assert sorted(states) == [7, 9]
        assert (states[7].producer_epoch, states[7].last_sequence) == (2, 4)
        assert states[7].current_txn_start_offset == -1
        assert states[7].last_timestamp > 0
        assert second.active_producers == []

    on_node(test)


def test_refused_and_answered_once(on_node):
    async def test(node):
        await node.topic("a")
        answer = await node.ask(
            describe(("a", [0, 0, 5]), ("none", [0]), ("a b", [0]), ("a", [0, 6]))
        )
        assert [
            (topic.name, [(row.partition_index, row.error_code) for row in topic.partitions])
            for topic in answer.topics
        ] == [
            (
                "a",
                [
                    (0, 0),
                    (5, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
                    (6, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
                ],
            ),
            ("none", [(0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)]),
            ("a b", [(0, ErrorCode.INVALID_TOPIC_EXCEPTION)]),
        ]

    on_node(test)
