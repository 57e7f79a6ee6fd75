"""What became of a record that was sent: something to await, or to leave alone.

A record shares its fate with its batch, so a `Delivery` is only a place in one: it costs no
future until somebody waits. Cancelling who waits cancels nothing else.
"""

import asyncio
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple, Protocol

from ottla.client.errors import DeliveryError


class RecordMetadata(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int
    """-1 where it is not known: acks=0, or a try that was only found out to have succeeded."""
    timestamp_ms: int


class Run(NamedTuple):
    """Where records stand that follow one another in a partition."""

    topic: str
    partition: int
    first_offset: int
    """-1 where it is not known."""
    record_count: int


class Parcel(Protocol):
    """What a delivery needs of its batch."""

    topic: str
    partition: int
    base_offset: int
    append_time_ms: int

    @property
    def error(self) -> DeliveryError | None: ...
    @property
    def is_settled(self) -> bool: ...
    def places(self, first: int, count: int) -> "Iterator[tuple[Parcel, int, int]]":
        """Where so many of its records are by now: (batch, first in it, records). Not itself
        alone where it was too large and was halved."""

    async def wait(self) -> None: ...
    def observed(self) -> None: ...


class Delivery:
    """Awaits to a `RecordMetadata`, or raises the `DeliveryError` of its record."""

    __slots__ = ("_index", "_parcel", "_timestamp_ms")

    def __init__(self, parcel: Parcel, index: int, timestamp_ms: int) -> None:
        self._parcel = parcel
        self._index = index
        self._timestamp_ms = timestamp_ms

    def done(self) -> bool:
        return self._place()[0].is_settled

    def _place(self) -> tuple[Parcel, int]:
        parcel, index, _ = next(self._parcel.places(self._index, 1))
        return parcel, index

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        return self._outcome().__await__()

    async def _outcome(self) -> RecordMetadata:
        await self._parcel.wait()
        parcel, index = self._place()
        parcel.observed()
        if parcel.error is not None:
            raise copy_of(parcel.error) from parcel.error.__cause__
        return RecordMetadata(
            parcel.topic,
            parcel.partition,
            parcel.base_offset + index if parcel.base_offset >= 0 else -1,
            parcel.append_time_ms if parcel.append_time_ms >= 0 else self._timestamp_ms,
        )


class Deliveries:
    """Of many records: awaits to their `Run`s, those of a partition in the order in which they
    were sent. Raises a `DeliveryError` when all are settled and some failed."""

    __slots__ = ("count", "pieces")

    def __init__(self) -> None:
        self.pieces: list[tuple[Parcel, int, int]] = []
        """(batch, first index in it, records)."""
        self.count = 0

    def add(self, parcel: Parcel, index: int, count: int = 1) -> None:
        self.count += count
        if self.pieces:
            last, first, size = self.pieces[-1]
            if last is parcel and first + size == index:
                self.pieces[-1] = (last, first, size + count)
                return
        self.pieces.append((parcel, index, count))

    def __await__(self) -> Generator[Any, None, list[Run]]:
        return self._outcome().__await__()

    async def _outcome(self) -> list[Run]:
        failed_count, error = 0, None
        places: list[tuple[Parcel, int, int]] = []
        for taken, begin, size in self.pieces:
            await taken.wait()
            places += taken.places(begin, size)
        for parcel, _, count in places:
            parcel.observed()
            if parcel.error is not None:
                failed_count += count
                error = error or parcel.error
        if error is not None:
            raise DeliveryError(
                f"{failed_count} of {self.count} records were not delivered: {error}",
                code=error.code,
                is_uncertain=error.is_uncertain,
            ) from error
        return [
            Run(each.topic, each.partition, each.base_offset + first, count)
            if each.base_offset >= 0
            else Run(each.topic, each.partition, -1, count)
            for each, first, count in places
        ]


def copy_of(error: DeliveryError) -> DeliveryError:
    """Its twin: each who waits raises one of his own, with his own traceback."""
    return DeliveryError(str(error), code=error.code, is_uncertain=error.is_uncertain)


class Waiters:
    """Futures of those who wait for one thing to happen."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        await future

    def wake(self) -> None:
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():
                future.set_result(None)
