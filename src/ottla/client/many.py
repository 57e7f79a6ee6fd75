"""Records of one `send_many`, gathered until they fill a batch of their partition.

A run of records of one partition goes into its batch in one call of the record kernel. Values
alone are the quickest: they are cut into runs by their lengths, without a look at each. Records
with keys are gathered by the partition of each. What may go to any partition never waits beside
what may not, and what waits goes before a record with headers or one that is too large for a
run: so the records of a partition keep their order. At most a batch waits, or `TURN_BYTES` of
records with keys, besides the piece in hand.
"""

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import accumulate, islice
from typing import Any, Final

from ottla.records.record import Header

PIECE_COUNT: Final = 1_024
"""Records that are looked at together."""
VALUE_OVERHEAD_BYTES: Final = 16
"""What a record of a value alone takes besides it, at most."""
KEY_OVERHEAD_BYTES: Final = 4
"""What a key takes besides itself, at most."""
TURN_BYTES: Final = 256 * 1024
"""A producer lets others run after so much."""

Content = bytes | None


class Run:
    """Records of one partition; `keys` are as many as `values`, or None if there is none."""

    __slots__ = ("keys", "size", "values")

    def __init__(self, values: list[Content], size: int) -> None:
        self.keys: list[Content] | None = None
        self.values = values
        self.size = size

    def add(self, key: Content, value: Content, size: int) -> None:
        # hot: client produce
        if self.keys is not None:
            self.keys.append(key)
        elif key is not None:
            self.keys = [*[None] * len(self.values), key]
        self.values.append(value)
        self.size += size


class Many:
    def __init__(
        self,
        *,
        run_bytes: int,
        is_quick: bool,
        choose: Callable[[Content, Content], int | None],
        take: Callable[[int | None, Run], Awaitable[None]],
        take_one: Callable[[Content, Content, list[Header]], Awaitable[None]],
    ) -> None:
        """`choose` gives a record's partition, or None where a run of such records may go to any
        one; `is_quick`: it does not look at a value without a key. `take` takes a run, and
        `take_one` a record for itself."""
        self._run_bytes = run_bytes
        self._is_quick = is_quick
        self._choose = choose
        self._take = take
        self._take_one = take_one
        self._plain: list[bytes] = []
        self._runs: dict[int | None, Run] = {}
        self._waiting_bytes = 0

    async def add_all(self, items: Iterator[Any]) -> None:
        # hot: client produce
        while piece := list(islice(items, PIECE_COUNT)):
            if self._is_quick and set(map(type, piece)) == {bytes}:
                await self._take_runs()
                self._plain += piece
                await self._take_plain(keeps_rest=True)
            else:
                await self._take_plain()
                await self._add_each(piece)

    async def finish(self) -> None:
        """Take what still waits."""
        await self._take_plain()
        await self._take_runs()

    async def _take_plain(self, *, keeps_rest: bool = False) -> None:
        """Take values alone; with `keeps_rest` the last run waits to become longer."""
        # hot: client produce
        values, self._plain = self._plain, []
        if not values:
            return
        where = self._choose(None, values[0])
        *runs, last = _cut(values, self._run_bytes)
        if keeps_rest:
            self._plain = values[-len(last.values) :]
        else:
            runs.append(last)
        for run in runs:
            await self._take(where, run)

    async def _add_each(self, piece: list[Any]) -> None:
        # hot: client produce
        choose, most = self._choose, self._run_bytes
        for item in piece:
            key, value, headers = _parts_of(item)
            size = VALUE_OVERHEAD_BYTES + (len(value) if value else 0)
            if key is not None:
                size += KEY_OVERHEAD_BYTES + len(key)
            if headers or size > most:
                await self._take_runs()
                await self._take_one(key, value, headers)
                continue
            where = choose(key, value)
            if self._runs and (where is None) != (None in self._runs):
                await self._take_runs()
            run = self._runs.get(where)
            if run is not None and run.size + size > most:
                await self._take(where, self._runs.pop(where))
                run = None
            if run is None:
                run = self._runs[where] = Run([], 0)
            run.add(key, value, size)
            self._waiting_bytes += size
            if self._waiting_bytes > TURN_BYTES:
                await self._take_runs()

    async def _take_runs(self) -> None:
        runs, self._runs = self._runs, {}
        self._waiting_bytes = 0
        for where, run in runs.items():
            await self._take(where, run)


def _cut(values: list[bytes], most: int) -> Iterator[Run]:
    """Runs of at most `most` bytes, each as long as it can be; one value at least."""
    ends = list(accumulate(map(len, values), initial=0))

    def weight(count: int) -> int:
        return ends[count] + count * VALUE_OVERHEAD_BYTES

    start, places = 0, range(len(ends))
    while start < len(values):
        limit = weight(start) + most
        stop = max(start + 1, bisect_right(places, limit, lo=start, key=weight) - 1)
        yield Run([*values[start:stop]], weight(stop) - weight(start))
        start = stop


def _parts_of(item: Any) -> tuple[Content, Content, list[Header]]:
    """Key, value and headers of an item; TypeError where it is no record. A buffer that may
    change is copied."""
    # hot: client produce
    key, headers = None, ()
    if type(item) is not tuple:
        value = item
    elif len(item) == 2:
        key, value = item
    elif len(item) == 3:
        key, value, headers = item
    else:
        raise TypeError(f"a tuple of {len(item)}, not (key, value) or (key, value, headers)")
    if key is not None and type(key) is not bytes:
        key = memoryview(key).tobytes()
    if value is not None and type(value) is not bytes:
        value = memoryview(value).tobytes()
    return key, value, pairs_of(headers) if headers else []


def pairs_of(headers: Mapping[str, Content] | Iterable[Header]) -> list[Header]:
    try:
        return list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    except TypeError as error:
        raise TypeError(f"headers are a mapping or (str, bytes or None) pairs: {error}") from None
