"""One partition on this node: the leader's side of append and read, and who waits for it.

The high watermark is the lowest end offset that every in-sync replica has *flushed*; with one
replica that is this log's own flushed end. With `flush.on.ack=false` it is the log end, as in
Kafka, and the page cache is trusted. Consumers see what lies below it; an acks=all Produce is
answered when it has passed the request's last record.

A transaction is appended to when its coordinator has said that it is open and holds this partition
(KIP-890): with its first batch here, whoever produces hands in a token of that. A marker ends the
tokens of its producer up to the epoch that it ends, so that no answer of before it lets something
in behind it. A read_committed consumer sees what lies below the last stable offset: where the first
transaction begins that is open or whose marker lies at or past the high watermark.

Waiters for offsets are a queue: appends come in order of offset, so the first one that is not
reached ends the search. Waiters for data (parked fetches) are told of every advance and decide
by themselves.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, NoReturn, Protocol

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.option import LONG_MAX
from ottla.base.topic_options import TopicSettings
from ottla.base.world import FileRange
from ottla.metadata.topic_names import INTERNAL_TOPICS
from ottla.records.batch import TRANSACTIONAL, BatchHeader, read_header
from ottla.records.control import Marker, build_marker
from ottla.records.validation import check_produced
from ottla.replica.topic_rules import batch_rules
from ottla.storage.log import AppendInfo, Log
from ottla.storage.log_segments import LogRead, ReadHint
from ottla.storage.transaction_index import AbortedTransaction

HINT_COUNT: Final = 8
"""Sequential readers whose place is remembered, by the offset they will ask for next."""
OPEN: Final = object()
"""The token of a batch whose transaction is open in the partition: nothing is to be verified."""
IN_SYNC_COUNT: Final = 1
"""Size of the in-sync set; replication will make it a set."""


class OffsetWaiter(Protocol):
    def reached(self) -> None:
        """The high watermark passed the offset that was waited for."""

    def closed(self) -> None:
        """It never will: the partition was closed, and says why (`refusal`)."""


class DataWaiter(Protocol):
    def data_arrived(self) -> None: ...


class Flushing(Protocol):
    """Who sees to it that a log is flushed."""

    def mark_dirty(self, log: Log) -> None:
        """At the end of this turn."""

    def mark_dirty_soon(self, log: Log) -> None:
        """Within a few milliseconds, since nobody waits for it."""

    def mark_dirty_within(self, log: Log, ms: int) -> None:
        """By then at the latest."""

    def failed(self, error: OSError) -> None:
        """The disk refused something of it."""


class Partition:
    """A partition that this node leads."""

    __slots__ = (
        "_data_waiters",
        "_flushing",
        "_hints",
        "_offset_waiters",
        "_verifying",
        "high_watermark",
        "index",
        "is_internal",
        "leader_epoch",
        "log",
        "refusal",
        "rules",
        "settings",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        index: int,
        log: Log,
        settings: TopicSettings,
        *,
        leader_epoch: int,
        flushing: Flushing,
    ) -> None:
        self.topic = topic
        self.is_internal = topic in INTERNAL_TOPICS
        """Only coordinators write to it."""
        self.index = index
        self.log = log
        self.leader_epoch = leader_epoch
        self.refusal = ErrorCode.NONE
        """Why nothing is served any more; whoever looks a partition up is told."""
        self._flushing = flushing
        self._offset_waiters: deque[tuple[int, OffsetWaiter]] = deque()
        self._data_waiters: dict[DataWaiter, None] = {}
        self._hints: dict[int, ReadHint] = {}
        self._verifying: dict[int, dict[object, int]] = {}
        """Tokens of producers whose transactions are being verified, or were, and their epochs."""
        self.configure(settings)
        self.high_watermark = self._durable_end()
        log.producer_state.transactions.settle(self.high_watermark)

    def configure(self, settings: TopicSettings) -> None:
        """Take on the topic's settings as they are now."""
        self.settings = settings
        self.rules = batch_rules(settings)

    # hot: produce
    def append(
        self,
        records: memoryview,
        *,
        acks_all: bool,
        now_ms: int,
        version: int,
        token: object | None = None,
    ) -> AppendInfo:
        """Check one produced batch and append it; KafkaError says what is wrong with it. One of a
        transaction needs a `token` (see `begin_verification`)."""
        if self.is_internal:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "the topic is internal")
        if acks_all and self.settings.min_insync_replicas > IN_SYNC_COUNT:
            raise KafkaError(ErrorCode.NOT_ENOUGH_REPLICAS)
        checked = check_produced(records, self.rules, now_ms, zstd_allowed=version >= 7)
        if checked.batches[0][5] & TRANSACTIONAL:
            header = checked.batches[0]
            self.check_verified(header.producer_id, header.producer_epoch, token)
        return self._append(
            memoryview(checked.records), checked.batches, acks_all=acks_all, now_ms=now_ms
        )

    def append_own(self, batch: bytearray, now_ms: int) -> AppendInfo:
        """Append a batch that a coordinator of this node built, as a Produce with acks=all would;
        KafkaError where the topic's settings or the disk refuse it."""
        if self.settings.min_insync_replicas > IN_SYNC_COUNT:
            raise KafkaError(ErrorCode.NOT_ENOUGH_REPLICAS)
        if len(batch) > self.settings.max_message_bytes:
            raise KafkaError(ErrorCode.MESSAGE_TOO_LARGE)
        return self._append(memoryview(batch), (read_header(batch),), acks_all=True, now_ms=now_ms)

    def append_marker(
        self, marker: Marker, producer_id: int, epoch: int, now_ms: int, *, is_bumped: bool
    ) -> AppendInfo:
        """End a producer's transaction here. `is_bumped`: the epoch is newer than that of what it
        ends. KafkaError where a newer producer or coordinator was here, or the disk refuses."""
        batch = build_marker(
            marker, producer_id=producer_id, producer_epoch=epoch, timestamp=now_ms
        )
        try:
            info = self.log.append_marker(
                batch,
                marker,
                is_bumped=is_bumped,
                leader_epoch=self.leader_epoch,
                now_ms=now_ms,
            )
        except OSError as error:
            self._flushing.failed(error)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, error.strerror or "") from error
        # Of a bumped marker's own epoch is what comes next.
        self._end_verifications(producer_id, before=epoch if is_bumped else epoch + 1)
        return self._appended(info, acks_all=True)

    # -- verifying

    def begin_verification(self, producer_id: int, epoch: int) -> object:
        """The token that an append in this transaction needs: OPEN, or one that is worth something
        once its coordinator has said yes. Then `end_verification` follows."""
        if self.log.producer_state.has_open(producer_id, epoch):
            return OPEN
        token = object()
        self._verifying.setdefault(producer_id, {})[token] = epoch
        return token

    def _end_verifications(self, producer_id: int, *, before: int) -> None:
        """No token of an epoch before that one is worth anything."""
        tokens = self._verifying.pop(producer_id, {})
        tokens = {token: epoch for token, epoch in tokens.items() if epoch >= before}
        if tokens:
            self._verifying[producer_id] = tokens

    def end_verification(self, producer_id: int, token: object) -> None:
        tokens = self._verifying.get(producer_id)
        if tokens is not None:
            tokens.pop(token, None)
            if not tokens:
                del self._verifying[producer_id]

    def check_verified(self, producer_id: int, epoch: int, token: object | None) -> None:
        """KafkaError INVALID_TXN_STATE unless that transaction may be written to, or
        INVALID_PRODUCER_EPOCH, of which producers recover, where it was fenced meanwhile."""
        if token is None:
            raise KafkaError(
                ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                "a batch of a transaction, in a request that names none",
            )
        if self.log.producer_state.has_open(producer_id, epoch):
            return
        if token not in self._verifying.get(producer_id, ()):
            known = self.log.producer_state.get(producer_id)
            if known is not None and epoch < known.epoch:
                raise KafkaError(
                    ErrorCode.INVALID_PRODUCER_EPOCH,
                    f"epoch {epoch} of producer {producer_id} is older than {known.epoch}",
                )
            raise KafkaError(
                ErrorCode.INVALID_TXN_STATE, "the batch is of no transaction that is open"
            )

    # hot: produce
    def _append(
        self,
        records: memoryview,
        batches: Sequence[BatchHeader],
        *,
        acks_all: bool,
        now_ms: int,
    ) -> AppendInfo:
        try:
            info = self.log.append(records, batches, leader_epoch=self.leader_epoch, now_ms=now_ms)
        except OSError as error:
            self._flushing.failed(error)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, error.strerror or "") from error
        return self._appended(info, acks_all=acks_all)

    # hot: produce
    def _appended(self, info: AppendInfo, *, acks_all: bool) -> AppendInfo:
        """See to it that what was appended is flushed as soon as somebody needs it."""
        log = self.log
        settings = self.settings
        if settings.flush_on_ack:
            if acks_all or self._data_waiters:
                self._flushing.mark_dirty(log)
            else:
                self._flushing.mark_dirty_soon(log)
            return info
        unflushed = log.log_end_offset - log.flushed_end_offset
        if info.has_rolled or unflushed >= settings.flush_messages:
            self._flushing.mark_dirty(log)
        elif settings.flush_ms < LONG_MAX:
            self._flushing.mark_dirty_within(log, settings.flush_ms)
        self.advance_high_watermark()
        return info

    # hot: fetch
    def read(self, offset: int, max_bytes: int, *, at_least_one: bool) -> FileRange | None:
        """Whole batches that a consumer may see from `offset` on; None while there are none."""
        found = self._read(offset, max_bytes, self.high_watermark, at_least_one=at_least_one)
        return None if found is None else found.range

    def read_committed(
        self, offset: int, max_bytes: int, *, at_least_one: bool
    ) -> tuple[FileRange | None, list[AbortedTransaction]]:
        """The same below the last stable offset, and the aborted transactions that a reader may
        meet in it."""
        end_offset = self.last_stable_offset
        found = self._read(offset, max_bytes, end_offset, at_least_one=at_least_one)
        if found is None:
            return None, []
        try:
            return found.range, self.log.aborted_transactions(offset, found.hint.offset)
        except OSError as error:
            self.read_failed(error)

    # hot: fetch
    def _read(
        self, offset: int, max_bytes: int, end_offset: int, *, at_least_one: bool
    ) -> LogRead | None:
        hints = self._hints
        try:
            found = self.log.read(
                offset,
                max_bytes,
                end_offset,
                at_least_one=at_least_one,
                hint=hints.get(offset),
            )
        except OSError as error:
            self.read_failed(error)
        if found is None:
            return None
        hint = found.hint
        hints[hint.offset] = hint
        if len(hints) > HINT_COUNT:
            del hints[next(iter(hints))]
        return found

    def read_failed(self, error: OSError) -> NoReturn:
        """What was to be read cannot be: KafkaError for who asked."""
        self._flushing.failed(error)
        raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, error.strerror or "") from error

    def switch(self, log: Log, flushing: Flushing) -> None:
        """Its log is another, with the same records, in another directory."""
        self.log, self._flushing = log, flushing
        self._hints.clear()

    def check_leader_epoch(self, epoch: int) -> None:
        """KIP-320: a client that knows another epoch than ours is told so; -1 does not ask."""
        if epoch in (-1, self.leader_epoch):
            return
        if epoch < self.leader_epoch:
            raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
        raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH)

    @property
    def last_stable_offset(self) -> int:
        """End of what a read_committed consumer sees."""
        return min(self.high_watermark, self.log.producer_state.transactions.first_unstable)

    def advance_high_watermark(self) -> None:
        """Take the log's durable end as the high watermark, and wake whom it concerns."""
        end = self._durable_end()
        if end <= self.high_watermark:
            return
        self.high_watermark = end
        self.log.producer_state.transactions.settle(end)
        waiters = self._offset_waiters
        while waiters and waiters[0][0] <= end:
            waiters.popleft()[1].reached()
        if self._data_waiters:
            for waiter in list(self._data_waiters):
                waiter.data_arrived()

    def wait_for_offset(self, end_offset: int, waiter: OffsetWaiter) -> None:
        """`waiter.reached` once the high watermark, now below it, is at `end_offset`."""
        self._offset_waiters.append((end_offset, waiter))

    def wait_for_data(self, waiter: DataWaiter) -> None:
        self._data_waiters[waiter] = None
        self.hurry()

    def hurry(self) -> None:
        """Somebody waits for what is appended but not flushed."""
        if self.settings.flush_on_ack and self.log.log_end_offset > self.high_watermark:
            self._flushing.mark_dirty(self.log)

    def stop_waiting_for_data(self, waiter: DataWaiter) -> None:
        self._data_waiters.pop(waiter, None)

    def close(self, refusal: ErrorCode) -> None:
        """Serve nothing any more, and tell whoever waits: KAFKA_STORAGE_ERROR when the disk
        failed, UNKNOWN_TOPIC_OR_PARTITION when the topic was deleted."""
        self.refusal = refusal
        waiting, self._offset_waiters = self._offset_waiters, deque()
        for _, waiter in waiting:
            waiter.closed()
        for data_waiter in list(self._data_waiters):
            data_waiter.data_arrived()

    def _durable_end(self) -> int:
        if self.settings.flush_on_ack:
            return self.log.flushed_end_offset
        return self.log.log_end_offset
