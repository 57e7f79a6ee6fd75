"""The idempotent producers of one partition: what each wrote last, and what it may write next.

Of each producer the last five batches are kept in memory (as many as a client may have in
flight), so that a batch sent again is known and answered with the offset it has. The rule:

    epoch older than known            INVALID_PRODUCER_EPOCH
    same sequences as a kept batch    a duplicate: nothing is written
    epoch newer than known            must start at sequence 0
    epoch as known                    must go on where the last batch ended
    producer not known                anything goes (its records may have been deleted)
    plain, in an open transaction     INVALID_TXN_STATE

A marker ends the transaction of its producer. It may bring a newer epoch, which fences what the
producer sends later under the old one; a transaction of the second protocol always does (KIP-890),
so there a marker of the epoch that is known already comes late, and must not end what began since.

    .snapshot (big-endian; named by the offset it was taken at, which it does not cover)
    +-----------------+-----------------------+------------+
    | version i16 = 1 | CRC-32C u32 of byte 6 | count i32  |
    +-----------------+-----------------------+------------+
    then per producer, 46 bytes
    | id i64 | epoch i16 | last sequence i32 | last offset i64 | offset delta i32 |
    | timestamp i64 | coordinator epoch i32 | first offset of its open transaction i64, -1 none |

Only the last batch of each is saved. A snapshot is a short cut: without it the state is built
from the batch headers of the log. After a crash, whose clients send again what was in flight,
that one batch is too little: the headers before it give back the others (`widen`).
"""

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from crc32c import crc32c

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.base.limits import PRODUCERS_PER_PARTITION
from ottla.records.batch import BatchHeader
from ottla.records.control import Marker
from ottla.storage.open_transactions import OpenTransactions
from ottla.storage.transaction_index import AbortedTransaction

WINDOW_COUNT: Final = 5
SEQUENCE_MASK: Final = 0x7FFFFFFF
_HEAD: Final = struct.Struct(">hIi")
_ENTRY: Final = struct.Struct(">qhiqiqiq")
_VERSION: Final = 1
_CRC_START: Final = 6


class ProducerBatch(NamedTuple):
    first_sequence: int
    last_sequence: int
    first_offset: int
    last_offset: int
    timestamp: int


class Producer:
    """One producer: what DescribeProducers tells of it, and its window."""

    __slots__ = (
        "batches",
        "coordinator_epoch",
        "epoch",
        "last_timestamp",
        "producer_id",
        "transaction_start",
    )

    def __init__(self, producer_id: int, epoch: int) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.batches: deque[ProducerBatch] = deque(maxlen=WINDOW_COUNT)
        self.last_timestamp = -1
        self.coordinator_epoch = -1
        self.transaction_start = -1
        """First offset of its open transaction; -1 without one."""

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else -1


