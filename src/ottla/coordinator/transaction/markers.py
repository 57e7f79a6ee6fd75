"""Markers: how the end of a transaction comes to each of its partitions.

A job brings one marker to many partitions, some at a time so that others get their turn, and tells
of each that has it for good. What cannot take it now is tried again until it can; a partition that
is gone, or that has seen a newer epoch of the producer, needs it no more. A newer coordinator of
the same transaction ends the job: the work is its own now.

Who leads a partition is behind `Leaders`: on this node its log, or, for the offsets of groups, the
coordinator of the group, whose memory must know as well.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from ottla.base.errors import ErrorCode
from ottla.coordinator.transaction.state import Place

logger = logging.getLogger(__name__)

AT_ONCE_COUNT: Final = 100
RETRY_S: Final = 0.1


class EndMarker(NamedTuple):
    producer_id: int
    epoch: int
    committed: bool
    coordinator_epoch: int
    is_bumped: bool
    """The epoch is newer than that of the transaction (KIP-890)."""


class Leaders(Protocol):
    def write(self, marker: EndMarker, place: Place, done: Callable[[ErrorCode], None]) -> None:
        """Bring a marker to a partition; `done` is told, perhaps at once, when it is there for
        good, or why it is not."""

    def is_gone(self, topic: str) -> bool:
        """Whether there is no such topic in the cluster."""


class MarkerJob:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        leaders: Leaders,
        marker: EndMarker,
        places: Iterable[Place],
        marked: Callable[[Place], None],
    ) -> None:
        """`marked` is told of each partition, once; not before this returns."""
        self._loop = loop
        self._leaders = leaders
        self._marker = marker
        self._marked = marked
        self._due = deque(places)
        self._is_over = False
        self._handle: asyncio.Handle = loop.call_soon(self._step)

    def cancel(self) -> None:
        self._is_over = True
        self._handle.cancel()

    def _step(self) -> None:
        for _ in range(min(AT_ONCE_COUNT, len(self._due))):
            if self._is_over:
                return
            self._write(self._due.popleft())
        if self._due:
            self._handle = self._loop.call_soon(self._step)

    def _write(self, place: Place) -> None:
        def done(code: ErrorCode) -> None:
            if not self._is_over:
                self._settle(place, code)

        self._leaders.write(self._marker, place, done)

    def _settle(self, place: Place, code: ErrorCode) -> None:
        if code is ErrorCode.TRANSACTION_COORDINATOR_FENCED:
            logger.info("marker of producer %d: another coordinator writes it", self._marker[0])
            self.cancel()
        elif code is ErrorCode.NONE or self._is_needless(place, code):
            self._marked(place)
        else:
            self._loop.call_later(RETRY_S, self._try_again, place)

    def _is_needless(self, place: Place, code: ErrorCode) -> bool:
        if code is ErrorCode.INVALID_PRODUCER_EPOCH:
            return True
        return code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and self._leaders.is_gone(place[0])

    def _try_again(self, place: Place) -> None:
        if self._is_over:
            return
        if not self._due:
            self._handle = self._loop.call_soon(self._step)
        self._due.append(place)
