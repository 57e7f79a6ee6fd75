"""A consumer's side of a fetch session (KIP-227): what one node was asked for, and what is new.

A session spares naming every partition in every request. The first request of one is full; then
each names what was added, what moved, and what is no longer wanted. Whatever goes wrong (an error
of the session, an answer that does not come) begins a new one: that costs a full request.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ottla.base.ids import ZERO_UUID, TopicPartition, Uuid


class Wanted(NamedTuple):
    """What is asked of a partition."""

    fetch_offset: int
    leader_epoch: int
    turn: int
    topic_id: Uuid = ZERO_UUID
    last_epoch: int = -1
    """Of the record before the fetch offset, where the leader is to say whether it has that
    (KIP-320); -1: it is not asked."""


class Plan(NamedTuple):
    session_id: int
    epoch: int
    named: dict[TopicPartition, Wanted]
    forgotten: list[tuple[TopicPartition, Uuid]]


class FetchSession:
    def __init__(self) -> None:
        self._id = self._epoch = 0
        self._asked: dict[TopicPartition, Wanted] = {}
        self._uses_ids = False

    def plan(self, wanted: Mapping[TopicPartition, Wanted], *, uses_ids: bool) -> Plan:
        """What the next request names. A session does not mix topic names and topic ids."""
        if uses_ids != self._uses_ids:
            self.lost()
            self._uses_ids = uses_ids
        if not self._epoch:
            plan = Plan(self._id, 0, dict(wanted), [])
        else:
            named = {key: want for key, want in wanted.items() if self._asked.get(key) != want}
            forgotten = [
                (key, asked.topic_id)
                for key, asked in self._asked.items()
                if key not in wanted or wanted[key].topic_id != asked.topic_id  # made anew
            ]
            plan = Plan(self._id, self._epoch, named, forgotten)
        self._asked = dict(wanted)
        return plan

    def answered(self, session_id: int) -> None:
        """The answer came: the next request continues it, if the node keeps a session."""
        if not session_id:
            self.lost()
            return
        if session_id != self._id:
            self._id, self._epoch = session_id, 0
        self._epoch = self._epoch + 1 if self._epoch < 0x7FFF_FFFF else 1

    def lost(self) -> None:
        """Begin anew."""
        self._id = self._epoch = 0
        self._asked = {}
