"""Source of a codec, line by line, with the field that each line is about.

The lines are compiled under a name that `linecache` knows, so tracebacks and debuggers show
them. The fields are kept beside the function: when it raises, the number of the line in the
traceback says which field it was at. So a codec that works pays nothing for good errors.
"""

import linecache
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

Fields = tuple[tuple[str, int], ...]
"""(path, bytes) of each field that a line reads in one go; bytes are 0 where they vary."""


class Codec(NamedTuple):
    function: Callable[..., Any]
    fields: list[Fields]
    """Of each line, from line 1."""
    file: str


class Source:
    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        """Globals of the function: classes, helpers, prepared struct calls."""
        self.path = ""
        self._lines: list[str] = []
        self._fields: list[Fields] = []
        self._depth = 0
        self._count = 0

    def line(self, text: str, fields: Fields | None = None) -> None:
        self._lines.append("    " * self._depth + text)
        self._fields.append(((self.path, 0),) if fields is None else fields)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head)
        self._depth += 1
        yield
        self._depth -= 1

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Work on the field `name` of the struct at hand."""
        outer = self.path
        self.path = f"{outer}.{name}" if outer else name
        yield
        self.path = outer

    def local(self, prefix: str) -> str:
        """A new name for a local variable."""
        self._count += 1
        return f"{prefix}{self._count}"

    def name(self, name: str, value: object) -> str:
        """A global name for `value`; the same name always means the same value."""
        self.names[name] = value
        return name

    def compile(self, file: str, function: str) -> Codec:
        text = "\n".join(self._lines) + "\n"
        exec(compile(text, file, "exec"), self.names)
        linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        return Codec(self.names[function], self._fields, file)


def fault_place(codec: Codec, trace: TracebackType | None) -> tuple[Fields, dict[str, Any]]:
    """The fields and the local variables of the line at which `codec` raised."""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == codec.file:
            return codec.fields[trace.tb_lineno - 1], trace.tb_frame.f_locals
        trace = trace.tb_next
    return ((("message", 0),), {})
