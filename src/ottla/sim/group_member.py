"""What scripted members of groups of either protocol have in common: partitions that they hold, how
far they are in each, and an honest word about both.

A member holds a partition from when it was told so until it gives it up, or until it could have
been taken for dead: PATIENCE_S after it sent what was last answered well. It never reads; it moves
on by a few offsets, commits them, and starts where the group's offset is. What has no answer may
come late: whoever asked so to join is away for DRAIN_S before the next try.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from ottla.sim.group_offsets import fetch_offsets, find_group
from ottla.sim.history import Claim, Commit, Fate, History, Key, Topic
from ottla.sim.stubborn import Stubborn, Told

SESSION_MS: Final = 1_000
REBALANCE_MS: Final = 800
PATIENCE_S: Final = REBALANCE_MS / 1_000
DRAIN_S: Final = 3.0
UNSTEADY: Final = 0.03
PAUSE_S: Final = (0.5, 3.0)
BEAT_S: Final = (0.05, 0.4)
AWAY_S: Final = (0.0, 1.0)


class Out(Exception):
    """It is no member any more, or does not know."""

    def __init__(self, *, may_linger: bool = False) -> None:
        super().__init__()
        self.may_linger = may_linger


class GroupMember:
    def __init__(
        self,
        stubborn: Stubborn,
        history: History,
        rng: random.Random,
        boot: Callable[[], int],
        *,
        name: str,
        group: str,
        instance_id: str | None = None,
    ) -> None:
        self.stubborn = stubborn
        self.history = history
        self.rng = rng
        self.group = group
        self.instance_id = instance_id
        self.id = ""
        self.epoch = -1
        self.held: dict[Key, Claim] = {}
        self.topic: Topic
        self.is_calm = False
        """It neither leaves nor dies nor pauses any more."""
        self._name = name
        self._boot = boot
        self._life = 0
        self._positions: dict[Key, int] = {}
        self._proven_at = 0.0

    async def run(self, topic: Topic) -> None:
        """For ever: join, take part, be away."""
        self.topic = topic
        while True:
            self._life += 1
            drain_s = 0.0
            try:
                if not await find_group(self.stubborn, self.group):
                    continue
                await self.take_part()
            except Out as out:
                drain_s = DRAIN_S if out.may_linger else 0.0
            finally:
                self.give_up(list(self.held))
            await asyncio.sleep(drain_s + self.rng.uniform(*AWAY_S))

    async def take_part(self) -> None:
        """One life as a member. Out where it ends."""
        raise NotImplementedError

    def is_unsteady(self) -> bool:
        return not self.is_calm and self.rng.random() < UNSTEADY

    # ---- partitions

    def prove(self, asked_at: float) -> None:
        """What was sent then was answered well: it was a member when that came."""
        self._proven_at = max(self._proven_at, asked_at)

    def take(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key not in self.held:
                who = f"{self._name}/{self._life}"
                claim = Claim(self.group, key, who, self.epoch, self.now())
                self.held[key] = claim
                self.history.claims.append(claim)

    def give_up(self, keys: Iterable[Key]) -> None:
        for key in keys:
            claim = self.held.pop(key, None)
            self._positions.pop(key, None)
            if claim is not None:
                claim.until = max(claim.since, min(self.now(), self._proven_at + PATIENCE_S))

    # ---- offsets

    async def find_positions(self) -> None:
        """Of partitions that are new."""
        if all(key in self._positions for key in self.held):
            return
        told = await fetch_offsets(self.stubborn, self.history, self.group, self.topic, self._boot)
        if told is None:
            raise Out
        for key in self.held:
            self._positions.setdefault(key, max(0, told[key]))

    async def move_on(self) -> None:
        """Some records of each partition are done with: commit that, now and then too late. Out
        where it is refused for good."""
        if self.is_unsteady():
            await asyncio.sleep(self.rng.uniform(*PAUSE_S))
        if not self.held or self.rng.random() < 0.3:
            return
        for key in self.held:
            self._positions[key] += self.rng.randint(0, 5)
        await self.commit(list(self.held))

    async def commit(self, keys: list[Key]) -> None:
        commits = [
            Commit(self.group, key, self._positions[key], self._name, self.now())
            for key in keys
            if key in self._positions
        ]
        if not commits:
            return
        self.history.commits += commits
        rows = [
            OffsetCommitRequestPartition(partition_index=each.key[1], committed_offset=each.offset)
            for each in commits
        ]
        request = OffsetCommitRequest(
            group_id=self.group,
            generation_id_or_member_epoch=self.epoch,
            member_id=self.id,
            group_instance_id=self.instance_id,
            topics=[OffsetCommitRequestTopic(name=self.topic.name, partitions=rows)],
        )
        told = await self.stubborn.ask(request, 9, OffsetCommitResponse, _worst_of)
        for each in commits:
            each.may_linger = told.is_doubtful
            if told.code is ErrorCode.NONE:
                each.fate, each.ended_at = Fate.OK, self.now()
            elif not told.is_doubtful:
                each.fate = Fate.FAIL
        self.judge_commit(told)

    def judge_commit(self, told: Told[OffsetCommitResponse]) -> None:
        """Out where it was not kept and never will be."""
        raise NotImplementedError

    def surprise(self, api: str, code: ErrorCode | None) -> None:
        told = None if code is None else code.name
        self.history.surprises.append(f"{self._name} of {self.group}: {api}: {told}")

    def now(self) -> float:
        return asyncio.get_running_loop().time()


def _worst_of(answer: OffsetCommitResponse) -> int:
    codes = [row.error_code for topic in answer.topics for row in topic.partitions]
    return next(filter(None, codes), 0)
