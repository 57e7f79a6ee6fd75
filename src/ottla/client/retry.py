"""What is done with a record that could not be processed: how often it is tried, and how long
between the tries. The failure itself travels in the record's headers, see `noted`.
"""

from dataclasses import dataclass
from typing import Final

from ottla.base.world import Rng
from ottla.client.errors import ConfigError
from ottla.client.records import ConsumerRecord
from ottla.client.settings import at_least
from ottla.rpc.peer import Backoff

ATTEMPTS: Final = "ottla-attempts"
ERROR: Final = "ottla-error"
FIRST_FAILED: Final = "ottla-first-failed-ms"
TOPIC: Final = "ottla-topic"
PARTITION: Final = "ottla-partition"
OFFSET: Final = "ottla-offset"
TIMESTAMP: Final = "ottla-timestamp-ms"
OURS: Final = (ATTEMPTS, ERROR, FIRST_FAILED, TOPIC, PARTITION, OFFSET, TIMESTAMP)

ERROR_MAX_CHARS: Final = 1_000
Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Tries in all, the first one counted; the pause doubles from try to try, and is spread by a
    fifth. Errors that are not of `retry_on` are not tried again."""

    attempts: int = 5
    backoff_ms: int = 200
    backoff_max_ms: int = 30_000
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        at_least("attempts", self.attempts, 1)
        at_least("backoff_ms", self.backoff_ms, 0)
        if self.backoff_ms > self.backoff_max_ms:
            raise ConfigError("backoff_ms is above backoff_max_ms")

    def pause_s(self, attempts: int, error: Exception, rng: Rng) -> float | None:
        """How long to wait after so many tries; None where it is not tried again."""
        if attempts >= self.attempts or not isinstance(error, self.retry_on):
            return None
        return Backoff(self.backoff_ms, self.backoff_max_ms).seconds(attempts, rng)


def noted(
    record: ConsumerRecord, *, attempts: int, error: Exception, first_failed_ms: int
) -> ConsumerRecord:
    """The record with its failure in the headers: how often it was tried, the last error, and
    when the first try failed. What an earlier consumer noted is replaced."""
    text = f"{type(error).__name__}: {error}"[:ERROR_MAX_CHARS]
    notes: Headers = (
        (ATTEMPTS, b"%d" % attempts),
        (ERROR, text.encode("utf-8", "backslashreplace")),
        (FIRST_FAILED, b"%d" % first_failed_ms),
    )
    return record._replace(headers=_without_ours(record) + notes)


def origin(record: ConsumerRecord) -> Headers:
    """Where a record was read: for the one that stands for it in another topic."""
    return (
        (TOPIC, record.topic.encode()),
        (PARTITION, b"%d" % record.partition),
        (OFFSET, b"%d" % record.offset),
        (TIMESTAMP, b"%d" % record.timestamp_ms),
    )


def _without_ours(record: ConsumerRecord) -> Headers:
    return tuple(header for header in record.headers if header[0] not in OURS)
