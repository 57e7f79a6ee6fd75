"""What a handler gets beside its request: the node's parts, and who asks."""

import asyncio
from dataclasses import dataclass

from ottla.base.errors import KafkaError
from ottla.base.ids import Uuid
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
from ottla.security.acl import CLUSTER_NAME, REFUSALS, Operation, ResourceType
from ottla.security.authorizer import NOBODY, Authorizer, Requester


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
    authorizer: Authorizer | None
    """None where everybody may do everything."""
    shapes_left: int
    """Shapes of Produce requests that connections may still remember (see produce_shape)."""


class RequestContext:
    """One request: the node's parts, the version it came in, and its sender."""

    __slots__ = ("api_version", "client_id", "connection", "requester", "services")

    def __init__(
        self,
        services: Services,
        api_version: int,
        client_id: str | None,
        connection: Connection,
        requester: Requester = NOBODY,
    ) -> None:
        self.services = services
        self.api_version = api_version
        self.client_id = client_id
        self.connection = connection
        self.requester = requester

    def may(
        self,
        operation: Operation,
        resource_type: ResourceType,
        name: str = CLUSTER_NAME,
        *,
        quiet: bool = False,
    ) -> bool:
        """Whether the sender may do that. `quiet` for what is left out rather than refused."""
        authorizer = self.services.authorizer
        return authorizer is None or authorizer.allows(
            self.requester, operation, resource_type, name, quiet=quiet
        )

    def require(
        self, operation: Operation, resource_type: ResourceType, name: str = CLUSTER_NAME
    ) -> None:
        """KafkaError of the kind of resource where the sender may not."""
        if not self.may(operation, resource_type, name):
            raise KafkaError(REFUSALS[resource_type])

    def require_topic(self, operation: Operation, topic: str | bytes) -> None:
        """The same of a topic, named by name or id. An id that nobody has is let through."""
        if self.services.authorizer is None:
            return
        if isinstance(topic, bytes):
            found = self.services.cluster.image.topics_by_id.get(Uuid(topic))
            if found is None:
                return
            topic = found.name
        self.require(operation, ResourceType.TOPIC, topic)


class CloseConnection(Exception):
    """A handler's way to say that there is no answer but to close; the text is logged."""
