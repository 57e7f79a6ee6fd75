"""Promises about the marks of a partition: where it starts, and how far it may be read."""

from collections.abc import Iterable
from typing import Final

from ottla.sim.checkers.sightings import Findings, is_firm, show, told, where
from ottla.sim.history import Bound, Fate, History, Key, Poll

FOR_GOOD: Final = -1
"""Stands for all lives of the node."""


class Ratchet:
    """A mark that must not go back: its rises, by when they were told."""

    def __init__(self) -> None:
        self._rises: list[tuple[float, int]] = []

    def before(self, asked_at: float) -> int:
        """The highest that was told before a request was sent, which it must not undercut."""
        return next((mark for at, mark in reversed(self._rises) if at < asked_at), -1)

    def note(self, told_at: float, mark: int) -> None:
        if not self._rises or mark > self._rises[-1][1]:
            self._rises.append((told_at, mark))


def high_watermark(history: History) -> Findings:
    return _rising(history, ((said, said.high_watermark) for said in told(history)))


def last_stable(history: History) -> Findings:
    polls = (said for said in told(history) if isinstance(said, Poll))
    return _rising(history, ((poll, poll.last_stable_offset) for poll in polls))


def _rising(history: History, marks: Iterable[tuple[Poll | Bound, int | None]]) -> Findings:
    ratchets: dict[Key, Ratchet] = {}
    for said, mark in marks:
        if mark is None or not is_firm(history, said.key):
            continue
        ratchet = ratchets.setdefault(said.key, Ratchet())
        before = ratchet.before(said.span.asked_at)
        if mark < before:
            yield f"{where(history, said)}: {before}, then {mark}"
        ratchet.note(said.span.told_at, mark)


def log_start(history: History) -> Findings:
    ratchets: dict[tuple[Key, int], Ratchet] = {}
    for said in told(history):
        start, (first, last) = said.log_start_offset, said.span.boots
        if start is None or not is_firm(history, said.key):
            continue
        asked = history.asked_start(said.key)
        if start > asked and not history.topic_of(said.key).has_retention:
            yield f"{where(history, said)}: {start}, and {asked} was asked"
        lasting = ratchets.setdefault((said.key, FOR_GOOD), Ratchet())
        within = ratchets.setdefault((said.key, first), Ratchet())
        for ratchet in (lasting, within) if first == last else (lasting,):
            before = ratchet.before(said.span.asked_at)
            if start < before:
                yield f"{where(history, said)}: {before}, then {start}"
        if isinstance(said, Bound) and said.is_lasting:
            lasting.note(said.span.told_at, start)
        if first == last:
            within.note(said.span.told_at, start)


def bounds(history: History) -> Findings:
    yield from history.inside
    for poll in history.polls:
        start, stable, mark = poll.log_start_offset, poll.last_stable_offset, poll.high_watermark
        if stable is None or mark is None:
            continue
        end = poll.records[-1][0] + 1 if poll.records else 0
        limit = stable if poll.is_committed else mark
        if not ((start or 0) <= stable <= mark and end <= limit):
            yield f"{where(history, poll)}: {start} <= {stable} <= {mark}, records to {end}"


def silence(history: History) -> Findings:
    for send in history.sends:
        for since, until, keys in history.offline:
            is_within = since < send.sent_at < send.ended_at < until
            if send.fate is Fate.OK and is_within and send.key in keys:
                yield f"{show(history, send)}: sent at {send.sent_at:.3f}, after {since:.3f}"
