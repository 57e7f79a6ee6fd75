"""One partition's batches on their way: in order, without twins, and none lost in silence.

    open -> ready -> in flight -> settled
                      |    ^
                      v    |                 doubtful: refused for its sequence although
                     retry  --> doubtful     everything before it is settled

Nothing here waits or sends: the sender asks for the next batch and tells what became of it.

Idempotent. A batch keeps its sequence through all tries. Up to five are in flight, one until the
first of an epoch, or of a topic that was made anew, is acknowledged (a broker that knows nothing
of a producer takes any sequence, the second batch before the first too), and one at a time while
something is being retried.
- A broker takes sequences only without a gap. So an acknowledged batch proves that every earlier
  one of its epoch was appended, whatever was said or not said about it.
- OUT_OF_ORDER_SEQUENCE_NUMBER while an earlier batch is unsettled: it was not its turn. When it
  was, the batch is *doubtful*: never appended, or appended by an earlier try and forgotten since
  (a broker that was started again knows the last batch of a producer alone). The next ones are
  tried; if one succeeds, that proves it. If none is left, what is certain not to be there gets a
  new sequence, what is uncertain fails, and is told to be uncertain.
- What it refused before appending anything is not proven by a later success: then the broker had
  forgotten the producer, and took what it should not. It is doubtful, and gets a new sequence.
- A batch that is too large is halved; the halves have its place and its sequences (KIP-126).
- A batch that failed for good leaves a gap. When all that has a sequence is settled, the lane
  goes on in the next epoch from sequence 0. The epoch is the lane's own: brokers compare epochs
  within a partition only. No sequence is ever given anew to what may have been appended.
Java's client gives all partitions the new epoch at once, and rewrites sequences of what is in
flight; the result is the same where no answer was lost, and here no twin can come of one.

Transactional. The epoch is the coordinator's, not the lane's: what is doubtful fails, a gap closes
the lane, and the transaction that this belongs to is aborted; `forget_producer` opens it again.

Not idempotent. One batch in flight, so that order is kept; a retry may make a twin, as in Kafka.
"""

from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.base.ids import ZERO_UUID, Uuid
from ottla.client.batch import NO_SEQUENCE, SEQUENCE_MASK, Batch
from ottla.client.errors import RETRIABLE, DeliveryError

IN_FLIGHT_COUNT: Final = 5
EPOCH_MAX: Final = 32_767
NUMBER_STEP: Final = 1 << 31
"""From a batch's number to the next one's: the halves of a batch have theirs in between."""

REFUSED_SEQUENCE: Final = frozenset(
    {
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.UNKNOWN_PRODUCER_ID,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.INVALID_PRODUCER_ID_MAPPING,
    }
)
NOT_APPENDED: Final = REFUSED_SEQUENCE | {
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.CORRUPT_MESSAGE,
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.THROTTLING_QUOTA_EXCEEDED,
}
"""Retriable, and said before anything was appended. Other retriable ones may be said after."""


