"""The accumulator: records that were taken and are not settled, by partition, within a bound.

What is taken counts against `buffer_memory` until it is acknowledged or failed. Who finds no room
waits in a queue, first come first served, so that a large record is not passed by for ever by
small ones; room that comes free is handed to the first, and nothing lingers meanwhile. Cancelling
who waits lets the next in.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from ottla.base.world import World
from ottla.client.batch import Batch
from ottla.client.errors import BufferFullError, ClientClosedError
from ottla.client.lane import Lane
from ottla.client.producer_settings import ProducerSettings
from ottla.client.sender import Sender
from ottla.records.record import Header

Headers = tuple[Header, ...] | list[Header]


class Accumulator:
    def __init__(
        self,
        world: World,
        settings: ProducerSettings,
        sender: Sender,
        failed: Callable[[Batch], None],
    ) -> None:
        """`failed` is called with each batch that could not be delivered."""
        self._world = world
        self._settings = settings
        self._sender = sender
        self._failed = failed
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._used_bytes = 0
        self._queue: deque[tuple[int, asyncio.Future[bool]]] = deque()

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def lane(self, topic: str, partition: int) -> Lane:
        lane = self._lanes.get((topic, partition))
        if lane is None:
            settings = self._settings
            lane = self._lanes[topic, partition] = Lane(
                topic,
                partition,
                is_idempotent=settings.is_idempotent,
                is_transactional=settings.transactional_id is not None,
                max_in_flight=settings.max_in_flight_requests_per_connection,
                retries=settings.retries,
                settled=self._settled,
            )
        return lane

    def lanes(self) -> list[Lane]:
        return list(self._lanes.values())

    def batches(self) -> Iterator[Batch]:
        """All that are not settled."""
        for lane in self.lanes():
            yield from list(lane.batches())

    # ---- taking records

    def append(
        self,
        lane: Lane,
        size: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
    ) -> tuple[Batch, int]:
        """Take a record, for which there is room of `size`; its batch and index in it."""
        # hot: client produce
        batch = lane.open
        if batch is None or len(batch.body) + size > self._settings.batch_size:
            batch = self._next_batch(lane)
        try:
            index = batch.append(timestamp, key, value, headers)
        except BaseException:
            self._drop_empty(lane)
            raise
        batch.reserved_bytes += size
        self._used_bytes += size
        return batch, index

    def extend(
        self,
        lane: Lane,
        timestamp: int,
        keys: list[bytes | None] | None,
        values: list[bytes | None],
        start: int,
    ) -> tuple[Batch, int]:
        """Take records, from index `start` on, as many as fit into one batch and the room there
        is: the batch, and the index of the first that was left. None fits an empty batch where
        that one is larger than a batch."""
        # hot: client produce
        batch = lane.open
        stop = start
        if batch is not None and batch.count:
            stop = self._extend(batch, timestamp, keys, values, start)
        if batch is None or stop == start:
            batch = self._next_batch(lane)
            try:
                stop = self._extend(batch, timestamp, keys, values, start)
            finally:
                self._drop_empty(lane)
        return batch, stop

    def _extend(
        self,
        batch: Batch,
        timestamp: int,
        keys: list[bytes | None] | None,
        values: list[bytes | None],
        start: int,
    ) -> int:
        # hot: client produce
        settings, before = self._settings, len(batch.body)
        room = min(settings.buffer_memory - self._used_bytes, settings.max_request_size)
        limit = min(settings.batch_size, before + room)
        stop = batch.extend(timestamp, keys, values, start, limit)
        grown = len(batch.body) - before
        batch.reserved_bytes += grown
        self._used_bytes += grown
        return stop

    def _next_batch(self, lane: Lane) -> Batch:
        if lane.open is not None and lane.open.count:
            closed = lane.close_open()
            if closed is not None:
                self._sender.closed(closed)
        if lane.open is None:
            now = self._world.clock.monotonic()
            deadline = now + self._settings.delivery_timeout_ms / 1_000
            lane.open = Batch(lane.topic, lane.partition, lane.next_number(), now, deadline)
            self._sender.active(lane)
        return lane.open

    def _drop_empty(self, lane: Lane) -> None:
        """A record was no record: a batch that was opened for it is not to be sent."""
        if lane.open is not None and not lane.open.count:
            lane.open = None

    # ---- room

    def has_room(self, size: int) -> bool:
        return not self._queue and self._used_bytes + size <= self._settings.buffer_memory

    async def wait_room(self, size: int) -> None:
        """Until there is room of `size`; BufferFullError after `max_block_ms`."""
        settings = self._settings
        if size > settings.buffer_memory:
            raise BufferFullError(
                f"{size} bytes at once, and buffer_memory is {settings.buffer_memory}"
            )
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        entry = size, future
        self._queue.append(entry)
        self._sender.hurries_count += 1
        self._sender.turn_soon()
        try:
            async with asyncio.timeout(settings.max_block_ms / 1_000):
                has_room = await future
        except TimeoutError:
            raise BufferFullError(
                f"no room for {size} bytes in buffer_memory ({settings.buffer_memory}) "
                f"in {settings.max_block_ms} ms"
            ) from None
        finally:
            self._sender.hurries_count -= 1
            if entry in self._queue:
                self._queue.remove(entry)
            # The next one is let in when this one has taken its room, or gave up.
            asyncio.get_running_loop().call_soon(self._hand_out)
        if not has_room:
            raise ClientClosedError("the producer was closed while a record waited for room")

    def _hand_out(self) -> None:
        """Let in who stands first, if there is room by now."""
        queue = self._queue
        if not queue or queue[0][1].done():
            return
        if self._used_bytes + queue[0][0] <= self._settings.buffer_memory:
            queue[0][1].set_result(True)

    def _settled(self, batch: Batch) -> None:
        self._used_bytes -= batch.reserved_bytes
        batch.reserved_bytes = 0
        batch.body = bytearray()
        self._hand_out()
        if batch.error is not None:
            self._failed(batch)

    # ---- ending

    def close(self, cause: str) -> None:
        """Fail what is left, and turn away who waits."""
        for lane in self._lanes.values():
            lane.fail_all(cause)
        while self._queue:
            _, future = self._queue.popleft()
            if not future.done():
                future.set_result(False)
