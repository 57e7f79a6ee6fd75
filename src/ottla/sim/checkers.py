"""What a history must show, whatever was done to the node: one function for each promise.

    inconsistent-offset   one offset of a partition holds one record, in all that was ever seen
    acked-offset          a record is found where its acknowledgement put it
    lost-write            what was acknowledged, or shown to a reader, is there at the end
    duplicate             an idempotent producer's record is there once
    order                 an idempotent producer's records stand in the order it sent them
    refused-read          what was certainly refused is never seen
    poll-skip             a poll starts at the offset it asked for, and has no holes
    follower              the polls of a reader that follows go on where the last one ended
    high-watermark        a high watermark never goes back
    log-start             a log start never goes back in one life of the node, and never behind
                          what DeleteRecords acknowledged; without retention it is one that was
                          asked for
    bounds                log start <= last stable offset <= high watermark, records below it
    silence               nothing is acknowledged by a directory that a failed sync took offline
    surprise              no answer that no fault explains

A topic with `flush.on.ack=false` promises what a power cut spares: it is left out of all but
`refused-read`, `poll-skip` and `surprise` once power was lost. An acknowledgement of acks=1
promises the same of any topic.
Each checker yields what is wrong, with the place; an empty answer is a pass.
"""

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Final

from ottla.sim.history import Bound, Fate, Found, History, Key, Poll, Send
from ottla.sim.workload import Violation

ACKS_ALL: Final = -1
FOR_GOOD: Final = -1
"""Stands for all lives of the node."""

Findings = Iterator[str]
REPORTED: Final = 3
"""Breaches of one promise that are told."""


def check_history(history: History) -> list[Violation]:
    """What is wrong with it: of each promise the first few breaches."""
    return [
        Violation(name, where)
        for name, checker in CHECKS.items()
        for where in islice(checker(history), REPORTED)
    ]


# ---- records


def inconsistent_offset(history: History) -> Findings:
    book: dict[tuple[Key, int], tuple[int, str]] = {}
    for key, (offset, record_id), who in _seen(history):
        known_id, known_who = book.setdefault((key, offset), (record_id, who))
        if known_id != record_id and _is_firm(history, key):
            where = f"{_name(history, key)} offset {offset}"
            yield f"{where}: {known_id:#x} {known_who}, then {record_id:#x} {who}"


def acked_offset(history: History) -> Findings:
    places = _places(history)
    for send in history.sends:
        may_have_twins = not send.is_idempotent and send.tries > 1
        if send.fate is not Fate.OK or may_have_twins or not _is_firm(history, send.key):
            continue
        for offset, record_id in enumerate(send.ids(), send.offset):
            found = places.get((send.key, record_id))
            if found and offset not in found:
                yield f"{_show(history, send)}: {record_id:#x} was found at {sorted(found)}"


def lost_write(history: History) -> Findings:
    last_loss = max(history.power_losses, default=-1.0)
    finals = {key: dict(records) for key, records in history.final.items()}
    for send in history.sends:
        if send.fate is not Fate.OK or send.key not in history.final:
            continue
        is_durable = send.acks == ACKS_ALL and not history.topic_of(send.key).is_soft
        if not is_durable and send.tried_at <= last_loss:
            continue
        start = history.final_start[send.key]
        for offset, record_id in enumerate(send.ids(), send.offset):
            if offset >= start and finals[send.key].get(offset) != record_id:
                yield f"{_show(history, send)}: {record_id:#x} is not at {offset} at the end"
    for told in _told(history):
        if told.key in history.final and _is_firm(history, told.key):
            end = max(finals[told.key], default=history.final_start[told.key] - 1) + 1
            if (told.high_watermark or 0) > end:
                yield f"{_where(history, told)}: {told.high_watermark}, the end is {end}"


def duplicate(history: History) -> Findings:
    places = _places(history)
    for send in history.sends:
        if send.is_idempotent and _is_firm(history, send.key):
            for record_id in send.ids():
                found = places.get((send.key, record_id), {})
                if len(found) > 1:
                    yield f"{_show(history, send)}: {record_id:#x} was found at {sorted(found)}"


def order(history: History) -> Findings:
    places = _places(history)
    last: dict[tuple[Key, str], tuple[int, int]] = {}
    for send in history.sends:
        if not send.is_idempotent or not _is_firm(history, send.key):
            continue
        line = send.key, send.producer
        for record_id in send.ids():
            offset = min(places.get((send.key, record_id), {}), default=None)
            if offset is None:
                continue
            before, before_id = last.get(line, (-1, -1))
            if offset <= before:
                yield f"{_show(history, send)}: at {offset}, and {before_id:#x} at {before}"
            last[line] = offset, record_id


def refused_read(history: History) -> Findings:
    places = _places(history)
    for send in history.sends:
        if send.fate is Fate.FAIL:
            for record_id in send.ids():
                if (send.key, record_id) in places:
                    yield f"{_show(history, send)}: {record_id:#x} was seen"


# ---- polls


def poll_skip(history: History) -> Findings:
    for poll in history.polls:
        asked = [(poll.position - 1, 0)] if poll.records else []
        yield from _holes([*asked, *poll.records], _where(history, poll))
    for key, records in history.final.items():
        yield from _holes(records, f"{_name(history, key)} at the end")


