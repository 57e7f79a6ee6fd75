"""One node, put together from a World: what starts in which order, and what stops.

Start   listen (connections wait) → claim the log directories → metadata store → register → open
        the logs of the image's topics, or adopt them → partitions from the image → serve.
Stop    accept no more → answer what waits → flush → checkpoints and the clean-shutdown marker.

Listening comes first, so that a port in use is found before a directory is touched. A start that
fails lets go of everything it took and raises `StartError` with one line for a person.

Log directories, as in Kafka: one that is another's, in use, or unreadable in its identity stops the
start; one whose disk does not let us is offline, and the others serve, if there is one, and the
first (it holds the metadata store) is among them. Logs are opened on helper threads. The node
serves when all are open, or after SERVE_AFTER_S those that are: the partitions of the others are
NOT_LEADER_OR_FOLLOWER until they are, which clients retry.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from ottla.base.errors import CorruptionError, KafkaError
from ottla.base.ids import NodeId
from ottla.base.listeners import Listener
from ottla.base.options import BrokerLayers, effective_broker, effective_topic
from ottla.base.world import Connection, ListenCaps, World
from ottla.base.world import Listener as OpenListener
from ottla.broker.adoption import adopt, catch_up
from ottla.broker.context import Services
from ottla.broker.node_dirs import NodeDirs
from ottla.broker.pipeline import Session
from ottla.broker.produce_shape import NODE_SHAPES_MAX
from ottla.broker.producer_ids import ProducerIds
from ottla.broker.settings import NodeSettings, StartError, authorizer_of
from ottla.coordinator.group.coordinator import GroupCoordinator
from ottla.coordinator.transaction.coordinator import TransactionCoordinator
from ottla.coordinator.transaction.leaders import LocalLeaders
from ottla.metadata.cluster import Metadata
from ottla.metadata.controller import Controller
from ottla.metadata.delta import Delta
from ottla.metadata.embedded_store import EmbeddedStore
from ottla.metadata.features import TRANSACTION, level_of
from ottla.metadata.image import ClusterImage
from ottla.metadata.store import Store, StoreError
from ottla.protocol.api_key import ApiKey
from ottla.protocol.framing import compile_ahead
from ottla.replica.cleaner import Cleaners
from ottla.replica.fetch_session import FetchSessions
from ottla.replica.loading import Loading, survey
from ottla.replica.manager import ReplicaManager
from ottla.replica.purgatory import Deadlines
from ottla.replica.topic_rules import log_config
from ottla.storage.config import LogConfig
from ottla.storage.group_opening import Opened
from ottla.storage.identity import Identity
from ottla.storage.log_dir import LogDir, LogDirError
from ottla.storage.names import KRAFT_TOPIC

log = logging.getLogger(__name__)

LEASE_MS: Final = 9_000
SERVE_AFTER_S: Final = 5.0
"""How long a start waits for logs that are being recovered."""
LOAD_GRACE_S: Final = 1.0
"""How long a start waits for coordinators that load."""
STOP_POLL_S: Final = 0.005
STOP_GRACE_S: Final = 10.0
"""How long a stop waits for what handlers have begun."""
HOT: Final = ((ApiKey.PRODUCE, 9), (ApiKey.FETCH, 12))

OpenStore = Callable[[World, str], Awaitable[Store]]
"""Opens the metadata store; given the world and the path that a file of it would have."""


class Node:
    def __init__(
        self,
        world: World,
        settings: NodeSettings,
        *,
        on_failure: Callable[[BaseException], None],
        open_store: OpenStore = EmbeddedStore.open,
    ) -> None:
        """`on_failure` is told of what the node cannot go on after."""
        self._open_store = open_store
        self.world = world
        self.settings = settings
        self.node_id = NodeId(settings.broker.node_id)
        self.services: Services
        self._is_open = False
        self._on_failure = on_failure
        self._listeners: list[OpenListener] = []
        self._sessions: dict[Session, None] = {}
        self._taken = AsyncExitStack()
        """What was taken while starting, in order: let go of the other way round."""

    async def start(self) -> tuple[str, int]:
        """Serve; the address of the first listener. StartError where that cannot be."""
        try:
            for listener in self.settings.listeners:
                self._listen(listener)
            await self._open()
        except OSError as error:
            await self._taken.aclose()
            raise StartError(f"{error.filename} cannot be used: {error.strerror}") from error
        except (StoreError, LogDirError, CorruptionError, KafkaError) as error:
            await self._taken.aclose()
            raise StartError(" ".join(str(error).split())) from error
        except BaseException:
            await self._taken.aclose()
            raise
        self._is_open = True
        for session in self._sessions:
            session.serve(self.services)
        return self._listeners[0].address

    async def stop(self) -> None:
        """Stop cleanly: whoever waits is answered, all is flushed, the next start is quick."""
        for listener in self._listeners:
            listener.close()
        for session in list(self._sessions):
            session.finish()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STOP_GRACE_S
        while not all(session.is_idle for session in self._sessions):
            if loop.time() > deadline:
                log.warning("stopping with requests that found no answer in %s s", STOP_GRACE_S)
                break
            await asyncio.sleep(STOP_POLL_S)
        for session in list(self._sessions):
            session.close()
        await self._taken.aclose()

    # -- starting

    def _listen(self, listener: Listener) -> None:
        broker = self.settings.broker
        kept = broker.queued_max_request_bytes
        caps = ListenCaps(
            max_connections=broker.max_connections,
            max_connections_per_ip=broker.max_connections_per_ip,
            max_idle_ms=broker.connections_max_idle_ms,
            max_kept_bytes=None if kept == -1 else kept,
        )
        try:
            opened = self.world.network.listen(
                listener.host, listener.port, self._accept, caps=caps
            )
        except OSError as error:
            where = f"{listener.host}:{listener.port}"
            raise StartError(f"cannot listen on {where}: {error.strerror or error}") from error
        self._listeners.append(opened)
        self._taken.callback(opened.close)

    def _accept(self, connection: Connection) -> Session:
        session = Session(
            connection,
            frame_cap=self.settings.broker.socket_request_max_bytes,
            stop_node=self._on_failure,
            forget=self._forget,
        )
        self._sessions[session] = None
        if self._is_open:
            session.serve(self.services)
        return session

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session, None)

    async def _open(self) -> None:
        """Everything but the listeners, in the order in which one needs the other."""
        world, taken = self.world, self._taken
        loop = asyncio.get_running_loop()
        dirs = self._claim()
        metadata, controller = await self._join(dirs)
        deadlines = Deadlines(loop)
        taken.callback(deadlines.close)
        broker = self.settings.broker
        replicas = ReplicaManager(world, loop, self.node_id, broker, dirs.log_dirs)
        loading = await self._open_logs(dirs, metadata, controller, replicas)
        taken.push_async_callback(replicas.close)
        taken.push_async_callback(loading.stop)
        producer_ids = ProducerIds(controller)
        groups, leaders, transactions = self._coordinators(
            metadata, controller, replicas, producer_ids
        )
        self.services = Services(
            world=world,
            loop=loop,
            node_id=self.node_id,
            layers=self.settings.layers,
            settings=broker,
            cluster=metadata,
            controller=controller,
            replicas=replicas,
            deadlines=deadlines,
            fetch_sessions=FetchSessions(
                broker.max_incremental_fetch_session_cache_slots, world.clock, world.rng
            ),
            producer_ids=producer_ids,
            groups=groups,
            transactions=transactions,
            marker_leaders=leaders,
            authorizer=authorizer_of(broker),
            shapes_left=NODE_SHAPES_MAX,
        )
        for follow in (replicas.follow, groups.follow, transactions.follow):
            metadata.subscribe(follow)
        metadata.subscribe(self._configured)
        metadata.subscribe(self._authorized)
        self._keep_up(replicas)
        compile_ahead(HOT)
        await groups.wait_loaded(LOAD_GRACE_S)

    def _claim(self) -> NodeDirs:
        """The log directories; the node has the id that they tell, where none is set."""
        dirs = NodeDirs(self.world, self.settings.broker.log_dirs)
        if dirs.identity is not None:
            self.settings = self.settings.of_node(dirs.identity.node_id)
            self.node_id = NodeId(self.settings.broker.node_id)
        dirs.claim(
            self.node_id, lambda log_dir: self._taken.callback(log_dir.close, is_clean=False)
        )
        return dirs

    async def _join(self, dirs: NodeDirs) -> tuple[Metadata, Controller]:
        """Open the metadata, enter this node, and make sure of its directories."""
        world, broker = self.world, self.settings.broker
        store = await self._open_store(world, dirs.path_of_store())
        cluster_id = dirs.identity.cluster_id if dirs.identity is not None else None
        metadata = await Metadata.open(store, world.rng, cluster_id=cluster_id)
        self._taken.push_async_callback(metadata.close)
        controller = Controller(metadata, self.node_id, world.rng)
        await dirs.settle(store, Identity(metadata.image.cluster_id, self.node_id))
        lease = await store.grant(LEASE_MS)
        host, port = self._advertised()
        await controller.register_broker(
            self.node_id, host=host, port=port, rack=broker.broker_rack, lease=lease
        )
        await controller.maybe_become(lease)
        return metadata, controller

    def _coordinators(
        self,
        metadata: Metadata,
        controller: Controller,
        replicas: ReplicaManager,
        producer_ids: ProducerIds,
    ) -> tuple[GroupCoordinator, LocalLeaders, TransactionCoordinator]:
        world, loop = self.world, asyncio.get_running_loop()
        groups = GroupCoordinator(world, loop, replicas, controller, lambda: self.services.settings)
        self._taken.callback(groups.close)
        leaders = LocalLeaders(world.clock, replicas, groups, lambda: metadata.image)
        transactions = TransactionCoordinator(
            world,
            loop,
            replicas,
            controller,
            lambda: self.services.settings,
            leaders=leaders,
            producer_ids=producer_ids,
            version=lambda: level_of(TRANSACTION, metadata.image.features),
        )
        self._taken.callback(transactions.close)
        return groups, leaders, transactions

    def _keep_up(self, replicas: ReplicaManager) -> None:
        """Begin what is done in background."""
        broker = self.settings.broker
        if broker.log_cleaner_enable and broker.log_cleaner_threads:
            self._clean(replicas)
        self._every(broker.log_retention_check_interval_ms, replicas.clean_up)
        self._every(broker.log_flush_offset_checkpoint_interval_ms, replicas.write_checkpoints)

    def _clean(self, replicas: ReplicaManager) -> None:
        cleaners = Cleaners(
            self.world,
            replicas,
            settings=lambda: self.services.settings,
            on_failure=self._on_failure,
        )
        cleaners.start()
        self._taken.push_async_callback(cleaners.close)

    async def _open_logs(
        self,
        dirs: NodeDirs,
        metadata: Metadata,
        controller: Controller,
        replicas: ReplicaManager,
    ) -> Loading:
        """The logs of the image's topics; at the first start of a store, all that are there."""
        log_dirs = dirs.log_dirs
        is_adopting = await controller.is_adoption_due()
        image = metadata.image
        broker = effective_broker(self._layers(image))

        def config_of(name: str) -> LogConfig | None:
            topic = image.topics.get(name)
            if topic is not None:
                return log_config(effective_topic(topic.configs, broker), broker)
            is_wanted = is_adopting and name != KRAFT_TOPIC
            return log_config(effective_topic({}, broker), broker) if is_wanted else None

        async def prepare(_: LogDir, opened: list[Opened]) -> None:
            if not is_adopting:
                known = [(each.topic_id, each.log) for each in opened]
                logs = [(each, log) for each, log in known if each is not None and log is not None]
                await catch_up(controller, metadata.image, logs)

        await survey(self.world.offload, log_dirs, config_of)
        replicas.is_short = await dirs.account(metadata.store, self.node_id, image)
        loading = Loading(
            self.world.offload,
            log_dirs,
            threads=broker.num_recovery_threads_per_data_dir,
            prepare=prepare,
            on_opened=replicas.opened,
            on_failed=replicas.failed,
            on_bug=self._on_failure,
        )
        try:
            if not await loading.wait(None if is_adopting else SERVE_AFTER_S):
                left = sum(len(each.pending) for each in log_dirs)
                log.warning("%d logs are not open yet: they are served when they are", left)
            self._check_usable(log_dirs, is_adopting=is_adopting)
            if is_adopting:
                await adopt(controller, log_dirs, self.world.rng)
        except BaseException:
            await loading.stop()
            raise
        return loading

    @staticmethod
    def _check_usable(log_dirs: Sequence[LogDir], *, is_adopting: bool) -> None:
        """Some directory must be; all of them, where topics are made for what is in them."""
        failures = [each.failure for each in log_dirs if each.failure is not None]
        if len(failures) == len(log_dirs) or (failures and is_adopting):
            raise failures[0]

    def _layers(self, image: ClusterImage) -> BrokerLayers:
        """What is set of this node's options."""
        return BrokerLayers(
            static=self.settings.layers.static,
            dynamic_default=image.broker_configs.get("", {}),
            dynamic=image.broker_configs.get(str(self.node_id), {}),
        )

    def _advertised(self) -> tuple[str, int]:
        """What clients are told of the first listener."""
        listener = self.settings.listeners[0]
        told = self.settings.advertised[listener.name]
        return told.host, told.port or self._listeners[0].address[1]

    def _configured(self, delta: Delta, image: ClusterImage) -> None:
        """Options that were altered while running."""
        services = self.services
        if not {"", str(self.node_id)}.intersection(delta.broker_configs_changed):
            return
        services.layers = self._layers(image)
        services.settings = effective_broker(services.layers)
        services.replicas.reconfigure(services.settings, image)

    def _authorized(self, delta: Delta, image: ClusterImage) -> None:
        if delta.acls_changed and self.services.authorizer is not None:
            self.services.authorizer.take(image.acls.values())

    def _every(self, interval_ms: int, call: Callable[[], None]) -> None:
        """Call again and again until the node stops."""
        loop = asyncio.get_running_loop()
        handle: asyncio.TimerHandle

        def turn() -> None:
            nonlocal handle
            handle = loop.call_later(interval_ms / 1000, turn)
            try:
                call()
            except Exception as error:
                self._on_failure(error)

        handle = loop.call_later(interval_ms / 1000, turn)
        self._taken.callback(lambda: handle.cancel())
