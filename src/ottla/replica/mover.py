"""Moves partitions between the log directories of this node, one bounded step after another.

A move copies (`storage/future_log`) on helper threads while the partition is appended to and read;
moves take turns. When little is left the copy takes over within one turn of the loop: the
partition has another log and another directory from then on. When that log is flushed as a whole,
the one it came from is deleted. Before that, the destination's checkpoint has to know the log
start, or a power cut would bring back what DeleteRecords took.

While a partition moves nothing of it is compacted or deleted by retention, as in Kafka. A move ends
early where its topic is deleted, another destination is asked for, one of the directories fails or
the destination is full. A stop leaves the copy, and the next start begins the move anew.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from ottla.base.errors import CorruptionError, KafkaError
from ottla.base.ids import TopicPartition
from ottla.base.world import Offload
from ottla.replica.directory import Directory
from ottla.replica.loading import off_thread
from ottla.replica.partition import Partition
from ottla.storage.future_log import FutureLog
from ottla.storage.log import Log

logger = logging.getLogger(__name__)

STEP_BYTES: Final = 4 << 20
LAST_BYTES: Final = 256 << 10
"""So much is copied on the node's thread, at the end."""
STEPS_MAX: Final = 50
"""After so many steps that left more, with more."""
PAUSE_S: Final = 0.1
"""Until it is looked again whether a move may begin."""


class Move:
    """One partition on its way."""

    def __init__(self, partition: Partition, source: Directory, home: Directory) -> None:
        self.partition = partition
        self.source = source
        self.home = home
        self.future: FutureLog | None = None
        self.steps = 0
        self.is_cancelled = False

    @property
    def is_over(self) -> bool:
        is_offline = self.source.log_dir.is_offline or self.home.log_dir.is_offline
        return self.is_cancelled or is_offline or bool(self.partition.refusal)


