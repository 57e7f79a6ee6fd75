"""WriteTxnMarkers (key 27): end transactions in these partitions.

Behaviour. Each partition that this node leads is answered when its marker is committed. An older
producer epoch is INVALID_PRODUCER_EPOCH, an older coordinator TRANSACTION_COORDINATOR_FENCED. Tools
send it too, to end what an old client left open.
Authorised by: Alter on the cluster, or Cluster Action.
Versions. 1 is the floor and flexible, 2 says by which protocol the transaction was made.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext, Services
from ottla.broker.transaction_errors import marker_error
from ottla.coordinator.transaction.markers import EndMarker
from ottla.coordinator.transaction.state import BUMPING, Place
from ottla.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from ottla.security.acl import Operation, ResourceType

WAIT_S: Final = 30.0
PIECE_COUNT: Final = 100
"""Markers that are written before others get their turn."""


async def write_txn_markers(
    context: RequestContext, request: WriteTxnMarkersRequest
) -> WriteTxnMarkersResponse:
    services = context.services
    is_allowed = context.may(Operation.ALTER, ResourceType.CLUSTER, quiet=True) or context.may(
        Operation.CLUSTER_ACTION, ResourceType.CLUSTER
    )
    code = ErrorCode.REQUEST_TIMED_OUT if is_allowed else ErrorCode.CLUSTER_AUTHORIZATION_FAILED
    waiting: list[asyncio.Future[None]] = []
    rows = []
    for marker in request.markers:
        row = WritableTxnMarkerResult(producer_id=marker.producer_id, topics=[])
        rows.append(row)
        for topic in marker.topics:
            partitions = [
                WritableTxnMarkerPartitionResult(partition_index=index, error_code=code)
                for index in topic.partition_indexes
            ]
            row.topics.append(WritableTxnMarkerTopicResult(name=topic.name, partitions=partitions))
    if not is_allowed:
        return WriteTxnMarkersResponse(markers=rows)
    for count, (marker, place, answer) in enumerate(_all(request, rows), start=1):
        waiting.append(_write(services, marker, place, answer))
        if count % PIECE_COUNT == 0:
            await asyncio.sleep(0)
    if waiting:
        await asyncio.wait(waiting, timeout=WAIT_S)
    return WriteTxnMarkersResponse(markers=rows)


def _all(
    request: WriteTxnMarkersRequest, rows: list[WritableTxnMarkerResult]
) -> Iterator[tuple[WritableTxnMarker, Place, WritableTxnMarkerPartitionResult]]:
    for marker, row in zip(request.markers, rows, strict=True):
        for topic in row.topics:
            for answer in topic.partitions:
                yield marker, (topic.name, answer.partition_index), answer


def _write(
    services: Services,
    asked: WritableTxnMarker,
    place: Place,
    answer: WritableTxnMarkerPartitionResult,
) -> "asyncio.Future[None]":
    future: asyncio.Future[None] = services.loop.create_future()
    marker = EndMarker(
        asked.producer_id,
        asked.producer_epoch,
        asked.transaction_result,
        asked.coordinator_epoch,
        asked.transaction_version >= BUMPING,
    )

    def done(code: ErrorCode) -> None:
        if not future.done():
            answer.error_code = marker_error(code)
            future.set_result(None)

    services.marker_leaders.write(marker, place, done)
    return future
