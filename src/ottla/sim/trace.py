"""The trace of a run: every event that crosses the edge of a node, folded into one number.

An event is (virtual time, kind, key numbers and names). Two runs of one seed must give the same
digest, also in another interpreter under another PYTHONHASHSEED: what differs is a leak of real
time, real order or real randomness into the code. The last events are kept for the report of a
seed that fails; `echo` shows all of them, to find where two runs part.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final

KEPT_EVENTS: Final = 40


class Trace:
    def __init__(self, now: Callable[[], float], echo: Callable[[str], None] | None = None) -> None:
        self._now = now
        self._echo = echo
        self._hash = hashlib.blake2b(digest_size=8)
        self.event_count = 0
        self.last: deque[str] = deque(maxlen=KEPT_EVENTS)

    def note(self, kind: str, *values: int | str) -> None:
        line = f"{self._now():.9f} {kind} {' '.join(map(str, values))}"
        self._hash.update(line.encode())
        self.event_count += 1
        self.last.append(line)
        if self._echo is not None:
            self._echo(line)

    def digest(self) -> str:
        return self._hash.hexdigest()
