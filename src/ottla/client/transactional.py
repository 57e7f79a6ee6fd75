"""What a producer with a `transactional_id` can do besides: transactions (KIP-98, KIP-447).

All records of a transaction, in whatever partitions, and the offsets that go with them become
visible to consumers with isolation_level="read_committed" together, or never. There is one at a
time. Who starts with the same transactional id later fences this producer: its next call raises
ProducerFencedError.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.client.errors import ClientError, TransactionError
from ottla.client.life import Life
from ottla.client.offsets import GroupMetadata, OffsetAndMetadata
from ottla.client.topology import TopicView
from ottla.client.transacting import Transacting
from ottla.client.transaction import State

_log = logging.getLogger(__name__)

Key = TopicPartition | tuple[str, int]


class Transactional(Life):
    _transacting: Transacting | None = None
    _views: dict[str, TopicView]
    """Topics that records are taken for: none outside of a transaction."""

    def _all_views(self) -> dict[str, TopicView]:
        raise NotImplementedError

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Committed when the block ends; aborted where it raises or is cancelled. A record that
        could not be delivered aborts it too, and raises TransactionError.

        async with producer.transaction():
            await producer.send("greetings", b"hello")
        """
        try:
            await self.begin_transaction()
        except TransactionError as error:  # of a commit that nobody waited for to its end
            await self._abort_for(error)
            raise
        try:
            yield
            if self._it().book.state is not State.READY:  # ended inside
                await self.commit_transaction()
        except BaseException as error:
            await self._abort_for(error)
            raise

    async def begin_transaction(self) -> None:
        self._require_running()
        await self._it().begin()
        self._views = self._all_views()

    async def commit_transaction(self) -> None:
        """Returns when all is delivered and the commit is decided.

        TransactionError: it cannot be committed, and has to be aborted. FatalTransactionError (as
        ProducerFencedError): close the producer. TimedOutError: no answer came in `max_block_ms`;
        it may be called again. Cancelling who waits does not take the commit back."""
        self._require_running()
        self._views = {}
        await self._it().end(is_commit=True)

    async def abort_transaction(self) -> None:
        """What was not sent yet fails, what was is never seen. Errors as of a commit."""
        self._require_running()
        self._views = {}
        await self._it().end(is_commit=False)

    async def send_offsets(
        self, offsets: Mapping[Key, int | OffsetAndMetadata], group: GroupMetadata
    ) -> None:
        """Commit offsets of a consumer's group with the transaction: of each partition that of the
        next record to be read. `group` is what `consumer.group_metadata()` gives.

        CommitFailedError where the consumer is no member of the group any more, or of an older
        generation; TransactionError where they are refused otherwise. Either way the transaction
        can only be aborted."""
        self._require_running()
        places = {
            TopicPartition(name, PartitionIndex(index)): (
                place if isinstance(place, OffsetAndMetadata) else OffsetAndMetadata(place)
            )
            for (name, index), place in offsets.items()
        }
        await self._it().send_offsets(places, group)

    # ---- inside

    def _it(self) -> Transacting:
        if self._transacting is None:
            raise ClientError("a producer needs a transactional_id for transactions")
        return self._transacting

    def _require_running(self) -> None:
        self._it()
        self._require_open()

    async def _abort_for(self, error: BaseException) -> None:
        """Abort what an error broke. A fatal one of our own is worth more than that error."""
        book = self._it().book
        if book.state not in (State.OPEN, State.BROKEN):
            return
        try:
            await self.abort_transaction()
        except asyncio.CancelledError:
            raise
        except ClientError as failure:
            _log.warning("transaction %r was not aborted: %s", book.id, failure)
            if isinstance(error, Exception):
                raise failure from error
