"""What a simulated disk is told to do wrong.

Every call that reaches the disk is counted, over all and by operation. A fault names an operation
(or any), a part of the path (or any), and which of the calls that match it fail: from the n-th
on, so many times. So "fail the n-th call, for n = 1, 2, … until a run meets none" walks every
call that a piece of code makes, and `on_call` sees each call before it takes effect: the place to
take an image of the drive, or to raise and end the run there.

A failed pwrite leaves a beginning of its data in the file, as a short write does. A failed sync
with `loses_pending` is fsyncgate: the error is told once, the pages count as clean, and what they
held was never written.
"""

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Operation = Literal[
    "open",
    "pread",
    "pwrite",
    "truncate",
    "sync",
    "map",
    "read_ahead",
    "list_directory",
    "make_directory",
    "rename",
    "remove",
    "remove_directory",
    "sync_directory",
    "sync_file_system",
    "lock",
]


@dataclass
class Fault:
    operation: Operation | None = None
    path_part: str = ""
    nth: int = 1
    """The first call that fails, of those that match, from 1."""
    times: int = 1
    code: int = errno.EIO
    loses_pending: bool = False
    hits: int = 0
    """How many calls it made fail."""
    path: str = ""
    """What the last of them was about."""
    _seen: int = 0

    def strikes(self, operation: Operation, path: str) -> bool:
        if self.operation not in (None, operation) or self.path_part not in path:
            return False
        self._seen += 1
        if not self.nth <= self._seen < self.nth + self.times:
            return False
        self.hits += 1
        self.path = path
        return True


@dataclass
class Faults:
    planned: list[Fault] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    on_call: Callable[[Operation, str], None] | None = None

    def plan(self, fault: Fault) -> Fault:
        self.planned.append(fault)
        return fault

    def met(self, operation: Operation, path: str) -> Fault | None:
        """Count a call; the fault that strikes it, if one does."""
        self.calls[operation] += 1
        if self.on_call is not None:
            self.on_call(operation, path)
        struck = [fault for fault in self.planned if fault.strikes(operation, path)]
        return struck[0] if struck else None
