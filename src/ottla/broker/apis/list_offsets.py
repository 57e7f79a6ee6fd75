"""ListOffsets (key 2): the offset of a moment in a partition.

Behaviour. `timestamp` is a moment in ms, answered with the first record at or after it, or one
of Kafka's special values:

    -1 latest            the high watermark, or the last stable offset for read_committed
    -2 earliest          the log start offset
    -3 max timestamp     the record with the largest timestamp (KIP-734), from version 7
    -4 earliest local    the same as earliest: nothing is tiered (from version 8)
    -5 latest tiered     none: offset -1 (from version 9)

The high watermark is waited for where it is behind the log's end: a producer that was answered
with acks=1 finds its records counted. A moment after the last record is offset -1, timestamp -1.
A special value of a later version, or of none, is UNSUPPORTED_VERSION; a partition that is named
twice is INVALID_REQUEST, each time.
Authorised by: Describe on each topic.
Versions. 1 is the floor, 2 adds the isolation level, 4 leader epochs, 6 is flexible,
10 a timeout for remote look-ups, 11 earliest pending upload (-6), which is none here.
"""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from typing import Final

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.replica.partition import Partition
from ottla.security.acl import Operation, ResourceType

log = logging.getLogger(__name__)

LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
LATEST_TIERED: Final = -5
EARLIEST_PENDING_UPLOAD: Final = -6
_SINCE_VERSION: Final = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
READ_COMMITTED: Final = 1
FLUSH_WAIT_S: Final = 5.0


class Flushed:
    """Waits for what is appended to a partition to be flushed."""

    def __init__(self, partition: Partition, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        partition.wait_for_offset(partition.log.log_end_offset, self)
        partition.hurry()

    def reached(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    closed = reached


async def list_offsets(context: RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse:
    await _flushed(context, request)
    counts = Counter(
        (topic.name, row.partition_index) for topic in request.topics for row in topic.partitions
    )
    response = ListOffsetsResponse(topics=[])
    for topic in request.topics:
        answers = []
        for row in topic.partitions:
            answer = ListOffsetsPartitionResponse(partition_index=row.partition_index)
            try:
                if counts[topic.name, row.partition_index] > 1:
                    raise KafkaError(ErrorCode.INVALID_REQUEST)
                context.require(Operation.DESCRIBE, ResourceType.TOPIC, topic.name)
                _fill(answer, context, request, topic.name, row)
            except KafkaError as error:
                answer.error_code = error.code
            except CorruptionError as error:
                log.error("ListOffsets of %s-%d: %s", topic.name, row.partition_index, error)
                answer.error_code = ErrorCode.KAFKA_STORAGE_ERROR
            answers.append(answer)
        response.topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=answers))
    return response


async def _flushed(context: RequestContext, request: ListOffsetsRequest) -> None:
    """Let what was answered with acks=1 before this request be counted in its answer."""
    services = context.services
    waits = []
    for topic in request.topics:
        for row in topic.partitions:
            with suppress(KafkaError):
                partition = services.replicas.leader_of(topic.name, row.partition_index)
                if partition.log.log_end_offset > partition.high_watermark:
                    waits.append(Flushed(partition, services.loop).future)
    if waits:
        await asyncio.wait(waits, timeout=FLUSH_WAIT_S)


def _fill(
    answer: ListOffsetsPartitionResponse,
    context: RequestContext,
    request: ListOffsetsRequest,
    topic: str,
    row: ListOffsetsPartition,
) -> None:
    if request.replica_id >= 0:
        raise KafkaError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    if row.timestamp < 0:
        since = _SINCE_VERSION.get(row.timestamp)
        if since is None or context.api_version < since:
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION)
    partition = context.services.replicas.leader_of(topic, row.partition_index)
    partition.check_leader_epoch(row.current_leader_epoch)
    committed = request.isolation_level == READ_COMMITTED
    try:
        found = _look_up(partition, row.timestamp, committed=committed)
    except OSError as error:
        partition.read_failed(error)
    answer.timestamp, answer.offset, epoch = found
    if context.api_version >= 4:
        answer.leader_epoch = epoch


def _look_up(partition: Partition, timestamp: int, *, committed: bool) -> tuple[int, int, int]:
    """(timestamp, offset, leader epoch); -1 for what there is not."""
    end = partition.last_stable_offset if committed else partition.high_watermark
    log = partition.log
    if timestamp == LATEST:
        return -1, end, partition.leader_epoch
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return -1, log.log_start_offset, log.epochs.epoch_of(log.log_start_offset)
    if timestamp == MAX_TIMESTAMP:
        return log.max_timestamp_offset(end) or (-1, -1, -1)
    if timestamp < 0:
        return -1, -1, -1
    return log.offset_for_timestamp(timestamp, end) or (-1, -1, -1)
