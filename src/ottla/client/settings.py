"""What all clients are configured with: Kafka's names and defaults, as keyword arguments.

A name is Kafka's key with underscores (`linger.ms` is `linger_ms`); durations are milliseconds,
sizes bytes. What contradicts itself is a ConfigError when the client is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ottla.base.limits import FRAME_MIN_BYTES
from ottla.base.world import Tls
from ottla.client.errors import ConfigError
from ottla.rpc.channel import ChannelSettings
from ottla.rpc.peer import Backoff
from ottla.security.sasl import MECHANISMS, Credentials, TokenSource

DEFAULT_PORT: Final = 9092
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
FILES: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password")
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
    security_protocol: str = "PLAINTEXT"
    """Or "SSL", "SASL_PLAINTEXT", "SASL_SSL"."""
    ssl_cafile: str | None = None
    """PEM, as all files are (KIP-651): the authorities to believe. None: the system's."""
    ssl_certfile: str | None = None
    """Who the client is, where the broker wants to know; the chain up to an authority with it."""
    ssl_keyfile: str | None = None
    """None: the key stands in `ssl_certfile` too."""
    ssl_password: str | None = field(default=None, repr=False)
    """Of the key, where that is encrypted."""
    ssl_check_hostname: bool = True
    """Whether the broker's certificate must be for the name that it is reached by."""
    ssl_context: object | None = None
    """An `ssl.SSLContext` of one's own, instead of all else that begins with `ssl_`."""
    sasl_mechanism: str | None = None
    """"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512" or "OAUTHBEARER"."""
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    sasl_oauthbearer_token: TokenSource | None = field(default=None, repr=False)
    """Gives a token for each login, and each time that one is renewed: a coroutine function, or a
    plain one, which is called on a helper thread."""

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
        if self.security_protocol not in PROTOCOLS:
            names = ", ".join(PROTOCOLS)
            raise ConfigError(
                f"security_protocol is {self.security_protocol!r}, not one of {names}"
            )
        self._check_tls()
        self._check_sasl()

    def _check_tls(self) -> None:
        files = [name for name in FILES if getattr(self, name) is not None]
        given = files if self.ssl_context is None else [*files, "ssl_context"]
        if given and not self.security_protocol.endswith("SSL"):
            raise ConfigError(f"{given[0]} needs security_protocol SSL or SASL_SSL")
        if files and self.ssl_context is not None:
            raise ConfigError(f"ssl_context is used as it is: {files[0]} belongs into it")
        if files and files[-1] in FILES[2:] and self.ssl_certfile is None:
            raise ConfigError(f"{files[-1]} needs ssl_certfile")

    def _check_sasl(self) -> None:
        if not self.security_protocol.startswith("SASL"):
            if self.sasl_mechanism is not None:
                raise ConfigError(
                    "sasl_mechanism needs security_protocol SASL_PLAINTEXT or SASL_SSL"
                )
        elif self.sasl_mechanism not in MECHANISMS:
            raise ConfigError(
                f"sasl_mechanism is {self.sasl_mechanism!r}, not one of {', '.join(MECHANISMS)}"
            )
        elif self.sasl_mechanism == "OAUTHBEARER":
            if self.sasl_oauthbearer_token is None:
                raise ConfigError("OAUTHBEARER needs sasl_oauthbearer_token")
        elif not self.sasl_username or not self.sasl_password:
            raise ConfigError(f"{self.sasl_mechanism} needs sasl_username and sasl_password")
        elif not _is_sendable(self.sasl_username + self.sasl_password):
            raise ConfigError("sasl_username and sasl_password are text without NUL")

    def addresses(self) -> list[Address]:
        given = self.bootstrap_servers
        texts = given.split(",") if isinstance(given, str) else list(given)
        found = [address_of(text) for text in texts if text.strip()]
        if not found:
            raise ConfigError("bootstrap_servers names no broker")
        return found

    @property
    def _credentials(self) -> Credentials | None:
        if self.sasl_mechanism is None:
            return None
        return Credentials(
            self.sasl_mechanism,
            self.sasl_username,
            self.sasl_password,
            self.sasl_oauthbearer_token,
        )

    @property
    def _tls(self) -> Tls | None:
        if not self.security_protocol.endswith("SSL"):
            return None
        return Tls(
            cafile=self.ssl_cafile,
            certfile=self.ssl_certfile,
            keyfile=self.ssl_keyfile,
            password=self.ssl_password,
            check_hostname=self.ssl_check_hostname,
            context=self.ssl_context,
        )

    @property
    def channel(self) -> ChannelSettings:
        return ChannelSettings(
            client_id=self.client_id,
            request_timeout_ms=self.request_timeout_ms,
            connect_timeout_ms=self.socket_connection_setup_timeout_ms,
            max_response_bytes=self.receive_message_max_bytes,
            credentials=self._credentials,
            tls=self._tls,
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


def _is_sendable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}, and must be at least {least}")


def ordered(name: str, first_ms: int, most_ms: int) -> None:
    if not 0 <= first_ms <= most_ms:
        raise ConfigError(f"{name}_ms is {first_ms}, and must be from 0 to {name}_max_ms {most_ms}")
