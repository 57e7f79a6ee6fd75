"""Answers of a coordinator that wait until what they follow from is committed.

    add ──> [end offset, answers] ... ── high watermark ──> answered, in their order

Whoever waits longer than the commit timeout is told REQUEST_TIMED_OUT: what it wrote stays in the
log all the same, and counts.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from ottla.base.errors import ErrorCode
from ottla.coordinator.pending import Pending
from ottla.replica.partition import Partition

Answer = tuple[Pending, Any]
"""Who is answered, and the response, or the error code that refuses."""


class _Commit:
    """Answers that leave when the high watermark reaches `end_offset`."""

    __slots__ = ("answers", "deadline", "end_offset")

    def __init__(self, end_offset: int, deadline: float, answers: list[Answer]) -> None:
        self.end_offset = end_offset
        self.deadline = deadline
        self.answers = answers


class Commits:
    """Waits on a partition; `on_closed` is told when that is closed."""

    def __init__(
        self,
        partition: Partition,
        loop: asyncio.AbstractEventLoop,
        timeout_ms: Callable[[], int],
        on_closed: Callable[[], None],
    ) -> None:
        self._partition = partition
        self._loop = loop
        self._timeout_ms = timeout_ms
        self._on_closed = on_closed
        self._waiting: deque[_Commit] = deque()
        self._timeout: asyncio.TimerHandle | None = None

    def add(self, answers: list[Answer]) -> None:
        """Everything that is in the log now must be committed before `answers` leave."""
        end_offset = self._partition.log.log_end_offset
        deadline = self._loop.time() + self._timeout_ms() / 1000
        self._waiting.append(_Commit(end_offset, deadline, answers))
        if self._partition.high_watermark >= end_offset:
            self.reached()
            return
        self._partition.wait_for_offset(end_offset, self)
        self._watch_timeout()

    def follow(self, answers: list[Answer]) -> None:
        """They wrote nothing, and leave behind those that wait."""
        if self._waiting:
            self._waiting[-1].answers += answers
        else:
            _deliver(answers)

    def reached(self) -> None:
        """Of a partition's waiter: the high watermark moved."""
        waiting, high_watermark = self._waiting, self._partition.high_watermark
        while waiting and waiting[0].end_offset <= high_watermark:
            _deliver(waiting.popleft().answers)

    def closed(self) -> None:
        """Of a partition's waiter: it was closed."""
        self._on_closed()

    def _watch_timeout(self) -> None:
        if self._timeout is None and self._waiting:
            self._timeout = self._loop.call_at(self._waiting[0].deadline, self._time_out)

    def _time_out(self) -> None:
        self._timeout = None
        now = self._loop.time()
        for commit in self._waiting:
            if commit.deadline > now:
                break
            answers, commit.answers = commit.answers, []
            commit.deadline = now + self._timeout_ms() / 1000
            for pending, _ in answers:
                pending.fail(ErrorCode.REQUEST_TIMED_OUT)
        self._watch_timeout()

    def close(self, code: ErrorCode) -> None:
        """Tell all who wait."""
        for commit in self._waiting:
            for pending, _ in commit.answers:
                pending.fail(code)
        self._waiting.clear()
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None


def _deliver(answers: list[Answer]) -> None:
    for pending, response in answers:
        if isinstance(response, ErrorCode):
            pending.fail(response)
        else:
            pending.complete(response)
