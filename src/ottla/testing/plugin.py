"""The pytest plugin: a broker for the session, and a topic, a producer and a consumer for a test.

One broker serves all tests of a session (of an xdist worker: of that process), since a topic of
its own isolates a test as well and costs less. A test that changes the broker, or needs settings,
asks for one of its own by the mark `kafka_broker`. Faults end with the test that ordered them.

Nothing of Ottla is loaded before a test asks for a fixture.
"""

import re
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from ottla.embed.blocking import SyncConsumer, SyncProducer
    from ottla.testing.broker import Broker

_NOT_OF_A_TOPIC: Final = re.compile(r"[^a-zA-Z0-9._-]+")
_NAME_MAX: Final = 200
_numbers: Final = count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "kafka_broker(settings): give this test a broker of its own, with these options of Kafka's",
    )
    config.addinivalue_line(
        "markers",
        "kafka_topic(partitions=1, configs=None): what the topic of this test is to be like",
    )


@pytest.fixture(scope="session")
def kafka_broker_settings() -> dict[str, str]:
    """The options of the broker that tests share, by Kafka's keys. Override it in a conftest."""
    return {}


@pytest.fixture(scope="session")
def kafka_shared_broker(kafka_broker_settings: dict[str, str]) -> "Iterator[Broker]":
    """The broker of the session. Tests take `kafka_broker`, which ends their faults."""
    from ottla.testing.broker import Broker

    with Broker(settings=kafka_broker_settings) as broker:
        yield broker


@pytest.fixture
def kafka_broker(request: pytest.FixtureRequest) -> "Iterator[Broker]":
    """A broker in this process: `bootstrap_servers`, `faults`."""
    from ottla.testing.broker import Broker

    mark = request.node.get_closest_marker("kafka_broker")
    if mark is None:
        broker = request.getfixturevalue("kafka_shared_broker")
        yield broker
        broker.faults.clear()
        return
    shared: dict[str, str] = request.getfixturevalue("kafka_broker_settings")
    with Broker(settings={**shared, **_settings(*mark.args, **mark.kwargs)}) as broker:
        yield broker


def _settings(settings: dict[str, str] | None = None) -> dict[str, str]:
    return settings or {}


@pytest.fixture
def kafka_topic(request: pytest.FixtureRequest, kafka_broker: "Broker") -> str:
    """The name of a new topic, with one partition unless the mark `kafka_topic` says more."""
    from ottla.client.rows import NewTopic
    from ottla.embed.blocking import SyncAdmin

    name = _NOT_OF_A_TOPIC.sub("-", request.node.name)[:_NAME_MAX] + f"-{next(_numbers)}"
    mark = request.node.get_closest_marker("kafka_topic")
    topic = _described(name, *mark.args, **mark.kwargs) if mark else _described(name)
    with SyncAdmin(bootstrap_servers=kafka_broker.bootstrap_servers) as admin:
        admin.create_topics(NewTopic(**topic))
    return name


def _described(
    name: str, partitions: int = 1, configs: dict[str, str] | None = None
) -> dict[str, Any]:
    return {"name": name, "num_partitions": partitions, "configs": configs or {}}


@pytest.fixture
def kafka_producer(kafka_broker: "Broker") -> "Iterator[SyncProducer]":
    """A started `ottla.SyncProducer` with the defaults."""
    from ottla.embed.blocking import SyncProducer

    with SyncProducer(bootstrap_servers=kafka_broker.bootstrap_servers) as producer:
        yield producer
        kafka_broker.faults.clear()  # closing is no part of the test


@pytest.fixture
def kafka_consumer(kafka_broker: "Broker", kafka_topic: str) -> "Iterator[SyncConsumer]":
    """A started `ottla.SyncConsumer` that reads `kafka_topic` from its beginning, in a group of
    that name."""
    from ottla.embed.blocking import SyncConsumer

    with SyncConsumer(
        bootstrap_servers=kafka_broker.bootstrap_servers,
        group_id=kafka_topic,
        auto_offset_reset="earliest",
    ) as consumer:
        consumer.subscribe([kafka_topic])
        yield consumer
        kafka_broker.faults.clear()