def _holes(records: list[Found], where: str) -> Findings:
    for (offset, _), (following, _) in pairwise(records):
        if following != offset + 1:
            yield f"{where}: {following} behind {offset}"


def follower(history: History) -> Findings:
    due: dict[tuple[str, Key], int] = {}
    for poll in history.polls:
        if not poll.follows or not _is_firm(history, poll.key):
            continue
        line = poll.reader, poll.key
        expected = due.get(line, poll.position)
        is_cut = poll.position > expected and history.topic_of(poll.key).is_trimmed
        if poll.position != expected and not is_cut:
            yield f"{_where(history, poll)}: {poll.position} was asked, {expected} was due"
        due[line] = poll.records[-1][0] + 1 if poll.records else poll.position


# ---- marks


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
    ratchets: dict[Key, Ratchet] = {}
    for told in _told(history):
        mark = told.high_watermark
        if mark is None or not _is_firm(history, told.key):
            continue
        ratchet = ratchets.setdefault(told.key, Ratchet())
        if mark < ratchet.before(told.span.asked_at):
            yield f"{_where(history, told)}: {ratchet.before(told.span.asked_at)}, then {mark}"
        ratchet.note(told.span.told_at, mark)


def log_start(history: History) -> Findings:
    ratchets: dict[tuple[Key, int], Ratchet] = {}
    for told in _told(history):
        start, (first, last) = told.log_start_offset, told.span.boots
        if start is None or not _is_firm(history, told.key):
            continue
        asked = history.asked_start(told.key)
        if start > asked and not history.topic_of(told.key).has_retention:
            yield f"{_where(history, told)}: {start}, and {asked} was asked"
        lasting = ratchets.setdefault((told.key, FOR_GOOD), Ratchet())
        within = ratchets.setdefault((told.key, first), Ratchet())
        for ratchet in (lasting, within) if first == last else (lasting,):
            if start < ratchet.before(told.span.asked_at):
                before = ratchet.before(told.span.asked_at)
                yield f"{_where(history, told)}: {before}, then {start}"
        if isinstance(told, Bound) and told.is_lasting:
            lasting.note(told.span.told_at, start)
        if first == last:
            within.note(told.span.told_at, start)


def bounds(history: History) -> Findings:
    yield from history.inside
    for poll in history.polls:
        start, stable, mark = poll.log_start_offset, poll.last_stable_offset, poll.high_watermark
        end = poll.records[-1][0] + 1 if poll.records else 0
        if not ((start or 0) <= stable <= mark and end <= mark):
            yield f"{_where(history, poll)}: {start} <= {stable} <= {mark}, records to {end}"


def silence(history: History) -> Findings:
    for send in history.sends:
        for offline_at, restarted_at in history.offline:
            if send.fate is Fate.OK and offline_at < send.sent_at < send.ended_at < restarted_at:
                yield f"{_show(history, send)}: sent at {send.sent_at:.3f}, after {offline_at:.3f}"


def surprise(history: History) -> Findings:
    yield from history.surprises


CHECKS: Final[dict[str, Callable[[History], Findings]]] = {
    "inconsistent-offset": inconsistent_offset,
    "acked-offset": acked_offset,
    "lost-write": lost_write,
    "duplicate": duplicate,
    "order": order,
    "refused-read": refused_read,
    "poll-skip": poll_skip,
    "follower": follower,
    "high-watermark": high_watermark,
    "log-start": log_start,
    "bounds": bounds,
    "silence": silence,
    "surprise": surprise,
}


# ---- looking things up


def _is_firm(history: History, key: Key) -> bool:
    """Whether the partition promises anything that a power cut in this run may not undo."""
    return not (history.topic_of(key).is_soft and history.power_losses)


def _seen(history: History) -> Iterator[tuple[Key, Found, str]]:
    for poll in history.polls:
        for found in poll.records:
            yield poll.key, found, f"{poll.reader} at {poll.span.told_at:.3f}"
    for key, records in history.final.items():
        for found in records:
            yield key, found, "at the end"


def _places(history: History) -> dict[tuple[Key, int], dict[int, None]]:
    """Where each record was ever seen."""
    places: dict[tuple[Key, int], dict[int, None]] = {}
    for key, (offset, record_id), _ in _seen(history):
        places.setdefault((key, record_id), {})[offset] = None
    return places


def _told(history: History) -> list[Poll | Bound]:
    """Whatever told of marks, in the order of the answers."""
    told: list[Poll | Bound] = [*history.polls, *history.bounds]
    return sorted(told, key=lambda each: each.span.told_at)


def _name(history: History, key: Key) -> str:
    return f"{history.topic_of(key).name}-{key[1]}"


def _show(history: History, send: Send) -> str:
    return (
        f"{_name(history, send.key)}: {send.count} of {send.producer} from {send.first_id:#x},"
        f" acks={send.acks}, {send.fate.value} at {send.ended_at:.3f}, offset {send.offset}"
    )


def _where(history: History, told: Poll | Bound) -> str:
    who = f"{told.reader} from {told.position}" if isinstance(told, Poll) else "bounds"
    return f"{_name(history, told.key)}: {who} at {told.span.told_at:.3f}"
