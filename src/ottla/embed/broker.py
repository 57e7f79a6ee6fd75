"""A broker in the caller's own process, on a loop and a thread of its own.

A test that blocks in some client's poll() must not stop the broker that it waits for, so the
caller's thread and loop are never used. Nothing of the process is touched: no signal handler, no
logging set-up, no collector setting. Many brokers may live in one process.
"""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from os import PathLike, fspath
from typing import Any, Self, TypeVar

from ottla.base.world import World
from ottla.broker.context import Services
from ottla.broker.group_report import consumer_lags, group_counts
from ottla.broker.node import Node
from ottla.broker.settings import node_settings
from ottla.host.reactor import close_world, real_world

Address = tuple[str, int]
T = TypeVar("T")


class Broker:
    """A broker on a free port of this machine, for as long as the block lasts.

    `data` is its log directory, kept afterwards; without one a temporary directory is used and
    removed. `settings` are broker options by Kafka's keys (`{"num.partitions": "3"}`).
    Raises `ottla.StartError` where it cannot start, with what is in the way in one line.

        async with ottla.Broker() as broker:
            async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
                await producer.send_and_wait("greetings", b"hello")

        with ottla.Broker(settings={"num.partitions": "3"}) as broker:
            producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
            producer.produce("greetings", b"hello")
            producer.flush()
    """

    def __init__(
        self,
        data: str | PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._data = None if data is None else fspath(data)
        self._temporary: str | None = None
        self._listen = f"{host}:{port}"
        self._settings = dict(settings or {})
        self._thread: threading.Thread | None = None
        self._address: Future[Address] = Future()
        self._request_stop: Callable[[], object] = lambda: None
        self._node: tuple[Node, asyncio.AbstractEventLoop]

    @property
    def address(self) -> Address:
        """(host, port) that it listens on; RuntimeError before it has started."""
        if self._thread is None or not self._address.done():
            raise RuntimeError("the broker has not started")
        return self._address.result()

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, as clients take it."""
        host, port = self.address
        return f"{host}:{port}"

    def group_counts(self) -> dict[tuple[str, str], int]:
        """How many groups of consumers there are, by type and state.

        `{("classic", "Stable"): 2, ("consumer", "Empty"): 1}`. Raises RuntimeError while the
        broker does not run, and KafkaError while a part of the groups loads. Kafka's metrics
        `group-count` and `consumer-group-count` in one.
        """
        return self._ask(group_counts)

    def consumer_lag(self) -> dict[str, dict[tuple[str, int], int]]:
        """How many records each group is behind, by topic and partition.

        `{"readers": {("greetings", 0): 5}}`: from what was committed to the high watermark, as
        `kafka-consumer-groups --describe` tells it. A partition of which nothing was committed
        is not there. Raises as `group_counts`.
        """
        return self._ask(consumer_lags)

    def _ask(self, question: Callable[[Services], Coroutine[Any, Any, T]]) -> T:
        """The answer of the node, on its own loop."""
        self.address  # noqa: B018 - it runs, or this raises
        node, loop = self._node
        return asyncio.run_coroutine_threadsafe(question(node.services), loop).result()

    def start(self) -> None:
        """Start, and return when clients are served."""
        self._launch()
        try:
            self._address.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop cleanly: answer what is under way, flush, leave a directory that opens at once."""
        thread = self._thread
        if thread is None:
            return
        wait([self._address])  # a start that was interrupted comes to its end first
        with suppress(RuntimeError):  # its loop is closed: it failed by itself
            self._request_stop()
        thread.join()
        self._thread = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._launch()
        try:
            # Shielded: to cancel the start is to stop, not to take the address away.
            await asyncio.shield(asyncio.wrap_future(self._address))
        except BaseException:
            await asyncio.to_thread(self.stop)
            raise
        return self

    async def __aexit__(self, *_: Any) -> None:
        await asyncio.to_thread(self.stop)

    def _launch(self) -> None:
        if self._thread is not None:
            raise RuntimeError("the broker runs already")
        self._address = Future()
        if self._data is None:
            self._temporary = tempfile.mkdtemp(prefix="ottla-")
        self._thread = threading.Thread(target=self._run, name="ottla-broker", daemon=True)
        self._thread.start()

    def _given(self, world: World) -> World:
        """The world as the node sees it: what a test puts in front of it goes here."""
        return world

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        world = real_world(loop)
        try:
            settings = node_settings(
                {
                    "listeners": f"PLAINTEXT://{self._listen}",
                    "log.dirs": self._data or self._temporary or "",
                    **self._settings,
                }
            )
            stopped = asyncio.Event()
            self._request_stop = lambda: loop.call_soon_threadsafe(stopped.set)
            node = Node(self._given(world), settings, on_failure=lambda _: stopped.set())
            address = await node.start()
        except BaseException as error:
            self._address.set_exception(error)
        else:
            self._node = node, loop
            self._address.set_result(address)
            await stopped.wait()
            await node.stop()
        finally:
            close_world(world)
