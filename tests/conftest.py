"""What tests of every room share: a broker of the real kind, in this process."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

import ottla

settings.register_profile("any speed", deadline=None)
settings.load_profile("any speed")


@pytest.fixture
def start_broker() -> Iterator[Callable[..., ottla.Broker]]:
    """Starts brokers, `start_broker(data=…, settings=…)`, and stops them after the test."""
    started: list[ottla.Broker] = []

    def start(**options: object) -> ottla.Broker:
        broker = ottla.Broker(**options)  # type: ignore[arg-type]
        broker.start()
        started.append(broker)
        return broker

    yield start
    for broker in reversed(started):
        broker.stop()


@pytest.fixture
def broker(start_broker: Callable[..., ottla.Broker]) -> ottla.Broker:
    """A broker with Kafka's defaults in a directory of its own."""
    return start_broker()
