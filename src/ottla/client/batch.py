"""A batch of a producer: records being gathered for one partition, then bytes, then an outcome.

    gathering   records are appended as they come, encoded at once into the records section
    closed      no more records; the section is compressed (by the sender, on a thread if large)
    sealed      a header and a CRC make it a batch: new bytes at every seal, never changed after,
                so that a request which is still being written is never altered under it
    settled     acknowledged with its base offset, or failed with a DeliveryError; or halved: then
                its records share the fate of those batches

A sequence, once given, stays with the batch through its retries: that is how a broker knows a
twin. `is_uncertain`: some try of it was not answered, or with an error that does not exclude
that it was appended.
"""

from collections.abc import Iterator
from typing import Any, Final

from ottla.base.world import Bytes
from ottla.client.delivery import Waiters
from ottla.client.errors import DeliveryError
from ottla.records.batch import (
    HEADER,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    MAGIC,
    read_header,
    seal_batch,
)
from ottla.records.builder import encode_headers
from ottla.records.kernel import append, extend
from ottla.records.record import Header, iterate_body

NO_SEQUENCE: Final = -1
SEQUENCE_MASK: Final = 0x7FFF_FFFF
RECORD_OVERHEAD_BYTES: Final = 32
"""What a record takes besides key, value and headers, at most."""


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
        "halves",
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
        self.halves: tuple[Batch, ...] = ()
        self._error: DeliveryError | None = None
        self._waiters: Waiters | None = None

    def __repr__(self) -> str:
        return f"{self.topic}-{self.partition} batch of {self.count} records"

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
        tail = encode_headers(headers) if headers else None
        if not count:
            append(self.body, 0, 0, key, value, tail)
            self.base_timestamp = self.max_timestamp = timestamp
        else:
            append(self.body, timestamp - self.base_timestamp, count, key, value, tail)
            if timestamp > self.max_timestamp:
                self.max_timestamp = timestamp
        self.count = count + 1
        return count

    def extend(
        self,
        timestamp: int,
        keys: list[bytes | None] | None,
        values: list[bytes | None],
        start: int,
        limit: int,
    ) -> int:
        """Append records without headers, from index `start` on, as long as the body is not
        longer than `limit`; the index of the first that was left. As `append` for each."""
        # hot: client produce
        first = self.count
        since = timestamp - self.base_timestamp if first else 0
        stop = extend(self.body, since, first, keys, values, start, limit)
        if not first:
            self.base_timestamp = self.max_timestamp = timestamp
        elif timestamp > self.max_timestamp and stop > start:
            self.max_timestamp = timestamp
        self.count = first + stop - start
        return stop

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

    def halve(self) -> tuple["Batch", ...]:
        """Give its records over to two batches, with its sequences and memory and what it was
        tried: they come where it stood. There are two records at least."""
        records = list(iterate_body(read_header(self.sealed()), bytes(self.body)))
        middle = len(records) // 2
        for first, half in ((0, records[:middle]), (middle, records[middle:])):
            batch = Batch(
                self.topic, self.partition, self.number + first, self.created_at, self.deadline
            )
            for record in half:
                batch.append(record.timestamp, record.key, record.value, record.headers)
            if self.base_sequence != NO_SEQUENCE:
                sequence = (self.base_sequence + first) & SEQUENCE_MASK
                batch.give_sequence(self.producer_id, self.epoch, sequence)
            batch.tries = self.tries
            self.halves += (batch,)
        low, high = self.halves
        low.reserved_bytes = self.reserved_bytes // 2
        high.reserved_bytes = self.reserved_bytes - low.reserved_bytes
        self.reserved_bytes, self.body = 0, bytearray()
        self._settled()
        return self.halves

    def places(self, first: int, count: int) -> Iterator[tuple["Batch", int, int]]:
        """Where so many of its records are by now: (batch, first in it, records)."""
        if not self.halves:
            yield self, first, count
        for half in self.halves:
            inside = max(0, min(count, half.count - first))
            if inside:
                yield from half.places(first, inside)
            first, count = max(0, first - half.count), count - inside

    def _settled(self) -> None:
        self.is_settled = True
        self.payload = None
        if self._waiters is not None:
            self._waiters.wake()

    async def wait(self) -> None:
        """Until it is settled, and its halves are."""
        if not self.is_settled:
            if self._waiters is None:
                self._waiters = Waiters()
            await self._waiters.wait()
        for half in self.halves:
            await half.wait()

    def observed(self) -> None:
        """Somebody was told of the outcome."""
        self.is_observed = True


def record_bytes(key: Bytes | None, value: Bytes | None, headers: Any) -> int:
    """The most that a record may take of a batch's memory. TypeError where it is none."""
    # hot: client produce
    size = RECORD_OVERHEAD_BYTES
    try:
        if key is not None:
            size += len(key) if type(key) is bytes else memoryview(key).nbytes
        if value is not None:
            size += len(value) if type(value) is bytes else memoryview(value).nbytes
        if headers:
            size += len(encode_headers(headers))
    except (TypeError, AttributeError, ValueError) as error:
        raise TypeError(
            f"key and value are bytes or None, headers (str, bytes or None) pairs: {error}"
        ) from None
    return size
