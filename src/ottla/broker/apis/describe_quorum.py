"""DescribeQuorum (key 55): who agrees on the metadata, and how far each has come (KIP-595).

Behaviour. There is no quorum and no log of metadata here, but a store with revisions: the one voter
is the controller, offsets are revisions, the epoch is the revision of the controller's
registration. Other brokers are observers. A broker follows the store, so each has come to where
this one is. What is not `__cluster_metadata` 0 is UNKNOWN_TOPIC_OR_PARTITION.
Versions. 1 has times (KIP-836); 2 has messages, directories and the nodes' listeners (KIP-853).
Authorised by: Describe on the cluster.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, NodeId
from ottla.base.listeners import client_listeners
from ottla.broker.apis.metadata import broker_rows
from ottla.broker.context import RequestContext
from ottla.metadata.image import ClusterImage
from ottla.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    Listener,
    Node,
    PartitionData,
    ReplicaState,
    TopicData,
)
from ottla.security.acl import Operation, ResourceType
from ottla.storage.names import KRAFT_TOPIC

EPOCH_MAX = 2**31 - 1
DIRECTORIES_VERSION = 2


def describe_quorum(
    context: RequestContext, request: DescribeQuorumRequest
) -> DescribeQuorumResponse:
    try:
        context.require(Operation.DESCRIBE, ResourceType.CLUSTER)
    except KafkaError as error:
        return DescribeQuorumResponse(error_code=error.code, error_message=error.message, topics=[])
    image = context.services.cluster.image
    # A repeat is answered once: a short request must not ask for an endless answer.
    asked: dict[str, dict[int, None]] = {}
    for each in request.topics:
        indexes = dict.fromkeys(row.partition_index for row in each.partitions)
        asked.setdefault(each.topic_name, {}).update(indexes)
    topics = [
        TopicData(
            topic_name=name,
            partitions=[
                _partition(context, image) if (name, index) == (KRAFT_TOPIC, 0) else _unknown(index)
                for index in indexes
            ],
        )
        for name, indexes in asked.items()
    ]
    response = DescribeQuorumResponse(topics=topics)
    if context.api_version >= DIRECTORIES_VERSION:
        response.nodes = _nodes(context, image)
    return response


def _partition(context: RequestContext, image: ClusterImage) -> PartitionData:
    controller = image.brokers.get(image.controller_id)
    if controller is None:
        return _unknown(0, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    return PartitionData(
        partition_index=0,
        leader_id=controller.node_id,
        leader_epoch=min(controller.epoch, EPOCH_MAX),
        high_watermark=image.revision,
        current_voters=[_replica(context, image, controller.node_id)],
        observers=[
            _replica(context, image, node) for node in image.brokers if node != controller.node_id
        ],
    )


def _replica(context: RequestContext, image: ClusterImage, node: NodeId) -> ReplicaState:
    services = context.services
    now_ms = services.world.clock.time_ms()
    directory_id = ZERO_UUID
    if context.api_version >= DIRECTORIES_VERSION and node == services.node_id:
        directory_id = services.replicas.directories[0].log_dir.directory_id
    return ReplicaState(
        replica_id=node,
        replica_directory_id=directory_id,
        log_end_offset=image.revision,
        last_fetch_timestamp=now_ms,
        last_caught_up_timestamp=now_ms,
    )


def _unknown(index: int, code: ErrorCode = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) -> PartitionData:
    return PartitionData(partition_index=index, error_code=code, error_message=code.name)


def _nodes(context: RequestContext, image: ClusterImage) -> list[Node]:
    name = client_listeners(context.services.settings)[0].name
    return [
        Node(node_id=node, listeners=[Listener(name=name, host=host, port=port)])
        for node, host, port, _ in broker_rows(context, image)
        if node == image.controller_id
    ]
