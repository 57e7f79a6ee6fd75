"""Produce (key 0): append batches, and answer when they are as safe as the producer asked.

Behaviour. Each partition is answered on its own: appended, or refused with a code and nothing
written. acks=1: answered at once. acks=all: parked until the high watermark, the lowest flushed
end of the in-sync replicas, has passed the last record; after `timeout_ms` REQUEST_TIMED_OUT,
though the records stay. acks=0: no reply; an error closes the connection, which is the only way
to tell. A duplicate of an idempotent producer gets the offset of the original, once it is safe.
A batch of a transaction needs a request that names the transactional id, else it is
TRANSACTIONAL_ID_AUTHORIZATION_FAILED. The first one in a partition waits until the coordinator has
said that the transaction holds the partition (KIP-890), and the connection waits with it; from 12
on asking is adding. What needs no asking is appended at once.
Authorised by: Write on each topic, and on the transactional id.
Versions. 3 is the floor (record batches v2), 7 allows zstd, 8 adds record errors, 9 is flexible,
13 names topics by id (KIP-516).
"""

from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import CloseConnection, RequestContext
from ottla.broker.produce_shape import refusal
from ottla.broker.transaction_errors import BUMPING_PRODUCE, produce_error
from ottla.coordinator.transaction.state import Producer
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.records.batch import HEADER_BYTES, BatchHeader, batch_crc, read_header
from ottla.replica.partition import OPEN, Partition
from ottla.replica.purgatory import Deadlines, Parked
from ottla.security.acl import Operation, ResourceType

ACKS_ALL: Final = -1
COMING_BACK: Final = (
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
)
"""Refusals after which a producer sends its first batch again: no later one may come before it.
After any other the producer may be a fenced one, and its epoch is not to be believed."""


class Unverified(NamedTuple):
    """A batch that waits for its coordinator: what `_append` needs, and the answer to fill."""

    partition: Partition
    header: BatchHeader
    token: object
    records: memoryview
    answer: PartitionProduceResponse


# hot: produce
def produce(
    context: RequestContext, request: ProduceRequest
) -> "ProduceResponse | ParkedProduce | Coroutine[Any, Any, ProduceResponse] | None":
    acks = request.acks
    by_id = context.api_version >= 13
    fault = _refused(context, request) if context.services.authorizer is not None else None
    parked = ParkedProduce(context.services.deadlines) if acks == ACKS_ALL else None
    unverified: list[Unverified] | None = None if request.transactional_id is None else []
    topics = []
    for topic in request.topic_data:
        key = topic.topic_id if by_id else topic.name
        answers = [
            _answer(context, key, data, acks, parked, unverified)
            if fault is None
            else refusal(data.index, fault)
            for data in topic.partition_data
        ]
        topics.append(
            TopicProduceResponse(
                name=topic.name, topic_id=topic.topic_id, partition_responses=answers
            )
        )
    if acks == 0:
        _close_on_error(topics)
        return None
    response = ProduceResponse(responses=topics)
    if unverified:
        known = request.transactional_id or "", request.timeout_ms
        return _verified(context, *known, response, parked, unverified)
    if parked is None or not parked.waits:
        return response
    parked.park(response, request.timeout_ms)
    return parked


def _refused(context: RequestContext, request: ProduceRequest) -> KafkaError | None:
    """Why the client may not produce in the name of that transactional id."""
    transactional_id = request.transactional_id
    if transactional_id is None:
        return None
    if context.may(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, transactional_id):
        return None
    return KafkaError(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)


def _answer(
    context: RequestContext,
    topic: str | bytes,
    data: PartitionProduceData,
    acks: int,
    parked: "ParkedProduce | None",
    unverified: list[Unverified] | None,
) -> PartitionProduceResponse:
    try:
        if not -1 <= acks <= 1:
            raise KafkaError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks={acks}")
        services = context.services
        if services.authorizer is not None:
            context.require_topic(Operation.WRITE, topic)
        partition = services.replicas.leader_of(topic, data.index)
        now_ms = services.world.clock.time_ms()
        records = data.records
        if not isinstance(records, memoryview):
            raise KafkaError(ErrorCode.INVALID_RECORD, "no records")
        answer = PartitionProduceResponse(index=data.index, base_offset=-1)
        token = None
        if unverified is not None and len(records) >= HEADER_BYTES:
            header = read_header(records)
            token = OPEN
            if header.is_transactional:
                token = partition.begin_verification(header.producer_id, header.producer_epoch)
            if token is not OPEN:
                if not acks:
                    partition.end_verification(header.producer_id, token)
                    raise KafkaError(ErrorCode.INVALID_TXN_STATE, "acks=0 waits for nobody")
                # The frame is gone when this returns.
                kept = memoryview(bytearray(records))
                unverified.append(Unverified(partition, header, token, kept, answer))
                return answer
        _append(context, partition, records, now_ms, token, parked, answer)
        return answer
    except KafkaError as error:
        return refusal(data.index, error)


