"""What happened in a run, as its clients saw it: the material of the checkers.

A *send* is one batch to one partition, with all its tries. It ends in

    ok     acknowledged, with the offset of its first record
    fail   certainly not in the log: every try was refused, or never left
    info   it may be there or not: a time-out, a lost connection, an answer that leaves it open

A *poll* is what one fetch was answered of one partition, a *bound* what ListOffsets or
DeleteRecords said of one. Every record has an id of its own, and its value is made of the id:
what comes back is held to that. Times are seconds, virtual ones in a simulation; a boot is one
life of the node.

A *transaction* groups sends, polls and commits (their `txn`). It ends in ok where it is known to be
committed, info once its commit was asked for, and is a fail before that: nobody else commits it.
A *commit* is an offset that a group was told to keep, a *reading* what it was said to have kept. A
*claim* is a partition that a member of a group held for a while.

`Promises` is what had been promised at a moment, small enough to be asked for at every disk call:
the acknowledgements so far, and the high watermarks that were told.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

Key = tuple[bytes, int]
"""A partition: topic id and index."""
Found = tuple[int, int]
"""Offset and id of a record."""
NO_TXN: Final = -1
NEVER: Final = float("inf")

ID_BYTES: Final = 8
SPREAD: Final = 2_654_435_761


class Fate(Enum):
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


class TopicState(Enum):
    ALIVE = "alive"
    DOUBTED = "doubted"
    """A delete was sent."""
    GONE = "gone"


@dataclass(eq=False)
class Topic:
    name: str
    id: bytes
    partition_count: int
    is_soft: bool = False
    """`flush.on.ack` is false: acknowledgements outlive a kill, not a power cut."""
    is_trimmed: bool = False
    """Records go by DeleteRecords, or by retention."""
    has_retention: bool = False
    is_fleeting: bool = False
    """It may be deleted, and another one made of its name."""
    is_transactional: bool = False
    """Offsets are missing in it: of markers, and of what was aborted."""
    is_compacted: bool = False
    state: TopicState = TopicState.ALIVE

    @property
    def is_alive(self) -> bool:
        return self.state is TopicState.ALIVE

    @property
    def is_dense(self) -> bool:
        """Offsets have no holes."""
        return not (self.is_transactional or self.is_compacted)

    @property
    def partitions(self) -> list[Key]:
        return [(self.id, index) for index in range(self.partition_count)]


@dataclass
class Send:
    key: Key
    producer: str
    """One life of a producer: its sends have an order, and for an idempotent one no twin."""
    is_idempotent: bool
    acks: int
    first_id: int
    count: int
    sent_at: float
    tries: int = 0
    tried_at: float = -1.0
    """When it was sent last."""
    fate: Fate = Fate.INFO
    offset: int = -1
    ended_at: float = -1.0
    txn: int = NO_TXN
    keys: tuple[str, ...] = ()
    """Of each record, in a compacted topic."""
    origins: tuple[int, ...] = ()
    """Of each record the id that it was made of, in a copy."""

    def ids(self) -> range:
        return range(self.first_id, self.first_id + self.count)


class Span(NamedTuple):
    """When a request was sent and answered, and in which lives of the node."""

    asked_at: float
    told_at: float
    boots: tuple[int, int]


@dataclass
class Poll:
    key: Key
    reader: str
    span: Span
    position: int
    """The offset that was asked for."""
    follows: bool
    """The reader goes through the log in order: this is where its last poll ended."""
    high_watermark: int | None
    last_stable_offset: int | None
    log_start_offset: int | None
    """None: the version of the answer, or the client, does not tell it."""
    records: list[Found]
    is_committed: bool = False
    """By read_committed."""
    txn: int = NO_TXN


@dataclass
class Bound:
    key: Key
    span: Span
    high_watermark: int | None = None
    log_start_offset: int | None = None
    is_lasting: bool = False
    """The log start was moved there by DeleteRecords, for good."""


@dataclass
class Txn:
    number: int
    """Its place in the history."""
    producer: str
    begun_at: float
    fate: Fate = Fate.FAIL
    asked_at: float = NEVER
    """When its commit was first asked for."""
    ended_at: float = NEVER
    """When its end was answered."""


@dataclass
class Commit:
    group: str
    key: Key
    offset: int
    who: str
    sent_at: float
    fate: Fate = Fate.INFO
    ended_at: float = NEVER
    txn: int = NO_TXN
    may_linger: bool = False
    """It was sent more than once: a copy may come into the log after its answer."""
    is_rewind: bool = False
    """Its client means to go back."""


@dataclass
class Reading:
    group: str
    key: Key
    offset: int
    """-1: none."""
    span: Span
    is_stable: bool = True
    """Nothing of a transaction was pending, or it would have been refused."""


@dataclass
class Claim:
    group: str
    key: Key
    member: str
    epoch: int
    """Generation, or epoch of the member."""
    since: float
    """When it was told."""
    until: float = NEVER
    """When it gave it up, or could have been taken for dead."""


@dataclass
class Copy:
    """Records of a source are copied, each with its offset in one transaction."""

    group: str
    source: list[Key]
    target: list[Key]


class Offline(NamedTuple):
    """A log directory after a failed sync."""

    since: float
    """From then on it must have been noticed."""
    until: float
    """The node was restarted."""
    keys: tuple[Key, ...]
    """What stands in the directory."""


@dataclass
class Promises:
    """At one moment: of each partition, how many acknowledgements there were, the highest end
    offset promised, the lowest log start allowed, and what was asked to be deleted."""

    acknowledged: dict[Key, int] = field(default_factory=dict)
    end_offset: dict[Key, int] = field(default_factory=dict)
    start_offset: dict[Key, int] = field(default_factory=dict)
    asked_start: dict[Key, int] = field(default_factory=dict)
    topics: tuple[Topic, ...] = ()
    """Those that were there for sure."""

    def copy(self, topics: tuple[Topic, ...]) -> "Promises":
        return Promises(
            dict(self.acknowledged),
            dict(self.end_offset),
            dict(self.start_offset),
            dict(self.asked_start),
            topics,
        )


class History:
    def __init__(self) -> None:
        self.topics: list[Topic] = []
        self.sends: list[Send] = []
        self.polls: list[Poll] = []
        self.bounds: list[Bound] = []
        self.final: dict[Key, list[Found]] = {}
        """What the last readers found, from the log start to the high watermark."""
        self.final_start: dict[Key, int] = {}
        self.power_losses: list[float] = []
        """When a power cut or a failed sync may have taken what was not durable."""
        self.offline: list[Offline] = []
        self.acknowledged: dict[Key, list[Send]] = {}
        """Sends with acks=all, in the order of their acknowledgements."""
        self.inside: list[str] = []
        """Bounds that did not hold inside the node."""
        self.surprises: list[str] = []
        """Answers that no fault explains."""
        self.txns: list[Txn] = []
        self.commits: list[Commit] = []
        self.readings: list[Reading] = []
        self.claims: list[Claim] = []
        self.copies: list[Copy] = []
        self._now = Promises()
        self._topic_of: dict[bytes, Topic] = {}

    def add_topic(self, topic: Topic) -> None:
        self.topics.append(topic)
        self._topic_of[topic.id] = topic

    def topic_of(self, key: Key) -> Topic:
        return self._topic_of[key[0]]

    def alive(self) -> list[Topic]:
        return [topic for topic in self.topics if topic.is_alive]

    def promises(self) -> Promises:
        return self._now.copy(tuple(self.alive()))

    def txn_fate(self, number: int) -> Fate:
        """What became of a transaction; OK for what is in none."""
        return Fate.OK if number == NO_TXN else self.txns[number].fate

    # ---- notes

    def begin(self, producer: str, now: float) -> Txn:
        txn = Txn(len(self.txns), producer, now)
        self.txns.append(txn)
        return txn

    def end(self, send: Send, fate: Fate, now: float, offset: int = -1) -> None:
        send.fate, send.offset, send.ended_at = fate, offset, now
        if fate is Fate.OK and send.acks == -1 and not self.topic_of(send.key).is_soft:
            self.acknowledged.setdefault(send.key, []).append(send)
            self._now.acknowledged[send.key] = len(self.acknowledged[send.key])
            self._raise(self._now.end_offset, send.key, offset + send.count)

    def polled(self, poll: Poll) -> None:
        self.polls.append(poll)
        if poll.high_watermark is not None:
            self._seen_to(poll.key, poll.high_watermark)

    def bounded(self, bound: Bound) -> None:
        self.bounds.append(bound)
        if bound.high_watermark is not None:
            self._seen_to(bound.key, bound.high_watermark)
        if bound.is_lasting and bound.log_start_offset is not None:
            self._raise(self._now.start_offset, bound.key, bound.log_start_offset)

    def deleting(self, key: Key, offset: int) -> None:
        """DeleteRecords is about to be sent: from here on the log may start there."""
        self._raise(self._now.asked_start, key, offset)

    def asked_start(self, key: Key) -> int:
        return self._now.asked_start.get(key, 0)

    def told_end(self, key: Key) -> int:
        """The highest high watermark that was told, or end offset that was acknowledged."""
        return self._now.end_offset.get(key, 0)

    def _seen_to(self, key: Key, high_watermark: int) -> None:
        if not self.topic_of(key).is_soft:
            self._raise(self._now.end_offset, key, high_watermark)

    @staticmethod
    def _raise(marks: dict[Key, int], key: Key, offset: int) -> None:
        if offset > marks.get(key, -1):
            marks[key] = offset


# ---- records


def value_of(record_id: int) -> bytes:
    """The value of a record: its id, and bytes that follow from it, 8 to 600 in all."""
    mixed = record_id * SPREAD & 0xFFFFFFFF
    size = mixed % 97 if mixed & 7 else mixed % 593
    filling = mixed.to_bytes(4, "big") * (size // 4 + 1)
    return record_id.to_bytes(ID_BYTES, "big") + filling[:size]


def id_of(value: bytes | None) -> int | None:
    """The id that a value was made of; None where it is no such value."""
    if value is None or len(value) < ID_BYTES:
        return None
    record_id = int.from_bytes(value[:ID_BYTES], "big")
    return record_id if value == value_of(record_id) else None
