"""A history told line by line, for the tests of the checkers."""

from typing import Any

from ottla.sim.history import (
    NO_TXN,
    Bound,
    Commit,
    Fate,
    Found,
    History,
    Poll,
    Reading,
    Send,
    Span,
    Topic,
    Txn,
)

KEY = (b"t" * 16, 0)
SOFT = (b"s" * 16, 0)
TRIMMED = (b"d" * 16, 0)
MIXED = (b"x" * 16, 0)
COMPACTED = (b"c" * 16, 0)


class Story(History):
    """A history told line by line; each line takes a second."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.add_topic(Topic("firm", KEY[0], 1))
        self.add_topic(Topic("soft", SOFT[0], 1, is_soft=True))
        self.add_topic(Topic("trimmed", TRIMMED[0], 1, is_trimmed=True))
        self.add_topic(Topic("mixed", MIXED[0], 1, is_transactional=True))
        self.add_topic(Topic("compacted", COMPACTED[0], 1, is_compacted=True))

    def tick(self) -> float:
        self.now += 1
        return self.now

    def send(self, first_id: int, offset: int = -1, fate: Fate = Fate.OK, **known: Any) -> Send:
        given: dict[str, Any] = {
            "key": KEY,
            "producer": "p/1",
            "is_idempotent": True,
            "acks": -1,
            "count": 1,
            "tries": 1,
            **known,
        }
        now = self.tick()
        send = Send(first_id=first_id, sent_at=now, tried_at=now, **given)
        self.sends.append(send)
        self.end(send, fate, self.tick(), offset)
        return send

    def poll(self, position: int, *records: Found, mark: int | None = None, **known: Any) -> None:
        end = records[-1][0] + 1 if records else position
        given: dict[str, Any] = {
            "key": KEY,
            "reader": "r",
            "follows": False,
            "high_watermark": end if mark is None else mark,
            "last_stable_offset": end if mark is None else mark,
            "log_start_offset": 0,
            "boots": (1, 1),
            **known,
        }
        span = Span(self.tick(), self.tick(), given.pop("boots"))
        self.polled(Poll(span=span, position=position, records=list(records), **given))

    def bound(self, boot: int = 1, **known: Any) -> None:
        span = Span(self.tick(), self.tick(), (boot, boot))
        self.bounded(Bound(**{"key": KEY, "span": span, **known}))

    def history_txn(self) -> Txn:
        """One that is open."""
        return self.begin("p/1", self.tick())

    def txn(self, fate: Fate = Fate.OK) -> int:
        """One whose commit was asked for before all that is told from here on, if at all."""
        txn = self.history_txn()
        txn.fate = fate
        if fate is not Fate.FAIL:
            txn.asked_at = self.tick()
        txn.ended_at = self.tick()
        return txn.number

    def commit(self, offset: int, fate: Fate = Fate.OK, txn: int = NO_TXN) -> None:
        commit = Commit("g", KEY, offset, "c", self.tick(), fate, txn=txn)
        if fate is not Fate.INFO:
            commit.ended_at = self.tick()
        self.commits.append(commit)

    def read_offset(self, offset: int) -> None:
        self.readings.append(Reading("g", KEY, offset, Span(self.tick(), self.tick(), (1, 1))))

    def close(self, *records: Found, key: tuple[bytes, int] = KEY, start: int = 0) -> None:
        self.final[key], self.final_start[key] = list(records), start
