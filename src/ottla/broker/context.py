"""What a handler gets beside its request: the node's parts, and who asks."""

import asyncio
from dataclasses import dataclass

from ottla.base.options import BrokerLayers, BrokerSettings
from ottla.base.world import Connection, World
from ottla.broker.producer_ids import ProducerIds
from ottla.coordinator.group.coordinator import GroupCoordinator
from ottla.coordinator.transaction.coordinator import TransactionCoordinator
from ottla.coordinator.transaction.leaders import LocalLeaders
from ottla.metadata.cluster import Metadata
from ottla.metadata.controller import Controller
from ottla.replica.fetch_session import FetchSessions
from ottla.replica.manager import ReplicaManager
from ottla.replica.purgatory import Deadlines


@dataclass(slots=True)
class Services:
    """The parts of a node that handlers work with; put together by `node`."""

    world: World
    loop: asyncio.AbstractEventLoop
    node_id: int
    layers: BrokerLayers
    """What is set of this broker's options, by who set it: as it is now."""
    settings: BrokerSettings
    """What the layers come to: as it is now."""
    cluster: Metadata
    controller: Controller
    replicas: ReplicaManager
    deadlines: Deadlines
    fetch_sessions: FetchSessions
    producer_ids: ProducerIds
    groups: GroupCoordinator
    transactions: TransactionCoordinator
    marker_leaders: LocalLeaders
    shapes_left: int
    """Shapes of Produce requests that connections may still remember (see produce_shape)."""


class RequestContext:
    """One request: the node's parts, the version it came in, and its sender."""

    __slots__ = ("api_version", "client_id", "connection", "services")

    def __init__(
        self,
        services: Services,
        api_version: int,
        client_id: str | None,
        connection: Connection,
    ) -> None:
        self.services = services
        self.api_version = api_version
        self.client_id = client_id
        self.connection = connection


class CloseConnection(Exception):
    """A handler's way to say that there is no answer but to close; the text is logged."""
