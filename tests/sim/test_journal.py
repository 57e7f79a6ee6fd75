"""A history is the same after it was written and read, and what is no history is refused."""

import json

import pytest

from ottla.sim import journal
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
)

KEY = (b"t" * 16, 0)


def told() -> History:
    history = History()
    history.add_topic(Topic("t", KEY[0], 1, is_transactional=True))
    txn = history.begin("p", 1.0)
    txn.fate, txn.asked_at = Fate.INFO, 2.0
    history.sends.append(Send(KEY, "p", True, -1, 10, 2, 1.5, keys=("a", "b"), txn=txn.number))
    history.polls.append(Poll(KEY, "r", Span(1, 2, (1, 1)), 0, True, 2, 2, None, [(0, 10)]))
    history.bounds.append(Bound(KEY, Span(1, 2, (1, 2)), high_watermark=2))
    history.commits.append(Commit("g", KEY, 2, "c", 1.0, Fate.OK, 2.0, txn.number))
    history.readings.append(Reading("g", KEY, 2, Span(3, 4, (1, 1))))
    history.claims.append(Claim("g", KEY, "m", 3, 1.0))
    history.copies.append(Copy("g", [KEY], [KEY]))
    history.final[KEY], history.final_start[KEY] = [(0, 10), (1, 11)], 0
    history.power_losses.append(2.5)
    history.surprises.append("Fetch: UNKNOWN_SERVER_ERROR")
    return history


def test_what_is_written_is_read() -> None:
    history = told()
    lines = list(journal.write(history))
    again = journal.read(lines)
    assert list(journal.write(again)) == lines
    for name in ("txns", "polls", "bounds", "commits", "readings", "claims", "copies"):
        assert getattr(again, name) == getattr(history, name), name
    assert (again.final, again.final_start) == (history.final, history.final_start)
    assert again.topic_of(KEY).name == "t"
    assert again.sends[0].keys == ("a", "b")
    assert (again.power_losses, again.surprises) == (history.power_losses, history.surprises)


def test_operations_of_several_clients_are_put_in_order() -> None:
    history = told()
    one, two, three = (
        json.dumps(
            {
                "kind": "poll",
                "key": [KEY[0].hex(), 0],
                "reader": "r",
                "span": [at, at + 1, [1, 1]],
                "position": 0,
                "follows": False,
                "high_watermark": 0,
                "last_stable_offset": 0,
                "log_start_offset": 0,
                "records": [],
            }
        )
        for at in (5.0, 4.0, 3.0)
    )
    topic = next(journal.write(history))
    polls = journal.read([topic, one, two, three]).polls
    assert [poll.span.asked_at for poll in polls] == [3.0, 4.0, 5.0]


@pytest.mark.parametrize("line", ["", "{}", "3", '{"kind": "bow"}', '{"kind": "claim", "x": 1}'])
def test_what_is_no_operation_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="line 1 of the history"):
        journal.read([line])
