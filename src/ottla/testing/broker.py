"""A broker in this process whose clients can be made to suffer.

The faults stand between the broker and its world, so that the broker is the one that ships: its
listener gives it connections with a gate in front, its disk files that may be slow to sync.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Final

from ottla.base.ids import Uuid
from ottla.base.world import NO_CAPS, Connection, Handler, ListenCaps, Listener, Network, World
from ottla.embed import broker
from ottla.testing.faults import Faults
from ottla.testing.gate import Gate, TopicOf
from ottla.testing.slow_disk import SlowDisk

TEST_SETTINGS: Final = {
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
}
"""What a broker for tests does not wait for, and how few partitions do for its own topics."""


class Broker(broker.Broker):
    """`ottla.Broker` with `faults`, and with settings that make tests quick (TEST_SETTINGS).

    with ottla.testing.Broker() as broker:
        broker.faults.delay("Fetch", ms=200)
    """

    def __init__(
        self,
        data: str | PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data, host=host, port=port, settings={**TEST_SETTINGS, **(settings or {})})
        self.faults = Faults()

    def stop(self) -> None:
        """As `ottla.Broker.stop`; the faults are lifted first."""
        self.faults.clear()
        super().stop()

    def _given(self, world: World) -> World:
        network = _GatedNetwork(world.network, self.faults, self._topic_of)
        return replace(world, network=network, disk=SlowDisk(self.faults))

    def _topic_of(self, topic_id: Uuid) -> str | None:
        """On the broker's thread."""
        node, _ = self._node
        found = node.services.cluster.image.topics_by_id.get(topic_id)
        return None if found is None else found.name


class _GatedNetwork:
    """A network whose listeners put a gate in front of every connection."""

    def __init__(self, network: Network, faults: Faults, topic_of: TopicOf) -> None:
        self._network = network
        self._faults = faults
        self._topic_of = topic_of
        self.connect = network.connect

    def listen(
        self,
        host: str,
        port: int,
        accept: Callable[[Connection], Handler | None],
        *,
        caps: ListenCaps = NO_CAPS,
    ) -> Listener:
        def accept_gated(connection: Connection) -> Handler | None:
            gate = Gate(connection, accept, self._faults, self._topic_of)
            return gate if gate.session is not None else None

        return self._network.listen(host, port, accept_gated, caps=caps)
