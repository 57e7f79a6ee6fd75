"""The blocking face of the clients: the same calls without await, for programs without a loop.

Each client runs on a loop and a thread of its own, so nothing of the caller's is touched and many
threads may call one client. A call is handed over and waited for, which costs some tens of
microseconds: for many records use `send_many`, `poll` and `poll_batch`, which cost that once.
Interrupting a call (Ctrl-C) cancels it on the other side.

The names are `ottla.SyncProducer` and so on, not `ottla.blocking.Producer`: one import, and a
reader of the program sees at the name which one it is.
"""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from ottla.base.ids import TopicPartition
from ottla.client.delivery import Deliveries, Delivery, RecordMetadata, Run
from ottla.client.errors import ClientClosedError
from ottla.client.options import AdminOptions, ConsumerOptions, ProducerOptions
from ottla.client.records import Columns, ConsumerRecord
from ottla.client.subscription import Told
from ottla.embed.clients import Admin, Consumer, Producer

C = TypeVar("C", Producer, Consumer, Admin)
O = TypeVar("O")  # noqa: E741
P = ParamSpec("P")
Callback = Callable[[list[TopicPartition]], object]
"""Of a rebalance: of the partitions that come or go."""
T = TypeVar("T")


class _Blocking(Generic[C]):
    """A client on the loop of a thread, from `start` to `close`."""

    def __init__(self, client: C) -> None:
        self._client: C = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Find the cluster. NoBrokersError where none of the bootstrap servers answers,
        AuthenticationError where one refuses us or is not to be believed."""
        if self._thread is None:
            running: Future[asyncio.AbstractEventLoop] = Future()
            self._thread = threading.Thread(
                target=_run, args=(running,), name="ottla-client", daemon=True
            )
            self._thread.start()
            self._loop = running.result()
        try:
            self._wait(self._client.start())
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        """As the client's own; then its thread ends."""
        if self._loop is not None:
            try:
                self._wait(self._client.close())
            finally:
                self._stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._loop is not None:
            try:
                self._wait(self._client.__aexit__(kind, error, trace))
            finally:
                self._stop()

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join()

    def _wait(self, call: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        if self._loop is None:
            call.close()
            raise ClientClosedError("the client is closed, or was not started")
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise


def _run(running: "Future[asyncio.AbstractEventLoop]") -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        loop.call_soon(running.set_result, loop)
        loop.run_forever()


def waits(
    method: Callable[Concatenate[O, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The blocking twin of a coroutine method."""

    def call(self: Any, /, *args: P.args, **options: P.kwargs) -> T:
        result: T = self._wait(method(self._client, *args, **options))
        return result

    functools.update_wrapper(call, method)
    return call


def at_once(method: Callable[Concatenate[O, P], T]) -> Callable[Concatenate[Any, P], T]:
    """The twin of a method that waits for nothing: called on the client's own thread."""

    def call(self: Any, /, *args: P.args, **options: P.kwargs) -> T:
        async def on_loop() -> T:
            return method(self._client, *args, **options)

        result: T = self._wait(on_loop())
        return result

    functools.update_wrapper(call, method)
    return call


class SyncDelivery:
    """`result(timeout_s)` waits, and gives the RecordMetadata or raises the DeliveryError."""

    def __init__(self, owner: "SyncProducer", delivery: Delivery) -> None:
        self._owner = owner
        self._delivery = delivery

    def done(self) -> bool:
        return self._delivery.done()

    def result(self, timeout_s: float | None = None) -> RecordMetadata:
        return self._owner._wait(_awaited(self._delivery), timeout_s)


class SyncDeliveries:
    """Of many records: `result(timeout_s)` gives their `Run`s."""

    def __init__(self, owner: "SyncProducer", deliveries: Deliveries) -> None:
        self._owner = owner
        self._deliveries = deliveries
        self.count = deliveries.count

    def result(self, timeout_s: float | None = None) -> list[Run]:
        return self._owner._wait(_all_awaited(self._deliveries), timeout_s)


async def _awaited(delivery: Delivery) -> RecordMetadata:
    return await delivery


async def _all_awaited(deliveries: Deliveries) -> list[Run]:
    return await deliveries


async def _left(whole: AbstractAsyncContextManager[None], error: BaseException | None) -> None:
    """The end of a block that raised `error`, or nothing."""
    await whole.__aexit__(None if error is None else type(error), error, None)


def _on_thread(told: Callback | None) -> Told | None:
    """A callback that blocks, off the loop that answers what it asks."""
    if told is None:
        return None

    async def on_thread(partitions: list[TopicPartition]) -> None:
        await asyncio.to_thread(told, partitions)

    return on_thread


class SyncProducer(_Blocking[Producer]):
    """`ottla.Producer` without await.

    with ottla.SyncProducer(bootstrap_servers="127.0.0.1:9092") as producer:
        print(producer.send("greetings", b"hello").result().offset)
    """

    def __init__(self, **options: Unpack[ProducerOptions]) -> None:
        super().__init__(Producer(**options))

    def send(self, topic: str, value: bytes | None = None, **options: Any) -> SyncDelivery:
        return SyncDelivery(self, self._wait(self._client.send(topic, value, **options)))

    def send_many(
        self, topic: str, records: Any, *, keys: Any = None, partition: int | None = None
    ) -> SyncDeliveries:
        call = self._client.send_many(topic, records, keys=keys, partition=partition)
        return SyncDeliveries(self, self._wait(call))

    def send_and_wait(
        self, topic: str, value: bytes | None = None, **options: Any
    ) -> RecordMetadata:
        return self._wait(self._client.send_and_wait(topic, value, **options))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As `Producer.transaction`, for a `with` block."""
        whole = self._client.transaction()
        self._wait(whole.__aenter__())
        try:
            yield
        except BaseException as error:
            self._wait(_left(whole, error))
            raise
        self._wait(_left(whole, None))

    begin_transaction = waits(Producer.begin_transaction)
    commit_transaction = waits(Producer.commit_transaction)
    abort_transaction = waits(Producer.abort_transaction)
    send_offsets = waits(Producer.send_offsets)
    flush = waits(Producer.flush)
    partitions_for = waits(Producer.partitions_for)


class SyncConsumer(_Blocking[Consumer]):
    """`ottla.Consumer` without await.

    with ottla.SyncConsumer(bootstrap_servers="127.0.0.1:9092") as consumer:
        consumer.assign([("greetings", 0)])
        for record in consumer:
            print(record.offset, record.value)
    """

    def __init__(self, **options: Unpack[ConsumerOptions]) -> None:
        super().__init__(Consumer(**options))

    def __iter__(self) -> Iterator[ConsumerRecord]:
        """Record after record, without end; leaving the loop loses nothing."""
        while True:
            yield from self.poll(self._client.settings.max_poll_interval_ms, max_records=1)

    def process(self, handler: Callable[[ConsumerRecord], Any], **options: Any) -> None:
        """As `Consumer.process`; the handler runs on helper threads, `concurrency` at a time."""

        with ThreadPoolExecutor(options.get("concurrency", 10)) as threads:

            async def on_thread(record: ConsumerRecord) -> Any:
                return await asyncio.get_running_loop().run_in_executor(threads, handler, record)

            self._wait(self._client.process(on_thread, **options))

    stop_processing = at_once(Consumer.stop_processing)

    def subscribe(
        self,
        topics: Iterable[str] = (),
        *,
        pattern: str | None = None,
        on_assigned: Callback | None = None,
        on_revoked: Callback | None = None,
        on_lost: Callback | None = None,
    ) -> None:
        """As `Consumer.subscribe`; the callbacks run on helper threads, so they may seek and
        commit."""

        async def on_loop() -> None:
            self._client.subscribe(
                topics,
                pattern=pattern,
                on_assigned=_on_thread(on_assigned),
                on_revoked=_on_thread(on_revoked),
                on_lost=_on_thread(on_lost),
            )

        self._wait(on_loop())

    def batches(self) -> Iterator[Columns]:
        """Batch after batch, without end."""
        while True:
            columns = self.poll_batch(self._client.settings.max_poll_interval_ms)
            if columns is not None:
                yield columns

    poll = waits(Consumer.poll)
    poll_batch = waits(Consumer.poll_batch)
    position = waits(Consumer.position)
    commit = waits(Consumer.commit)
    committed = waits(Consumer.committed)
    seek_to_time = waits(Consumer.seek_to_time)
    beginning_offsets = waits(Consumer.beginning_offsets)
    end_offsets = waits(Consumer.end_offsets)
    offsets_for_times = waits(Consumer.offsets_for_times)
    unsubscribe = waits(Consumer.unsubscribe)
    assign = at_once(Consumer.assign)
    assignment = at_once(Consumer.assignment)
    seek = at_once(Consumer.seek)
    seek_to_beginning = at_once(Consumer.seek_to_beginning)
    seek_to_end = at_once(Consumer.seek_to_end)
    pause = at_once(Consumer.pause)
    resume = at_once(Consumer.resume)
    paused = at_once(Consumer.paused)
    group_metadata = at_once(Consumer.group_metadata)


class SyncAdmin(_Blocking[Admin]):
    """`ottla.Admin` without await."""

    def __init__(self, **options: Unpack[AdminOptions]) -> None:
        super().__init__(Admin(**options))

    create_topics = waits(Admin.create_topics)
    delete_topics = waits(Admin.delete_topics)
    create_partitions = waits(Admin.create_partitions)
    list_topics = waits(Admin.list_topics)
    describe_topics = waits(Admin.describe_topics)
    delete_records = waits(Admin.delete_records)
    list_offsets = waits(Admin.list_offsets)
    describe_configs = waits(Admin.describe_configs)
    alter_configs = waits(Admin.alter_configs)
    list_config_resources = waits(Admin.list_config_resources)
    describe_cluster = waits(Admin.describe_cluster)
    describe_quorum = waits(Admin.describe_quorum)
    describe_features = waits(Admin.describe_features)
    update_features = waits(Admin.update_features)
    describe_log_dirs = waits(Admin.describe_log_dirs)
    alter_replica_log_dirs = waits(Admin.alter_replica_log_dirs)
    elect_leaders = waits(Admin.elect_leaders)
    alter_partition_reassignments = waits(Admin.alter_partition_reassignments)
    list_partition_reassignments = waits(Admin.list_partition_reassignments)
    list_groups = waits(Admin.list_groups)
    describe_groups = waits(Admin.describe_groups)
    delete_groups = waits(Admin.delete_groups)
    remove_group_members = waits(Admin.remove_group_members)
    group_offsets = waits(Admin.group_offsets)
    list_group_offsets = waits(Admin.list_group_offsets)
    alter_group_offsets = waits(Admin.alter_group_offsets)
    delete_group_offsets = waits(Admin.delete_group_offsets)
    list_transactions = waits(Admin.list_transactions)
    describe_transactions = waits(Admin.describe_transactions)
    describe_producers = waits(Admin.describe_producers)
    abort_transaction = waits(Admin.abort_transaction)
    fence_producers = waits(Admin.fence_producers)
    create_acls = waits(Admin.create_acls)
    describe_acls = waits(Admin.describe_acls)
    delete_acls = waits(Admin.delete_acls)
    describe_user_scram_credentials = waits(Admin.describe_user_scram_credentials)
    alter_user_scram_credentials = waits(Admin.alter_user_scram_credentials)
    describe_client_quotas = waits(Admin.describe_client_quotas)
    alter_client_quotas = waits(Admin.alter_client_quotas)
