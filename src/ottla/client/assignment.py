"""The partitions a consumer reads: where it is in each, and what was fetched ahead of it.

    position     of the next record to be handed out; what `commit` commits
    done         behind the last record whose reader has asked for more: what auto-commit commits
    fetch_offset of the next batch to be fetched: ahead of the position by what is buffered

Batches are decoded one at a time, when their first record is asked for; one that was handed out
in part stays first in the buffer.
A seek forgets what was fetched and raises `turn`: answers to requests of an earlier turn, and
readers that were in the middle of a batch, see that it is not theirs any more.
Nothing is handed out of a partition that is stopped, for any of these reasons:

    PAUSED  the user said so
    HELD    it is on its way to another member of the group, or has just come
    FULL    enough of its records are not processed yet
"""

from collections import deque
from typing import Final

from ottla.base.ids import ZERO_UUID, TopicPartition
from ottla.client.records import Columns, FetchedBatch, columns_of

EARLIEST: Final = -2
LATEST: Final = -1

PAUSED: Final = 1
HELD: Final = 2
FULL: Final = 4


class PartitionState:
    __slots__ = (
        "blocked_until",
        "buffer",
        "buffered_bytes",
        "checked_epoch",
        "done",
        "epoch",
        "error",
        "fetch_offset",
        "head",
        "head_at",
        "high_watermark",
        "key",
        "last_epoch",
        "last_stable_offset",
        "or_else",
        "position",
        "read_replica",
        "read_replica_until",
        "reset_to",
        "stops",
        "topic_id",
        "turn",
    )

    def __init__(self, key: TopicPartition) -> None:
        self.key = key
        self.position: int | None = None
        """None until it was found."""
        self.done: int | None = None
        self.fetch_offset = -1
        self.reset_to: int | None = None
        """A ListOffsets timestamp that says where to begin; None: the committed offset, and the
        consumer's policy where there is none."""
        self.or_else: int | None = None
        """Where to begin if the group has committed nothing, before the policy is asked."""
        self.turn = 0
        self.buffer: deque[FetchedBatch] = deque()
        self.buffered_bytes = 0
        self.head: Columns | None = None
        """The first batch of the buffer, decoded; `head_at` is the first record of it that was
        not handed out."""
        self.head_at = 0
        self.stops = 0
        """The reasons why nothing is handed out."""
        self.blocked_until = 0.0
        self.error: Exception | None = None
        """To be raised by the next poll."""
        self.high_watermark = self.last_stable_offset = -1
        self.read_replica = -1
        """A replica that the leader prefers for this consumer (KIP-392), for a while."""
        self.read_replica_until = 0.0
        self.topic_id = ZERO_UUID
        """Of the topic that the position belongs to; a topic that is made anew has another."""
        self.epoch = self.last_epoch = -1
        """Leader epochs of the last record that was handed out, and that was fetched; -1 where
        they are not known."""
        self.checked_epoch = -1
        """The leader epoch in which a leader has not denied the record before `fetch_offset`."""

    def seek(
        self,
        offset: int | None,
        reset_to: int | None = None,
        *,
        or_else: int | None = None,
        epoch: int = -1,
    ) -> None:
        """Go to an offset, or find it again. `epoch` is that of the record before it."""
        self.turn += 1
        self.position = self.done = offset
        self.reset_to, self.or_else = reset_to, or_else
        self.error = None
        self.blocked_until = 0.0
        self.fetch_anew(epoch)

    def fetch_anew(self, epoch: int) -> None:
        """Forget what is not handed out; what was, and who works on it, stays as it is. `epoch`
        is that of the record before the position."""
        self.fetch_offset = -1 if self.position is None else self.position
        self.buffer.clear()
        self.buffered_bytes = 0
        self.head = None
        self.epoch = self.last_epoch = epoch
        self.checked_epoch = -1

    @property
    def is_in_hand(self) -> bool:
        """Whether a reader has records of it and did not ask for more yet."""
        return self.done != self.position

    @property
    def is_in_use(self) -> bool:
        """Whether something of what was fetched is not done."""
        return bool(self.buffer) or self.is_in_hand

    def stop(self, reason: int, is_stopped: bool) -> None:
        self.stops = self.stops | reason if is_stopped else self.stops & ~reason

    def add(self, batch: FetchedBatch) -> None:
        self.buffer.append(batch)
        self.buffered_bytes += len(batch.data)
        self.fetch_offset = batch.header.last_offset + 1
        self.last_epoch = batch.header.partition_leader_epoch

    def first(self) -> Columns | None:
        """The first buffered batch that has records from the position on, decoded. KafkaError
        where it is damaged: the position then stays in front of it."""
        while self.head is None and self.buffer:
            batch = self.buffer[0]
            if not batch.header.record_count:
                self._skip_first()
                continue
            columns = columns_of(batch, *self.key, self.position or 0)
            if columns:
                self.head, self.head_at = columns, 0
            else:
                self._skip_first()
        return self.head

    def hand_out(self, stop: int) -> None:
        """Records of the first batch before index `stop` are handed out."""
        head = self.head
        assert head is not None
        if stop >= len(head):
            self._drop_first()
        else:
            self.position = head.offsets[stop]
            self.head_at = stop
            self.epoch = self.head_epoch

    @property
    def head_epoch(self) -> int:
        """Leader epoch of the first batch, of which something is handed out."""
        return self.buffer[0].header.partition_leader_epoch

    def _skip_first(self) -> None:
        """The first batch holds nothing to be handed out: whoever was done still is."""
        is_done = not self.is_in_hand
        self._drop_first()
        if is_done:
            self.done = self.position

    def _drop_first(self) -> None:
        batch = self.buffer.popleft()
        self.buffered_bytes -= len(batch.data)
        self.position = batch.header.last_offset + 1
        self.epoch = batch.header.partition_leader_epoch
        self.head = None
