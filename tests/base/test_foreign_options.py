"""Kafka's keys that Ottla does not have: noted, refused or unknown."""

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.foreign_options import NO_EFFECT, REFUSED, accept_static
from ottla.base.listeners import client_listeners
from ottla.base.options import BROKER_OPTIONS, BrokerLayers, effective_broker

SERVER_PROPERTIES = {
    # What the server.properties in Kafka's archive sets.
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.bootstrap.servers": "localhost:9093",
    "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
    "inter.broker.listener.name": "PLAINTEXT",
    "advertised.listeners": "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL",
    "num.network.threads": "3",
    "num.io.threads": "8",
    "socket.send.buffer.bytes": "102400",
    "socket.receive.buffer.bytes": "102400",
    "socket.request.max.bytes": "104857600",
    "log.dirs": "/tmp/kraft-combined-logs",
    "num.partitions": "1",
    "num.recovery.threads.per.data.dir": "1",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "log.retention.hours": "168",
    "log.segment.bytes": "1073741824",
    "log.retention.check.interval.ms": "300000",
}


def refused(key: str, text: str) -> str:
    with pytest.raises(KafkaError) as caught:
        accept_static({key: text})
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert caught.value.message.startswith(f"{key}: ")
    return caught.value.message


def test_the_configuration_that_kafka_ships_starts() -> None:
    options, notes = accept_static(SERVER_PROPERTIES)
    noted = {note.split()[0] for note in notes}
    assert noted | set(options) == set(SERVER_PROPERTIES)
    assert "process.roles" in noted
    settings = effective_broker(BrokerLayers(static=options))
    assert [tuple(listener) for listener in client_listeners(settings)] == [("PLAINTEXT", "", 9092)]


def test_zookeeper_is_noted() -> None:
    options, notes = accept_static({"zookeeper.connect": "localhost:2181"})
    assert not options
    assert notes == [f"zookeeper.connect has no effect: {NO_EFFECT['zookeeper.']}"]


def test_a_typing_error_is_named_with_what_was_meant() -> None:
    assert "is log.retention.hours meant?" in refused("log.retention.hour", "1")


@pytest.mark.parametrize("key", ["nope", "log", "kafka", "controller", "", "zookeeperx.connect"])
def test_unknown_key(key: str) -> None:
    assert "is no option of a broker" in refused(key, "1")


def test_wrong_value_names_key_and_value() -> None:
    assert "'many'" in refused("num.partitions", "many")


@pytest.mark.parametrize("entry", REFUSED)
def test_what_would_weaken_is_refused_unless_it_asks_for_nothing(entry: str) -> None:
    key = f"{entry}x" if entry.endswith(".") else entry
    why, harmless = REFUSED[entry]
    assert why in refused(key, "something")
    if harmless is not None:
        _, notes = accept_static({key: harmless})
        assert notes == [f"{key} has no effect: {why}"]


def test_entries_and_options_do_not_overlap() -> None:
    assert not set(BROKER_OPTIONS) & {*NO_EFFECT, *REFUSED}
    assert not set(NO_EFFECT) & set(REFUSED)
