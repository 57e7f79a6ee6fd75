"""ElectLeaders, AlterPartitionReassignments, ListPartitionReassignments and DescribeQuorum."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.protocol.messages.describe_quorum import (
    AskedPartitions,
    AskedTopics,
    DescribeQuorumRequest,
)
from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)


async def elect(node, wanted, kind=0, version=2):
    """{(topic, partition): error code}, and the code of the whole."""
    rows = wanted and [
        TopicPartitions(topic=name, partitions=each) for name, each in wanted.items()
    ]
    request = ElectLeadersRequest(topic_partitions=rows, election_type=kind)
    response = await node.ask(request, version)
    codes = {
        (each.topic, row.partition_id): row.error_code
        for each in response.replica_election_results
        for row in each.partition_result
    }
    return codes, response.error_code


@pytest.mark.parametrize("version", range(3))
def test_leaders_that_are_preferred_already(on_node, version):
    async def test(node):
        await node.topic("t", 2)
        codes, code = await elect(node, {"t": [0, 1, 2], "u": [0]}, version=version)
        assert codes == {
            ("t", 0): ErrorCode.ELECTION_NOT_NEEDED,
            ("t", 1): ErrorCode.ELECTION_NOT_NEEDED,
            ("t", 2): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ("u", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        }
        assert code == 0
        assert await elect(node, None, version=version) == ({}, 0)

    on_node(test)


def test_an_unclean_election_is_for_partitions_without_a_leader(on_node):
    async def test(node):
        await node.topic("t")
        codes, _ = await elect(node, {"t": [0]}, kind=1)
        assert codes == {("t", 0): ErrorCode.ELECTION_NOT_NEEDED}

    on_node(test)


def test_an_election_of_no_known_kind(on_node):
    async def test(node):
        await node.topic("t")
        codes, code = await elect(node, {"t": [0]}, kind=7)
        assert codes == {("t", 0): ErrorCode.INVALID_REQUEST}
        assert code == ErrorCode.INVALID_REQUEST

    on_node(test)


async def reassign(node, wanted, *, version=1, may_resize=True):
    rows = [
        ReassignableTopic(
            name=name,
            partitions=[
                ReassignablePartition(partition_index=index, replicas=replicas)
                for index, replicas in each.items()
            ],
        )
        for name, each in wanted.items()
    ]
    request = AlterPartitionReassignmentsRequest(
        topics=rows, allow_replication_factor_change=may_resize
    )
    response = await node.ask(request, version)
    assert not response.error_code
    return {
        (each.name, row.partition_index): row.error_code
        for each in response.responses
        for row in each.partitions
    }


@pytest.mark.parametrize("version", range(2))
def test_reassignments_of_one_node(on_node, version):
    async def test(node):
        await node.topic("t", 6)
        wanted = {0: [1], 1: None, 2: [], 3: [2], 4: [1, 1], 5: [1, 2], 6: [1]}
        codes = await reassign(node, {"t": wanted, "u": {0: [1]}}, version=version)
        assert codes == {
            ("t", 0): 0,
            ("t", 1): ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
            ("t", 2): ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            ("t", 3): ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            ("t", 4): ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            ("t", 5): ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            ("t", 6): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ("u", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        }
        assert all(each.replicas == (1,) for each in node.image.topics["t"].partitions)

    on_node(test)


def test_no_reassignment_is_on_its_way(on_node):
    async def test(node):
        await node.topic("t")
        response = await node.ask(ListPartitionReassignmentsRequest(topics=None))
        assert (response.error_code, response.topics) == (0, [])
        asked = [ListPartitionReassignmentsTopics(name="t", partition_indexes=[0, 9])]
        assert (await node.ask(ListPartitionReassignmentsRequest(topics=asked))).topics == []

    on_node(test)


def quorum_of(*places):
    return DescribeQuorumRequest(
        topics=[
            AskedTopics.TopicData(
                topic_name=name, partitions=[AskedPartitions.PartitionData(partition_index=index)]
            )
            for name, index in places
        ]
    )


@pytest.mark.parametrize("version", range(3))
def test_the_quorum_is_the_controller(on_node, version):
    async def test(node):
        response = await node.ask(quorum_of(("__cluster_metadata", 0)), version)
        (topic,) = response.topics
        (row,) = topic.partitions
        assert (response.error_code, row.error_code, row.leader_id) == (0, 0, 1)
        assert 0 < row.leader_epoch <= row.high_watermark == node.image.revision
        (voter,) = row.current_voters
        assert (voter.replica_id, voter.log_end_offset) == (1, row.high_watermark)
        assert row.observers == []
        await node.topic("t")
        response = await node.ask(quorum_of(("__cluster_metadata", 0)), version)
        assert response.topics[0].partitions[0].high_watermark > row.high_watermark
        if version >= 2:
            (node_row,) = response.nodes
            assert node_row.node_id == 1
            assert node_row.listeners[0].name == "PLAINTEXT"
            directory = node.services.replicas.directories[0].log_dir
            assert voter.replica_directory_id == directory.directory_id

    on_node(test)


def test_there_is_no_other_quorum(on_node):
    async def test(node):
        response = await node.ask(quorum_of(("t", 0), ("__cluster_metadata", 1)))
        codes = [row.error_code for each in response.topics for row in each.partitions]
        assert codes == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] * 2

    on_node(test)


def test_a_quorum_that_is_asked_for_again_and_again_is_told_once(on_node):
    async def test(node):
        metadata = ("__cluster_metadata", 0)
        response = await node.ask(quorum_of(*[metadata, ("t", 0)] * 50))
        told = [(each.topic_name, len(each.partitions)) for each in response.topics]
        assert told == [("__cluster_metadata", 1), ("t", 1)]

    on_node(test)
