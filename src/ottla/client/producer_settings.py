"""What a producer is configured with, by Kafka's names and defaults."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from ottla.client.errors import ConfigError
from ottla.client.lane import IN_FLIGHT_COUNT
from ottla.client.partitioners import Choice
from ottla.client.settings import ClientSettings, at_least
from ottla.records.compression import CODEC_NUMBERS

PartitionerCall = Callable[[Choice, bytes | None, bytes | None], int]
Acks = Literal["all", -1, 0, 1]
ALL: Final = -1
LEVELS: Final = {"gzip": (-1, 9), "lz4": (1, 17), "zstd": (-131_072, 22)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings(ClientSettings):
    acks: Acks = "all"
    enable_idempotence: bool | None = None
    """None: true where `acks` is "all"."""
    compression_type: str = "none"
    compression_gzip_level: int | None = None
    compression_lz4_level: int | None = None
    compression_zstd_level: int | None = None
    linger_ms: float = 5
    batch_size: int = 16_384
    buffer_memory: int = 32 << 20
    max_block_ms: int = 60_000
    max_request_size: int = 1 << 20
    delivery_timeout_ms: int = 120_000
    retries: int = 0x7FFF_FFFF
    max_in_flight_requests_per_connection: int = IN_FLIGHT_COUNT
    transactional_id: str | None = None
    """Makes transactions possible. Of all producers with the same one, the last started counts."""
    transaction_timeout_ms: int = 60_000
    """How long a transaction may be open before its coordinator aborts it."""
    partitioner: PartitionerCall | None = None
    """None: `partitioners.Default`."""

    def __post_init__(self) -> None:
        ClientSettings.__post_init__(self)
        if self.acks not in ("all", -1, 0, 1):
            raise ConfigError(f'acks is {self.acks!r}, and must be "all", -1, 0 or 1')
        if self.compression_type not in CODEC_NUMBERS:
            names = ", ".join(CODEC_NUMBERS)
            raise ConfigError(f"compression_type is {self.compression_type!r}, not one of {names}")
        for name, least in (
            ("batch_size", 0),
            ("buffer_memory", 1),
            ("max_block_ms", 0),
            ("max_request_size", 1),
            ("retries", 0),
            ("transaction_timeout_ms", 1),
            ("max_in_flight_requests_per_connection", 1),
        ):
            at_least(name, getattr(self, name), least)
        lowest, highest = LEVELS.get(self.compression_type, (0, 0))
        level = self.codec_level
        if level is not None and not lowest <= level <= highest:
            raise ConfigError(
                f"compression_{self.compression_type}_level is {level}, "
                f"and must be from {lowest} to {highest}"
            )
        if self.linger_ms < 0:
            raise ConfigError(f"linger_ms is {self.linger_ms}, and must be at least 0")
        if self.delivery_timeout_ms < self.linger_ms + self.request_timeout_ms:
            raise ConfigError(
                f"delivery_timeout_ms is {self.delivery_timeout_ms}, and must be at least "
                f"linger_ms + request_timeout_ms"
            )
        if self.transactional_id is not None:
            if not self.transactional_id:
                raise ConfigError("transactional_id is empty")
            if self.enable_idempotence is False:
                raise ConfigError("transactional_id needs enable_idempotence")
        if self.enable_idempotence or self.transactional_id is not None:
            self._require_what_idempotence_needs()

    def _require_what_idempotence_needs(self) -> None:
        name = "enable_idempotence" if self.enable_idempotence else "transactional_id"
        if self.acks_number != ALL:
            raise ConfigError(f'{name} needs acks="all", and acks is {self.acks!r}')
        if not self.retries:
            raise ConfigError(f"{name} needs retries above 0")
        if self.max_in_flight_requests_per_connection > IN_FLIGHT_COUNT:
            raise ConfigError(
                f"{name} needs max_in_flight_requests_per_connection of at most {IN_FLIGHT_COUNT}"
            )

    @property
    def acks_number(self) -> int:
        return ALL if self.acks == "all" else int(self.acks)

    @property
    def is_idempotent(self) -> bool:
        """As in Kafka: the default gives way to an option that contradicts it."""
        if self.enable_idempotence is not None:
            return self.enable_idempotence
        return (
            self.acks_number == ALL
            and self.retries > 0
            and self.max_in_flight_requests_per_connection <= IN_FLIGHT_COUNT
        )

    @property
    def codec(self) -> int:
        return CODEC_NUMBERS[self.compression_type]

    @property
    def codec_level(self) -> int | None:
        levels = {
            "gzip": self.compression_gzip_level,
            "lz4": self.compression_lz4_level,
            "zstd": self.compression_zstd_level,
        }
        return levels.get(self.compression_type)
