"""Groups of clients that nobody here wrote: who owns what, and what a group has read."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.clients.groups import WAIT_S, Crowd
from tests.clients.kcat import needs_kcat, run_kcat
from tests.clients.peers import MARKS
from tests.tools.serving import Serving, serving

pytestmark = [*MARKS, pytest.mark.timeout(300)]

CLIENTS = ("confluent", "aiokafka", "kafka-python")
PARTITIONS = 6
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "5",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("groups") / "data", SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def new_topic(server: Serving) -> Callable[[], str]:
    numbers = itertools.count()
    admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})

    def make() -> str:
        name = f"t{next(numbers)}"
        admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
        return name

    return make


class Load:
    """Records into all partitions of a topic; what was acknowledged."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.producer = rd.Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
        self.topic = topic
        self.written: set[tuple[int, int]] = set()

    def write(self, count: int) -> None:
        def delivered(error: Any, message: Any) -> None:
            assert error is None, error
            self.written.add((message.partition(), message.offset()))

        for number in range(count):
            self.producer.produce(
                self.topic, b"v", partition=number % PARTITIONS, on_delivery=delivered
            )
        assert self.producer.flush(30) == 0


def story(crowd: Crowd, load: Load) -> None:
    """Members come, leave and crash while records arrive."""
    try:
        load.write(600)
        crowd.join("a")
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), "a alone")
        crowd.join("b")
        crowd.join("c")
        load.write(600)
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), "three share")
        load.write(600)
        crowd.leave("b")
        load.write(600)
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), "b has left")
        crowd.crash("c", time.monotonic)
        load.write(600)
        crowd.join("d")
        crowd.wait(lambda: crowd.is_shared(PARTITIONS), "d for c")
        load.write(600)
        crowd.wait(lambda: crowd.read() >= load.written, "everything is read")
    finally:
        crowd.close()
    assert len(load.written) == 3_600
    assert crowd.read() == load.written
    crowd.check_owners()


@pytest.mark.parametrize("client", CLIENTS)
def test_members_come_leave_and_crash(
    client: str, server: Serving, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    story(Crowd(client, server.bootstrap, f"g-{client}", topic), Load(server.bootstrap, topic))


def test_cooperative_members_come_leave_and_crash(
    server: Serving, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    extra = "partition.assignment.strategy=cooperative-sticky"
    crowd = Crowd("confluent", server.bootstrap, "g-cooperative", topic, extra)
    story(crowd, Load(server.bootstrap, topic))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_group_goes_on_where_it_was_when_the_broker_comes_back(
    client: str, end: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "data", SETTINGS) as server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic("t", PARTITIONS, 1)])["t"].result(30)
        load = Load(server.bootstrap, "t")
        load.write(600)
        first = Crowd(client, server.bootstrap, "g", "t")
        try:
            first.join("a")
            first.wait(lambda: first.read() >= load.written, "the first part is read")
        finally:
            first.close()
        before = set(load.written)
        getattr(server, end)()
        server.start()
        load = Load(server.bootstrap, "t")
        load.write(600)
        second = Crowd(client, server.bootstrap, "g", "t")
        try:
            second.join("b")
            second.wait(lambda: second.read() >= load.written, "the second part is read")
        finally:
            second.close()
        assert second.read() == load.written
        assert not second.read() & before


@pytest.mark.parametrize("client", CLIENTS)
def test_members_outlive_a_broker_that_is_killed(client: str, tmp_path: Path) -> None:
    """They go on, and read everything; what they committed does not come back."""
    with serving(tmp_path / "data", SETTINGS) as server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic("t", PARTITIONS, 1)])["t"].result(30)
        load = Load(server.bootstrap, "t")
        load.write(600)
        crowd = Crowd(client, server.bootstrap, "g", "t")
        try:
            for name in "ab":
                crowd.join(name)
            crowd.wait(lambda: crowd.is_shared(PARTITIONS), "two share")
            crowd.wait(lambda: crowd.read() >= load.written, "the first part is read")
            server.kill()
            server.start()
            again = Load(server.bootstrap, "t")
            again.write(600)
            crowd.wait(lambda: crowd.read() >= again.written, "the second part is read")
        finally:
            crowd.close()
        assert crowd.read() == load.written | again.written


@needs_kcat
def test_kcat_as_a_group(server: Serving, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    load = Load(server.bootstrap, topic)
    load.write(60)
    options = ["-q", "-G", "g-kcat", "-X", "auto.offset.reset=earliest", "-f", "%p %o\n"]
    output = run_kcat(server.bootstrap, *options, "-c", "60", topic)
    assert len(set(output.split(b"\n")[:-1])) == 60
    load.write(6)
    output = run_kcat(server.bootstrap, *options, "-c", "6", topic)
    assert sorted(output.split(b"\n")[:-1]) == [b"%d 10" % each for each in range(PARTITIONS)]


def test_an_administrator_sees_groups_and_moves_them(
    server: Serving, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    Load(server.bootstrap, topic).write(60)
    admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
    crowd = Crowd("confluent", server.bootstrap, "g-admin", topic)
    try:
        crowd.join("a")
        crowd.wait(lambda: len(crowd.read()) == 60, "all is read")
        listed = admin.list_consumer_groups().result(WAIT_S)
        assert not listed.errors
        assert "g-admin" in {each.group_id for each in listed.valid}
        described = admin.describe_consumer_groups(["g-admin"])["g-admin"].result(WAIT_S)
        assert (described.state.name, described.partition_assignor) == ("STABLE", "range")
        (member,) = described.members
        assert len(member.assignment.topic_partitions) == PARTITIONS
        with pytest.raises(rd.KafkaException) as caught:
            admin.delete_consumer_groups(["g-admin"])["g-admin"].result(WAIT_S)
        assert caught.value.args[0].code() == rd.KafkaError.NON_EMPTY_GROUP
    finally:
        crowd.close()
    asked = rd.ConsumerGroupTopicPartitions("g-admin", [rd.TopicPartition(topic, 0, 3)])
    admin.alter_consumer_group_offsets([asked])["g-admin"].result(WAIT_S)
    asked = rd.ConsumerGroupTopicPartitions("g-admin")
    found = admin.list_consumer_group_offsets([asked])["g-admin"].result(WAIT_S)
    offsets = {each.partition: each.offset for each in found.topic_partitions}
    assert offsets == {0: 3, **dict.fromkeys(range(1, PARTITIONS), 10)}
    admin.delete_consumer_groups(["g-admin"])["g-admin"].result(WAIT_S)
    assert "g-admin" not in {
        each.group_id for each in admin.list_consumer_groups().result(WAIT_S).valid
    }