class Lane:
    def __init__(
        self,
        topic: str,
        partition: int,
        *,
        is_idempotent: bool,
        is_transactional: bool = False,
        max_in_flight: int = IN_FLIGHT_COUNT,
        retries: int = 0x7FFF_FFFF,
        settled: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        """`settled` is called with each batch that was acknowledged or failed."""
        self.topic = topic
        self.partition = partition
        self.open: Batch | None = None
        self.ready: deque[Batch] = deque()
        self.in_flight: list[Batch] = []
        self.retry: list[Batch] = []
        self.doubtful: list[Batch] = []
        self.blocked_until = 0.0
        """After a failure: not before then."""
        self.failures_count = 0
        self.producer_id = self.epoch = self.used_up_id = NO_SEQUENCE
        self._next_sequence = 0
        self._has_acked = False
        self._has_gap = False
        self._is_idempotent = is_idempotent
        self._is_transactional = is_transactional
        self._max_in_flight = min(max_in_flight, IN_FLIGHT_COUNT) if is_idempotent else 1
        self._retries = retries
        self._settled = settled
        self._numbers = 0
        self._topic_id: Uuid = ZERO_UUID

    def next_number(self) -> int:
        self._numbers += NUMBER_STEP
        return self._numbers

    @property
    def is_idle(self) -> bool:
        return not (self.open or self.ready or self.in_flight or self.retry or self.doubtful)

    @property
    def needs_producer_id(self) -> bool:
        return self._is_idempotent and self.producer_id < 0

    def batches(self) -> Iterator[Batch]:
        """All that are not settled, in order."""
        yield from sorted(
            [*self.in_flight, *self.retry, *self.doubtful], key=lambda batch: batch.number
        )
        yield from self.ready
        if self.open is not None:
            yield self.open

    # ---- what to send

    def take_producer_id(self, producer_id: int, epoch: int) -> None:
        self.producer_id, self.epoch = producer_id, epoch
        self._next_sequence = 0
        self._has_acked = self._has_gap = False

    def forget_producer(self) -> None:
        """A transaction is over, and the next one has another epoch. Nothing is unsettled."""
        self.producer_id = self.epoch = NO_SEQUENCE
        self._has_gap = False

    def meet(self, topic_id: Uuid) -> None:
        """Batches go to this topic from now on."""
        if topic_id != self._topic_id:
            self._topic_id, self._has_acked = topic_id, False

    @property
    def has_gap(self) -> bool:
        """A batch with a sequence failed: nothing more can be appended in this epoch."""
        return self._has_gap

    def close_open(self) -> Batch | None:
        """Take no more records into the open batch: it stands behind the ready ones."""
        batch, self.open = self.open, None
        if batch is not None:
            self.ready.append(batch)
        return batch

    @property
    def may_send(self) -> bool:
        """Whether one more may be in flight, if it is ready."""
        if self.retry:
            return not self.in_flight
        if self.doubtful or self._has_gap:
            return False
        most = self._max_in_flight if self._has_acked or not self._is_idempotent else 1
        return len(self.in_flight) < most

    @property
    def head(self) -> Batch | None:
        """What would be sent next, if anything may be."""
        if self.retry:
            return self.retry[0]
        return self.ready[0] if self.ready else None

    def next_batch(self, now: float) -> Batch | None:
        """The batch to send now, if there is one: it is in flight from here on."""
        self.mend()
        batch = self.head
        if now < self.blocked_until or not self.may_send or self.needs_producer_id:
            return None
        if batch is None or batch.payload is None:
            return None
        if self.retry:
            del self.retry[0]
        else:
            self.ready.popleft()
            if self._is_idempotent:
                batch.give_sequence(self.producer_id, self.epoch, self._next_sequence)
                self._next_sequence = (self._next_sequence + batch.count) & SEQUENCE_MASK
        batch.tries += 1
        self.in_flight.append(batch)
        return batch

    # ---- what became of it

    def acknowledged(self, batch: Batch, base_offset: int, append_time_ms: int = -1) -> None:
        self.in_flight.remove(batch)
        self.failures_count, self.blocked_until = 0, 0.0
        self._has_acked = True
        for waiting in (self.doubtful, self.retry):
            for earlier in [each for each in waiting if self._is_before(each, batch)]:
                waiting.remove(earlier)
                if earlier.is_uncertain:
                    earlier.settle(-1)
                    self._settled(earlier)
                else:
                    self.doubtful.append(earlier)
        batch.settle(base_offset, append_time_ms)
        self._settled(batch)

    def _is_before(self, earlier: Batch, batch: Batch) -> bool:
        same_epoch = (earlier.producer_id, earlier.epoch) == (batch.producer_id, batch.epoch)
        return self._is_idempotent and same_epoch and earlier.number < batch.number

    def refused(
        self, batch: Batch, code: ErrorCode, message: str | None, now: float, retry_at: float
    ) -> None:
        """The broker answered with an error."""
        if code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            self.acknowledged(batch, -1)
            return
        self.in_flight.remove(batch)
        if code is ErrorCode.UNKNOWN_SERVER_ERROR or (
            code in RETRIABLE and code not in NOT_APPENDED
        ):
            batch.is_uncertain = True
        if self._is_idempotent and code in REFUSED_SEQUENCE:
            waiting = [*self.in_flight, *self.retry]
            if any(each.number < batch.number for each in waiting):
                self._retry(batch)
            else:
                self.doubtful.append(batch)
            return
        cause = f"{batch}: {code.name}" + (f": {message}" if message else "")
        if code in RETRIABLE:
            self._again(batch, now, retry_at, cause, code)
        else:
            self._fail(batch, cause, code)

    def halved(self, batch: Batch) -> tuple[Batch, ...]:
        """The broker finds it too large: its halves, which are tried instead when they have a
        payload. None where it is one record, or may have been written."""
        if batch.count == 1 or batch.is_uncertain:
            return ()
        self.in_flight.remove(batch)
        halves = batch.halve()
        for half in halves:
            self._retry(half)
        return halves

    def unanswered(self, batch: Batch, cause: str, now: float, retry_at: float) -> None:
        """The connection broke, or the answer did not come in time."""
        self.in_flight.remove(batch)
        batch.is_uncertain = True
        self._again(batch, now, retry_at, f"{batch}: {cause}", None)

    def not_sent(self, batch: Batch) -> None:
        """It did not leave after all."""
        self.in_flight.remove(batch)
        batch.tries -= 1
        self._retry(batch)

    @property
    def next_deadline(self) -> float:
        """When `expire` will find something, if nothing happens before."""
        heads = [each[0].deadline for each in (self.in_flight, self.retry, self.ready) if each]
        return min(heads, default=inf)

    def expire(self, now: float) -> None:
        """Fail what is past its deadline. What is in flight is uncertain; its answer, if it still
        comes, is not looked at: it was told to have failed."""
        for batch in [each for each in self.in_flight if each.deadline <= now]:
            self.in_flight.remove(batch)
            batch.is_uncertain = True
            self._fail(batch, f"{batch}: delivery_timeout_ms is over", None)
        for batch in [each for each in self.retry if each.deadline <= now]:
            self.retry.remove(batch)
            self._fail(batch, f"{batch}: delivery_timeout_ms is over", None)
        while self.ready and self.ready[0].deadline <= now:
            batch = self.ready.popleft()
            self._fail(batch, f"{batch}: delivery_timeout_ms was over before it was sent", None)

    def fail_all(self, cause: str, code: ErrorCode | None = None) -> None:
        """Give up whatever is not settled. What is in flight is uncertain."""
        for batch in self.in_flight:
            batch.is_uncertain = True
        self.retry += self.in_flight
        self.in_flight.clear()
        self.fail_unsent(cause, code)

    def fail_unsent(self, cause: str, code: ErrorCode | None = None) -> None:
        """Give up whatever is neither settled nor in flight."""
        self.close_open()
        unsettled = [batch for batch in self.batches() if batch not in self.in_flight]
        self.ready.clear()
        self.retry.clear()
        self.doubtful.clear()
        for batch in unsettled:
            self._fail(batch, f"{batch}: {cause}", code)

    def mend(self) -> None:
        """Begin the next epoch where something is doubtful or lost, as soon as nothing that has a
        sequence is left to be tried: no later batch will prove what is doubtful."""
        if (self.doubtful or self._has_gap) and not (self.in_flight or self.retry):
            self._mend()

    # ---- inside

    def _again(
        self, batch: Batch, now: float, retry_at: float, cause: str, code: ErrorCode | None
    ) -> None:
        if now >= batch.deadline:
            self._fail(batch, f"{cause}; delivery_timeout_ms is over", code)
        elif batch.tries > self._retries:
            self._fail(batch, f"{cause}; after {self._retries} retries", code)
        else:
            self.failures_count += 1
            self.blocked_until = max(self.blocked_until, retry_at)
            self._retry(batch)

    def _retry(self, batch: Batch) -> None:
        self.retry.append(batch)
        self.retry.sort(key=lambda each: each.number)

    def _fail(self, batch: Batch, cause: str, code: ErrorCode | None) -> None:
        if batch.base_sequence != NO_SEQUENCE:
            self._has_gap = True
        if batch.is_uncertain:
            cause += " (it may have been written by a try that was not answered)"
        batch.fail(DeliveryError(cause, code=code, is_uncertain=batch.is_uncertain))
        self._settled(batch)

    def _mend(self) -> None:
        doubtful, self.doubtful = self.doubtful, []
        for batch in sorted(doubtful, key=lambda each: -each.number):
            if batch.is_uncertain or self._is_transactional:
                self._fail(
                    batch,
                    f"{batch}: the broker does not know its sequence any more",
                    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                )
            else:
                batch.give_sequence(NO_SEQUENCE, NO_SEQUENCE, NO_SEQUENCE)
                self.ready.appendleft(batch)
        if self._is_transactional:
            return
        if self.epoch >= EPOCH_MAX:
            self.used_up_id, self.producer_id = self.producer_id, NO_SEQUENCE
            self._has_gap = False
        else:
            self.take_producer_id(self.producer_id, self.epoch + 1)
