"""Produce (key 0): append batches, and answer when they are as safe as the producer asked.

Behaviour. Each partition is answered on its own: appended, or refused with a code and nothing
written. acks=1: answered at once. acks=all: parked until the high watermark, the lowest flushed
end of the in-sync replicas, has passed the last record; after `timeout_ms` REQUEST_TIMED_OUT,
though the records stay. acks=0: no reply; an error closes the connection, which is the only way
to tell. A duplicate of an idempotent producer gets the offset of the original, once it is safe.
A batch of a transaction is INVALID_TXN_STATE: nobody coordinates transactions yet.
Versions. 3 is the floor (record batches v2), 7 allows zstd, 8 adds record errors, 9 is flexible,
13 names topics by id (KIP-516).
"""

from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import CloseConnection, RequestContext
from ottla.broker.produce_shape import refusal
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.replica.partition import Partition
from ottla.replica.purgatory import Deadlines, Parked

ACKS_ALL: Final = -1


# hot: produce
def produce(
    context: RequestContext, request: ProduceRequest
) -> "ProduceResponse | ParkedProduce | None":
    acks = request.acks
    by_id = context.api_version >= 13
    parked = ParkedProduce(context.services.deadlines) if acks == ACKS_ALL else None
    topics = []
    for topic in request.topic_data:
        key = topic.topic_id if by_id else topic.name
        answers = [_answer(context, key, data, acks, parked) for data in topic.partition_data]
        topics.append(
            TopicProduceResponse(
                name=topic.name, topic_id=topic.topic_id, partition_responses=answers
            )
        )
    if acks == 0:
        _close_on_error(topics)
        return None
    response = ProduceResponse(responses=topics)
    if parked is None or not parked.waits:
        return response
    parked.park(response, request.timeout_ms)
    return parked


def _answer(
    context: RequestContext,
    topic: str | bytes,
    data: PartitionProduceData,
    acks: int,
    parked: "ParkedProduce | None",
) -> PartitionProduceResponse:
    try:
        if not -1 <= acks <= 1:
            raise KafkaError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks={acks}")
        services = context.services
        partition = services.replicas.leader_of(topic, data.index)
        now_ms = services.world.clock.time_ms()
        records = data.records
        if not isinstance(records, memoryview):
            raise KafkaError(ErrorCode.INVALID_RECORD, "no records")
        info = partition.append(
            records, acks_all=acks == ACKS_ALL, now_ms=now_ms, version=context.api_version
        )
        answer = PartitionProduceResponse(
            index=data.index,
            base_offset=info.first_offset,
            log_append_time_ms=info.max_timestamp if partition.rules.log_append_time else -1,
            log_start_offset=info.log_start_offset,
        )
        end_offset = info.last_offset + 1
        if parked is not None and end_offset > partition.high_watermark:
            parked.waits.append((partition, end_offset, answer))
        return answer
    except KafkaError as error:
        return refusal(data.index, error)


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

    def reached(self) -> None:
        self._outstanding -= 1
        if self._outstanding == 0:
            self._finish()

    def closed(self) -> None:
        """A partition was closed: it is answered why, and the others are waited for."""
        for partition, end_offset, answer in self.waits:
            if partition.refusal and not answer.error_code:
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
