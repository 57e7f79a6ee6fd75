"""The transaction coordinator of a node: `__transaction_state`, and the way to the shard of an id.

The topic is made when somebody first asks for a coordinator; a cluster with fewer brokers than
`transaction.state.log.replication.factor` has transactions all the same, where Kafka would not,
and `transaction.state.log.min.isr` counts at most as many replicas as there are.

`admit` is what stands before each first write of a transaction to a partition (KIP-890): the
coordinator knows of it, or it is not done.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import NodeId
from ottla.base.options import BrokerSettings
from ottla.base.world import World
from ottla.coordinator.machine import Host, Operation, Outcome
from ottla.coordinator.runtime import CoordinatorRuntime
from ottla.coordinator.shard import Shard
from ottla.coordinator.transaction.machine import TransactionMachine
from ottla.coordinator.transaction.markers import EndMarker, Leaders, MarkerJob
from ottla.coordinator.transaction.state import BUMPING, Place, Producer
from ottla.metadata.controller import Controller
from ottla.metadata.delta import Delta
from ottla.metadata.image import ClusterImage
from ottla.metadata.topic_names import TRANSACTION_STATE
from ottla.replica.manager import ReplicaManager

logger = logging.getLogger(__name__)

SETTLE_S: Final = 0.1
"""Kafka's add.partitions.to.txn.retry.backoff.max.ms."""

TransactionOperation = Operation[TransactionMachine]


class ProducerIds(Protocol):
    """What gives producer ids that nobody has."""

    async def ready(self) -> None:
        """Until `take_now` gives one; KafkaError where it will not."""

    def take_now(self) -> int:
        """KafkaError where there is none at hand."""


