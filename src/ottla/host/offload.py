"""Helper threads for calls that block: fdatasync, cold reads, big compressions.

A call goes to a thread by a SimpleQueue, its outcome comes back by a deque and one wake-up of
the loop: whatever finished until the loop wakes is handed over by that wake-up. The flag
`_woken` is lowered before the deque is emptied, so an outcome that is appended later than that
finds it low and wakes the loop anew; none is left lying.

Threads start when a call finds none free, up to the count given, and then stay: a hand-off is
two context switches (group commit waits for it), a start is ten times that. They are daemons:
a disk that hangs must not keep the process from ending.

Rejected: concurrent.futures (a lock, a condition and a Future for every call).
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], None]

THREAD_COUNT: Final = 8
"""As many fdatasyncs at once as still gain (design.md, section 6)."""
_JOIN_SECONDS: Final = 2.0


class HostOffload:
    def __init__(self, loop: asyncio.AbstractEventLoop, thread_count: int = THREAD_COUNT) -> None:
        self._loop = loop
        self._thread_count = thread_count
        self._threads: list[threading.Thread] = []
        self._calls: SimpleQueue[tuple[Callable[[], Any], Done] | None] = SimpleQueue()
        self._outcomes: deque[tuple[Done, Any, BaseException | None]] = deque()
        self._pending_count = 0
        self._woken = False

    def submit(
        self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        self._pending_count += 1
        self._calls.put((call, done))
        started = len(self._threads)
        if started < self._pending_count and started < self._thread_count:
            thread = threading.Thread(
                target=self._work, name=f"ottla-offload-{started}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End the threads after what was submitted; do not wait long for a disk that hangs."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        self._threads.clear()

    def _work(self) -> None:
        while (job := self._calls.get()) is not None:
            call, done = job
            result, failure = None, None
            try:
                result = call()
            except BaseException as error:
                failure = error
            self._outcomes.append((done, result, failure))
            # Nothing of a finished call may be held while waiting for the next one.
            del job, call, done, result, failure
            if not self._woken:
                self._woken = True
                with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                    self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        for _ in range(len(self._outcomes)):
            done, result, failure = self._outcomes.popleft()
            self._pending_count -= 1
            try:
                done(result, failure)
            except Exception as error:
                self._loop.call_exception_handler(
                    {"message": f"offload: {done!r} failed", "exception": error}
                )
