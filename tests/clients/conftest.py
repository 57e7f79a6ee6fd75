"""One broker for all tests of a worker, and topics of their own for each test."""

import itertools
from collections.abc import Callable, Iterator

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import ottla


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[ottla.Broker]:
    with ottla.Broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def bootstrap(shared_broker: ottla.Broker) -> str:
    return shared_broker.bootstrap_servers


@pytest.fixture(scope="session")
def admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap})


@pytest.fixture(scope="session")
def make_topic(admin: AdminClient) -> Callable[..., str]:
    """`make_topic(partitions=1, **configs)` is the name of a new topic."""
    numbers = itertools.count()

    def make(partitions: int = 1, **configs: str) -> str:
        name = f"topic-{next(numbers)}"
        config = {key.replace("_", "."): value for key, value in configs.items()}
        futures = admin.create_topics([NewTopic(name, partitions, 1, config=config)])
        futures[name].result(30)
        return name

    return make


@pytest.fixture
def rd_consumer(bootstrap: str) -> Iterator[Callable[..., rd.Consumer]]:
    """librdkafka consumers without a group, closed after the test."""
    made: list[rd.Consumer] = []

    def make(**options: object) -> rd.Consumer:
        config = {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
        config |= {key.replace("_", "."): value for key, value in options.items()}
        made.append(rd.Consumer(config))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()
