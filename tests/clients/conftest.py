"""One broker for all tests of a worker, and topics of their own for each test."""

import gc
import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import ottla
from ottla.records.batch import BatchHeader, iterate_headers


@pytest.fixture(autouse=True, scope="module")
def what_clients_leave() -> Iterator[None]:
    """kafka-python forgets a socket when it is closed while it connects: no failure of ours."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def shared_broker(data: Path) -> Iterator[ottla.Broker]:
    with ottla.Broker(data) as broker:
        yield broker


@pytest.fixture(scope="session")
def batches_of(data: Path) -> Callable[..., list[BatchHeader]]:
    """The headers of the batches that lie in a partition's first segment."""

    def read(topic: str, partition: int = 0) -> list[BatchHeader]:
        segment = data / f"{topic}-{partition}" / f"{0:020}.log"
        return [header for _, header in iterate_headers(segment.read_bytes())]

    return read


@pytest.fixture(scope="session")
def bootstrap(shared_broker: ottla.Broker) -> str:
    return shared_broker.bootstrap_servers


@pytest.fixture(scope="session")
def admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


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
        made.append(rd.Consumer(config | {key.replace("_", "."): options[key] for key in options}))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()
