"""TxnOffsetCommit (key 28): keep how far a group has read, once a transaction has committed.

Behaviour. The transaction must hold the group's partition of `__consumer_offsets`; in the second
protocol it does from now on (KIP-890). The offsets stand in the log as the producer's, pending
until its marker. Partitions and members are looked at as in OffsetCommit, but that a producer may
commit without naming a member.
Authorised by: Write on the transactional id, Read on the group, and Read on each topic.
Versions. 2 has leader epochs, 3 the member, and is flexible; 4 knows TRANSACTION_ABORTABLE; 5 adds
the group by itself; 6 names topics by id, and knows GROUP_ID_NOT_FOUND and STALE_MEMBER_EPOCH.
"""

from typing import cast

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.transaction_errors import BUMPING_COMMIT, offset_commit_error
from ottla.coordinator.group.coordinator import GroupOperation
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.group.offsets import GROUP_KNOWN_VERSION, Commit
from ottla.coordinator.machine import Outcome
from ottla.coordinator.transaction.state import Producer
from ottla.metadata.topic_names import CONSUMER_OFFSETS
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitResponsePartition,
)
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)
from ottla.replica.partition import OPEN, Partition
from ottla.security.acl import Operation, ResourceType

IDS_VERSION = 6


async def txn_offset_commit(
    context: RequestContext, request: TxnOffsetCommitRequest
) -> TxnOffsetCommitResponse:
    version = context.api_version
    commits: list[Commit] = []
    by_id = version >= IDS_VERSION
    fault = _fault_of(context, request)
    rows = [_row(context, each, commits, fault, by_id=by_id) for each in request.topics]
    response = TxnOffsetCommitResponse(topics=rows)
    if commits:
        try:
            await _commit(context, request, commits)
        except KafkaError as error:
            for commit in commits:
                commit.row.error_code = offset_commit_error(error.code, version)
    return response


def _fault_of(context: RequestContext, request: TxnOffsetCommitRequest) -> ErrorCode:
    """Why the client may commit nothing at all; NONE where it may."""
    try:
        context.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, request.transactional_id)
        context.require(Operation.READ, ResourceType.GROUP, request.group_id)
    except KafkaError as error:
        return error.code
    return ErrorCode.NONE


async def _commit(
    context: RequestContext, request: TxnOffsetCommitRequest, commits: list[Commit]
) -> None:
    services, version = context.services, context.api_version
    group_id, producer = request.group_id, Producer(request.producer_id, request.producer_epoch)
    if not group_id:
        raise KafkaError(ErrorCode.INVALID_GROUP_ID)
    if not request.transactional_id or producer.id < 0 or producer.epoch < 0:
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    index = services.groups.shard_of(group_id)
    if index < 0:
        raise KafkaError(ErrorCode.NOT_COORDINATOR)
    partition = services.replicas.leader_of(CONSUMER_OFFSETS, index)
    token = partition.begin_verification(producer.id, producer.epoch)
    try:
        if token is not OPEN:
            place = (CONSUMER_OFFSETS, index)
            codes = await services.transactions.admit(
                request.transactional_id, producer, [place], is_bumping=version >= BUMPING_COMMIT
            )
            if codes[place]:
                raise KafkaError(codes[place])
        operation = _operation(request, commits, version, partition, token)
        await services.groups.ask(group_id, operation)
    finally:
        partition.end_verification(producer.id, token)


def _operation(
    request: TxnOffsetCommitRequest,
    commits: list[Commit],
    version: int,
    partition: Partition,
    token: object,
) -> GroupOperation:
    alike = OffsetCommitRequest(
        group_id=request.group_id,
        generation_id_or_member_epoch=request.generation_id_or_member_epoch,
        member_id=request.member_id,
        group_instance_id=request.group_instance_id,
        topics=[],
    )
    alike_version = GROUP_KNOWN_VERSION if version >= IDS_VERSION else GROUP_KNOWN_VERSION - 1

    def operation(machine: GroupMachine, now_ms: int) -> Outcome:
        # A marker that came while the coordinator answered has ended what it spoke of.
        partition.check_verified(request.producer_id, request.producer_epoch, token)
        records = machine.offsets.commit(
            alike, commits, alike_version, now_ms, is_transactional=True
        )
        producer = (request.producer_id, request.producer_epoch)
        return Outcome(records, True, producer)

    return operation


def _row(
    context: RequestContext,
    asked: TxnOffsetCommitRequestTopic,
    commits: list[Commit],
    fault: ErrorCode,
    *,
    by_id: bool,
) -> TxnOffsetCommitResponseTopic:
    """The topic's place in the response; what can be committed of it goes to `commits`."""
    image = context.services.cluster.image
    topic = image.topics_by_id.get(asked.topic_id) if by_id else image.topics.get(asked.name)
    missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if topic is None and by_id:
        missing = ErrorCode.UNKNOWN_TOPIC_ID
    name = asked.name if topic is None else topic.name
    if not fault and name and not context.may(Operation.READ, ResourceType.TOPIC, name):
        fault = ErrorCode.TOPIC_AUTHORIZATION_FAILED
    count = 0 if topic is None else len(topic.partitions)
    rows = []
    for each in asked.partitions:
        row = TxnOffsetCommitResponsePartition(partition_index=each.partition_index)
        rows.append(row)
        if fault:
            row.error_code = fault
            continue
        if topic is None or not 0 <= each.partition_index < count:
            row.error_code = missing
            continue
        # The same fields by the same names as in OffsetCommit.
        commit = Commit(
            topic.name,
            topic.id,
            cast(OffsetCommitRequestPartition, each),
            cast(OffsetCommitResponsePartition, row),
        )
        commits.append(commit)
    return TxnOffsetCommitResponseTopic(name=asked.name, topic_id=asked.topic_id, partitions=rows)
