"""Promises about polls: a reader gets each record, in order, and none twice.

In a plain topic offsets have no holes. In one with transactions a hole is wrong where a record is
known to be: one that some reader by read_committed got, or that was acknowledged and committed.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import pairwise

from ottla.sim.checkers.sightings import Findings, is_firm, name, visible, where
from ottla.sim.history import Found, History, Key, Poll

Skipped = Callable[[Key, int, int], int | None]
"""The first offset from one to before another at which a record should have been given."""


def int_nonmonotonic_poll(history: History) -> Findings:
    for records, place in _polled(history):
        for (offset, _), (following, _) in pairwise(records):
            if following <= offset:
                yield f"{place}: {following} behind {offset}"


def int_poll_skip(history: History) -> Findings:
    skipped = _skipping(history)
    for poll in history.polls:
        if poll.records and poll.position < poll.records[0][0]:
            hole = skipped(poll.key, poll.position, poll.records[0][0])
            if hole is not None:
                yield f"{where(history, poll)}: begins with {poll.records[0][0]}, not with {hole}"
        yield from _holes(skipped, poll.key, poll.records, where(history, poll))
    for key, records in history.final.items():
        yield from _holes(skipped, key, records, f"{name(history, key)} at the end")


def nonmonotonic_poll(history: History) -> Findings:
    for poll, due in _following(history):
        if poll.position < due:
            yield f"{where(history, poll)}: {due} was due"


def poll_skip(history: History) -> Findings:
    skipped = _skipping(history)
    for poll, due in _following(history):
        if poll.position > due and not history.topic_of(poll.key).is_trimmed:
            hole = skipped(poll.key, due, poll.position)
            if hole is not None:
                yield f"{where(history, poll)}: {hole} was due"


def _polled(history: History) -> Iterator[tuple[list[Found], str]]:
    for poll in history.polls:
        yield poll.records, where(history, poll)
    for key, records in history.final.items():
        yield records, f"{name(history, key)} at the end"


def _following(history: History) -> Iterator[tuple[Poll, int]]:
    """Polls of readers that follow a log, each with the position that was due."""
    due: dict[tuple[str, Key], int] = {}
    for poll in history.polls:
        if not poll.follows or not is_firm(history, poll.key):
            continue
        line = poll.reader, poll.key
        yield poll, due.get(line, poll.position)
        due[line] = poll.records[-1][0] + 1 if poll.records else poll.position


def _skipping(history: History) -> Skipped:
    known = visible(history)

    def skipped(key: Key, first: int, end: int) -> int | None:
        if history.topic_of(key).is_dense:
            return first if first < end else None
        if history.topic_of(key).is_compacted:
            return None  # it may have gone between two polls: see `compaction`
        offsets = known.get(key, [])
        at = bisect_left(offsets, first)
        return offsets[at] if at < len(offsets) and offsets[at] < end else None

    return skipped


def _holes(skipped: Skipped, key: Key, records: list[Found], place: str) -> Findings:
    for (offset, _), (following, _) in pairwise(records):
        if following > offset + 1:
            hole = skipped(key, offset + 1, following)
            if hole is not None:
                yield f"{place}: {following} behind {offset}, without {hole}"
