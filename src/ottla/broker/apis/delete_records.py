"""DeleteRecords (key 21): let partitions start at a later offset.

Behaviour. Each partition is answered on its own, with the offset that it starts at from now on.
-1 means the high watermark; an offset past it is OFFSET_OUT_OF_RANGE, one below the start
changes nothing. A topic whose `cleanup.policy` has no `delete` refuses with POLICY_VIOLATION,
an internal one with INVALID_TOPIC_EXCEPTION. The new start is on the disk when the answer
leaves: a crash does not bring records back. Segments wholly below it go at the next turn of
retention.
Authorised by: Delete on each topic.
Versions. 2 is flexible. Nothing else changed.
"""

import asyncio
from functools import partial
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext, Services
from ottla.metadata.topic_names import INTERNAL_TOPICS
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from ottla.replica.partition import Partition
from ottla.security.acl import Operation, ResourceType

HIGH_WATERMARK: Final = -1
NO_LOW_WATERMARK: Final = -1

Moved = list[tuple[Partition, DeleteRecordsPartitionResult]]


async def delete_records(
    context: RequestContext, request: DeleteRecordsRequest
) -> DeleteRecordsResponse:
    services = context.services
    moved: Moved = []
    topics = [
        DeleteRecordsTopicResult(
            name=topic.name,
            partitions=[
                _answer(context, topic.name, each.partition_index, each.offset, moved)
                for each in topic.partitions
            ],
        )
        for topic in request.topics
    ]
    if moved:
        await _save(services, moved)
    return DeleteRecordsResponse(topics=topics)


def _answer(
    context: RequestContext, topic: str, index: int, offset: int, moved: Moved
) -> DeleteRecordsPartitionResult:
    row = DeleteRecordsPartitionResult(partition_index=index, low_watermark=NO_LOW_WATERMARK)
    try:
        context.require(Operation.DELETE, ResourceType.TOPIC, topic)
        if topic in INTERNAL_TOPICS:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION)
        partition = context.services.replicas.leader_of(topic, index)
        row.low_watermark = _advance(partition, offset)
        # Also where it stood there already: an earlier request may not have made it durable.
        if row.low_watermark > 0:
            moved.append((partition, row))
    except KafkaError as error:
        row.error_code = error.code
    return row


def _advance(partition: Partition, offset: int) -> int:
    """The log start offset after `offset` was asked for."""
    if "delete" not in partition.settings.cleanup_policy:
        raise KafkaError(ErrorCode.POLICY_VIOLATION)
    if offset == HIGH_WATERMARK:
        offset = partition.high_watermark
    if not 0 <= offset <= partition.high_watermark:
        raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
    partition.log.advance_start(offset)
    return partition.log.log_start_offset


async def _save(services: Services, moved: Moved) -> None:
    """Make the new starts durable. Where that fails nobody is told that records are gone."""
    for directory in services.replicas.directories:
        logs = directory.log_dir.logs.values()
        rows = [row for partition, row in moved if partition.log in logs]
        if not rows:
            continue
        saved: asyncio.Future[OSError | None] = services.loop.create_future()
        directory.checkpoint(partial(_finish, saved))
        if await saved is not None:
            for row in rows:
                row.error_code = ErrorCode.KAFKA_STORAGE_ERROR
                row.low_watermark = NO_LOW_WATERMARK


def _finish(saved: "asyncio.Future[OSError | None]", error: OSError | None) -> None:
    if not saved.done():
        saved.set_result(error)
