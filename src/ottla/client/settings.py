"""What all clients are configured with: Kafka's names and defaults, as keyword arguments.

A name is Kafka's key with underscores (`linger.ms` is `linger_ms`); durations are milliseconds,
sizes bytes. What contradicts itself is a ConfigError when the client is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ottla.base.limits import FRAME_MIN_BYTES
from ottla.client.errors import ConfigError
from ottla.rpc.channel import ChannelSettings
from ottla.rpc.peer import Backoff

DEFAULT_PORT: Final = 9092
Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    bootstrap_servers: str | Sequence[str] = "localhost:9092"
    """`host:port`, several with commas between or as a list: any brokers of the cluster."""
    client_id: str = "ottla"
    request_timeout_ms: int = 30_000
    retry_backoff_ms: int = 100
    retry_backoff_max_ms: int = 1_000
    reconnect_backoff_ms: int = 50
    reconnect_backoff_max_ms: int = 1_000
    socket_connection_setup_timeout_ms: int = 10_000
    metadata_max_age_ms: int = 300_000
    receive_message_max_bytes: int = 128 << 20
    """A response that claims to be longer is an error, and closes its connection."""

    def __post_init__(self) -> None:
        self.addresses()
        for name in (
            "request_timeout_ms",
            "socket_connection_setup_timeout_ms",
            "metadata_max_age_ms",
        ):
            at_least(name, getattr(self, name), 1)
        at_least("receive_message_max_bytes", self.receive_message_max_bytes, FRAME_MIN_BYTES)
        ordered("retry_backoff", self.retry_backoff_ms, self.retry_backoff_max_ms)
        ordered("reconnect_backoff", self.reconnect_backoff_ms, self.reconnect_backoff_max_ms)

    def addresses(self) -> list[Address]:
        given = self.bootstrap_servers
        texts = given.split(",") if isinstance(given, str) else list(given)
        found = [address_of(text) for text in texts if text.strip()]
        if not found:
            raise ConfigError("bootstrap_servers names no broker")
        return found

    @property
    def channel(self) -> ChannelSettings:
        return ChannelSettings(
            client_id=self.client_id,
            request_timeout_ms=self.request_timeout_ms,
            connect_timeout_ms=self.socket_connection_setup_timeout_ms,
            max_response_bytes=self.receive_message_max_bytes,
        )

    @property
    def retry_backoff(self) -> Backoff:
        return Backoff(self.retry_backoff_ms, self.retry_backoff_max_ms)

    @property
    def reconnect_backoff(self) -> Backoff:
        return Backoff(self.reconnect_backoff_ms, self.reconnect_backoff_max_ms)


def address_of(text: str) -> Address:
    """`host`, `host:port`, `[ipv6]:port`, with a `PROTOCOL://` in front or not."""
    name = text.strip().rpartition("://")[2]
    host, colon, port = name.rpartition(":")
    if not colon or name.endswith("]"):
        host, port = name, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigError(f"bootstrap_servers: {text.strip()!r} is not host:port")
    return host, int(port)


def at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}, and must be at least {least}")


def ordered(name: str, first_ms: int, most_ms: int) -> None:
    if not 0 <= first_ms <= most_ms:
        raise ConfigError(f"{name}_ms is {first_ms}, and must be from 0 to {name}_max_ms {most_ms}")
