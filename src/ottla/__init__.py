"""Ottla: a log broker that speaks Kafka's protocol.

    async with ottla.Broker() as broker: ...    a broker in this process, on a free port

What is named here loads when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ottla.broker.settings import StartError
    from ottla.embed.broker import Broker

__all__ = ["Broker", "StartError"]
_HOME = {"Broker": "ottla.embed.broker", "StartError": "ottla.broker.settings"}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
