"""A broker for tests, with faults to order, and the fixtures of the pytest plugin.

    def test_retries(kafka_broker, kafka_topic, kafka_producer):
        kafka_broker.faults.error("Produce", "NOT_LEADER_OR_FOLLOWER", topic=kafka_topic)
        assert kafka_producer.send_and_wait(kafka_topic, b"hello").offset == 0

Installing Ottla installs the plugin (`plugin`, the only module here that needs pytest). Without
pytest, `Broker` is `ottla.Broker` with `faults`. docs/testing.md has all of it. What is named here
loads when it is first used: every session of pytest imports this package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ottla.testing.broker import Broker
    from ottla.testing.faults import Fault, Faults

__all__ = ["Broker", "Fault", "Faults"]
_HOME = {
    "Broker": "ottla.testing.broker",
    "Fault": "ottla.testing.faults",
    "Faults": "ottla.testing.faults",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
