"""Promises about records: each is kept, at its place, once, in its order."""

from collections.abc import Iterator
from typing import Final

from ottla.sim.checkers.sightings import (
    Findings,
    is_firm,
    keys_lost,
    keys_of,
    name,
    places,
    seen,
    show,
    told,
    where,
)
from ottla.sim.history import Fate, History, Key, Send

ACKS_ALL: Final = -1


def inconsistent_offsets(history: History) -> Findings:
    book: dict[tuple[Key, int], tuple[int, str]] = {}
    for key, (offset, record_id), who in seen(history):
        known_id, known_who = book.setdefault((key, offset), (record_id, who))
        if known_id != record_id and is_firm(history, key):
            place = f"{name(history, key)} offset {offset}"
            yield f"{place}: {known_id:#x} {known_who}, then {record_id:#x} {who}"


def acked_offset(history: History) -> Findings:
    known = places(history)
    for send in history.sends:
        may_have_twins = not send.is_idempotent and send.tries > 1
        if send.fate is not Fate.OK or may_have_twins or not is_firm(history, send.key):
            continue
        for offset, record_id in enumerate(send.ids(), send.offset):
            found = known.get((send.key, record_id))
            if found and offset not in found:
                yield f"{show(history, send)}: {record_id:#x} was found at {sorted(found)}"


def _kept(history: History, *, is_compacted: bool = False) -> Iterator[Send]:
    """Acknowledged sends that must be found at the end, each record at its place; of compacted
    topics, or of the others."""
    last_loss = max(history.power_losses, default=-1.0)
    for send in history.sends:
        if send.fate is not Fate.OK or history.txn_fate(send.txn) is not Fate.OK:
            continue
        topic = history.topic_of(send.key)
        if send.key not in history.final or topic.is_compacted != is_compacted:
            continue
        is_durable = send.acks == ACKS_ALL and not topic.is_soft
        if is_durable or send.tried_at > last_loss:
            yield send


def lost_write(history: History) -> Findings:
    finals = {key: dict(records) for key, records in history.final.items()}
    ends = _ends(history)
    for send in _kept(history):
        start, end, final = history.final_start[send.key], ends[send.key], finals[send.key]
        for offset, record_id in enumerate(send.ids(), send.offset):
            if start <= offset < end and final.get(offset) != record_id:
                yield f"{show(history, send)}: {record_id:#x} is not at {offset} at the end"
    for poll in history.polls:
        topic = history.topic_of(poll.key)
        if topic.is_compacted or (topic.is_transactional and not poll.is_committed):
            continue
        if poll.key in history.final and is_firm(history, poll.key):
            for offset, record_id in poll.records:
                if offset >= history.final_start[poll.key] and offset not in finals[poll.key]:
                    yield f"{where(history, poll)}: {record_id:#x} was seen at {offset}"


def _ends(history: History) -> dict[Key, int]:
    """Behind the last record of each partition that was found at the end."""
    return {
        key: max((offset for offset, _ in records), default=history.final_start[key] - 1) + 1
        for key, records in history.final.items()
    }


def unseen(history: History) -> Findings:
    ends = _ends(history)
    for send in _kept(history):
        if send.offset + send.count > ends[send.key]:
            yield f"{show(history, send)}: the end is {ends[send.key]}"
    for said in told(history):
        topic = history.topic_of(said.key)
        if said.key in ends and is_firm(history, said.key) and topic.is_dense:
            mark = said.high_watermark or 0
            if mark > ends[said.key]:
                yield f"{where(history, said)}: {mark}, the end is {ends[said.key]}"


def duplicate(history: History) -> Findings:
    known = places(history)
    for send in history.sends:
        if send.is_idempotent and is_firm(history, send.key):
            for record_id in send.ids():
                found = known.get((send.key, record_id), {})
                if len(found) > 1:
                    yield f"{show(history, send)}: {record_id:#x} was found at {sorted(found)}"


def nonmonotonic_send(history: History) -> Findings:
    known = places(history)
    last: dict[tuple[Key, str], tuple[int, int]] = {}
    for send in history.sends:
        if not send.is_idempotent or not is_firm(history, send.key):
            continue
        line = send.key, send.producer
        for record_id in send.ids():
            offset = min(known.get((send.key, record_id), {}), default=None)
            if offset is None:
                continue
            before, before_id = last.get(line, (-1, -1))
            if offset <= before:
                yield f"{show(history, send)}: at {offset}, and {before_id:#x} at {before}"
            last[line] = offset, record_id


def compaction(history: History) -> Findings:
    """Sends of a compacted topic name the key of each record."""
    key_of = keys_of(history)
    by_place: dict[Key, list[Send]] = {}
    for send in _kept(history, is_compacted=True):
        by_place.setdefault(send.key, []).append(send)
    for place, sends in by_place.items():
        for send, key, offset in keys_lost(sends, history.final[place], key_of):
            yield f"{show(history, send)}: nothing of {key!r} is there from {offset} on"
