"""Ottla: a log broker that speaks Kafka's protocol.

    async with ottla.Broker() as broker: ...    a broker in this process, on a free port
    async with ottla.Producer(bootstrap_servers=...) as producer: ...       records in
    async with ottla.Consumer(bootstrap_servers=...) as consumer: ...       records out
    async with ottla.Admin(bootstrap_servers=...) as admin: ...             topics, configs, groups
    ottla.SyncProducer, ottla.SyncConsumer, ottla.SyncAdmin                 the same without await

What is named here loads when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ottla.broker.settings import StartError
    from ottla.client.errors import AuthenticationError
    from ottla.client.outlet import Output
    from ottla.client.retry import RetryPolicy
    from ottla.embed.blocking import SyncAdmin, SyncConsumer, SyncProducer
    from ottla.embed.broker import Broker
    from ottla.embed.clients import Admin, Consumer, Producer

__all__ = [
    "Admin",
    "AuthenticationError",
    "Broker",
    "Consumer",
    "Output",
    "Producer",
    "RetryPolicy",
    "StartError",
    "SyncAdmin",
    "SyncConsumer",
    "SyncProducer",
]
_HOME = {
    "Admin": "ottla.embed.clients",
    "AuthenticationError": "ottla.client.errors",
    "Broker": "ottla.embed.broker",
    "Consumer": "ottla.embed.clients",
    "Output": "ottla.client.outlet",
    "Producer": "ottla.embed.clients",
    "RetryPolicy": "ottla.client.retry",
    "StartError": "ottla.broker.settings",
    "SyncAdmin": "ottla.embed.blocking",
    "SyncConsumer": "ottla.embed.blocking",
    "SyncProducer": "ottla.embed.blocking",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
