"""Fetch sessions (KIP-227): what a consumer fetches, remembered between its requests.

    request (id, epoch)      what it is                       what happens
    (any, -1) FINAL          a full fetch; ends session id    no session afterwards
    (0, 0)    INITIAL        a full fetch that wants one      a new id, or 0 where no slot is free
    (id, n)   n = expected   only changes are listed          answered with what changed
    (id, n)   otherwise      lost or repeated request         INVALID_FETCH_SESSION_EPOCH
    unknown id               evicted, or another node's       FETCH_SESSION_ID_NOT_FOUND

Slots are bounded, and so are the partitions of all sessions together: past either a full fetch
gets no session, and one that grows is ended (its client starts anew). A session idle for
`EVICTION_MS` makes room for a new one, the longest idle first. A partition that had data goes to
the end of its session's order, so that a byte limit starves none.
"""

from collections.abc import Iterable
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.world import Clock, Rng

EVICTION_MS: Final = 120_000
FINAL_EPOCH: Final = -1
INITIAL_EPOCH: Final = 0
MAX_EPOCH: Final = 2**31 - 1
PARTITIONS_PER_SESSION: Final = 100_000
PARTITIONS_OF_ALL: Final = 1_000_000

Key = tuple[str | bytes, int]
"""Topic name or topic id, and partition."""


class Wanted:
    """One partition that a fetch asks for, and what its session last answered of it."""

    __slots__ = (
        "current_leader_epoch",
        "fetch_offset",
        "high_watermark",
        "index",
        "last_fetched_epoch",
        "log_start_offset",
        "max_bytes",
        "topic",
    )

    def __init__(
        self,
        topic: str | bytes,
        index: int,
        fetch_offset: int,
        max_bytes: int,
        current_leader_epoch: int,
        last_fetched_epoch: int,
    ) -> None:
        self.topic = topic
        self.index = index
        self.fetch_offset = fetch_offset
        self.max_bytes = max_bytes
        self.current_leader_epoch = current_leader_epoch
        self.last_fetched_epoch = last_fetched_epoch
        self.high_watermark = -1
        self.log_start_offset = -1


class FetchSession:
    __slots__ = ("_sessions", "epoch", "id", "last_used_ms", "partitions", "uses_ids")

    def __init__(
        self, sessions: "FetchSessions", session_id: int, uses_ids: bool, now_ms: float
    ) -> None:
        self._sessions = sessions
        self.id = session_id
        self.uses_ids = uses_ids
        self.epoch = 1
        """The epoch that the next request must carry."""
        self.last_used_ms = now_ms
        self.partitions: dict[Key, Wanted] = {}

    def update(self, wanted: Iterable[Wanted], forgotten: Iterable[Key]) -> None:
        before = len(self.partitions)
        try:
            self._update(wanted, forgotten)
        finally:
            grown = len(self.partitions) - before
            self._sessions.partition_count += grown
        if before and grown > 0 and self._sessions.partition_count > PARTITIONS_OF_ALL:
            self._sessions.close(self.id)
            raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)

    def _update(self, wanted: Iterable[Wanted], forgotten: Iterable[Key]) -> None:
        for one in wanted:
            key = (one.topic, one.index)
            known = self.partitions.get(key)
            if known is not None:
                one.high_watermark = known.high_watermark
                one.log_start_offset = known.log_start_offset
            elif len(self.partitions) >= PARTITIONS_PER_SESSION:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "too many partitions in a session")
            self.partitions[key] = one
        for key in forgotten:
            self.partitions.pop(key, None)

    def answered(
        self, one: Wanted, high_watermark: int, log_start_offset: int, *, has_data: bool
    ) -> None:
        """Remember what was answered; after data, the others go first next time."""
        one.high_watermark = high_watermark
        one.log_start_offset = log_start_offset
        key = (one.topic, one.index)
        if has_data and self.partitions.pop(key, None) is not None:
            self.partitions[key] = one


class FetchSessions:
    """All sessions of a node, at most `slots`."""

    def __init__(self, slots: int, clock: Clock, rng: Rng) -> None:
        self._slots = slots
        self._clock = clock
        self._rng = rng
        self.partition_count = 0
        """Over all sessions."""
        self._sessions: dict[int, FetchSession] = {}
        """By id, the longest idle first."""

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, uses_ids: bool) -> FetchSession | None:
        """A new session; None where every slot is taken by one that is in use."""
        now_ms = self._now_ms()
        if len(self._sessions) >= self._slots or self.partition_count >= PARTITIONS_OF_ALL:
            oldest = next(iter(self._sessions.values()), None)
            if oldest is None or now_ms - oldest.last_used_ms < EVICTION_MS:
                return None
            self.close(oldest.id)
        session_id = self._rng.randrange(1, 2**31)
        while session_id in self._sessions:
            session_id = self._rng.randrange(1, 2**31)
        session = FetchSession(self, session_id, uses_ids, now_ms)
        self._sessions[session_id] = session
        return session

    def next(self, session_id: int, epoch: int, uses_ids: bool) -> FetchSession:
        """The session that this request goes on with; KafkaError if it cannot."""
        session = self._sessions.get(session_id)
        if session is None:
            raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if epoch != session.epoch:
            raise KafkaError(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if uses_ids != session.uses_ids:
            raise KafkaError(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        session.epoch = 1 if epoch == MAX_EPOCH else epoch + 1
        session.last_used_ms = self._now_ms()
        self._sessions[session_id] = self._sessions.pop(session_id)
        return session

    def close(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self.partition_count -= len(session.partitions)

    def _now_ms(self) -> float:
        return self._clock.monotonic() * 1000
