"""ElectLeaders (key 43): let partitions be led by their preferred, or by any replica.

Behaviour. Each partition is answered on its own: ELECTION_NOT_NEEDED where it has the leader that
the election is for, PREFERRED_LEADER_NOT_AVAILABLE, for an unclean one
ELIGIBLE_LEADERS_NOT_AVAILABLE. Null means all partitions; those that need no election are left out
then. A type of election that does not exist is INVALID_REQUEST.
Versions. 0 elects preferred leaders alone, 1 has types of elections (KIP-460) and an error for the
whole, 2 is flexible.
Authorised by: Alter on the cluster.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.metadata.replica_control import Election, Place
from ottla.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)
from ottla.security.acl import Operation, ResourceType

Outcomes = dict[Place, KafkaError | None]
ERROR_VERSION = 1
"""The first with an error for the whole."""


async def elect_leaders(
    context: RequestContext, request: ElectLeadersRequest
) -> ElectLeadersResponse:
    places = _places(context, request)
    fault = None
    try:
        context.require(Operation.ALTER, ResourceType.CLUSTER)
        kind = _kind(request.election_type)
        outcomes: Outcomes = await context.services.controller.replicas.elect(kind, places)
    except KafkaError as error:
        fault, outcomes = error, {}
        if request.topic_partitions is not None:
            outcomes = dict.fromkeys(places, error)
    if request.topic_partitions is None:
        outcomes = {place: each for place, each in outcomes.items() if not _is_unneeded(each)}
    response = ElectLeadersResponse(replica_election_results=_rows(outcomes))
    if fault is not None and context.api_version >= ERROR_VERSION:
        response.error_code = fault.code
    return response


def _places(context: RequestContext, request: ElectLeadersRequest) -> list[Place]:
    if request.topic_partitions is not None:
        return [
            (each.topic, index) for each in request.topic_partitions for index in each.partitions
        ]
    topics = context.services.cluster.image.topics.values()
    return [(topic.name, partition.index) for topic in topics for partition in topic.partitions]


def _kind(number: int) -> Election:
    try:
        return Election(number)
    except ValueError:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown election type {number}") from None


def _is_unneeded(outcome: KafkaError | None) -> bool:
    return outcome is not None and outcome.code is ErrorCode.ELECTION_NOT_NEEDED


def _rows(outcomes: Outcomes) -> list[ReplicaElectionResult]:
    by_topic: dict[str, list[PartitionResult]] = {}
    for (topic, index), fault in outcomes.items():
        row = PartitionResult(partition_id=index)
        if fault is not None:
            row.error_code, row.error_message = fault.code, fault.message
        by_topic.setdefault(topic, []).append(row)
    return [
        ReplicaElectionResult(topic=topic, partition_result=rows)
        for topic, rows in by_topic.items()
    ]
