"""Log directories without a store: their topics are adopted, once."""

import logging
from collections.abc import Callable
from pathlib import Path

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import ottla
from ottla.base.ids import id_text
from ottla.host.disk import HostDisk
from ottla.storage.identity import read_topic_id

pytestmark = pytest.mark.clients

Start = Callable[..., ottla.Broker]


def admin_of(broker: ottla.Broker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap_servers})


def fill(broker: ottla.Broker, topic: str, partition: int = 0) -> None:
    producer = rd.Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True}
    )
    producer.produce(topic, b"v", partition=partition)
    assert producer.flush(30) == 0


def end_of(broker: ottla.Broker, topic: str, partition: int = 0) -> int:
    consumer = rd.Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "none"})
    end = consumer.get_watermark_offsets(rd.TopicPartition(topic, partition), 30)[1]
    consumer.close()
    return int(end)


def names(broker: ottla.Broker) -> set[str]:
    return set(admin_of(broker).list_topics(timeout=30).topics)


def configs(broker: ottla.Broker, topic: str) -> dict[str, str]:
    wanted = ConfigResource(ConfigResource.Type.TOPIC, topic)
    admin = admin_of(broker)
    (future,) = admin.describe_configs([wanted]).values()
    return {name: entry.value for name, entry in future.result(30).items()}


def left_behind(start_broker: Start, data: Path) -> None:
    """A directory with topics of three and of one partition, and no store."""
    broker = start_broker(data=data)
    made = [NewTopic("orders", 3, 1), NewTopic("__consumer_offsets", 1, 1)]
    admin = admin_of(broker)
    for future in admin.create_topics(made).values():
        future.result(30)
    for partition in (0, 2):
        fill(broker, "orders", partition)
    broker.stop()
    for path in data.glob("ottla-metadata.sqlite*"):
        path.unlink()


def topic_id(broker: ottla.Broker, topic: str) -> str:
    admin = admin_of(broker)
    (future,) = admin.describe_topics(rd.TopicCollection([topic])).values()
    return str(future.result(30).topic_id)


def test_topics_are_made_of_what_is_there(tmp_path: Path, start_broker: Start) -> None:
    left_behind(start_broker, tmp_path)
    found = read_topic_id(HostDisk(), str(tmp_path / "orders-0"))
    broker = start_broker(data=tmp_path)
    assert names(broker) == {"orders", "__consumer_offsets"}
    assert [end_of(broker, "orders", n) for n in range(3)] == [1, 0, 1]
    assert found is not None
    assert topic_id(broker, "orders") == id_text(found).replace("-", "+").replace("_", "/")
    fill(broker, "orders", 0)
    assert end_of(broker, "orders") == 2, "a new producer id is none that was given before"


def test_nothing_is_deleted_by_a_guess(tmp_path: Path, start_broker: Start) -> None:
    left_behind(start_broker, tmp_path)
    broker = start_broker(data=tmp_path)
    found = configs(broker, "orders")
    assert (found["retention.ms"], found["retention.bytes"]) == ("-1", "-1")
    assert configs(broker, "__consumer_offsets")["cleanup.policy"] == "compact"


def test_a_partition_that_is_not_here_starts_empty(
    tmp_path: Path, start_broker: Start, caplog: pytest.LogCaptureFixture
) -> None:
    left_behind(start_broker, tmp_path)
    for path in (tmp_path / "orders-0").iterdir():
        path.unlink()
    (tmp_path / "orders-0").rmdir()
    with caplog.at_level(logging.WARNING):
        broker = start_broker(data=tmp_path)
    assert "orders: 1 of its 3 partitions are not here, they start empty" in caplog.text
    assert [end_of(broker, "orders", n) for n in range(3)] == [0, 0, 1]


def test_a_later_start_adopts_nothing(
    tmp_path: Path, start_broker: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Also not where the store has no topic any more: a deleted one must not come back."""
    data = tmp_path / "data"
    start_broker(data=data).stop()
    left_behind(start_broker, tmp_path / "other")
    (tmp_path / "other" / "orders-2").rename(data / "orders-2")
    with caplog.at_level(logging.WARNING):
        broker = start_broker(data=data)
    assert "orders-2 belongs to no topic: left as it is, not served" in caplog.text
    assert names(broker) == set()
    admin = admin_of(broker)
    admin.create_topics([NewTopic("orders", 3, 1)])["orders"].result(30)
    assert end_of(broker, "orders", 2) == 0
    (stray,) = data.glob("orders-2.*-stray")
    assert (stray / "00000000000000000000.log").stat().st_size
