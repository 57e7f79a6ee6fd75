"""DescribeCluster: who is there, and what a client that asks the wrong kind of node is told."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.broker.operations import NOT_ASKED
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest


@pytest.mark.parametrize("version", range(3))
def test_the_cluster(on_node, version):
    async def test(node):
        request = DescribeClusterRequest(include_cluster_authorized_operations=False)
        answer = await node.ask(request, version)
        assert answer.error_code == 0
        assert (answer.cluster_id, answer.controller_id) == (node.image.cluster_id, 1)
        (broker,) = answer.brokers
        assert (broker.broker_id, broker.host, broker.rack) == (1, "127.0.0.1", "r1")
        assert broker.port > 0
        assert not broker.is_fenced
        assert answer.endpoint_type == 1
        assert answer.cluster_authorized_operations == NOT_ASKED

    on_node(test, {"broker.rack": "r1"})


def test_the_operations_of_the_cluster_are_kafkas(on_node):
    async def test(node):
        request = DescribeClusterRequest(include_cluster_authorized_operations=True)
        answer = await node.ask(request)
        operations = {bit for bit in range(32) if answer.cluster_authorized_operations >> bit & 1}
        # create, alter, describe, cluster action, describe and alter configs, idempotent write
        assert operations == {5, 7, 8, 9, 10, 11, 12}

    on_node(test)


@pytest.mark.parametrize(
    ("endpoint_type", "code"),
    [(2, ErrorCode.MISMATCHED_ENDPOINT_TYPE), (7, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE)],
)
def test_brokers_alone_listen_here(on_node, endpoint_type, code):
    async def test(node):
        request = DescribeClusterRequest(
            include_cluster_authorized_operations=False, endpoint_type=endpoint_type
        )
        answer = await node.ask(request)
        assert (answer.error_code, answer.brokers) == (code, [])
        assert answer.error_message

    on_node(test)
