"""A batch of a producer: records being gathered for one partition, then bytes, then an outcome.

    gathering   records are appended as they come, encoded at once into the records section
    closed      no more records; the section is compressed (by the sender, on a thread if large)
    sealed      a header and a CRC make it a batch: new bytes at every seal, never changed after,
                so that a request which is still being written is never altered under it
    settled     acknowledged with its base offset, or failed with a DeliveryError

A sequence, once given, stays with the batch through its retries: that is how a broker knows a
twin. `is_uncertain`: some try of it was not answered, or with an error that does not exclude
that it was appended.
"""

from typing import Final

from ottla.client.delivery import Waiters
from ottla.client.errors import DeliveryError
from ottla.records.batch import HEADER, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, seal_batch
from ottla.records.record import Header
from ottla.records.varint import encode_varint

VARINTS: Final = tuple(encode_varint(number) for number in range(2_048))
"""Of lengths and deltas: most of them are small."""
_NULL: Final = encode_varint(-1)
NO_SEQUENCE: Final = -1


class Batch:
    __slots__ = (
        "_error",
        "_waiters",
        "append_time_ms",
        "base_offset",
        "base_sequence",
        "base_timestamp",
        "body",
        "codec",
        "count",
        "created_at",
        "deadline",
        "epoch",
        "is_observed",
        "is_settled",
        "is_uncertain",
        "max_timestamp",
        "number",
        "partition",
        "payload",
        "producer_id",
        "reserved_bytes",
        "topic",
        "tries",
    )

    def __init__(self, topic: str, partition: int, number: int, now: float, deadline: float):
        self.topic = topic
        self.partition = partition
        self.number = number
        """Rises with each batch of a partition: their order."""
        self.created_at = now
        self.deadline = deadline
        self.body = bytearray()
        self.count = 0
        self.base_timestamp = self.max_timestamp = 0
        self.codec = 0
        self.payload: bytes | bytearray | None = None
        """The records section as it is sent; None until it was compressed."""
        self.producer_id = self.epoch = self.base_sequence = NO_SEQUENCE
        self.reserved_bytes = 0
        """Of the producer's memory, until it is settled."""
        self.tries = 0
        self.is_uncertain = False
        self.is_settled = False
        self.is_observed = False
        self.base_offset = self.append_time_ms = -1
        self._error: DeliveryError | None = None
        self._waiters: Waiters | None = None

    def __repr__(self) -> str:
        return f"{self.topic}-{self.partition} batch {self.number} of {self.count} records"

    # ---- gathering

    def append(
        self,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[Header, ...] | list[Header],
    ) -> int:
        """Append a record; its index in the batch. Nothing is changed where it raises."""
        # hot: client produce
        count = self.count
        offset = VARINTS[count] if count < 2_048 else encode_varint(count)
        delta = timestamp - self.base_timestamp if count else 0
        when = VARINTS[delta] if 0 <= delta < 2_048 else encode_varint(delta)
        if key is None:
            key_length, key = _NULL, b""
        else:
            size = len(key)
            key_length = VARINTS[size] if size < 2_048 else encode_varint(size)
        if value is None:
            value_length, value = _NULL, b""
        else:
            size = len(value)
            value_length = VARINTS[size] if size < 2_048 else encode_varint(size)
        tail = encoded_headers(headers) if headers else b"\0"
        record = b"".join((b"\0", when, offset, key_length, key, value_length, value, tail))
        size = len(record)
        self.body += VARINTS[size] if size < 2_048 else encode_varint(size)
        self.body += record
        if not count:
            self.base_timestamp = self.max_timestamp = timestamp
        elif timestamp > self.max_timestamp:
            self.max_timestamp = timestamp
        self.count = count + 1
        return count

    def extend(self, timestamp: int, values: list[bytes]) -> int:
        """Append records of a value alone; the index of the first. As `append` for each."""
        # hot: client produce
        first = count = self.count
        if not count:
            self.base_timestamp = self.max_timestamp = timestamp
        elif timestamp > self.max_timestamp:
            self.max_timestamp = timestamp
        when = encode_varint(timestamp - self.base_timestamp)
        fixed = len(when) + 3  # attributes, the null key's length, the count of headers
        heads: dict[int, tuple[bytes, bytes]] = {}
        parts: list[bytes] = []
        for value in values:
            offset = VARINTS[count] if count < 2_048 else encode_varint(count)
            size = len(value)
            shape = size << 3 | len(offset)
            head = heads.get(shape)
            if head is None:
                length = encode_varint(size)
                whole = fixed + len(offset) + len(length) + size
                head = heads[shape] = encode_varint(whole) + b"\0" + when, _NULL + length
            parts += (head[0], offset, head[1], value, b"\0")
            count += 1
        self.body += b"".join(parts)
        self.count = count
        return first

    # ---- sealing

    def sealed(self, *, transactional: bool = False) -> bytearray:
        """The whole batch as it is sent, with the producer and sequence it has now."""
        payload = self.body if self.payload is None else self.payload
        sealed = bytearray(HEADER_BYTES)
        HEADER.pack_into(
            sealed,
            0,
            0,
            HEADER_BYTES - LENGTH_OVERHEAD + len(payload),
            -1,
            MAGIC,
            0,
            self.codec | (16 if transactional else 0),
            self.count - 1,
            self.base_timestamp,
            self.max_timestamp,
            self.producer_id,
            self.epoch,
            self.base_sequence,
            self.count,
        )
        sealed += payload
        seal_batch(sealed)
        return sealed

    @property
    def sent_bytes(self) -> int:
        return HEADER_BYTES + len(self.body if self.payload is None else self.payload)

    def give_sequence(self, producer_id: int, epoch: int, sequence: int) -> None:
        self.producer_id, self.epoch, self.base_sequence = producer_id, epoch, sequence

    # ---- outcome

    @property
    def error(self) -> DeliveryError | None:
        return self._error

    def settle(self, base_offset: int, append_time_ms: int = -1) -> None:
        self.base_offset = base_offset
        self.append_time_ms = append_time_ms
        self._settled()

    def fail(self, error: DeliveryError) -> None:
        self._error = error
        self._settled()

    def _settled(self) -> None:
        self.is_settled = True
        self.payload = None
        if self._waiters is not None:
            self._waiters.wake()

    async def wait(self) -> None:
        """Until it is settled."""
        if not self.is_settled:
            if self._waiters is None:
                self._waiters = Waiters()
            await self._waiters.wait()

    def observed(self) -> None:
        """Somebody was told of the outcome."""
        self.is_observed = True


def encoded_headers(headers: tuple[Header, ...] | list[Header]) -> bytes:
    """The end of a record: a count, then each header's name and value."""
    parts = [encode_varint(len(headers))]
    for name, value in headers:
        name_bytes = name.encode("utf-8", "surrogateescape")
        parts += (encode_varint(len(name_bytes)), name_bytes)
        parts += (_NULL,) if value is None else (encode_varint(len(value)), value)
    return b"".join(parts)


def record_bytes(key: bytes | None, value: bytes | None, headers: object) -> int:
    """The most that a record may take of a batch's memory."""
    size = 32 + len(key or b"") + len(value or b"")
    if headers:
        size += len(encoded_headers(headers))  # type: ignore[arg-type]
    return size
