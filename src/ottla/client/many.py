"""Records of one `send_many`, brought together by partition.

Records of one partition go into its batches by calls of the record kernel. Values alone are the
quickest, and pairs whose keys are spread by their hash: the kernel groups them, a piece at a
time, without a look at each here. Others are looked at one by one, and wait in runs until there
are `TURN_BYTES`. What may go to any partition never waits beside what may not, and what waits
goes before whatever comes another way: so the records of a partition keep their order.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from ottla.records.kernel import spread
from ottla.records.record import Header

PIECE_COUNT: Final = 1_024
"""Records that are looked at together; more where keys are spread over many partitions, so that
each call of the kernel still has some."""
PIECE_COUNT_OF_PARTITION: Final = 32
PIECE_COUNT_MAX: Final = 16_384
TURN_BYTES: Final = 256 * 1024
"""A producer lets others run after so much."""
RECORD_OVERHEAD_BYTES: Final = 12
PLAIN: Final = {bytes, type(None)}

Content = bytes | None
Contents = list[Content]


class Many:
    def __init__(
        self,
        *,
        is_quick: bool,
        among: Sequence[int] | None,
        choose: Callable[[Content, Content], int | None],
        take: Callable[[int | None, Contents | None, Contents], Awaitable[None]],
        take_one: Callable[[Content, Content, list[Header]], Awaitable[None]],
    ) -> None:
        """`choose` gives a record's partition, or None where it may go to any one; `is_quick`: it
        does not look at a value without a key, `among`: keys are spread over these by their hash.
        `take` takes records of one partition, and `take_one` one with headers."""
        self._is_quick = is_quick
        self._among = among
        more = PIECE_COUNT_OF_PARTITION * len(among or ())
        self._piece_count = min(PIECE_COUNT + more, PIECE_COUNT_MAX)
        self._choose = choose
        self._take = take
        self._take_one = take_one
        self._runs: dict[int | None, tuple[Contents, Contents]] = {}
        self._waiting_bytes = 0

    async def add_all(self, items: Iterator[Any]) -> None:
        # hot: client produce
        while piece := list(islice(items, self._piece_count)):
            kinds = set(map(type, piece))
            if self._is_quick and kinds <= PLAIN:
                await self.finish()
                await self._take(self._choose(None, piece[0]), None, piece)
            elif kinds != {tuple} or not await self._take_pairs(piece):
                await self._add_each(piece)

    async def finish(self) -> None:
        """Take what still waits."""
        runs, self._runs = self._runs, {}
        self._waiting_bytes = 0
        for where, (keys, values) in runs.items():
            await self._take(where, keys, values)

    async def _take_pairs(self, piece: list[Any]) -> bool:
        """Whether all are pairs that go by their keys alone: then they are taken."""
        # hot: client produce
        if not self._among:
            return False
        groups = spread(piece, len(self._among))
        if groups is None:
            return False
        await self.finish()
        for index, keys, values in groups:
            await self._take(self._among[index], keys, values)
        return True

    async def _add_each(self, piece: list[Any]) -> None:
        # hot: client produce
        for item in piece:
            key, value, headers = _parts_of(item)
            if headers:
                await self.finish()
                await self._take_one(key, value, headers)
                continue
            where = self._choose(key, value)
            if self._runs and (where is None) != (None in self._runs):
                await self.finish()
            run = self._runs.get(where)
            if run is None:
                run = self._runs[where] = [], []
            run[0].append(key)
            run[1].append(value)
            self._waiting_bytes += len(key or b"") + len(value or b"") + RECORD_OVERHEAD_BYTES
            if self._waiting_bytes > TURN_BYTES:
                await self.finish()


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
