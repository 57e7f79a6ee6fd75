"""Transactions, asked for: what the book of states (`transaction`) wants of the coordinators.

Every request here may be sent twice without harm: a coordinator knows a retry by its producer id
and epoch. So each is tried again, with back-off, until `max_block_ms` is over.

An end runs as a task of its own: cancelling who waits does not stop it, and the next transaction
begins after it. Before an abort, what was not sent is dropped and what is under way is waited for,
so that none of it comes behind the marker; where some may, the next epoch keeps it out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client import offsets
from ottla.client.accumulator import Accumulator
from ottla.client.batch import Batch
from ottla.client.cluster import Cluster, KeyType
from ottla.client.errors import (
    OUTDATED,
    ClientClosedError,
    ClientError,
    CommitFailedError,
    TimedOutError,
    code_of,
    raise_for,
)
from ottla.client.lane import Lane
from ottla.client.offsets import GroupMetadata, OffsetAndMetadata
from ottla.client.producer_settings import ProducerSettings
from ottla.client.sender import Sender
from ottla.client.transaction import State, Transaction
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.add_offsets_to_txn import (
    AddOffsetsToTxnRequest,
    AddOffsetsToTxnResponse,
)
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
)
from ottla.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from ottla.protocol.wire import EncodeError

R = TypeVar("R", bound=Response)
_log = logging.getLogger(__name__)

LAST_ADD_BY_CLIENTS = 3
LAST_END_OF_FIRST_VERSION = 4
LAST_OFFSETS_OF_FIRST_VERSION = 4
LAST_OFFSETS_BY_NAME = 5


class Transacting:
    def __init__(
        self,
        cluster: Cluster,
        settings: ProducerSettings,
        accumulator: Accumulator,
        sender: Sender,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        """`settle` waits for all records that were taken."""
        self.book = Transaction(settings.transactional_id or "")
        self._cluster = cluster
        self._settings = settings
        self._accumulator = accumulator
        self._sender = sender
        self._settle = settle
        self._has_second_version = False
        self._adding: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[Exception | None] | None = None
        sender.admits = self.admits
        sender.is_second_version = lambda: self.book.is_second_version

    async def start(self) -> None:
        """Take the transactional id: who had it before is fenced, and what it left open aborted."""
        try:
            producer_id, epoch = await self._initialise()
        except KafkaError as failure:
            self.book.refused(failure.code, f"transactional id {self.book.id!r}: {failure.message}")
            self.book.raise_error()
            raise
        self._ended(producer_id, epoch)

    async def leave(self) -> None:
        """Wait for an end that is under way, and abort what is open. Errors are only logged: who
        has the transactional id next, or the timeout, ends it all the same."""
        try:
            if self._ending is not None and not self._ending.done():
                await asyncio.wait([self._ending])
            if self.book.state in (State.OPEN, State.BROKEN):
                await self.end(is_commit=False)
        except ClientError as failure:
            _log.warning("transaction %r was left open: %s", self.book.id, failure)

    async def close(self) -> None:
        for task in (self._adding, self._ending):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    # ---- records

    def admits(self, lane: Lane) -> bool:
        """Whether the lane may send now. Adds its partition to the transaction where needed."""
        if self.book.admits((lane.topic, lane.partition)):
            return True
        if self.book.error is not None:
            lane.fail_unsent(str(self.book.error), self.book.error.code)
        elif self.book.wanted and self._adding is None:
            self._adding = asyncio.get_running_loop().create_task(self._add())
        return False

    def records_failed(self, batch: Batch) -> bool:
        """Take note of a batch that was not delivered; whether that is news."""
        is_news = self.book.state in (State.OPEN, State.COMMITTING)
        error = batch.error
        self.book.records_failed(None if error is None else error.code, str(error))
        return is_news

    async def _add(self) -> None:
        """Add partitions while any are wanted; a failure breaks the transaction."""
        book = self.book
        try:
            while book.wanted and book.state in (State.OPEN, State.COMMITTING):
                keys = set(book.wanted)
                book.is_begun = True
                request = self._add_request(keys)
                await self._ask(
                    request, AddPartitionsToTxnResponse, _check_added, LAST_ADD_BY_CLIENTS
                )
                book.added(keys)
        except KafkaError as failure:
            self._refused(failure.code, f"a partition was not added: {failure.message}")
        except TimedOutError as failure:
            self._refused(None, f"a partition was not added: {failure}")
        finally:
            self._adding = None
            self._sender.turn_soon()

    def _add_request(self, keys: set[tuple[str, int]]) -> AddPartitionsToTxnRequest:
        topics: dict[str, list[int]] = {}
        for name, index in sorted(keys):
            topics.setdefault(name, []).append(index)
        return AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.book.id,
            v3_and_below_producer_id=self.book.producer_id,
            v3_and_below_producer_epoch=self.book.epoch,
            v3_and_below_topics=[
                AddPartitionsToTxnTopic(name=name, partitions=indexes)
                for name, indexes in topics.items()
            ],
        )

    # ---- offsets

    async def send_offsets(
        self, places: Mapping[TopicPartition, OffsetAndMetadata], group: GroupMetadata
    ) -> None:
        """Make a group's offsets part of the transaction. Where that fails, or is given up, the
        transaction can only be aborted: it must not be committed without them."""
        book = self.book
        book.require_open()
        if not places:
            return
        cause = f"the offsets of group {group.group_id!r} were not taken"
        try:
            if not book.is_second_version and group.group_id not in book.groups:
                await self._add_group(group.group_id)
            book.is_begun = True
            await self._commit_offsets(places, group)
        except KafkaError as failure:
            self._refused(failure.code, f"{cause}: {failure.message}")
            if failure.code in OUTDATED:
                raise CommitFailedError(f"{cause}: {failure.message}", code=failure.code) from None
            book.raise_error()
            raise
        except BaseException as failure:
            self._refused(None, f"{cause}: {failure!r}")
            raise
        book.require_open()

    async def _add_group(self, group_id: str) -> None:
        book = self.book
        book.is_begun = True
        request = AddOffsetsToTxnRequest(
            transactional_id=book.id,
            producer_id=book.producer_id,
            producer_epoch=book.epoch,
            group_id=group_id,
        )
        await self._ask(request, AddOffsetsToTxnResponse, _check)
        book.groups.add(group_id)
        book.is_confirmed = True

    async def _commit_offsets(
        self, places: Mapping[TopicPartition, OffsetAndMetadata], group: GroupMetadata
    ) -> None:
        book = self.book
        topics: dict[str, TxnOffsetCommitRequestTopic] = {}
        for key, place in places.items():
            row = topics.setdefault(
                key.topic, TxnOffsetCommitRequestTopic(name=key.topic, partitions=[])
            )
            row.partitions.append(
                TxnOffsetCommitRequestPartition(
                    partition_index=key.partition,
                    committed_offset=place.offset,
                    committed_leader_epoch=place.leader_epoch,
                    committed_metadata=place.metadata,
                )
            )
        request = TxnOffsetCommitRequest(
            transactional_id=book.id,
            group_id=group.group_id,
            producer_id=book.producer_id,
            producer_epoch=book.epoch,
            generation_id_or_member_epoch=group.generation_id,
            member_id=group.member_id,
            group_instance_id=group.group_instance_id,
            topics=list(topics.values()),
        )
        last = LAST_OFFSETS_BY_NAME if book.is_second_version else LAST_OFFSETS_OF_FIRST_VERSION
        await self._ask_coordinator(
            KeyType.GROUP, group.group_id, request, TxnOffsetCommitResponse, _check_offsets, last
        )

    # ---- begin and end

    async def begin(self) -> None:
        if self._ending is not None and not self._ending.done():
            await asyncio.wait([self._ending])  # whose waiter was cancelled
        if self.book.state is State.ABORTING:  # which was not answered in time
            await self.end(is_commit=False)
        self.book.begin(is_second_version=self._has_second_version)

    async def end(self, *, is_commit: bool) -> None:
        """Commit or abort. TransactionError where it cannot be committed, FatalTransactionError
        where the producer is of no use any more; TimedOutError where no answer came: then it is
        not known, and the same may be called again."""
        if self._ending is not None and not self._ending.done():
            await asyncio.wait([self._ending])
        self.book.step("commit" if is_commit else "abort")
        ending = asyncio.get_running_loop().create_task(self._end(is_commit=is_commit))
        self._ending = ending
        await asyncio.wait([ending])
        if ending.cancelled():
            raise ClientClosedError("the producer was closed while a transaction ended")
        failure = ending.result()
        if failure is not None:
            self.book.raise_error()
            raise failure

    async def _end(self, *, is_commit: bool) -> Exception | None:
        try:
            if is_commit:
                await self._settle()
                self.book.raise_error()
            else:
                await self._drop_unsent()
            await self._end_at_coordinator(is_commit=is_commit)
        except KafkaError as failure:
            self._refused(failure.code, f"transaction {self.book.id!r}: {failure.message}")
            return failure
        except Exception as failure:
            return failure
        return None

    async def _drop_unsent(self) -> None:
        if self._adding is not None:
            await asyncio.wait([self._adding])
        for _ in range(2):  # what comes back unanswered is not tried again
            for lane in self._accumulator.lanes():
                lane.fail_unsent("the transaction was aborted")
            await self._sender.wait_quiet()

    async def _end_at_coordinator(self, *, is_commit: bool) -> None:
        book = self.book
        following = book.producer_id, book.epoch
        if book.is_begun and not book.has_lost_id:
            request = EndTxnRequest(
                transactional_id=book.id,
                producer_id=book.producer_id,
                producer_epoch=book.epoch,
                committed=is_commit,
            )
            last = None if book.is_second_version else LAST_END_OF_FIRST_VERSION
            try:
                response = await self._ask(request, EndTxnResponse, _check, last)
                if book.is_second_version and response.producer_id >= 0:
                    following = response.producer_id, response.producer_epoch
            except KafkaError as failure:
                # What was asked to begin it may never have come there.
                is_nothing = failure.code is ErrorCode.INVALID_TXN_STATE and not book.is_confirmed
                if is_commit or not is_nothing:
                    raise
        has_gap = any(lane.has_gap for lane in self._accumulator.lanes())
        if book.has_lost_id or (has_gap and following == (book.producer_id, book.epoch)):
            following = await self._initialise()
        self._ended(*following)

    def _ended(self, producer_id: int, epoch: int) -> None:
        if (producer_id, epoch) != (self.book.producer_id, self.book.epoch):
            for lane in self._accumulator.lanes():
                lane.forget_producer()
            self._sender.take_producer(producer_id, epoch)
        self.book.ended(producer_id, epoch)

    def _refused(self, code: ErrorCode | None, cause: str) -> None:
        self.book.refused(code, cause)
        if self.book.state is State.FATAL:
            _log.error("transactional id %r: %s", self.book.id, cause)
        self._sender.turn_soon()

    # ---- asking

    async def _initialise(self) -> tuple[int, int]:
        """A producer id and epoch; with those it has it proves that it was not fenced (KIP-360)."""
        request = InitProducerIdRequest(
            transactional_id=self.book.id,
            transaction_timeout_ms=self._settings.transaction_timeout_ms,
            producer_id=self.book.producer_id,
            producer_epoch=self.book.epoch,
        )
        response = await self._ask(request, InitProducerIdResponse, _check)
        return response.producer_id, response.producer_epoch

    async def _ask(
        self,
        request: Request,
        expected: type[R],
        check: Callable[[R], None],
        last: int | None = None,
    ) -> R:
        return await self._ask_coordinator(
            KeyType.TRANSACTION, self.book.id, request, expected, check, last
        )

    async def _ask_coordinator(
        self,
        key_type: KeyType,
        key: str,
        request: Request,
        expected: type[R],
        check: Callable[[R], None],
        last: int | None,
    ) -> R:
        async def attempt() -> R:
            node = await self._cluster.coordinator(key_type, key)
            with offsets.minding(self._cluster, key, key_type):
                channel = await self._cluster.peer(node, apart=True).connected()
                if key_type is KeyType.TRANSACTION:
                    self._has_second_version = channel.features.get("transaction.version", 0) >= 2
                try:
                    response = await channel.ask(request, expected, last=last)
                except EncodeError as failure:  # an old broker, whose version lacks a field
                    raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, str(failure)) from failure
                check(response)
                return response

        what = f"{key_type.name.lower()} coordinator of {key!r}"
        return await offsets.patiently(self._cluster, what, self._settings.max_block_ms, attempt)


def _check(response: InitProducerIdResponse | AddOffsetsToTxnResponse | EndTxnResponse) -> None:
    raise_for(response.error_code)


def _check_added(response: AddPartitionsToTxnResponse) -> None:
    """The first error that says something: where one partition is refused, none is added."""
    codes = [
        code_of(row.partition_error_code)
        for topic in response.results_by_topic_v3_and_below
        for row in topic.results_by_partition
        if row.partition_error_code
    ]
    if codes:
        told = (code for code in codes if code is not ErrorCode.OPERATION_NOT_ATTEMPTED)
        raise KafkaError(next(told, codes[0]))


def _check_offsets(response: TxnOffsetCommitResponse) -> None:
    for topic in response.topics:
        for row in topic.partitions:
            raise_for(
                row.error_code,
                f"{topic.name}-{row.partition_index}: {code_of(row.error_code).name}",
            )