class TransactionCoordinator:
    def __init__(
        self,
        world: World,
        loop: asyncio.AbstractEventLoop,
        replicas: ReplicaManager,
        controller: Controller,
        settings: Callable[[], BrokerSettings],
        *,
        leaders: Leaders,
        producer_ids: ProducerIds,
        version: Callable[[], int],
    ) -> None:
        """`version` is the cluster's transaction.version as it is now."""
        self._loop = loop
        self._controller = controller
        self._settings = settings
        self._producer_ids = producer_ids
        self._image: ClusterImage

        def send(
            marker: EndMarker, places: Sequence[Place], marked: Callable[[Place], None]
        ) -> MarkerJob:
            return MarkerJob(loop, leaders, marker, places, marked)

        def make(host: Host) -> TransactionMachine:
            return TransactionMachine(host, settings, version, send, producer_ids.take_now)

        self._runtime = CoordinatorRuntime(
            TRANSACTION_STATE,
            world,
            loop,
            replicas,
            make,
            commit_timeout_ms=lambda: settings().offsets_commit_timeout_ms,
        )

    def follow(self, delta: Delta, image: ClusterImage) -> None:
        """Told of every image, behind the replica manager."""
        self._image = image
        self._runtime.follow(delta, image)

    def close(self) -> None:
        self._runtime.close()

    # -- the topic

    async def node_of(self, transactional_id: str) -> NodeId:
        """The node that coordinates an id. KafkaError COORDINATOR_NOT_AVAILABLE."""
        if TRANSACTION_STATE not in self._image.topics:
            await self.make_topic()
        return self._runtime.node_of(transactional_id, self._image)

    async def make_topic(self) -> None:
        """KafkaError COORDINATOR_NOT_AVAILABLE where it cannot be made now."""
        settings = self._settings()
        brokers = len(self._image.brokers)
        replicas = min(settings.transaction_state_log_replication_factor, brokers)
        try:
            await self._controller.create_topic(
                TRANSACTION_STATE,
                partitions=settings.transaction_state_log_num_partitions,
                replication_factor=replicas,
                configs={
                    "cleanup.policy": "compact",
                    "compression.type": "uncompressed",
                    "min.insync.replicas": str(
                        min(settings.transaction_state_log_min_isr, replicas)
                    ),
                    "segment.bytes": str(settings.transaction_state_log_segment_bytes),
                    "unclean.leader.election.enable": "false",
                },
            )
        except KafkaError as error:
            if error.code != ErrorCode.TOPIC_ALREADY_EXISTS:
                logger.warning("%s cannot be made: %s", TRANSACTION_STATE, error)
                raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE) from error

    @property
    def shards(self) -> list[Shard[TransactionMachine]]:
        return self._runtime.shards

    # -- operations

    async def ask(self, transactional_id: str, operation: TransactionOperation) -> Any:
        """The response of an operation on the shard of an id; KafkaError."""
        return await self._runtime.ask(self._runtime.shard_of(transactional_id), operation)

    async def ask_all(self, operation: TransactionOperation) -> list[Any]:
        """The response of each shard of this node; KafkaError while one of them loads."""
        return await self._runtime.ask_all(operation)

    async def init(
        self, transactional_id: str, timeout_ms: int, expected: Producer | None
    ) -> Producer:
        if not 0 < timeout_ms <= self._settings().transaction_max_timeout_ms:
            raise KafkaError(ErrorCode.INVALID_TRANSACTION_TIMEOUT)

        def operation(machine: TransactionMachine, now_ms: int) -> Outcome:
            return machine.init(transactional_id, timeout_ms, expected, now_ms)

        await self._provide_ids()
        producer: Producer = await self.ask(transactional_id, operation)
        return producer

    async def end(
        self, transactional_id: str, producer: Producer, *, commit: bool, is_bumping: bool
    ) -> Producer:
        version = BUMPING if is_bumping else 0

        def operation(machine: TransactionMachine, now_ms: int) -> Outcome:
            return machine.end(
                transactional_id, producer, commit=commit, version=version, now_ms=now_ms
            )

        await self._provide_ids()
        answer: Producer = await self.ask(transactional_id, operation)
        return answer

    async def _provide_ids(self) -> None:
        """Few operations need a producer id: only these fail where none can be had."""
        with suppress(KafkaError):
            await self._producer_ids.ready()

    async def add(
        self,
        transactional_id: str,
        producer: Producer,
        places: Iterable[Place],
        *,
        is_bumping: bool,
    ) -> ErrorCode:
        """Partitions that the transaction is about to write to. The markers of the one before are
        waited for, for a moment: clients that are told CONCURRENT_TRANSACTIONS wait longer."""
        wanted = tuple(places)
        version = BUMPING if is_bumping else 0
        deadline = self._loop.time() + SETTLE_S

        def operation(machine: TransactionMachine, now_ms: int) -> Outcome:
            return machine.add(transactional_id, producer, wanted, version, now_ms)

        while True:
            try:
                await self.ask(transactional_id, operation)
            except KafkaError as error:
                is_early = error.code == ErrorCode.CONCURRENT_TRANSACTIONS
                if is_early and await self._settled(transactional_id, deadline):
                    continue
                return error.code
            return ErrorCode.NONE

    async def _settled(self, transactional_id: str, deadline: float) -> bool:
        """Whether it is worth asking again before the deadline; it is waited for until then."""

        def operation(machine: TransactionMachine, now_ms: int) -> Outcome:
            return machine.settling(transactional_id)

        try:
            event = await self.ask(transactional_id, operation)
            async with asyncio.timeout_at(deadline):
                await event.wait()
        except (KafkaError, TimeoutError):
            return False
        return True

    async def verify(
        self, transactional_id: str, producer: Producer, places: Iterable[Place]
    ) -> dict[Place, ErrorCode]:
        """Whether each of these partitions is in the transaction."""
        wanted = tuple(places)

        def operation(machine: TransactionMachine, now_ms: int) -> Outcome:
            return machine.verify(transactional_id, producer, wanted)

        try:
            codes: dict[Place, ErrorCode] = await self.ask(transactional_id, operation)
        except KafkaError as error:
            return dict.fromkeys(wanted, error.code)
        return codes

    async def admit(
        self,
        transactional_id: str,
        producer: Producer,
        places: Iterable[Place],
        *,
        is_bumping: bool,
    ) -> dict[Place, ErrorCode]:
        """Before a first write to these partitions: whether the transaction holds them. In the
        second protocol it does from now on."""
        if not transactional_id:
            return dict.fromkeys(places, ErrorCode.INVALID_REQUEST)
        if not is_bumping:
            return await self.verify(transactional_id, producer, places)
        wanted = tuple(places)
        code = await self.add(transactional_id, producer, wanted, is_bumping=True)
        return dict.fromkeys(wanted, code)
