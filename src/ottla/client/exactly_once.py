"""How a processed record becomes done: at once, or in a transaction with all that came of it.

    AtOnce        its outputs are delivered, then it is done; a crash between the two gives twins
    ExactlyOnce   it is finished, so that the next of its lane may follow; and when all in front of
                  it in its partition are, a transaction takes their outputs (dead letters among
                  them) and the group's new offsets together. Done is what has been committed

A transaction that fails is aborted and tried again from what is kept here, without the handler:
what it did was for records that are still this member's. If they are not, the group refuses the
offsets (KIP-447), and when the member hears of it they are dropped.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ottla.base.ids import TopicPartition
from ottla.client.batch import record_bytes
from ottla.client.errors import (
    CommitFailedError,
    DeliveryError,
    FatalTransactionError,
    TimedOutError,
    TransactionError,
)
from ottla.client.many import pairs_of
from ottla.client.offsets import GroupMetadata, OffsetAndMetadata
from ottla.client.outlet import Outlet, Output
from ottla.client.producer import Producer
from ottla.client.work import Item, Work

_log = logging.getLogger(__name__)

RETRY_S = 0.1
TRIES = 10


class Settling(Protocol):
    async def settle(self, item: Item, outputs: Sequence[Output]) -> None:
        """The handler is through with it."""

    async def flush(self) -> None:
        """Returns when all that may be done is."""

    async def run(self) -> None:
        """On and on, beside the handlers."""


class AtOnce:
    def __init__(self, work: Work, outlet: Outlet) -> None:
        self._work = work
        self._outlet = outlet

    async def settle(self, item: Item, outputs: Sequence[Output]) -> None:
        await self._outlet.send(outputs)
        self._work.done(item)

    async def flush(self) -> None:
        return

    async def run(self) -> None:
        await asyncio.Event().wait()


class ExactlyOnce:
    def __init__(
        self,
        work: Work,
        outlet: Outlet,
        *,
        member: Callable[[], GroupMetadata],
        settled: Callable[[], Awaitable[None]],
        committed: Callable[[TopicPartition], None],
        interval_ms: float,
    ) -> None:
        """`committed` is called for each partition whose first undone record is another."""
        self._work = work
        self._outlet = outlet
        self._member = member
        self._settled = settled
        self._committed = committed
        self._interval_s = interval_ms / 1_000
        self._turn = asyncio.Lock()
        self._finished = asyncio.Event()
        self._undecided: list[Item] | None = None
        """Of a transaction whose commit was asked for, and no answer came."""
        self._is_aborting = False

    async def settle(self, item: Item, outputs: Sequence[Output]) -> None:
        item.outputs = [_checked(each) for each in outputs]
        self._work.finish(item)
        self._finished.set()

    async def run(self) -> None:
        while True:
            await self._finished.wait()
            await asyncio.sleep(self._interval_s)
            self._finished.clear()
            await self.flush()

    async def flush(self) -> None:
        """FatalTransactionError and its kin where nothing more can be committed."""
        failures_count = 0
        async with self._turn:
            while self._undecided is not None or self._work.finished():
                try:
                    await self._transact()
                except FatalTransactionError:
                    raise
                except CommitFailedError as error:
                    # No member now: what is lost is dropped when the member hears of it.
                    _log.warning("a transaction is tried again: %s", error)
                except (TransactionError, DeliveryError, TimedOutError) as error:
                    failures_count += 1
                    if failures_count >= TRIES:
                        raise
                    _log.warning("a transaction is tried again: %s", error)
                else:
                    failures_count = 0
                    continue
                await asyncio.sleep(RETRY_S)

    async def _transact(self) -> None:
        producer = await self._outlet.producer()
        if self._is_aborting:
            await self._abort(producer)
        if self._undecided is not None:
            await self._commit(producer, self._undecided)
            return
        await self._settled()
        # Whose these are now. Should it be out and in again before they are sent, they may be
        # another's: then the group refuses this generation.
        member, items = self._member(), self._work.finished()
        if not items:
            return
        places: dict[TopicPartition | tuple[str, int], int | OffsetAndMetadata] = {
            item.key: item.record.offset + 1 for item in items
        }
        await producer.begin_transaction()
        try:
            await self._outlet.send([each for item in items for each in item.outputs or ()])
            await producer.send_offsets(places, member)
        except (Exception, asyncio.CancelledError):
            await self._abort(producer)
            raise
        await self._commit(producer, items)

    async def _commit(self, producer: Producer, items: list[Item]) -> None:
        self._undecided = items
        try:
            await producer.commit_transaction()
        except TransactionError:
            self._undecided = None
            await self._abort(producer)
            raise
        self._undecided = None
        for item in items:
            self._work.forget(item)
        for key in dict.fromkeys(item.key for item in items):
            self._committed(key)

    async def _abort(self, producer: Producer) -> None:
        """Until it is known to be aborted, no other transaction begins."""
        self._is_aborting = True
        await producer.abort_transaction()
        self._is_aborting = False


def _checked(output: Output) -> Output:
    """An output that can be sent, and sent again: TypeError here is a failure of its record, in a
    transaction it would be one of all that share it."""
    headers = pairs_of(output.headers)
    record_bytes(output.key, output.value, headers)
    return output._replace(headers=headers)
