"""Produce requests that look like one that was seen: appended without either codec.

A producer that sends small requests sends the same one again and again, but for the correlation
id and the records. What is the same (client id, acks, timeout, topic, partition) is learned from
a request that went the whole way, and its answer with it:

    request    key, version | correlation id | head: the same bytes | length | records | tail
    answer     size | correlation id | … | base offset, append time, log start offset | …

A frame whose head is known, whose records end where the length says, and whose tail has no tags
is that request and no other: the decoder would read the same. Everything that decides is done
anew: the leader is looked up, the batch checked and appended by `Partition.append`; a refusal is
answered through the codec. Anything else goes the whole way. Small requests cost about 40 % less
(`bench hot`); large ones neither gain nor lose.
"""

import struct
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import CloseConnection, Services
from ottla.protocol.api_key import ApiKey
from ottla.protocol.framing import encode_response
from ottla.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.protocol.registry import APIS
from ottla.protocol.wire import Part
from ottla.records.validation import RecordsRejected
from ottla.replica.partition import Partition
from ottla.replica.purgatory import Parked
from ottla.security.acl import Operation, ResourceType
from ottla.security.authorizer import Requester
from ottla.storage.log import AppendInfo

SHAPES_MAX: Final = 512
"""Shapes that one connection is remembered by; what comes later goes the whole way."""
NODE_SHAPES_MAX: Final = 20_000
"""Shapes of all connections together: some 1 KiB each."""
LENGTHS_MAX: Final = 8
"""Lengths of heads that are tried for each request."""
SMALL_BYTES: Final = 32 * 1024
"""Larger requests are not worth learning."""
HEAD_AT: Final = 8
HEAD_MAX_BYTES: Final = 512
"""Longer names (a client id, a topic) are not worth remembering, and would be memory for free."""
ACKS_ALL: Final = -1
ACKS: Final = (0, 1, ACKS_ALL)
UNKNOWN_OFFSET: Final = 0x5EED_0FF5_E7A1_B2C3
"""Stands in an answer that is being learned where its base offset will."""

_INT: Final = struct.Struct(">i")
_TWO: Final = struct.Struct(">qq")
_THREE: Final = struct.Struct(">qqq")


class Shape:
    """One topic, one partition, one way to produce to it."""

    __slots__ = (
        "acks",
        "answer",
        "has_log_start",
        "index",
        "name",
        "offsets_at",
        "timeout_ms",
        "topic",
        "topic_id",
        "version",
    )

    def __init__(self, version: int, request: ProduceRequest) -> None:
        """Of a request with one topic and one partition. Its records are not kept."""
        (row,) = request.topic_data
        (data,) = row.partition_data
        self.name = row.name
        self.topic_id = row.topic_id
        self.version = version
        self.acks = request.acks
        self.timeout_ms = request.timeout_ms
        self.topic = row.topic_id if version >= 13 else row.name
        self.index = data.index
        unknown = PartitionProduceResponse(index=data.index, base_offset=UNKNOWN_OFFSET)
        (part,) = self.encoded(0, unknown)
        self.answer = bytes(part)  # type: ignore[arg-type]
        self.offsets_at = self.answer.index(UNKNOWN_OFFSET.to_bytes(8, "big"))
        self.has_log_start = version >= 5

    def encoded(self, correlation_id: int, answer: PartitionProduceResponse) -> list[Part]:
        topic = TopicProduceResponse(
            name=self.name, topic_id=self.topic_id, partition_responses=[answer]
        )
        response = ProduceResponse(responses=[topic])
        return encode_response(ApiKey.PRODUCE, self.version, correlation_id, response)

    def accepted(self, correlation_id: int, info: AppendInfo, append_time: int) -> list[Part]:
        answer = bytearray(self.answer)
        _INT.pack_into(answer, 4, correlation_id)
        at = self.offsets_at
        if self.has_log_start:
            _THREE.pack_into(answer, at, info.first_offset, append_time, info.log_start_offset)
        else:
            _TWO.pack_into(answer, at, info.first_offset, append_time)
        return [answer]

    def refused(self, correlation_id: int, error: KafkaError) -> list[Part]:
        if not self.acks:
            raise CloseConnection(f"Produce with acks=0: {error.message}")
        return self.encoded(correlation_id, refusal(self.index, error))


