"""`./dev fuzz kernel`: the twins of the record kernel against each other, for as long as asked.

    ./dev fuzz kernel [--seconds N] [--seed S] [--module FILE]

Records are written, changed at random and read by both: each must give the same results, or an
error of the same kind. What is read must be what the strict reader (record.iterate_body) reads.
`--module` names another build of the compiled twin (one with sanitizers). At the first
difference the call, both outcomes and the seed, and exit code 1.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from random import Random
from types import ModuleType
from typing import Any, Final

from ottla.base.errors import KafkaError
from ottla.records import pure_kernel
from ottla.records.batch import BatchHeader
from ottla.records.builder import encode_headers
from ottla.records.record import Record, iterate_body

INT64: Final = 1 << 63
HUGE: Final = (b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x80", b"\xff" * 9 + b"\x01", b"\x01")
EDGES: Final = (0, 1, -1, 63, 64, -64, -65, 2**31 - 1, -(2**31), 2**31, INT64 - 1, -INT64, INT64)
COLUMNS: Final = ("offsets", "timestamps", "keys", "values", "headers")


class Differ(Exception):
    """The twins do not agree."""


def compiled_twin(path: str | None = None) -> ModuleType | None:
    """The compiled twin, or the build of it in that file; None where there is none."""
    if path is None:
        try:
            from ottla.records import _kernel  # type: ignore[attr-defined]
        except ImportError:
            return None
        return _kernel
    loader = ExtensionFileLoader("ottla.records._kernel", path)
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def outcome(call: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """What a call gives: its value, or the kind of its error."""
    try:
        return "value", call(*arguments)
    except (ValueError, TypeError, OverflowError, IndexError, BufferError) as error:
        return "error", type(error).__name__


def agree(what: str, given: object, one: object, other: object) -> None:
    if one != other:
        raise Differ(f"{what} of {given!r}:\n  compiled {one!r}\n  pure     {other!r}")


class Twins:
    """Both twins, and calls that must come to the same."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.pure: Any = pure_kernel

    def written(self, name: str, before: bytes, *arguments: Any) -> tuple[bytes, Any]:
        """What `append` or `extend` makes of these bytes, and gives; None where it raises."""
        found = []
        for twin in (self.compiled, self.pure):
            body = bytearray(before)
            kind, value = outcome(getattr(twin, name), body, *arguments)
            if kind == "error" and body != before:
                raise Differ(f"{name}{arguments!r} raised {value}, and changed what was there")
            found.append(((kind, value), bytes(body)))
        agree(name, arguments, *found)
        (kind, value), after = found[0]
        return after, value if kind == "value" else None

    def spread(self, pairs: list[Any], count: int) -> None:
        given = pairs, count
        agree(
            "spread", given, *(outcome(each.spread, *given) for each in (self.compiled, self.pure))
        )

    def hashed(self, key: Any) -> None:
        agree("murmur2", key, outcome(self.compiled.murmur2, key), outcome(self.pure.murmur2, key))

    def walked(self, body: bytes, *arguments: Any) -> None:
        one, other = (outcome(twin.walk, body, *arguments) for twin in (self.compiled, self.pure))
        agree("walk", (body, *arguments), one, other)

    def read(self, body: bytes, count: int, offset: int, when: int, appended: int | None) -> bool:
        """Whether both read it; then both are looked at from all sides."""
        given = body, count, offset, when, appended
        blocks = [outcome(twin.read, *given) for twin in (self.compiled, self.pure)]
        kinds = [(kind, value if kind == "error" else "") for kind, value in blocks]
        agree("read", given, *kinds)
        rows = strictly(*given)
        if kinds[0][0] == "error":
            if rows is not None:
                raise Differ(f"read{given!r} refused what the strict reader reads")
            return False
        (_, one), (_, other) = blocks
        agree("rows", given, one.rows(Record, (), 0, len(one)), rows)
        for name in ("offset_bytes", "timestamp_bytes", "__len__"):
            agree(name, given, getattr(one, name)(), getattr(other, name)())
        size = len(one)
        for start, stop in ((0, size), (0, 0), (size // 2, size), (1, 0), (-1, 1), (0, size + 1)):
            for name in (*COLUMNS, "packed_keys", "packed_values"):
                calls = getattr(one, name), getattr(other, name)
                agree(name, (*given, start, stop), *(outcome(each, start, stop) for each in calls))
            both = (outcome(each.rows, Record, (), start, stop) for each in (one, other))
            agree("rows", (*given, start, stop), *both)
        for wanted in (-INT64, 0, offset, offset + size // 2, INT64 - 1):
            agree("find", (*given, wanted), one.find(wanted), other.find(wanted))
        return True


def strictly(
    body: bytes, count: int, offset: int, when: int, appended: int | None
) -> list[Record] | None:
    """The records as the strict reader reads them; None where it refuses, or where one has an
    offset that no log has."""
    if count < 0:
        return None
    attributes = 0 if appended is None else 8
    latest = 0 if appended is None else appended
    header = BatchHeader(offset, 0, 0, 2, 0, attributes, 0, when, latest, -1, -1, -1, count)
    try:
        records = list(iterate_body(header, body))
    except KafkaError:
        return None
    return records if all(-INT64 <= each.offset < INT64 for each in records) else None


# --- random inputs ----------------------------------------------------------------------------


class Feed:
    """Random calls, all from one seed."""

    def __init__(self, twins: Twins, seed: int) -> None:
        self._twins = twins
        self._draw = Random(seed)
        self.read_count = 0

    def step(self) -> None:
        draw, twins = self._draw, self._twins
        body, count = self._written()
        twins.hashed(self._content(odd=True))
        twins.spread(self._pairs(), draw.choice((1, 2, 7, 1_000, 0, -1)))
        times = draw.randrange(3)
        for _ in range(times):
            body = self._changed(body)
        base = draw.choice((0, 5, 1_700_000_000_000, *EDGES[:-1]))
        if draw.random() < 0.1:
            count += draw.choice((-1, 1, 1_000, 2**40))
        appended = draw.choice((None, None, None, 0, 77, INT64 - 1))
        offset = draw.choice((0, 0, 7, INT64 - 3))
        self.read_count += twins.read(body, count, offset, base, appended)
        bounds = draw.choice(((-INT64, INT64 - 1), (0, 1 << 50), (base, base)))
        twins.walked(body, count, base, draw.random() < 0.3, *bounds)

    def _written(self) -> tuple[bytes, int]:
        draw, twins, body, count = self._draw, self._twins, b"", 0
        for _ in range(draw.randrange(6)):
            if draw.random() < 0.3:
                values = [self._content() for _ in range(draw.randrange(9))]
                keys = [self._content() for _ in values] if draw.random() < 0.5 else None
                if draw.random() < 0.05:
                    values.append(self._content(odd=True))
                start = draw.randrange(-1, len(values) + 2) if draw.random() < 0.2 else 0
                limit = len(body) + draw.choice((1 << 40, draw.randrange(20_000), -1))
                more = self._delta(), count, keys, values, start, limit
                body, stop = twins.written("extend", body, *more)
                count += 0 if stop is None else stop - start
            else:
                headers = encode_headers(self._headers()) if draw.random() < 0.4 else None
                place = count if draw.random() < 0.95 else draw.choice(EDGES)
                parts = self._content(odd=True), self._content(), headers
                after, _ = twins.written("append", body, self._delta(), place, *parts)
                count += after != body
                body = after
        return body, count

    def _pairs(self) -> list[Any]:
        draw = self._draw
        found: list[Any] = [
            (draw.randbytes(draw.randrange(9)), self._content()) for _ in range(draw.randrange(20))
        ]
        if draw.random() < 0.2:
            found.append(
                draw.choice((b"v", (b"k",), (None, b"v"), (b"k", self._content(odd=True))))
            )
        return found

    def _delta(self) -> int:
        draw = self._draw
        return draw.choice((draw.randrange(300), 0, *EDGES[:7], draw.choice(EDGES)))

    def _content(self, *, odd: bool = False) -> Any:
        draw = self._draw
        size = draw.choice((0, 1, 5, 62, 63, 64, 65, 130, 8_191, 8_192, draw.randrange(300)))
        content = draw.randbytes(size)
        if odd and draw.random() < 0.1:
            odd_ones = ("text", 7, [b""], memoryview(content)[::2], bytearray(content))
            return draw.choice((*odd_ones, memoryview(content)))
        return None if draw.random() < 0.2 else content

    def _headers(self) -> list[tuple[str, bytes | None]]:
        names = ("", "a", "ü" * 9, "\udcff", "n" * 70)
        return [(self._draw.choice(names), self._content()) for _ in range(self._draw.randrange(4))]

    def _changed(self, body: bytes) -> bytes:
        draw = self._draw
        at = draw.randrange(len(body) + 1)
        kind = draw.randrange(6)
        if kind == 0:
            return body[:at] + bytes([draw.randrange(256)]) + body[at + 1 :]
        if kind == 1:
            return body[:at] + draw.choice(HUGE) + body[at + draw.randrange(6) :]
        if kind == 2:
            return body[:at]
        if kind == 3:
            return body + draw.randbytes(draw.randrange(9))
        if kind == 4:
            return body[:at] + b"\x00" * draw.randrange(5) + body[at + draw.randrange(3) :]
        return (
            body[:at]
            + bytes([body[at] ^ 1 << draw.randrange(8)] if at < len(body) else b"")
            + (body[at + 1 :])
        )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev fuzz kernel", description="twin against twin")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--module", help="another build of the compiled twin")
    chosen = parser.parse_args(arguments)
    compiled = compiled_twin(chosen.module)
    if compiled is None:
        print("the compiled twin was not built: there is nothing to compare")
        return 2
    feed = Feed(Twins(compiled), chosen.seed)
    steps, until = 0, time.monotonic() + chosen.seconds
    try:
        while time.monotonic() < until:
            feed.step()
            steps += 1
    except Differ as differ:
        print(f"FAILED (seed {chosen.seed}, step {steps}): {differ}")
        return 1
    print(f"seed {chosen.seed}: {steps:,} bodies, {feed.read_count:,} of them read by both")
    return 0


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
