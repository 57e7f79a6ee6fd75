"""The producer: takes records, and tells what became of each.

`send` takes a record (waiting only for metadata and for room in `buffer_memory`) and gives a
`Delivery`; awaiting that gives the record's place in the log or raises its `DeliveryError`.
A failed delivery is never silent: it is logged, and where nobody awaited it, `flush` and `close`
raise it.

Idempotent by default: within one producer's life every record is appended once and, within its
partition, in the order it was sent (`lane` says how). Cancelling a `send` that waits takes no
record; cancelling who awaits a delivery takes nothing back.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeGuard, Unpack

from ottla.base.world import World
from ottla.client.accumulator import Accumulator
from ottla.client.batch import Batch, record_bytes
from ottla.client.cluster import Cluster
from ottla.client.delivery import Deliveries, Delivery, RecordMetadata, copy_of
from ottla.client.errors import (
    ClientClosedError,
    ClientError,
    DeliveryError,
    RecordTooLargeError,
)
from ottla.client.lane import Lane
from ottla.client.options import ProducerOptions
from ottla.client.partitioners import Choice, Default
from ottla.client.producer_settings import ProducerSettings
from ottla.client.sender import Sender
from ottla.client.topology import TopicView
from ottla.records.record import Header

_log = logging.getLogger(__name__)

VALUE_OVERHEAD_BYTES: Final = 16
"""What a record of a value alone takes besides it, at most."""
TURN_BYTES: Final = 256 * 1024
"""`send_many` lets others run after so much."""
UNSEEN_COUNT: Final = 1_000
"""Failed batches that nobody has awaited yet which are kept to be told."""

HeadersLike = Mapping[str, bytes | None] | Sequence[Header]
Item = bytes | bytearray | memoryview | tuple[Any, ...]
"""Of `send_many`: a value, (key, value), or (key, value, headers)."""


class Producer:
    """Sends records to a cluster. Options are those of `ProducerSettings`.

    async with Producer(world=world, bootstrap_servers="127.0.0.1:9092") as producer:
        delivery = await producer.send("greetings", b"hello", key=b"k")
        print(await delivery)
    """

    def __init__(self, *, world: World | None = None, **options: Unpack[ProducerOptions]) -> None:
        """ConfigError where options contradict each other; TypeError for an unknown one."""
        self.settings = ProducerSettings(**options)
        self._world = world
        self._partitioner = self.settings.partitioner or Default(max(self.settings.batch_size, 1))
        self._for_bytes = getattr(self._partitioner, "for_bytes", None)
        self._choices: dict[str, Choice] = {}
        self._unseen: list[Batch] = []
        self._unseen_count = 0
        self._is_open = False
        self._is_ended = False
        self._cluster: Cluster
        self._sender: Sender
        self._accumulator: Accumulator

    # ---- a life

    async def start(self) -> None:
        """Find the cluster. NoBrokersError where none of the bootstrap servers answers."""
        if self._is_open or self._is_ended:
            raise ClientError("a producer starts once")
        world = self._world = self._world or self._open_world()
        cluster = self._cluster = Cluster(world, self.settings)
        self._sender = Sender(world, cluster, self.settings)
        self._accumulator = Accumulator(world, self.settings, self._sender, self._failed)
        self._is_open = True
        try:
            await cluster.start()
        except BaseException:
            await self._end()
            raise

    async def close(self, timeout_ms: int | None = None) -> None:
        """Deliver what was taken, then end. What is not delivered within `timeout_ms` (by default
        as long as deliveries may take) fails. Raises the DeliveryError of what nobody awaited."""
        if not self._is_open or self._is_ended:
            self._is_ended = True
            return
        self._is_ended = True
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1_000):
                await self._settle_all()
        except TimeoutError:
            _log.warning("closed with records undelivered after %s ms", timeout_ms)
        finally:
            await self._end()
        self._raise_unseen()

    async def _end(self) -> None:
        self._is_open, self._is_ended = False, True
        self._sender.close()
        self._accumulator.close("the producer was closed")
        await self._cluster.close()
        self._close_world()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    def _open_world(self) -> World:
        raise ClientError("a producer needs a world; ottla.Producer brings its own")

    def _close_world(self) -> None:
        return

    # ---- sending

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        *,
        key: bytes | None = None,
        headers: HeadersLike = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Take a record. Waits where there is no room, and when the topic is first used.

        Raises BufferFullError, RecordTooLargeError, ClientClosedError, or KafkaError for a topic
        that does not come up in `max_block_ms` or is refused: then the record was not taken.
        """
        # hot: client produce
        view = await self._topic(topic)
        pairs = list(headers.items()) if isinstance(headers, Mapping) else headers
        size = self._size_of(key, value, pairs)
        if not self._accumulator.has_room(size):
            await self._accumulator.wait_room(size)
            self._require_open()
        lane = self._lane(view, partition, key, value)
        when = self._world.clock.time_ms() if timestamp_ms is None else timestamp_ms  # type: ignore[union-attr]
        batch, index = self._accumulator.append(lane, size, when, key, value, list(pairs))
        return Delivery(batch, index, when)

    async def send_and_wait(
        self, topic: str, value: bytes | None = None, **options: Any
    ) -> RecordMetadata:
        """`send`, and await its delivery."""
        return await (await self.send(topic, value, **options))

    async def send_many(
        self, topic: str, records: Iterable[Item], *, partition: int | None = None
    ) -> Deliveries:
        """Take many records: values, (key, value) pairs, or (key, value, headers). Much faster
        than `send` for each, fastest for values alone.

        Awaiting what it returns waits for all of them. Where it raises (as `send` does), what
        came before in `records` was taken and is delivered; `flush` tells if that fails.
        """
        view = await self._topic(topic)
        deliveries = Deliveries()
        run: list[bytes | None] = []
        run_bytes = since_turn = 0
        most = max(1, min(self.settings.batch_size, self.settings.max_request_size))
        for item in records:
            if isinstance(item, bytes):
                size = len(item) + VALUE_OVERHEAD_BYTES
                if run_bytes + size > most and run:
                    await self._extend(deliveries, view, run, run_bytes, partition)
                    since_turn += run_bytes
                    run, run_bytes = [], 0
                run.append(item)
                run_bytes += size
            else:
                if run:
                    await self._extend(deliveries, view, run, run_bytes, partition)
                    run, run_bytes = [], 0
                since_turn += await self._add(deliveries, view, item, partition)
            if since_turn >= TURN_BYTES:
                since_turn = 0
                await asyncio.sleep(0)
        if run:
            await self._extend(deliveries, view, run, run_bytes, partition)
        return deliveries

    async def flush(self) -> None:
        """Until all that was taken so far is settled; nothing lingers meanwhile. Raises the
        DeliveryError of what failed and nobody awaited."""
        self._require_open()
        await self._settle_all()
        self._raise_unseen()

    async def partitions_for(self, topic: str) -> TopicView:
        """The topic as it is known now."""
        return await self._topic(topic)

    # ---- inside

    def _require_open(self) -> None:
        if not self._is_open or self._is_ended:
            raise ClientClosedError(
                "the producer is closed" if self._is_ended else "the producer was not started"
            )

    async def _topic(self, name: str) -> TopicView:
        self._require_open()
        view = self._cluster.topics.get(name)
        if view is None:
            view = await self._cluster.topic(name, self.settings.max_block_ms)
            self._require_open()
        return view

    def _size_of(self, key: bytes | None, value: bytes | None, headers: Any) -> int:
        try:
            size = record_bytes(key, value, headers)
        except (TypeError, AttributeError, ValueError) as error:
            raise TypeError(
                f"key and value are bytes or None, headers (str, bytes or None) pairs: {error}"
            ) from None
        if size > self.settings.max_request_size:
            raise RecordTooLargeError(
                f"a record of about {size} bytes, and max_request_size is "
                f"{self.settings.max_request_size}"
            )
        return size

    def _lane(
        self, view: TopicView, partition: int | None, key: bytes | None, value: bytes | None
    ) -> Lane:
        if partition is None:
            partition = self._partitioner(self._choice(view), key, value)
        if not 0 <= partition < len(view.partitions):
            raise ClientError(
                f"topic {view.name!r} has no partition {partition}: it has {len(view)}"
            )
        return self._accumulator.lane(view.name, partition)

    def _choice(self, view: TopicView) -> Choice:
        choice = self._choices.get(view.name)
        if choice is None or choice.topic is not view:
            assert self._world is not None
            choice = self._choices[view.name] = Choice(view, self._world.rng)
        return choice

    async def _add(
        self, deliveries: Deliveries, view: TopicView, item: Item, partition: int | None
    ) -> int:
        if not _is_tuple(item):
            item = (None, item)
        if not 2 <= len(item) <= 3:
            raise TypeError(f"a tuple of {len(item)}, not (key, value) or (key, value, headers)")
        key, value = item[:2]
        headers = item[2] if len(item) == 3 else ()
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        size = self._size_of(key, value, pairs)
        if not self._accumulator.has_room(size):
            await self._accumulator.wait_room(size)
            self._require_open()
        assert self._world is not None
        lane = self._lane(view, partition, key, value)
        now_ms = self._world.clock.time_ms()
        batch, index = self._accumulator.append(lane, size, now_ms, key, value, pairs)
        deliveries.add(batch, index)
        return size

    async def _extend(
        self,
        deliveries: Deliveries,
        view: TopicView,
        run: list[bytes | None],
        size: int,
        partition: int | None,
    ) -> None:
        """Values that fit into a batch together, or one alone that does not."""
        # hot: client produce
        if partition is None and (self._for_bytes is None or len(run) == 1):
            for value in run:
                await self._add(deliveries, view, (None, value), None)
            return
        if size > self.settings.max_request_size:
            self._size_of(None, run[0], ())
        if not self._accumulator.has_room(size):
            await self._accumulator.wait_room(size)
            self._require_open()
        assert self._world is not None
        if partition is None and self._for_bytes is not None:
            partition = self._for_bytes(self._choice(view), size)
        lane = self._lane(view, partition, None, None)
        batch, index = self._accumulator.extend(lane, size, self._world.clock.time_ms(), None, run)
        deliveries.add(batch, index, len(run))

    async def _settle_all(self) -> None:
        waiting = [batch for batch in self._accumulator.batches() if batch.count]
        self._sender.flushes_count += 1
        self._sender.turn_soon()
        try:
            for batch in waiting:
                await batch.wait()
        finally:
            self._sender.flushes_count -= 1

    def _failed(self, batch: Batch) -> None:
        _log.error("not delivered: %s", batch.error)
        self._unseen_count += 1
        if len(self._unseen) < UNSEEN_COUNT:
            self._unseen.append(batch)

    def _raise_unseen(self) -> None:
        """Raise what failed and was not awaited since this was last called."""
        unseen, self._unseen = self._unseen, []
        count, self._unseen_count = self._unseen_count, 0
        for batch in unseen:
            if not batch.is_observed and batch.error is not None:
                error = copy_of(batch.error)
                if count > 1:
                    error = DeliveryError(
                        f"{count} batches were not delivered; the first: {error}",
                        code=error.code,
                        is_uncertain=error.is_uncertain,
                    )
                raise error


def _is_tuple(item: Item) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(item, tuple)
