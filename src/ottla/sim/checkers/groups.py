"""Promises about groups: what was committed is what is read, and a partition has one owner."""

from collections.abc import Iterator
from itertools import groupby

from ottla.sim.checkers.sightings import Findings, name
from ottla.sim.history import NEVER, NO_TXN, Claim, Commit, Fate, History, Key, Reading

Line = tuple[str, Key]
"""A group, and a partition that it reads."""


def _may_count(history: History, commit: Commit) -> bool:
    return commit.fate is not Fate.FAIL and history.txn_fate(commit.txn) is not Fate.FAIL


def _by_line(history: History) -> Iterator[tuple[list[Commit], list[Reading]]]:
    commits: dict[Line, list[Commit]] = {}
    for commit in history.commits:
        if _may_count(history, commit):
            commits.setdefault((commit.group, commit.key), []).append(commit)
    readings: dict[Line, list[Reading]] = {}
    for reading in history.readings:
        readings.setdefault((reading.group, reading.key), []).append(reading)
    for line, asked in readings.items():
        yield commits.get(line, []), asked


def offset_invented(history: History) -> Findings:
    for commits, readings in _by_line(history):
        for reading in readings:
            told_at = reading.span.told_at
            if reading.offset >= 0 and not any(
                commit.offset == reading.offset and _earliest(history, commit) < told_at
                for commit in commits
            ):
                yield f"{_show(history, reading)}: nobody committed that"


def offset_back(history: History) -> Findings:
    """A group reads on: a reading below what is known to be committed since a client last went
    back is excused by a commit that has no answer, or whose copies may come late."""
    for commits, readings in _by_line(history):
        read_at: dict[int, float] = {}
        went_back_at = max((each.ended_at for each in commits if each.is_rewind), default=-1.0)
        fresh = [each for each in commits if each.sent_at > went_back_at]
        for reading in readings:
            asked_at = reading.span.asked_at
            firm = (each for each in fresh if _counts_by(history, each, read_at) < asked_at)
            known = max(firm, key=lambda commit: commit.offset, default=None)
            if known is not None and reading.offset < known.offset:
                shown = (commit for commit in commits if commit.offset == reading.offset)
                if not any(map(_may_come_late, shown)):
                    told = f"{known.offset} of {known.who} at {known.sent_at:.3f} was committed"
                    yield f"{_show(history, reading)}: {told}"
            read_at.setdefault(reading.offset, reading.span.told_at)


def _earliest(history: History, commit: Commit) -> float:
    """Before this nobody sees it."""
    return commit.sent_at if commit.txn == NO_TXN else history.txns[commit.txn].asked_at


def _may_come_late(commit: Commit) -> bool:
    return commit.fate is not Fate.OK or commit.may_linger


def _counts_by(history: History, commit: Commit, read_at: dict[int, float]) -> float:
    """When it was known to count: it was acknowledged, or somebody read it."""
    at = NEVER
    if commit.fate is Fate.OK and history.txn_fate(commit.txn) is Fate.OK:
        at = commit.ended_at if commit.txn == NO_TXN else history.txns[commit.txn].ended_at
    first_read = read_at.get(commit.offset, NEVER)
    return min(at, first_read) if first_read > _earliest(history, commit) else at


def two_owners(history: History) -> Findings:
    claims = sorted(history.claims, key=_line_and_time)
    for _, of_line in groupby(claims, key=lambda claim: (claim.group, claim.key)):
        held: Claim | None = None
        for claim in of_line:
            if held is not None and held.member != claim.member and claim.since < held.until:
                yield (
                    f"{claim.group}: {name(history, claim.key)} is held by {held.member} from"
                    f" {held.since:.3f} to {held.until:.3f}, by {claim.member} (epoch"
                    f" {claim.epoch}) from {claim.since:.3f}"
                )
            if held is None or claim.until > held.until:
                held = claim


def _line_and_time(claim: Claim) -> tuple[str, Key, float]:
    return claim.group, claim.key, claim.since


def _show(history: History, reading: Reading) -> str:
    place = f"{reading.group}: {name(history, reading.key)}"
    return f"{place} at {reading.span.told_at:.3f} is {reading.offset}"
