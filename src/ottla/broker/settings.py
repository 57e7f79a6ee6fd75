"""A node's settings: what was set of it, checked as a whole before anything is touched."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ottla.base.errors import KafkaError
from ottla.base.foreign_options import accept_static
from ottla.base.group_options import check_broker_bounds
from ottla.base.listeners import Listener, advertised_listeners, client_listeners
from ottla.base.options import BrokerLayers, BrokerSettings, effective_broker
from ottla.security.authorizer import Authorizer

log = logging.getLogger(__name__)


class StartError(Exception):
    """The node cannot start. The message is one line, and says what is in the way."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    layers: BrokerLayers
    """What was set when the node started; what is set later stands in the cluster's image."""
    broker: BrokerSettings
    listeners: tuple[Listener, ...]
    advertised: Mapping[str, Listener]
    """By name of a listener. Port 0 stands for the one that was found."""

    def of_node(self, node_id: int) -> "NodeSettings":
        """These settings, with that node id where they set none."""
        if any(self.layers.text(key) is not None for key in ("node.id", "broker.id")):
            return self
        layers = replace(self.layers, static={**self.layers.static, "node.id": str(node_id)})
        return replace(self, layers=layers, broker=effective_broker(layers))


def authorizer_of(broker: BrokerSettings) -> Authorizer | None:
    """The authorizer of `authorizer.class.name`, without entries yet; None where that is empty."""
    if not broker.authorizer_class_name:
        return None
    return Authorizer(
        super_users=[each for user in broker.super_users.split(";") if (each := user.strip())],
        allow_if_no_acl=broker.allow_everyone_if_no_acl_found,
    )


def node_settings(texts: Mapping[str, str]) -> NodeSettings:
    """Settings from config keys and their texts; StartError names the key that is wrong."""
    try:
        options, notes = accept_static(texts)
        layers = BrokerLayers(static=options)
        broker = effective_broker(layers)
        check_broker_bounds(broker)
        listeners = client_listeners(broker)
        advertised = advertised_listeners(broker)
    except KafkaError as error:
        raise StartError(error.message) from None
    for note in notes:
        log.info("%s", note)
    told = {listener.name: listener for listener in advertised}
    return NodeSettings(
        layers,
        broker,
        tuple(listeners),
        {listener.name: told.get(listener.name, listener) for listener in listeners},
    )
