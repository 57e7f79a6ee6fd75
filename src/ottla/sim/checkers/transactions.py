"""Promises about transactions: all of one or nothing, and nothing before its time."""

from graphlib import CycleError, TopologicalSorter

from ottla.sim.checkers.sightings import Findings, name, places, show, show_txn, where
from ottla.sim.history import NO_TXN, Copy, Fate, History, Key, Send


def _written(history: History) -> dict[tuple[Key, int], Send]:
    """By whom each record was sent in a transaction."""
    return {
        (send.key, record_id): send
        for send in history.sends
        if send.txn != NO_TXN
        for record_id in send.ids()
    }


def g1a(history: History) -> Findings:
    """(A reader by read_uncommitted may see what is aborted, not what was refused.)"""
    known = places(history)
    for send in history.sends:
        if send.fate is Fate.FAIL:
            for record_id in send.ids():
                if (send.key, record_id) in known:
                    yield f"{show(history, send)}: {record_id:#x} was seen"
    aborted = {
        place: send
        for place, send in _written(history).items()
        if history.txn_fate(send.txn) is Fate.FAIL
    }
    for poll in history.polls:
        for _, record_id in poll.records if poll.is_committed else ():
            if (poll.key, record_id) in aborted:
                writer = show(history, aborted[poll.key, record_id])
                yield f"{where(history, poll)}: {record_id:#x} of {writer}"
    for key, records in history.final.items():
        for _, record_id in records if history.topic_of(key).is_transactional else ():
            if (key, record_id) in aborted:
                yield f"at the end: {record_id:#x} of {show(history, aborted[key, record_id])}"


def precommitted_read(history: History) -> Findings:
    written = _written(history)
    for poll in history.polls:
        for _, record_id in poll.records if poll.is_committed else ():
            send = written.get((poll.key, record_id))
            if send is not None and poll.span.told_at < history.txns[send.txn].asked_at:
                yield f"{where(history, poll)}: {record_id:#x} of {show(history, send)}"


def g1c(history: History) -> Findings:
    """A transaction that read what another wrote came after it."""
    written = _written(history)
    before: dict[int, dict[int, None]] = {}
    for poll in history.polls:
        if poll.txn == NO_TXN or not poll.is_committed:
            continue
        for _, record_id in poll.records:
            send = written.get((poll.key, record_id))
            if send is not None and send.txn != poll.txn:
                before.setdefault(poll.txn, {})[send.txn] = None
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        yield "; then ".join(show_txn(history, number) for number in error.args[1])


def torn_txn(history: History) -> Findings:
    finals = {key: dict(records) for key, records in history.final.items()}
    shown: dict[int, tuple[list[Send], list[Send]]] = {}
    for send in history.sends:
        if send.txn == NO_TXN or send.fate is not Fate.OK or send.key not in finals:
            continue
        if history.topic_of(send.key).is_compacted:
            continue
        there, missing = shown.setdefault(send.txn, ([], []))
        for offset, record_id in enumerate(send.ids(), send.offset):
            if offset >= history.final_start[send.key]:
                is_there = finals[send.key].get(offset) == record_id
                (there if is_there else missing).append(send)
    for number, (there, missing) in shown.items():
        fate = history.txn_fate(number)
        if missing and (there or fate is Fate.OK):
            found = f" but {show(history, there[0])} is" if there else ""
            gone = f"{show(history, missing[0])} is not there"
            yield f"{show_txn(history, number)}: {gone}{found}"


def copy(history: History) -> Findings:
    origin_of = {
        (send.key, record_id): origin
        for send in history.sends
        for record_id, origin in zip(send.ids(), send.origins, strict=False)
    }
    for each in history.copies:
        yield from _copied(history, each, origin_of)


def _copied(history: History, made: Copy, origin_of: dict[tuple[Key, int], int]) -> Findings:
    times: dict[int, int] = {}
    for key in made.target:
        for _, record_id in history.final.get(key, ()):
            origin = origin_of.get((key, record_id), -1)
            times[origin] = times.get(origin, 0) + 1
    for key in made.source:
        reached = [each for each in history.readings if (each.group, each.key) == (made.group, key)]
        end = max(0, reached[-1].offset) if reached else 0
        for offset, record_id in history.final.get(key, ()):
            count = times.get(record_id, 0)
            if count != (offset < end):
                place = f"{name(history, key)} offset {offset}, {made.group} is at {end}"
                yield f"{place}: {record_id:#x} stands {count} times in its copy"