class Mover:
    def __init__(
        self,
        offload: Offload,
        *,
        moved: Callable[[Partition, Directory], None],
    ) -> None:
        """`moved(partition, directory)` takes note of where a partition is now."""
        self.moves: dict[TopicPartition, Move] = {}
        self._offload = offload
        self._moved = moved
        self._left: dict[TopicPartition, Directory] = {}
        """Where partitions came from whose copy is not flushed yet."""
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False

    def start(self, partition: Partition, source: Directory, home: Directory) -> None:
        """Begin to move it. A move to elsewhere ends."""
        topic_partition = partition.log.topic_partition
        self.cancel(topic_partition)
        if source is home or self._is_stopping:
            return
        partition.log.is_held = True
        self.moves[topic_partition] = Move(partition, source, home)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self, topic_partition: TopicPartition) -> None:
        """The partition stays where it is."""
        move = self.moves.pop(topic_partition, None)
        if move is not None:
            move.is_cancelled = True
            move.partition.log.is_held = False

    def forget(self, topic_partition: TopicPartition) -> Directory | None:
        """The topic is deleted; where the log lies, too, that it left."""
        self.cancel(topic_partition)
        return self._left.pop(topic_partition, None)

    def has_left(self, topic_partition: TopicPartition, directory: Directory) -> bool:
        """Whether the log that is there is one that a partition left."""
        return self._left.get(topic_partition) is directory

    async def close(self) -> None:
        self._is_stopping = True
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self.moves and not self._is_stopping:
            for topic_partition, move in list(self.moves.items()):
                try:
                    if not move.is_over:
                        await self._step(move)
                except (KafkaError, CorruptionError) as error:
                    logger.error("%s is not moved: %s", topic_partition, error)
                    move.is_cancelled = True
                except OSError as error:
                    await self._failed(move, error)
                if move.is_over or self._is_stopping:
                    await self._end(topic_partition, move)

    async def _failed(self, move: Move, error: OSError) -> None:
        """The copy is dropped. Which disk it was the path tells."""
        path = str(error.filename or move.home.log_dir.path)
        is_source = path.startswith(move.source.log_dir.path + "/")
        await self._drop(move)
        if move.is_over or (is_source and isinstance(error, FileNotFoundError)):
            return  # its directory was renamed, or a segment was compacted: begin anew, if at all
        (move.source if is_source else move.home).failed(error)
        logger.error("%s is not moved: %s", move.partition.log.topic_partition, error)
        move.is_cancelled = True

    async def _end(self, topic_partition: TopicPartition, move: Move) -> None:
        if move.future is not None:
            if self._is_stopping:
                move.future.close()
            else:
                await self._drop(move)
        if self.moves.get(topic_partition) is move:
            self.cancel(topic_partition)

    async def _drop(self, move: Move) -> None:
        future, move.future = move.future, None
        if future is not None:
            move.home.log_dir.futures.pop(future.topic_partition, None)
            try:
                await off_thread(self._offload, future.drop)
            except OSError as error:
                logger.warning("%s is left: %s", future.directory, error)

    async def _step(self, move: Move) -> None:
        future = move.future
        if future is None:
            topic_partition = move.partition.log.topic_partition
            # Compaction names its last group, or an earlier move has left its log there.
            if move.partition.log.is_replacing or topic_partition in move.home.log_dir:
                await asyncio.sleep(PAUSE_S)
                return
            future = move.future = FutureLog(move.home.log_dir, move.partition.log)
            move.home.log_dir.futures[future.topic_partition] = future.source.log_start_offset
            await self._save_start(move)
        pieces = future.plan()
        if pieces is None:
            await self._drop(move)
            return
        future.note(await off_thread(self._offload, partial(future.advance, pieces, STEP_BYTES)))
        move.steps += 1
        limit = STEP_BYTES if move.steps > STEPS_MAX else LAST_BYTES
        if future.left_bytes > limit or move.is_over:
            return
        await off_thread(self._offload, future.sync)
        start = future.source.log_start_offset
        if start != move.home.log_dir.futures[future.topic_partition]:
            move.home.log_dir.futures[future.topic_partition] = start
            await self._save_start(move)
        if not move.is_over:
            self._take_over(move, future)

    async def _save_start(self, move: Move) -> None:
        saved: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
        move.home.checkpoint(saved.set_result)
        error = await saved
        if error is not None:
            raise error

    def _take_over(self, move: Move, future: FutureLog) -> None:
        """Without a wait: what was true at its begin is true at its end."""
        log_dir = move.home.log_dir
        source = future.source
        pieces = future.plan()
        start = log_dir.futures[future.topic_partition]
        if (
            pieces is None
            or not future.is_nearly_whole(pieces)
            or future.left_bytes > STEP_BYTES
            or start != source.log_start_offset
        ):
            return
        future.take_over(pieces, move.source.log_dir.topic_ids.get(future.topic_partition))
        partition = move.partition
        self.moves.pop(future.topic_partition, None)
        move.future, move.is_cancelled = None, True
        log_dir.futures.pop(future.topic_partition, None)
        self._left[future.topic_partition] = move.source
        move.source.remove(partition)
        partition.switch(future.log, move.home)
        move.home.add(partition)
        self._moved(partition, move.home)
        move.home.when_flushed(future.log, partial(self._flushed, move, source))
        move.home.mark_dirty(future.log)

    def _flushed(self, move: Move, source: Log) -> None:
        """All of the copy is durable, its names too: the other one goes."""
        topic_partition = source.topic_partition
        if self._left.pop(topic_partition, None) is None:  # the topic is deleted
            return
        logger.info(
            "%s moved from %s to %s",
            topic_partition,
            move.source.log_dir.path,
            move.home.log_dir.path,
        )
        if not move.source.log_dir.is_offline:
            try:
                move.source.log_dir.delete(topic_partition)
            except OSError as error:
                move.source.failed(error)
