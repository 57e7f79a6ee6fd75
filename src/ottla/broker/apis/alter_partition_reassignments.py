"""AlterPartitionReassignments (key 45): give partitions other replicas (KIP-455), or take it back.

Behaviour. Each partition is answered on its own, and all that can be done is done at once. Null
replicas take a reassignment back, NO_REASSIGNMENT_IN_PROGRESS where there is none; what the
partition has already is no error. Replicas that are no brokers, come twice, are none at all, or are
not in the in-sync set are INVALID_REPLICA_ASSIGNMENT. Where a request names a partition twice the
last list counts.
Versions. 1 can forbid that the number of replicas changes: INVALID_REPLICATION_FACTOR (KIP-860).
Authorised by: Alter on the cluster.
"""

from ottla.base.errors import KafkaError
from ottla.broker.context import RequestContext
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from ottla.security.acl import Operation, ResourceType


async def alter_partition_reassignments(
    context: RequestContext, request: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    wanted = {
        (topic.name, each.partition_index): each.replicas
        for topic in request.topics
        for each in topic.partitions
    }
    try:
        context.require(Operation.ALTER, ResourceType.CLUSTER)
        outcomes = await context.services.controller.replicas.reassign(
            wanted, may_resize=request.allow_replication_factor_change
        )
    except KafkaError as error:
        return AlterPartitionReassignmentsResponse(
            error_code=error.code, error_message=error.message, responses=[]
        )
    by_topic: dict[str, list[ReassignablePartitionResponse]] = {}
    for (topic, index), fault in outcomes.items():
        row = ReassignablePartitionResponse(partition_index=index)
        if fault is not None:
            row.error_code, row.error_message = fault.code, fault.message
        by_topic.setdefault(topic, []).append(row)
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        responses=[
            ReassignableTopicResponse(name=topic, partitions=rows)
            for topic, rows in by_topic.items()
        ],
    )