# hot: produce
def _append(
    context: RequestContext,
    partition: Partition,
    records: memoryview,
    now_ms: int,
    token: object | None,
    parked: "ParkedProduce | None",
    answer: PartitionProduceResponse,
) -> None:
    info = partition.append(
        records,
        acks_all=parked is not None,
        now_ms=now_ms,
        version=context.api_version,
        token=token,
    )
    answer.base_offset = info.first_offset
    answer.log_append_time_ms = info.max_timestamp if partition.rules.log_append_time else -1
    answer.log_start_offset = info.log_start_offset
    end_offset = info.last_offset + 1
    if parked is not None and end_offset > partition.high_watermark:
        parked.waits.append((partition, end_offset, answer))


async def _verified(
    context: RequestContext,
    transactional_id: str,
    timeout_ms: int,
    response: ProduceResponse,
    parked: "ParkedProduce | None",
    unverified: list[Unverified],
) -> ProduceResponse:
    """Append what waits for its coordinator, and answer when all of the request is safe. (The
    request itself is not kept: it has views into the frame.)"""
    services, version = context.services, context.api_version
    try:
        producers = dict.fromkeys(
            Producer(each.header.producer_id, each.header.producer_epoch) for each in unverified
        )
        for producer in producers:
            rows = [each for each in unverified if each.header[9:11] == producer]
            codes = await services.transactions.admit(
                transactional_id,
                producer,
                [(each.partition.topic, each.partition.index) for each in rows],
                is_bumping=version >= BUMPING_PRODUCE,
            )
            for each in rows:
                code = codes[each.partition.topic, each.partition.index]
                if code in COMING_BACK and _is_sound(each):
                    each.partition.log.producer_state.greet(each.header)
                _append_verified(context, each, produce_error(code, version), parked)
    finally:
        for each in unverified:
            each.partition.end_verification(each.header.producer_id, each.token)
    if parked is not None:
        parked.settle()
    if parked is None or not parked.waits:
        return response
    future = services.loop.create_future()
    parked.on_complete = future.set_result
    try:
        parked.park(response, timeout_ms)
        answered: ProduceResponse = await future
    finally:
        parked.abandon()
    return answered


def _is_sound(each: Unverified) -> bool:
    return batch_crc(each.records, 0, len(each.records)) == each.header.crc


def _append_verified(
    context: RequestContext,
    each: Unverified,
    code: ErrorCode,
    parked: "ParkedProduce | None",
) -> None:
    answer = each.answer
    try:
        if code:
            raise KafkaError(code)
        if each.partition.refusal:
            raise KafkaError(each.partition.refusal)
        now_ms = context.services.world.clock.time_ms()
        _append(context, each.partition, each.records, now_ms, each.token, parked, answer)
    except KafkaError as error:
        refused = refusal(answer.index, error)
        answer.error_code = refused.error_code
        answer.error_message = refused.error_message
        answer.record_errors = refused.record_errors


def _close_on_error(topics: list[TopicProduceResponse]) -> None:
    for topic in topics:
        for answer in topic.partition_responses:
            if answer.error_code:
                raise CloseConnection(f"Produce with acks=0: {answer.error_message}")


class ParkedProduce(Parked):
    """A Produce with acks=all whose records are not yet safe."""

    __slots__ = ("_deadlines", "_outstanding", "_response", "waits")

    def __init__(self, deadlines: Deadlines) -> None:
        super().__init__()
        self._deadlines = deadlines
        self.waits: list[tuple[Partition, int, PartitionProduceResponse]] = []
        """Partition, the end offset its high watermark must reach, the answer to fill."""

    def park(self, response: ProduceResponse, timeout_ms: int) -> None:
        self._response = response
        self._outstanding = len(self.waits)
        for partition, end_offset, _ in self.waits:
            partition.wait_for_offset(end_offset, self)
        self._deadlines.add(self, timeout_ms)

    def settle(self) -> None:
        """Not parked yet: some may have become safe meanwhile, or never will."""
        for partition, end_offset, answer in self.waits:
            if partition.refusal:
                self._refuse(partition, end_offset, answer)
        self.waits = [
            each
            for each in self.waits
            if each[0].high_watermark < each[1] and not each[2].error_code
        ]

    def reached(self) -> None:
        self._outstanding -= 1
        if self._outstanding == 0:
            self._finish()

    def closed(self) -> None:
        """A partition was closed: it is answered why, and the others are waited for."""
        for partition, end_offset, answer in self.waits:
            is_waited_for = partition.high_watermark < end_offset and not answer.error_code
            if partition.refusal and is_waited_for:
                self._refuse(partition, end_offset, answer)
                self._outstanding -= 1
        if self._outstanding == 0:
            self._finish()

    def expire(self) -> None:
        for partition, end_offset, answer in self.waits:
            if not answer.error_code:
                self._refuse(partition, end_offset, answer)
        self._finish()

    @staticmethod
    def _refuse(partition: Partition, end_offset: int, answer: PartitionProduceResponse) -> None:
        if partition.high_watermark < end_offset:
            answer.error_code = partition.refusal or ErrorCode.REQUEST_TIMED_OUT
            answer.base_offset = -1

    def abandon(self) -> None:
        self._deadlines.remove(self)
        self.on_complete = None

    def _finish(self) -> None:
        self._deadlines.remove(self)
        complete, self.on_complete = self.on_complete, None
        if complete is not None:
            complete(self._response)
