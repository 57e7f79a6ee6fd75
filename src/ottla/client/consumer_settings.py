"""What a consumer is configured with, by Kafka's names and defaults."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ottla.client.assignment import EARLIEST, LATEST
from ottla.client.errors import ConfigError
from ottla.client.settings import ClientSettings, at_least

RESETS: Final = {"earliest": EARLIEST, "latest": LATEST, "none": None}
UNITS_MS: Final = {"days": 86_400_000, "hours": 3_600_000, "minutes": 60_000, "seconds": 1_000}
DURATION: Final = re.compile(
    r"by_duration:P(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
GROUP_PROTOCOLS: Final = ("classic", "consumer")
ASSIGNOR_NAMES: Final = ("range", "roundrobin", "sticky", "cooperative-sticky")
ISOLATION: Final = {"read_uncommitted": 0, "read_committed": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings(ClientSettings):
    group_id: str | None = None
    group_instance_id: str | None = None
    """Static membership (KIP-345)."""
    group_protocol: str = "classic"
    """Or "consumer": the protocol of KIP-848, where the broker assigns."""
    group_remote_assignor: str | None = None
    """With "consumer": the broker's assignor ("uniform", "range"); None leaves it to the broker."""
    partition_assignment_strategy: Sequence[str] = ("range", "cooperative-sticky")
    """With "classic": names of assignors, the dearest first. Rebalances are cooperative where all
    of them are."""
    auto_offset_reset: str = "latest"
    """Or "earliest", "none", or "by_duration:" and an age as "PT1H30M" or "P7D" (KIP-1106)."""
    enable_auto_commit: bool = True
    auto_commit_interval_ms: int = 5_000
    isolation_level: str = "read_uncommitted"
    fetch_min_bytes: int = 1
    fetch_max_bytes: int = 50 << 20
    fetch_max_wait_ms: int = 500
    max_partition_fetch_bytes: int = 1 << 20
    max_poll_records: int = 500
    check_crcs: bool = True
    client_rack: str = ""
    default_api_timeout_ms: int = 60_000
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 3_000
    max_poll_interval_ms: int = 300_000

    def __post_init__(self) -> None:
        ClientSettings.__post_init__(self)
        self.reset_to(0)
        if self.isolation_level not in ISOLATION:
            raise ConfigError(
                f"isolation_level is {self.isolation_level!r}, not one of {', '.join(ISOLATION)}"
            )
        self._check_group()
        for name, least in (
            ("auto_commit_interval_ms", 1),
            ("fetch_min_bytes", 0),
            ("fetch_max_bytes", 1),
            ("fetch_max_wait_ms", 0),
            ("max_partition_fetch_bytes", 1),
            ("max_poll_records", 1),
            ("default_api_timeout_ms", 1),
            ("session_timeout_ms", 1),
            ("heartbeat_interval_ms", 1),
            ("max_poll_interval_ms", 1),
        ):
            at_least(name, getattr(self, name), least)
        if self.heartbeat_interval_ms >= self.session_timeout_ms:
            raise ConfigError("heartbeat_interval_ms must be below session_timeout_ms")
        if self.fetch_max_wait_ms >= self.request_timeout_ms:
            raise ConfigError("fetch_max_wait_ms must be below request_timeout_ms")

    def _check_group(self) -> None:
        if self.group_id == "":
            raise ConfigError("group_id is empty; None is a consumer without a group")
        if self.group_protocol not in GROUP_PROTOCOLS:
            raise ConfigError(
                f"group_protocol is {self.group_protocol!r}, not one of"
                f" {', '.join(GROUP_PROTOCOLS)}"
            )
        strategies = self.partition_assignment_strategy
        if isinstance(strategies, str) or not strategies:
            raise ConfigError("partition_assignment_strategy is a list of at least one name")
        for name in strategies:
            if name not in ASSIGNOR_NAMES:
                raise ConfigError(
                    f"partition_assignment_strategy names {name!r}, not one of"
                    f" {', '.join(ASSIGNOR_NAMES)}"
                )

    def reset_to(self, now_ms: int) -> int | None:
        """The ListOffsets timestamp that `auto_offset_reset` means now; None for "none"."""
        given = self.auto_offset_reset
        if given in RESETS:
            return RESETS[given]
        parts = DURATION.fullmatch(given)
        if parts is None or given.endswith(("P", "T")):
            raise ConfigError(
                f"auto_offset_reset is {given!r}, not one of {', '.join(RESETS)},"
                " by_duration:PnDTnHnMnS"
            )
        age_ms = sum(float(n) * UNITS_MS[unit] for unit, n in parts.groupdict("0").items())
        return max(0, now_ms - int(age_ms))

    @property
    def isolation(self) -> int:
        return ISOLATION[self.isolation_level]
