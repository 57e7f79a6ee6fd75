"""One transactional id: its producer, and the transaction that it has open.

    Empty ──add──> Ongoing ──end──> PrepareCommit ──markers──> CompleteCommit ──add──> Ongoing …
                      └──end, fence──> PrepareAbort ──markers──> CompleteAbort
    any of Empty, Complete…: InitProducerId ──> Empty; idle for long ──> forgotten

    first protocol     an epoch lives until the producer starts anew
    second (KIP-890)   every end bumps the epoch: the markers carry the new one, and the producer
                       goes on with it. An abort may also end what never began, for the bump alone.

A producer that comes to epoch 32,766 gets a new id, so that a fence always finds a higher epoch.
PrepareEpochFence and Dead are Kafka's names for moments between two records;
here a fence is one record, and what is dead is gone.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from ottla.coordinator.transaction.records import TransactionPartitions, TransactionValue

NO_ID: Final = -1
NO_EPOCH: Final = -1
LAST_EPOCH: Final = 32_766
"""The highest that a producer gets."""
BUMPING: Final = 2
"""From this version of the protocol on every end bumps the epoch."""

Place = tuple[str, int]
"""Topic and partition."""


class Producer(NamedTuple):
    """A producer id and its epoch, as a client knows them."""

    id: int
    epoch: int


class State(IntEnum):
    """By Kafka's numbers."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def title(self) -> str:
        """As tools show it."""
        return "".join(word.capitalize() for word in self.name.split("_"))


PREPARED: Final = (State.PREPARE_COMMIT, State.PREPARE_ABORT)
COMPLETED: Final = {
    State.PREPARE_COMMIT: State.COMPLETE_COMMIT,
    State.PREPARE_ABORT: State.COMPLETE_ABORT,
}
RESTING: Final = (State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
"""No transaction is open; one may begin, and the id may expire."""
STATES: Final = {int(state): state for state in State}


class Transaction:
    __slots__ = (
        "client_version",
        "epoch",
        "id",
        "last_epoch",
        "next_producer_id",
        "partitions",
        "previous_producer_id",
        "producer_id",
        "start_ms",
        "state",
        "timeout_ms",
        "unmarked",
        "updated_ms",
    )

    def __init__(self, transactional_id: str) -> None:
        self.id = transactional_id
        self.producer_id = NO_ID
        self.previous_producer_id = NO_ID
        """Who the producer was before the last record: another where that replaced it."""
        self.next_producer_id = NO_ID
        """Whom the end that is under way makes the producer."""
        self.epoch = NO_EPOCH
        self.last_epoch = NO_EPOCH
        self.timeout_ms = 0
        self.state = State.EMPTY
        self.partitions: dict[Place, None] = {}
        self.start_ms = -1
        self.updated_ms = -1
        self.client_version = 0
        self.unmarked: dict[Place, None] = {}
        """Partitions that have no marker yet: known in memory alone, while prepared."""

    def take(self, value: TransactionValue, last_epoch: int) -> None:
        """Be as a record says."""
        self.producer_id = value.producer_id
        self.previous_producer_id = value.previous_producer_id
        self.next_producer_id = value.next_producer_id
        self.epoch = value.producer_epoch
        self.last_epoch = last_epoch
        self.timeout_ms = value.transaction_timeout_ms
        self.state = STATES.get(value.transaction_status, State.DEAD)
        self.partitions = {
            (each.topic, index): None
            for each in value.transaction_partitions or ()
            for index in each.partition_ids
        }
        self.start_ms = value.transaction_start_timestamp_ms
        self.updated_ms = value.transaction_last_update_timestamp_ms
        self.client_version = value.client_transaction_version
        self.unmarked = dict(self.partitions) if self.state in PREPARED else {}

    @property
    def is_exhausted(self) -> bool:
        return self.epoch >= LAST_EPOCH

    @property
    def is_bumping(self) -> bool:
        return self.client_version >= BUMPING

    def value(self, **changes: object) -> TransactionValue:
        """What it would be recorded as after these changes (`partitions` as places)."""
        places: Iterable[Place] = changes.pop("partitions", self.partitions)  # type: ignore[assignment]
        value = TransactionValue(
            producer_id=self.producer_id,
            previous_producer_id=self.producer_id,
            next_producer_id=self.next_producer_id,
            producer_epoch=self.epoch,
            transaction_timeout_ms=self.timeout_ms,
            transaction_status=self.state,
            transaction_partitions=_rows(places),
            transaction_last_update_timestamp_ms=self.updated_ms,
            transaction_start_timestamp_ms=self.start_ms,
            client_transaction_version=self.client_version,
        )
        for name, change in changes.items():
            setattr(value, name, change)
        if value.transaction_status == State.EMPTY:
            value.transaction_partitions = None
        return value


def _rows(places: Iterable[Place]) -> list[TransactionPartitions]:
    topics: dict[str, list[int]] = {}
    for topic, partition in places:
        topics.setdefault(topic, []).append(partition)
    return [
        TransactionPartitions(topic=topic, partition_ids=partitions)
        for topic, partitions in topics.items()
    ]
