"""Consumer groups (KIP-848) of librdkafka: who owns what, what is read, both protocols in one."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient

from tests.clients.groups import WAIT_S, Crowd
from tests.clients.peers import MARKS
from tests.clients.test_groups import PARTITIONS, Load, new_topic, story
from tests.tools.serving import Serving, serving

__all__ = ["new_topic"]
pytestmark = [*MARKS, pytest.mark.timeout(300)]

NEW = "group.protocol=consumer"
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "5",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "300",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("consumers") / "data", SETTINGS) as running:
        yield running


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_members_come_leave_and_crash(
    assignor: str, server: Serving, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    extra = (NEW, f"group.remote.assignor={assignor}")
    crowd = Crowd("confluent", server.bootstrap, f"g-{assignor}", topic, *extra)
    story(crowd, Load(server.bootstrap, topic))


def test_a_group_goes_on_where_it_was_when_the_broker_is_killed(
    server: Serving, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    load = Load(server.bootstrap, topic)
    load.write(600)
    crowd = Crowd("confluent", server.bootstrap, "g-killed", topic, NEW)
    try:
        for name in "ab":
            crowd.join(name)
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), "two share")
        crowd.wait(lambda: crowd.read() >= load.written, "the first part is read")
        server.kill()
        server.start()
        again = Load(server.bootstrap, topic)
        again.write(600)
        crowd.wait(lambda: crowd.read() >= again.written, "the second part is read")
    finally:
        crowd.close()
    assert crowd.read() == load.written | again.written
    crowd.check_owners()


def test_a_group_is_upgraded_and_downgraded_while_it_reads(
    server: Serving, new_topic: Callable[[], str]
) -> None:
    """Members of the classic protocol are replaced one by one, and back again.

    Not with cooperative-sticky: librdkafka writes user data into its assignments, and Kafka, as
    Ottla, does not upgrade a group with that.
    """
    topic = new_topic()
    load = Load(server.bootstrap, topic)
    admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
    crowd = Crowd("confluent", server.bootstrap, "g-mixed", topic)
    old = list(crowd.command)
    extra = "partition.assignment.strategy=range"

    def kind() -> str:
        described = admin.describe_consumer_groups(["g-mixed"])["g-mixed"].result(WAIT_S)
        return str(described.type.name)

    def swap(leaving: str, joining: str, *settings: str) -> None:
        crowd.command = [*old, *settings]
        crowd.join(joining)
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), f"{joining} has joined")
        load.write(600)
        crowd.leave(leaving)
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), f"{leaving} has left")
        load.write(600)

    try:
        load.write(600)
        crowd.command = [*old, extra]
        for name in "ab":
            crowd.join(name)
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), "two of the classic protocol share")
        assert kind() == "CLASSIC"
        swap("a", "c", NEW)
        assert kind() == "CONSUMER"
        swap("b", "d", NEW)
        swap("c", "e", extra)
        assert kind() == "CONSUMER"
        swap("d", "f", extra)
        assert kind() == "CLASSIC"
        crowd.wait(lambda: crowd.read() >= load.written, "everything is read")
    finally:
        crowd.close()
    assert crowd.read() == load.written
    crowd.check_owners()


def test_an_expression_is_matched_by_the_broker(
    server: Serving, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    load = Load(server.bootstrap, topic)
    load.write(60)
    crowd = Crowd("confluent", server.bootstrap, "g-regex", f"^{topic}$", NEW)
    try:
        crowd.join("a")
        crowd.wait(lambda: crowd.read() >= load.written, "everything is read")
    finally:
        crowd.close()


def test_an_administrator_sees_a_consumer_group(
    server: Serving, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    Load(server.bootstrap, topic).write(60)
    admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
    crowd = Crowd("confluent", server.bootstrap, "g-seen", topic, NEW)

    def listed() -> dict[str, Any]:
        found = admin.list_consumer_groups().result(WAIT_S)
        assert not found.errors
        return {each.group_id: each for each in found.valid}

    try:
        crowd.join("a")
        crowd.wait(lambda: len(crowd.read()) == 60, "all is read")
        row = listed()["g-seen"]
        assert (row.state.name, row.type.name) == ("STABLE", "CONSUMER")
        described = admin.describe_consumer_groups(["g-seen"])["g-seen"].result(WAIT_S)
        assert (described.state.name, described.partition_assignor) == ("STABLE", "uniform")
        (member,) = described.members
        assert len(member.assignment.topic_partitions) == PARTITIONS
        assert len(member.target_assignment.topic_partitions) == PARTITIONS
        with pytest.raises(rd.KafkaException) as caught:
            admin.delete_consumer_groups(["g-seen"])["g-seen"].result(WAIT_S)
        assert caught.value.args[0].code() == rd.KafkaError.NON_EMPTY_GROUP
    finally:
        crowd.close()
    assert listed()["g-seen"].state.name == "EMPTY"
    asked = rd.ConsumerGroupTopicPartitions("g-seen", [rd.TopicPartition(topic, 0, 3)])
    admin.alter_consumer_group_offsets([asked])["g-seen"].result(WAIT_S)
    admin.delete_consumer_groups(["g-seen"])["g-seen"].result(WAIT_S)
    assert "g-seen" not in listed()


def test_a_static_member_comes_back(server: Serving, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    Load(server.bootstrap, topic).write(60)
    crowd = Crowd("confluent", server.bootstrap, "g-static", topic, NEW, "group.instance.id=i")
    try:
        crowd.join("a")
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), "a has all")
        crowd.leave("a")
        began = time.monotonic()
        crowd.join("b")
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), "b has all")
        assert time.monotonic() - began < WAIT_S
    finally:
        crowd.close()
    crowd.check_owners()
