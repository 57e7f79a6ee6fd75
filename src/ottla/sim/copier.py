"""A scripted consume-transform-produce: records of a source go into a target, and how far the
source was read goes to a group in the same transaction.

A life begins with InitProducerId, which ends what a former copier left open, and then asks for the
group's offsets, stable ones alone. Each record of the copy names the id of its origin.
"""

import random
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.base.world import Clock
from ottla.protocol.messages.add_offsets_to_txn import (
    AddOffsetsToTxnRequest,
    AddOffsetsToTxnResponse,
)
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from ottla.sim.consumer import Reader
from ottla.sim.group_offsets import fetch_offsets, find_group
from ottla.sim.history import Commit, Fate, Found, History, Key, Topic, Txn
from ottla.sim.transactional import Batch, LifeOver, TransactionalProducer, Wires

MOST_RECORDS: Final = 12


class Copier(TransactionalProducer):
    def __init__(
        self,
        wires: Wires,
        clock: Clock,
        history: History,
        rng: random.Random,
        *,
        number: int,
        group: str,
        reader: Reader,
        is_bumping: bool,
    ) -> None:
        super().__init__(
            wires,
            clock,
            history,
            rng,
            number=number,
            transactional_id=group,
            reader=reader,
            is_bumping=is_bumping,
        )
        self._group = group
        self._source: Topic
        self._target: Topic

    async def copy(self, source: Topic, target: Topic, until: float) -> None:
        self._source, self._target = source, target
        await self.run([target], until)

    async def begin_life(self) -> None:
        await super().begin_life()
        if not await find_group(self.stubborn, self._group):
            raise LifeOver
        told = await fetch_offsets(
            self.stubborn, self.history, self._group, self._source, self.reader.boot
        )
        if told is None:
            raise LifeOver
        for key, offset in told.items():
            self.reader.positions[key] = max(0, offset)

    async def transaction(self, topics: list[Topic]) -> None:
        key = self.rng.choice(self._source.partitions)
        start = self.reader.positions[key]
        first = len(self.history.polls)
        await self.reader.poll(self._source, [key], follows=False)
        polled = [each for each in self.history.polls[first:] if each.reader == self.reader.name]
        found = [record for poll in polled for record in poll.records][:MOST_RECORDS]
        self.reader.positions[key] = start
        if found and await self._copy(key, found):
            self.reader.positions[key] = found[-1][0] + 1

    async def _copy(self, key: Key, found: list[Found]) -> bool:
        txn = self.begin()
        width = len(self._target.partitions)
        batches: list[Batch] = []
        for place in self._target.partitions:
            origins = tuple(each for _, each in found if each % width == place[1])
            if origins:
                batches.append(self.batch(txn, self._target, place, origins))
        offsets_first = self.rng.random() < 0.3
        if offsets_first:
            await self._commit_offset(txn, key, found[-1][0] + 1)
        await self.write(batches)
        if not offsets_first:
            await self._commit_offset(txn, key, found[-1][0] + 1)
        return await self.end(txn, is_done=all(each.send.fate is Fate.OK for each in batches))

    async def _commit_offset(self, txn: Txn, key: Key, offset: int) -> None:
        if not self.is_bumping:
            add = AddOffsetsToTxnRequest(
                transactional_id=self.transactional_id,
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                group_id=self._group,
            )
            told = await self.ask(add, 3, AddOffsetsToTxnResponse, lambda each: each.error_code)
            self.judge(told, "AddOffsetsToTxn")
        commit = Commit(self._group, key, offset, txn.producer, self.now(), txn=txn.number)
        self.history.commits.append(commit)
        row = TxnOffsetCommitRequestPartition(partition_index=key[1], committed_offset=offset)
        request = TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=self._group,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            topics=[TxnOffsetCommitRequestTopic(name=self._source.name, partitions=[row])],
        )
        version = 5 if self.is_bumping else self.rng.choice([3, 4])
        self._stray(request, version, TxnOffsetCommitResponse)
        kept = await self.ask(
            request,
            version,
            TxnOffsetCommitResponse,
            lambda answer: answer.topics[0].partitions[0].error_code,
        )
        if kept.code is ErrorCode.NONE:
            commit.fate, commit.ended_at = Fate.OK, self.now()
        self.judge(kept, "TxnOffsetCommit")
