"""Listener texts: what is opened, what is told to clients, and what is refused."""

import pytest

from ottla.base.errors import KafkaError
from ottla.base.listeners import Listener, advertised_listeners, client_listeners
from ottla.base.options import BrokerLayers, BrokerSettings, effective_broker


def settings(**texts: str) -> BrokerSettings:
    return effective_broker(
        BrokerLayers(static={name.replace("_", "."): text for name, text in texts.items()})
    )


def test_default_listens_on_this_machine_and_is_told_as_it_is() -> None:
    expected = [Listener("PLAINTEXT", "127.0.0.1", 9092)]
    assert client_listeners(BrokerSettings()) == expected
    assert advertised_listeners(BrokerSettings()) == expected


def test_names_hosts_and_ports() -> None:
    given = settings(
        listeners="clients://:0, V6://[::1]:9093",
        listener_security_protocol_map="CLIENTS:PLAINTEXT,V6:PLAINTEXT",
        advertised_listeners="CLIENTS://broker.example:1234",
    )
    assert client_listeners(given) == [Listener("CLIENTS", "", 0), Listener("V6", "::1", 9093)]
    assert advertised_listeners(given) == [Listener("CLIENTS", "broker.example", 1234)]


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        ({"listeners": "9092"}, "listeners: '9092' is no NAME://HOST:PORT"),
        ({"listeners": "PLAINTEXT://h:99999"}, "there is no port 99999"),
        ({"listeners": "PLAINTEXT://h:1,PLAINTEXT://h:2"}, "PLAINTEXT is named twice"),
        ({"listeners": "SSL://h:1"}, "SSL: security protocol SSL is not there yet"),
        (
            {"listeners": "C://h:1", "listener_security_protocol_map": "c:sasl_ssl"},
            "C: security protocol SASL_SSL is not there yet",
        ),
        ({"listener_security_protocol_map": "PLAINTEXT"}, "'PLAINTEXT' is no NAME:PROTOCOL"),
        ({"listeners": "C://h:1", "controller_listener_names": "C"}, "there is none for clients"),
    ],
)
def test_refused_listeners(texts: dict[str, str], fault: str) -> None:
    with pytest.raises(KafkaError) as caught:
        client_listeners(settings(**texts))
    assert fault in caught.value.message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("PLAINTEXT://:9092", "no client can connect to no host"),
        ("PLAINTEXT://0.0.0.0:9092", "no client can connect to 0.0.0.0"),
        ("OTHER://h:9092", "OTHER is no listener"),
    ],
)
def test_refused_advertised_listeners(text: str, fault: str) -> None:
    with pytest.raises(KafkaError, match="advertised") as caught:
        advertised_listeners(settings(advertised_listeners=text))
    assert fault in caught.value.message