class ProduceShapes:
    """The shapes that one connection sends."""

    __slots__ = ("_heads", "_lengths_at", "_requester", "_services")

    def __init__(self, services: Services, requester: Requester) -> None:
        self._services = services
        self._requester = requester
        self._heads: dict[bytes, Shape] = {}
        self._lengths_at: list[int] = []
        """Where the heads end: mostly one place, since a client has one id and few topics."""

    def learn(self, frame: memoryview, version: int, request: ProduceRequest) -> None:
        """`frame` is that request: know the next one that looks like it."""
        topics = request.topic_data
        if request.transactional_id is not None:  # whose batches may have to be asked for
            return
        if len(topics) != 1 or len(topics[0].partition_data) != 1:
            return
        records = topics[0].partition_data[0].records
        if not isinstance(records, memoryview) or request.acks not in ACKS:
            return
        length_at = _length_at(frame, len(records), version)
        if length_at is None or length_at > HEAD_MAX_BYTES:
            return
        if length_at not in self._lengths_at:
            if len(self._lengths_at) >= LENGTHS_MAX:
                return
            self._lengths_at.append(length_at)
        head = bytes(frame[HEAD_AT:length_at])
        if head not in self._heads:
            if len(self._heads) >= SHAPES_MAX or self._services.shapes_left <= 0:
                return
            self._services.shapes_left -= 1
        self._heads[head] = Shape(version, request)

    def forget(self) -> None:
        """The connection is gone."""
        self._services.shapes_left += len(self._heads)
        self._heads.clear()

    # hot: produce
    def take(self, frame: memoryview, version: int) -> "list[Part] | ParkedShape | None":
        """Append what the frame carries: the answer's parts (none for acks=0), or the answer
        parked. None, and nothing done, where its shape is not known."""
        for length_at in self._lengths_at:
            shape = self._heads.get(bytes(frame[HEAD_AT:length_at]))
            if shape is not None and shape.version == version:
                records = _records_of(frame, length_at, version)
                return None if records is None else self._append(frame, shape, records)
        return None

    def _append(
        self, frame: memoryview, shape: Shape, records: memoryview
    ) -> "list[Part] | ParkedShape | None":
        services = self._services
        try:
            partition = services.replicas.leader_of(shape.topic, shape.index)
        except KafkaError:
            return None
        authorizer = services.authorizer
        if authorizer is not None and not authorizer.allows(
            self._requester, Operation.WRITE, ResourceType.TOPIC, partition.topic
        ):
            return None
        acks = shape.acks
        (correlation_id,) = _INT.unpack_from(frame, 4)
        now_ms = services.world.clock.time_ms()
        try:
            info = partition.append(
                records, acks_all=acks == ACKS_ALL, now_ms=now_ms, version=shape.version
            )
        except KafkaError as error:
            return shape.refused(correlation_id, error)
        if not acks:
            return []
        append_time = info.max_timestamp if partition.rules.log_append_time else -1
        parts = shape.accepted(correlation_id, info, append_time)
        end_offset = info.last_offset + 1
        if acks != ACKS_ALL or end_offset <= partition.high_watermark:
            return parts
        parked = ParkedShape(services, shape, correlation_id, parts, partition, end_offset)
        partition.wait_for_offset(end_offset, parked)
        services.deadlines.add(parked, shape.timeout_ms)
        return parked


class ParkedShape(Parked):
    """A Produce of one partition with acks=all whose records are not yet safe."""

    __slots__ = ("_correlation_id", "_end_offset", "_partition", "_parts", "_services", "_shape")

    def __init__(
        self,
        services: Services,
        shape: Shape,
        correlation_id: int,
        parts: list[Part],
        partition: Partition,
        end_offset: int,
    ) -> None:
        self.bucket = -1
        self.on_complete = None
        self._services = services
        self._shape = shape
        self._correlation_id = correlation_id
        self._parts = parts
        self._partition = partition
        self._end_offset = end_offset

    def reached(self) -> None:
        self._services.deadlines.remove(self)
        complete, self.on_complete = self.on_complete, None
        if complete is not None:
            complete(self._parts)

    def expire(self) -> None:
        partition = self._partition
        if partition.high_watermark < self._end_offset:
            code = partition.refusal or ErrorCode.REQUEST_TIMED_OUT
            self._parts = self._shape.refused(self._correlation_id, KafkaError(code))
        self.reached()

    closed = expire

    def abandon(self) -> None:
        self._services.deadlines.remove(self)
        self.on_complete = None


def refusal(index: int, error: KafkaError) -> PartitionProduceResponse:
    """The answer of a partition that takes nothing."""
    answer = PartitionProduceResponse(
        index=index, error_code=error.code, base_offset=-1, error_message=error.message
    )
    if isinstance(error, RecordsRejected):
        answer.record_errors = [
            BatchIndexAndErrorMessage(batch_index=at, batch_index_error_message=message)
            for at, message in error.record_errors
        ]
    return answer


def _length_at(frame: memoryview, size: int, version: int) -> int | None:
    """Where the length of the records stands, if nothing but empty tags is behind them."""
    for length_at in range(len(frame) - size - 8, len(frame) - size):
        if length_at > HEAD_AT:
            records = _records_of(frame, length_at, version)
            if records is not None and len(records) == size:
                return length_at
    return None


def _records_of(frame: memoryview, length_at: int, version: int) -> memoryview | None:
    """The records whose length stands at `length_at` and which end the request."""
    try:
        if version < APIS[ApiKey.PRODUCE].flexible:
            (length,) = _INT.unpack_from(frame, length_at)
            at = length_at + 4
            return frame[at:] if length == len(frame) - at else None
        byte = frame[length_at]
        at, length, shift = length_at + 1, byte & 0x7F, 7
        while byte > 0x7F and shift < 35:
            byte = frame[at]
            length |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
    except (IndexError, struct.error):
        return None
    stop = at + length - 1
    # No tags: of the partition, the topic, the request.
    return frame[at:stop] if stop == len(frame) - 3 and bytes(frame[stop:]) == b"\0\0\0" else None
