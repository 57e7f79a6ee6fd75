"""A history as lines of JSON: to record one beside real clients, and to check it later.

    {"kind": "poll", "key": ["74..", 0], "span": [3.1, 3.2, [1, 1]], "records": [[0, 10]], ...}

A line is one operation that has come to its end, or one that is known to have begun when its
client died; fields are those of the class, and what is left out has its default. Topics come
before what names them. Lines of several clients may be joined in any order that keeps that, and
the numbers of transactions: they are sorted by time when they are read.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, Final

from ottla.sim.history import (
    Bound,
    Claim,
    Commit,
    Copy,
    Fate,
    History,
    Poll,
    Reading,
    Send,
    Span,
    Topic,
    TopicState,
    Txn,
)

Line = dict[str, Any]
KINDS: Final[dict[str, type[Any]]] = {
    "topic": Topic,
    "txn": Txn,
    "send": Send,
    "poll": Poll,
    "bound": Bound,
    "commit": Commit,
    "reading": Reading,
    "claim": Claim,
    "copy": Copy,
}


def write(history: History) -> Iterator[str]:
    """Its lines."""
    for kind, entries in _entries(history).items():
        for entry in entries:
            line = {each.name: getattr(entry, each.name) for each in fields(entry)}
            yield json.dumps({"kind": kind, **_plain(line)})
    for key, records in history.final.items():
        start = history.final_start[key]
        final = {"key": key, "start": start, "records": records}
        yield json.dumps({"kind": "final", **_plain(final)})
    for at in history.power_losses:
        yield json.dumps({"kind": "power loss", "at": at})
    for said in history.surprises:
        yield json.dumps({"kind": "surprise", "told": said})


def read(lines: Iterable[str]) -> History:
    """ValueError where a line is no operation."""
    history = History()
    entries = _entries(history)
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            _take(history, entries, line.pop("kind"), line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} of the history: {error!r}") from error
    history.txns.sort(key=lambda txn: txn.number)
    history.sends.sort(key=lambda send: send.sent_at)
    history.polls.sort(key=lambda poll: poll.span.told_at)
    history.readings.sort(key=lambda reading: reading.span.told_at)
    return history


def _entries(history: History) -> dict[str, list[Any]]:
    return {
        "topic": history.topics,
        "txn": history.txns,
        "send": history.sends,
        "poll": history.polls,
        "bound": history.bounds,
        "commit": history.commits,
        "reading": history.readings,
        "claim": history.claims,
        "copy": history.copies,
    }


def _take(history: History, entries: dict[str, list[Any]], kind: str, line: Line) -> None:
    line = {name: _typed(name, value) for name, value in line.items()}
    if kind == "topic":
        history.add_topic(Topic(**line))
    elif kind == "final":
        history.final[line["key"]] = line["records"]
        history.final_start[line["key"]] = line["start"]
    elif kind == "power loss":
        history.power_losses.append(line["at"])
    elif kind == "surprise":
        history.surprises.append(line["told"])
    else:
        entries[kind].append(KINDS[kind](**line))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (Fate, TopicState)):
        return value.value
    return value.hex() if isinstance(value, bytes) else value


def _typed(name: str, value: Any) -> Any:
    """The value of a field, out of what JSON has for it."""
    if name == "id":
        return bytes.fromhex(value)
    if name == "key":
        return bytes.fromhex(value[0]), value[1]
    if name in ("source", "target"):
        return [(bytes.fromhex(topic), index) for topic, index in value]
    if name == "span":
        return Span(value[0], value[1], tuple(value[2]))
    if name == "records":
        return [tuple(found) for found in value]
    if name in ("keys", "origins"):
        return tuple(value)
    if name == "fate":
        return Fate(value)
    return TopicState(value) if name == "state" else value
