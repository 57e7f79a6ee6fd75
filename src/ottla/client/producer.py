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
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn, Unpack

from ottla.base.world import World
from ottla.client.accumulator import Accumulator
from ottla.client.batch import Batch, record_bytes
from ottla.client.cluster import Cluster
from ottla.client.columns_in import items_of
from ottla.client.delivery import Deliveries, Delivery, RecordMetadata, copy_of
from ottla.client.errors import (
    BufferFullError,
    ClientClosedError,
    ClientError,
    DeliveryError,
    RecordTooLargeError,
)
from ottla.client.lane import Lane
from ottla.client.life import in_turn
from ottla.client.many import TURN_BYTES, Content, Contents, Many, pairs_of
from ottla.client.options import ProducerOptions
from ottla.client.partitioners import IN_BULK, Choice, Default
from ottla.client.producer_settings import ProducerSettings
from ottla.client.sender import Sender
from ottla.client.topology import TopicView
from ottla.client.transacting import Transacting
from ottla.client.transactional import Transactional
from ottla.records.record import TIMESTAMP_MAX, Header

_log = logging.getLogger(__name__)

UNSEEN_COUNT: Final = 1_000
"""Failed batches that nobody has awaited yet which are kept to be told."""

HeadersLike = Mapping[str, bytes | None] | Sequence[Header]
Item = bytes | bytearray | memoryview | tuple[Any, ...]
"""Of `send_many`: a value, (key, value), or (key, value, headers)."""


