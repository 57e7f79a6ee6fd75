"""Looking things up in a history: what was seen where, and how a place is told."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from ottla.sim.history import Bound, Fate, Found, History, Key, Poll, Send

Findings = Iterator[str]


def is_firm(history: History, key: Key) -> bool:
    """Whether the partition promises anything that a power cut in this run may not undo."""
    return not (history.topic_of(key).is_soft and history.power_losses)


def seen(history: History) -> Iterator[tuple[Key, Found, str]]:
    for poll in history.polls:
        for found in poll.records:
            yield poll.key, found, f"{poll.reader} at {poll.span.told_at:.3f}"
    for key, found_last in history.final.items():
        for found in found_last:
            yield key, found, "at the end"


def places(history: History) -> dict[tuple[Key, int], dict[int, None]]:
    """Where each record was ever seen."""
    known: dict[tuple[Key, int], dict[int, None]] = {}
    for key, (offset, record_id), _ in seen(history):
        known.setdefault((key, record_id), {})[offset] = None
    return known


def visible(history: History) -> dict[Key, list[int]]:
    """Of each partition the offsets at which a reader by read_committed has to find a record: one
    did, or it was acknowledged and its transaction is known to be committed."""
    known: dict[Key, dict[int, None]] = {}
    for poll in history.polls:
        if poll.is_committed:
            known.setdefault(poll.key, {}).update((offset, None) for offset, _ in poll.records)
    for key, records in history.final.items():
        known.setdefault(key, {}).update((offset, None) for offset, _ in records)
    for send in history.sends:
        if send.fate is Fate.OK and history.txn_fate(send.txn) is Fate.OK:
            offsets = range(send.offset, send.offset + send.count)
            known.setdefault(send.key, {}).update(dict.fromkeys(offsets))
    return {key: sorted(offsets) for key, offsets in known.items()}


def keys_of(history: History) -> dict[int, str]:
    """The key of each record of a compacted topic, by its id."""
    return {
        record_id: key
        for send in history.sends
        for record_id, key in zip(send.ids(), send.keys, strict=False)
    }


def keys_lost(
    sends: Iterable[Send], found: Iterable[Found], key_of: Mapping[int, str]
) -> Iterator[tuple[Send, str, int]]:
    """Each key of a compacted partition of which nothing was found at or past the latest place
    that one of these sends was given: the send, the key, and the place."""
    latest: dict[str, tuple[int, Send]] = {}
    for send in sends:
        for offset, key in enumerate(send.keys, send.offset):
            if key not in latest or latest[key][0] < offset:
                latest[key] = offset, send
    last = {key_of.get(record_id, ""): offset for offset, record_id in found}
    for key, (offset, send) in latest.items():
        if last.get(key, -1) < offset:
            yield send, key, offset


def told(history: History) -> list[Poll | Bound]:
    """Whatever told of marks, in the order of the answers."""
    return sorted(chain(history.polls, history.bounds), key=lambda each: each.span.told_at)


def name(history: History, key: Key) -> str:
    return f"{history.topic_of(key).name}-{key[1]}"


def show(history: History, send: Send) -> str:
    txn = f", in {show_txn(history, send.txn)}" if send.txn >= 0 else ""
    return (
        f"{name(history, send.key)}: {send.count} of {send.producer} from {send.first_id:#x},"
        f" acks={send.acks}, {send.fate.value} at {send.ended_at:.3f}, offset {send.offset}{txn}"
    )


def show_txn(history: History, number: int) -> str:
    txn = history.txns[number]
    return f"transaction {number} of {txn.producer}, {txn.fate.value} at {txn.ended_at:.3f}"


def where(history: History, said: Poll | Bound) -> str:
    who = f"{said.reader} from {said.position}" if isinstance(said, Poll) else "bounds"
    return f"{name(history, said.key)}: {who} at {said.span.told_at:.3f}"