class ProducerState:
    __slots__ = ("_producers", "transactions")

    def __init__(self) -> None:
        # In the order of their last appends: the first is the longest idle.
        self._producers: dict[int, Producer] = {}
        self.transactions = OpenTransactions()

    def __len__(self) -> int:
        return len(self._producers)

    def __iter__(self) -> Iterator[Producer]:
        return iter(self._producers.values())

    def get(self, producer_id: int) -> Producer | None:
        return self._producers.get(producer_id)

    def admit(self, batches: Sequence[BatchHeader]) -> ProducerBatch | None:
        """The batch that one of these repeats, if any; KafkaError if one is out of order."""
        before = None
        for batch in batches:
            if batch.producer_id >= 0:
                original = self.duplicate_of(batch)
                if original is not None:
                    return original
                self.check(batch, before)
                self.greet(batch)
                before = batch
        return None

    def note(self, batches: Sequence[BatchHeader], offset: int, marker: Marker | None) -> None:
        """# hot: produce. These batches stand in the log from `offset` on."""
        for batch in batches:
            if batch[9] >= 0:
                self.update(batch, offset, marker)
            offset += batch[6] + 1

    def duplicate_of(self, batch: BatchHeader) -> ProducerBatch | None:
        """The kept batch that this one repeats."""
        producer = self._producers.get(batch.producer_id)
        if producer is None or producer.epoch != batch.producer_epoch or batch.base_sequence < 0:
            return None
        first, last = batch.base_sequence, batch.last_sequence
        for kept in producer.batches:
            if kept.first_sequence == first and kept.last_sequence == last:
                return kept
        return None

    def check(self, batch: BatchHeader, before: BatchHeader | None = None) -> None:
        """KafkaError if the producer may not append this now; `before` is an earlier batch of
        the same append."""
        producer = self._producers.get(batch.producer_id)
        if before is not None and before.producer_id == batch.producer_id:
            epoch, last = before.producer_epoch, before.last_sequence
        elif producer is not None:
            epoch, last = producer.epoch, producer.last_sequence
        else:
            return
        if batch.producer_epoch < epoch:
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"epoch {batch.producer_epoch} of producer {batch.producer_id}"
                f" is older than {epoch}",
            )
        sequence = batch.base_sequence
        expected = (last + 1) & SEQUENCE_MASK if batch.producer_epoch == epoch else 0
        if 0 <= sequence != expected:
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"sequence {sequence} of producer {batch.producer_id}, expected {expected}",
            )
        is_open = producer is not None and producer.transaction_start >= 0
        if is_open and not batch.is_transactional:
            raise KafkaError(
                ErrorCode.INVALID_TXN_STATE,
                f"producer {batch.producer_id} has a transaction open and wrote outside of it",
            )

    def check_marker(self, batch: BatchHeader, marker: Marker, *, is_bumped: bool) -> bool:
        """Whether this marker is to be written; not where it stands in the log already. KafkaError
        if it may not be: it comes from a producer epoch or a coordinator that is over. `is_bumped`:
        its epoch is newer than that of the transaction it ends."""
        producer = self._producers.get(batch.producer_id)
        if producer is None:
            return True
        epoch = batch.producer_epoch
        is_open = producer.transaction_start >= 0
        if epoch < producer.epoch or (is_bumped and is_open and epoch == producer.epoch):
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"marker of epoch {epoch} of producer {batch.producer_id}, which is at"
                f" {producer.epoch}",
            )
        if marker.coordinator_epoch < producer.coordinator_epoch:
            raise KafkaError(
                ErrorCode.TRANSACTION_COORDINATOR_FENCED,
                f"coordinator epoch {marker.coordinator_epoch} is older than"
                f" {producer.coordinator_epoch}",
            )
        return is_open or epoch > producer.epoch or not is_bumped

    def aborted_by(self, producer_id: int, marker_offset: int) -> AbortedTransaction | None:
        """What an abort marker at that offset would end."""
        producer = self._producers.get(producer_id)
        if producer is None or producer.transaction_start < 0:
            return None
        stable = min(self.transactions.first_without(producer_id), marker_offset + 1)
        return AbortedTransaction(producer_id, producer.transaction_start, marker_offset, stable)

    def has_open(self, producer_id: int, epoch: int) -> bool:
        """Whether this producer has a transaction open here, at this epoch."""
        producer = self._producers.get(producer_id)
        return producer is not None and producer.transaction_start >= 0 and producer.epoch == epoch

    def greet(self, batch: BatchHeader) -> None:
        """The first batch of a producer is about to be written. Should that fail, it is known
        all the same, so that the second cannot come before the first."""
        if batch.base_sequence == 0 and batch.producer_id not in self._producers:
            producer = self._add(batch.producer_id, batch.producer_epoch)
            producer.last_timestamp = batch.max_timestamp

    def _add(self, producer_id: int, epoch: int) -> Producer:
        if len(self._producers) >= PRODUCERS_PER_PARTITION:
            # One that has a transaction open stays: its marker is yet to come.
            idle = (each.producer_id for each in self if each.transaction_start < 0)
            self._producers.pop(next(idle, -1), None)
        producer = self._producers[producer_id] = Producer(producer_id, epoch)
        return producer

    def update(self, batch: BatchHeader, first_offset: int, marker: Marker | None = None) -> None:
        """A batch of a producer stands in the log from `first_offset` on; `marker` is what a
        control batch says, where that is known."""
        producer_id, epoch = batch.producer_id, batch.producer_epoch
        producer = self._producers.pop(producer_id, None)
        if producer is None:
            producer = self._add(producer_id, epoch)
        elif producer.epoch != epoch:
            producer.epoch = epoch
            producer.batches.clear()
        self._producers[producer_id] = producer
        producer.last_timestamp = batch.max_timestamp
        if batch.is_control:
            producer.transaction_start = -1
            self.transactions.end(producer_id, first_offset)
            if marker is not None:
                producer.coordinator_epoch = marker.coordinator_epoch
            return
        if batch.is_transactional and producer.transaction_start < 0:
            producer.transaction_start = first_offset
            self.transactions.begin(producer_id, first_offset)
        producer.batches.append(
            ProducerBatch(
                batch.base_sequence,
                batch.last_sequence,
                first_offset,
                first_offset + batch.last_offset_delta,
                batch.max_timestamp,
            )
        )

    def widen(self, older: "ProducerState") -> None:
        """Take over from `older`, made of headers up to the same offset, the batches before the
        last of each producer."""
        for producer in self:
            seen = older.get(producer.producer_id)
            if (
                seen is not None
                and seen.epoch == producer.epoch
                and seen.batches
                and producer.batches
                and seen.batches[-1].last_offset == producer.batches[-1].last_offset
            ):
                producer.batches = seen.batches

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forget who wrote nothing for so long and has no transaction open; their count."""
        idle = [
            producer.producer_id
            for producer in self
            if producer.transaction_start < 0 and now_ms - producer.last_timestamp >= expiration_ms
        ]
        for producer_id in idle:
            del self._producers[producer_id]
        return len(idle)

    def snapshot(self) -> bytes:
        parts = [struct.pack(">i", len(self._producers))]
        for producer in self:
            last = producer.batches[-1] if producer.batches else ProducerBatch(-1, -1, 0, -1, -1)
            delta = last.last_offset - last.first_offset if producer.batches else 0
            parts.append(
                _ENTRY.pack(
                    producer.producer_id,
                    producer.epoch,
                    last.last_sequence,
                    last.last_offset,
                    delta,
                    producer.last_timestamp,
                    producer.coordinator_epoch,
                    producer.transaction_start,
                )
            )
        body = b"".join(parts)
        return struct.pack(">hI", _VERSION, crc32c(body)) + body

    def load(self, data: bytes, path: str) -> None:
        """Take over what a snapshot holds; CorruptionError if it is not whole."""
        if len(data) < _HEAD.size:
            raise CorruptionError("short snapshot", path=path, size_bytes=len(data))
        version, crc, count = _HEAD.unpack_from(data)
        if version != _VERSION or crc != crc32c(data[_CRC_START:]):
            raise CorruptionError("snapshot version or CRC", path=path, size_bytes=len(data))
        if len(data) != _HEAD.size + count * _ENTRY.size:
            raise CorruptionError("snapshot count", path=path, size_bytes=len(data))
        producers = [_producer(fields) for fields in _ENTRY.iter_unpack(data[_HEAD.size :])]
        producers.sort(key=lambda producer: producer.last_timestamp)
        self._producers = {producer.producer_id: producer for producer in producers}
        self.transactions.take(
            (each.producer_id, each.transaction_start)
            for each in producers
            if each.transaction_start >= 0
        )


def _producer(fields: tuple[int, ...]) -> Producer:
    producer_id, epoch, last_sequence, last_offset, delta, timestamp, coordinator, start = fields
    producer = Producer(producer_id, epoch)
    if last_offset >= 0:
        first_sequence = (last_sequence - delta) & SEQUENCE_MASK if last_sequence >= 0 else -1
        producer.batches.append(
            ProducerBatch(
                first_sequence, last_sequence, last_offset - delta, last_offset, timestamp
            )
        )
    producer.last_timestamp = timestamp
    producer.coordinator_epoch = coordinator
    producer.transaction_start = start
    return producer