class Producer(Transactional):
    """Sends records to a cluster. Options are those of `ProducerSettings`.

    async with Producer(world=world, bootstrap_servers="127.0.0.1:9092") as producer:
        delivery = await producer.send("greetings", b"hello", key=b"k")
        print(await delivery)
    """

    _kind = "producer"

    def __init__(self, *, world: World | None = None, **options: Unpack[ProducerOptions]) -> None:
        """ConfigError where options contradict each other; TypeError for an unknown one."""
        super().__init__(world)
        self.settings = ProducerSettings(**options)
        self._partitioner = self.settings.partitioner or Default(max(self.settings.batch_size, 1))
        bulk = self._partitioner if type(self._partitioner) in IN_BULK else None
        self._stay: Any = getattr(bulk, "stay", None)
        self._stayed: Any = getattr(bulk, "stayed", None)
        self._among: Any = getattr(bulk, "among", None)
        self._choices: dict[str, Choice] = {}
        self._views: dict[str, TopicView] = {}
        """The cluster's topics while the producer is open."""
        self._record_max_bytes = self.settings.max_request_size
        self._since_turn = 0
        self._unseen: list[Batch] = []
        self._unseen_count = 0
        self._sender: Sender
        self._accumulator: Accumulator

    # ---- a life

    def _build(self, world: World) -> Cluster:
        cluster = Cluster(world, self.settings)
        self._sender = Sender(world, cluster, self.settings)
        self._accumulator = Accumulator(world, self.settings, self._sender, self._failed)
        self._time_ms = world.clock.time_ms
        if self.settings.transactional_id is None:
            self._views = cluster.topics
        else:
            self._transacting = Transacting(
                cluster, self.settings, self._accumulator, self._sender, self._settle_all
            )
        return cluster

    async def _begin(self) -> None:
        if self._transacting is not None:
            await self._transacting.start()

    async def close(self, timeout_ms: int | None = None) -> None:
        """Deliver what was taken, then end. What is not delivered within `timeout_ms` (by default
        as long as deliveries may take) fails. Raises the DeliveryError of what nobody awaited.
        A transaction that is open is aborted."""
        if not self._is_open or self._is_ended:
            self._is_ended = True
            return
        self._is_ended, self._views = True, {}
        await in_turn(self._leave(timeout_ms), self._end)
        self._raise_unseen()

    async def _leave(self, timeout_ms: int | None) -> None:
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1_000):
                if self._transacting is not None:
                    await self._transacting.leave()
                await self._settle_all()
        except TimeoutError:
            _log.warning("closed with records undelivered after %s ms", timeout_ms)

    async def _end(self) -> None:
        self._is_ended, self._views = True, {}
        self._sender.close()
        self._accumulator.close("the producer was closed")
        if self._transacting is None:
            await super()._end()
        else:
            await in_turn(self._transacting.close(), super()._end)

    async def __aexit__(self, kind: object, *_: Any) -> None:
        """What the block raised goes before a DeliveryError, which is in the log."""
        try:
            await self.close()
        except DeliveryError:
            if kind is None:
                raise

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
        view = self._views.get(topic)
        if view is None:
            view = await self._topic(topic)
        pairs = pairs_of(headers) if headers else ()
        size = record_bytes(key, value, pairs)
        if size > self._record_max_bytes:
            self._refuse(size)
        if self._since_turn + size > TURN_BYTES or not self._accumulator.has_room(size):
            await self._wait_turn_and_room(size)
        self._since_turn += size
        if timestamp_ms is None:
            timestamp_ms = self._time_ms()
        elif not 0 <= timestamp_ms <= TIMESTAMP_MAX:
            raise ValueError(f"timestamp_ms is {timestamp_ms}, which is no timestamp")
        if partition is None:
            choice = self._choices.get(topic)
            if choice is None or choice.topic is not view:
                choice = self._choice(view)
            partition = self._partitioner(choice, key, value)
        lane = self._lane(view, partition)
        batch, index = self._accumulator.append(lane, size, timestamp_ms, key, value, pairs)
        return Delivery(batch, index, timestamp_ms)

    async def send_and_wait(
        self, topic: str, value: bytes | None = None, **options: Any
    ) -> RecordMetadata:
        """`send`, and await its delivery."""
        return await (await self.send(topic, value, **options))

    async def send_many(
        self,
        topic: str,
        records: Iterable[Item] | Any,
        *,
        keys: Iterable[bytes | None] | Any = None,
        partition: int | None = None,
    ) -> Deliveries:
        """Take many records: values, (key, value) pairs, or (key, value, headers). Much faster
        than `send` for each, fastest for values alone.

        `records` may also be a column of values: a one-dimensional numpy array of bytes (kinds
        S and V; S drops zeros at an end) or objects, or an Arrow array of binary. With `keys`,
        an iterable or a column of as many, `records` are values.

        Awaiting what it returns waits for all of them. Where it raises (as `send` does, or what
        the iterable raises), some of `records` were taken and are delivered, of each partition
        the first ones; `flush` tells if that fails.
        """
        view = await self._topic(topic)
        deliveries = Deliveries()
        among: Sequence[int] | None = None if partition is None else [partition]
        if partition is None and self._among is not None:
            among = self._among(self._choice(view))
        many = Many(
            is_quick=partition is not None or self._stay is not None,
            among=among,
            choose=self._chooser(view, partition),
            take=partial(self._take_run, deliveries, view),
            take_one=partial(self._take_one, deliveries, view, partition),
        )
        try:
            await many.add_all(items_of(records, keys))
        except (BufferFullError, ClientClosedError):
            raise
        except Exception:
            await many.finish()
            raise
        await many.finish()
        return deliveries

    async def flush(self) -> None:
        """Until all that was taken so far is settled; nothing lingers meanwhile. Raises the
        DeliveryError of what failed and nobody awaited."""
        self._require_open()
        await self._settle_all()
        if self._transacting is not None:
            self._transacting.book.raise_error()
        self._raise_unseen()

    async def partitions_for(self, topic: str) -> TopicView:
        """The topic as it is known now."""
        self._require_open()
        return await self._cluster.topic(topic, self.settings.max_block_ms)

    # ---- inside

    def _require_taking(self) -> None:
        """Whether records are taken now."""
        self._require_open()
        if self._transacting is not None:
            self._transacting.book.require_open()

    async def _topic(self, name: str) -> TopicView:
        self._require_taking()
        view = self._views.get(name)
        if view is None:
            view = await self._cluster.topic(name, self.settings.max_block_ms)
            self._require_taking()
        return view

    def _size_of(self, key: bytes | None, value: bytes | None, headers: Any) -> int:
        # hot: client produce
        size = record_bytes(key, value, headers)
        if size > self._record_max_bytes:
            self._refuse(size)
        return size

    def _refuse(self, size: int) -> NoReturn:
        most = self._record_max_bytes
        raise RecordTooLargeError(f"a record of about {size} bytes, and max_request_size is {most}")

    async def _wait_turn_and_room(self, size: int) -> None:
        """Let others run (the sender above all) after so many bytes, and wait for room."""
        if self._since_turn + size > TURN_BYTES:
            self._since_turn = 0
            await asyncio.sleep(0)
        if not self._accumulator.has_room(size):
            await self._accumulator.wait_room(size)
        self._require_taking()

    def _lane(self, view: TopicView, partition: int) -> Lane:
        # hot: client produce
        if not 0 <= partition < len(view.partitions):
            raise ClientError(
                f"topic {view.name!r} has no partition {partition}: it has {len(view)}"
            )
        return self._accumulator.lane(view.name, partition)

    def _chooser(
        self, view: TopicView, partition: int | None
    ) -> Callable[[bytes | None, bytes | None], int | None]:
        """Gives the partition of a key and a value; None where it goes wherever its run goes."""
        if partition is not None:
            return lambda key, value: partition
        choose = partial(self._partitioner, self._choice(view))
        if self._stay is None:
            return choose
        return lambda key, value: None if key is None else choose(key, value)

    def _choice(self, view: TopicView) -> Choice:
        choice = self._choices.get(view.name)
        if choice is None or choice.topic is not view:
            assert self._world is not None
            choice = self._choices[view.name] = Choice(view, self._world.rng)
        return choice

    async def _take_one(
        self,
        deliveries: Deliveries,
        view: TopicView,
        partition: int | None,
        key: Content,
        value: Content,
        headers: list[Header],
    ) -> None:
        size = self._size_of(key, value, headers)
        await self._wait_turn_and_room(size)
        self._since_turn += size
        if partition is None:
            partition = self._partitioner(self._choice(view), key, value)
        lane = self._lane(view, partition)
        batch, index = self._accumulator.append(lane, size, self._time_ms(), key, value, headers)
        deliveries.add(batch, index)

    async def _take_run(
        self,
        deliveries: Deliveries,
        view: TopicView,
        partition: int | None,
        keys: Contents | None,
        values: Contents,
    ) -> None:
        # hot: client produce
        at, accumulator = 0, self._accumulator
        while at < len(values):
            key, value = None if keys is None else keys[at], values[at]
            size = self._size_of(key, value, ())
            await self._wait_turn_and_room(size)
            where = self._stay(self._choice(view)) if partition is None else partition
            lane, before = self._lane(view, where), accumulator.used_bytes
            batch, stop = accumulator.extend(lane, self._time_ms(), keys, values, at)
            if stop > at:
                deliveries.add(batch, batch.count - (stop - at), stop - at)
                size = accumulator.used_bytes - before
                self._since_turn += size
            else:  # larger than a batch
                await self._take_one(deliveries, view, where, key, value, [])
                stop = at + 1
            if partition is None:
                self._stayed(self._choice(view), size)
            at = stop

    async def _settle_all(self) -> None:
        waiting = [batch for batch in self._accumulator.batches() if batch.count]
        self._sender.hurries_count += 1
        self._sender.turn_soon()
        try:
            for batch in waiting:
                await batch.wait()
            if not self.settings.acks_number:
                await self._wait_written()
        finally:
            self._sender.hurries_count -= 1

    async def _wait_written(self) -> None:
        """acks=0: what is settled may still wait for a broker that is slow to read it."""
        timeout_ms = self.settings.delivery_timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await self._sender.wait_quiet()
        except TimeoutError:
            _log.warning("acks=0: a broker did not take all records in %d ms", timeout_ms)

    def _all_views(self) -> dict[str, TopicView]:
        return self._cluster.topics

    def _failed(self, batch: Batch) -> None:
        if self._transacting is not None:  # whose error tells the user
            if self._transacting.records_failed(batch):
                _log.error("not delivered: %s", batch.error)
            return
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
