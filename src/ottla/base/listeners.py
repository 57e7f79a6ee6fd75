"""The listeners of a broker: the texts of `listeners` and `advertised.listeners`, taken apart.

    NAME://HOST:PORT        PLAINTEXT://:9092   CLIENTS://[::1]:9092

An empty host is every interface. A name stands for a security protocol by
`listener.security.protocol.map`, or is a protocol's own; PLAINTEXT is the only one yet, and any
other is refused rather than opened without what it promises. Listeners of Kafka's controller
quorum (`controller.listener.names`) are left out: Ottla has no such quorum.
"""

import re
from typing import Final, NamedTuple, NoReturn

from ottla.base.broker_options import BrokerSettings
from ottla.base.errors import ErrorCode, KafkaError

_LISTENER: Final = re.compile(
    r"(?P<name>[A-Za-z0-9_-]+)://(?:\[(?P<six>[0-9a-fA-F:.%a-z]+)\]|(?P<host>[^\[\]:/,]*)):(?P<port>[0-9]{1,5})"
)
_ANY_HOST: Final = "0.0.0.0"


class Listener(NamedTuple):
    name: str
    host: str
    """Empty for every interface."""
    port: int
    """0 for one that is free."""


def client_listeners(settings: BrokerSettings) -> list[Listener]:
    """What the broker listens on; KafkaError(INVALID_CONFIG) where that cannot be."""
    protocols = _protocols(settings)
    found = _parse_all("listeners", settings.listeners, settings)
    for listener in found:
        protocol = protocols.get(listener.name, listener.name)
        if protocol != "PLAINTEXT":
            _refuse("listeners", f"{listener.name}: security protocol {protocol} is not there yet")
    if not found:
        _refuse("listeners", "there is none for clients")
    _refuse_twins("listeners", found)
    return found


def advertised_listeners(settings: BrokerSettings) -> list[Listener]:
    """What clients are told to connect to: the texts of advertised.listeners, else the
    listeners; one by one they bear the names of listeners."""
    listening = client_listeners(settings)
    if settings.advertised_listeners is None:
        return listening
    key = "advertised.listeners"
    found = _parse_all(key, settings.advertised_listeners, settings)
    names = [listener.name for listener in listening]
    for listener in found:
        if listener.name not in names:
            _refuse(key, f"{listener.name} is no listener")
        if listener.host in ("", _ANY_HOST):
            _refuse(key, f"{listener.name}: no client can connect to {listener.host or 'no host'}")
    _refuse_twins(key, found)
    return found


def _protocols(settings: BrokerSettings) -> dict[str, str]:
    protocols = {}
    for item in settings.listener_security_protocol_map:
        name, colon, protocol = item.partition(":")
        if not colon:
            _refuse("listener.security.protocol.map", f"{item!r} is no NAME:PROTOCOL")
        protocols[name.strip().upper()] = protocol.strip().upper()
    return protocols


def _parse_all(key: str, texts: tuple[str, ...], settings: BrokerSettings) -> list[Listener]:
    controllers = [name.upper() for name in settings.controller_listener_names]
    listeners = [_parse(key, text) for text in texts]
    return [listener for listener in listeners if listener.name not in controllers]


def _parse(key: str, text: str) -> Listener:
    match = _LISTENER.fullmatch(text)
    if match is None:
        _refuse(key, f"{text!r} is no NAME://HOST:PORT")
    port = int(match["port"])
    if port > 65_535:
        _refuse(key, f"{text!r}: there is no port {port}")
    return Listener(match["name"].upper(), match["six"] or match["host"] or "", port)


def _refuse_twins(key: str, listeners: list[Listener]) -> None:
    names = [listener.name for listener in listeners]
    for name in names:
        if names.count(name) > 1:
            _refuse(key, f"{name} is named twice")


def _refuse(key: str, fault: str) -> NoReturn:
    raise KafkaError(ErrorCode.INVALID_CONFIG, f"{key}: {fault}")
