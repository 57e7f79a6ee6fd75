"""ListPartitionReassignments (key 46): partitions on their way to other replicas (KIP-455).

Behaviour. Those asked for, or all of them (null); what is not on its way, or not there, is left
out.
Versions. 0 alone.
Authorised by: Describe on the cluster.
"""

from collections.abc import Iterator

from ottla.base.errors import KafkaError
from ottla.broker.context import RequestContext
from ottla.metadata.image import ClusterImage, PartitionImage
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)
from ottla.security.acl import Operation, ResourceType


def list_partition_reassignments(
    context: RequestContext, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    try:
        context.require(Operation.DESCRIBE, ResourceType.CLUSTER)
    except KafkaError as error:
        return ListPartitionReassignmentsResponse(
            error_code=error.code, error_message=error.message, topics=[]
        )
    asked = None
    if request.topics is not None:
        asked = {(each.name, index) for each in request.topics for index in each.partition_indexes}
    by_topic: dict[str, list[OngoingPartitionReassignment]] = {}
    for topic, partition in _moving(context.services.cluster.image):
        if asked is None or (topic, partition.index) in asked:
            by_topic.setdefault(topic, []).append(
                OngoingPartitionReassignment(
                    partition_index=partition.index,
                    replicas=list(partition.replicas),
                    adding_replicas=list(partition.adding),
                    removing_replicas=list(partition.removing),
                )
            )
    return ListPartitionReassignmentsResponse(
        topics=[
            OngoingTopicReassignment(name=topic, partitions=rows)
            for topic, rows in by_topic.items()
        ]
    )


def _moving(image: ClusterImage) -> Iterator[tuple[str, PartitionImage]]:
    for topic in image.topics.values():
        for partition in topic.partitions:
            if partition.adding or partition.removing:
                yield topic.name, partition
