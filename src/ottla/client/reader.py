"""The reader: hands out records of the partitions that are read, in the three ways of a consumer.

One partition after another, so that none starves the others. What was handed out is *in hand*
until its reader asks for more: then it is done. A partition that is to go to another member of
the group is given up when nothing of it is in hand (`wait_done`), so that nobody works on its
records while its next owner does.

An error of one partition (and `error`) is raised by the next read, once; `failure` by every read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from ottla.base.errors import KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.assignment import PartitionState
from ottla.client.records import Columns, ConsumerRecord

READS_IN_A_ROW = 16
"""After so many the loop has its turn: heartbeats must get through to a reader that never waits."""


class Reader:
    def __init__(
        self,
        states: dict[TopicPartition, PartitionState],
        *,
        told: Callable[[], None],
        taken: Callable[[], None],
        require_open: Callable[[], None],
    ) -> None:
        """`told` is called when a read finds nothing, `taken` when it has taken something."""
        self.failure: Exception | None = None
        self.error: Exception | None = None
        """To be raised by the next read."""
        self.read_count = 0
        self.marks_done = True
        """Whether a read says that what was handed out is done; `process` knows better."""
        self.is_waiting = False
        """Whether a read waits for records now."""
        self._states = states
        self._told = told
        self._taken = taken
        self._require_open = require_open
        self._ready = asyncio.Event()
        self._done = asyncio.Event()

    def look_again(self) -> None:
        """Something changed that a waiting read may wait for."""
        self._ready.set()

    async def wait_change(self) -> None:
        self._require_open()
        self._ready.clear()
        await self._ready.wait()

    async def wait_done(self, states: Iterable[PartitionState]) -> None:
        """Until nothing of these is in hand."""
        states = list(states)
        while any(state.is_in_hand for state in states):
            self._done.clear()
            await self._done.wait()

    async def wait_read(self) -> None:
        """Until the next read begins."""
        self._done.clear()
        await self._done.wait()

    def moves(self) -> object:
        """Something that is another after the reader has asked for more."""
        return self.read_count, [state.done for state in self._states.values()]

    def all_done(self) -> None:
        """What was handed out is done."""
        for state in self._states.values():
            state.done = state.position

    # ---- reading

    async def poll(self, timeout_ms: float, most: int) -> list[ConsumerRecord]:
        records: list[ConsumerRecord] = []
        state = await self.next_state(timeout_ms)
        while state is not None and len(records) < most:
            try:
                head = state.first()
            except KafkaError:
                break  # the next read raises it; the first batch was looked at already
            if head is None:
                break
            at = state.head_at
            stop = min(len(head), at + most - len(records))
            records += head.rows(at, stop)
            state.hand_out(stop)
            if not state.buffer:
                state = self._buffered(is_quiet=True)
        self._taken()
        return records

    async def poll_batch(self, timeout_ms: float) -> Columns | None:
        state = await self.next_state(timeout_ms)
        if state is None:
            return None
        head = state.first()
        assert head is not None
        at = state.head_at
        state.hand_out(len(head))
        self._taken()
        return head.behind(at) if at else head

    async def records(self, patience_ms: float) -> AsyncIterator[ConsumerRecord]:
        """Record after record, without end."""
        # hot: client consume
        while True:
            state = await self.next_state(patience_ms)
            head = None if state is None else state.first()
            if state is None or head is None:
                continue
            turn, at, last = state.turn, state.head_at, len(head) - 1
            state.epoch = state.head_epoch
            for index, record in enumerate(head.rows(at), at):
                if index < last:
                    position = state.position = head.offsets[index + 1]
                    state.head_at = index + 1
                else:
                    state.hand_out(index + 1)
                    position = state.position or 0
                    self._taken()
                yield record
                if state.turn != turn:
                    break
                state.done = position
                if state.position != position or state.stops or state.head is not head:
                    break

    async def next_state(self, timeout_ms: float) -> PartitionState | None:
        """A partition that has something to hand out. What was handed out before is done."""
        if self.marks_done:
            self.all_done()
        self.read_count += 1
        self._done.set()
        if not self.read_count % READS_IN_A_ROW:
            await asyncio.sleep(0)
        found = self._buffered()
        if found is not None:
            self._require_open()
            return found
        self._told()
        self.is_waiting = True
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while found is None:
                    await self.wait_change()
                    found = self._buffered()
        except TimeoutError:
            return None
        finally:
            self.is_waiting = False
        self._require_open()
        return found

    def _buffered(self, *, is_quiet: bool = False) -> PartitionState | None:
        """The next partition in turn with records. Raises what is wrong with one, if it is;
        with `is_quiet` that waits for the next read, since there are records to return."""
        if not is_quiet:
            self._raise()
        for key, state in self._states.items():
            if state.stops:
                continue
            try:
                has_records = state.first() is not None
            except KafkaError as error:
                if is_quiet:
                    continue
                where = f"{key} from offset {state.position}"
                raise KafkaError(error.code, f"{where}: {error.message}") from error
            if has_records:
                # It goes to the end of the order, so that no partition starves another.
                del self._states[key]
                self._states[key] = state
                return state
            if state.error is not None and not is_quiet:  # behind what came before it
                failure, state.error = state.error, None
                raise failure
        return None

    def _raise(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.error is not None:
            error, self.error = self.error, None
            raise error
