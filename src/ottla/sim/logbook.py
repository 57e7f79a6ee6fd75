"""The log lines of the nodes of a run: part of its trace, and a witness.

An error that is logged with its traceback is one that nobody foresaw. It is a violation, unless
it is an `OSError` (the disk was told to fail).
"""

import logging
import traceback
from types import TracebackType
from typing import Final, Self

from ottla.sim.trace import Trace
from ottla.sim.workload import Violation

ROOT: Final = logging.getLogger("ottla")


class Logbook(logging.Handler):
    """Takes all lines of Ottla for as long as it is entered; nobody else sees them."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.WARNING)
        self._trace = trace
        self.unforeseen: list[str] = []
        """Told as texts: a traceback would keep alive what its frames hold."""

    def emit(self, record: logging.LogRecord) -> None:
        self._trace.note("log", record.levelname, record.getMessage())
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, OSError):
            told = traceback.format_exception(error)
            self.unforeseen.append(f"{record.getMessage()}\n{''.join(told)}")

    def check(self) -> None:
        """Violation `unforeseen`."""
        for told in self.unforeseen:
            raise Violation("unforeseen", told)

    def __enter__(self) -> Self:
        self._propagate, ROOT.propagate = ROOT.propagate, False
        ROOT.addHandler(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ROOT.removeHandler(self)
        ROOT.propagate = self._propagate
