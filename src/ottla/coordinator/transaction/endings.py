"""What EndTxn comes to, by the state of the transactional id, and the records of an end.

                          first protocol                    second protocol (every end bumps)
    Ongoing               BEGUN                             BEGUN
    Prepare…              CONCURRENT_TRANSACTIONS           CONCURRENT_TRANSACTIONS, whoever asks
    Complete…, same end   DONE: an answer was lost          DONE, of the epoch before
    Complete…, abort      as above                          BEGUN_EMPTY, of the epoch as it is
    Empty, abort          INVALID_TXN_STATE                 BEGUN_EMPTY
    anything else         INVALID_TXN_STATE

A producer of another id is INVALID_PRODUCER_ID_MAPPING, one of another epoch PRODUCER_FENCED. In
the second protocol the epoch tells a request that is sent again from the next: the first has the
epoch from before the bump, or the last of a producer id that was replaced. Who asks while markers
are written cannot be judged: the producer may go on already under an id that is its own only when
they are.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any

from ottla.base.errors import ErrorCode, KafkaError
from ottla.coordinator.transaction.records import TransactionRecord
from ottla.coordinator.transaction.state import (
    BUMPING,
    COMPLETED,
    LAST_EPOCH,
    NO_EPOCH,
    NO_ID,
    PREPARED,
    Producer,
    State,
    Transaction,
)


class Ending(Enum):
    BEGUN = "begun"
    BEGUN_EMPTY = "begun without a transaction"
    DONE = "done before"


_COMMITTED = {State.COMPLETE_COMMIT: True, State.COMPLETE_ABORT: False}
"""Whether a commit led to the state."""


def ending_of(
    transaction: Transaction, producer: Producer, *, commit: bool, is_bumping: bool
) -> Ending:
    """KafkaError where it cannot be ended so. `is_bumping`: the request is of the second
    protocol."""
    state = transaction.state
    if is_bumping and state in PREPARED:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    is_again = is_bumping and _is_again(transaction, producer)
    if transaction.producer_id != producer.id and not is_again:
        raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    if transaction.epoch != producer.epoch and not is_again:
        raise KafkaError(ErrorCode.PRODUCER_FENCED)
    if state in PREPARED:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    if state is State.ONGOING:
        return Ending.BEGUN
    if is_again or not is_bumping:
        if _COMMITTED.get(state) is commit:
            return Ending.DONE
    elif not commit:
        return Ending.BEGUN_EMPTY
    raise KafkaError(ErrorCode.INVALID_TXN_STATE)


def _is_again(transaction: Transaction, producer: Producer) -> bool:
    """Whether an end that was decided is asked for again."""
    if not transaction.is_bumping or transaction.state not in _COMMITTED:
        return False
    if transaction.producer_id == producer.id:
        return producer.epoch == transaction.epoch - 1
    is_replaced = transaction.previous_producer_id == producer.id and transaction.epoch == 0
    return is_replaced and producer.epoch == LAST_EPOCH


def prepared(
    transaction: Transaction,
    state: State,
    version: int,
    now_ms: int,
    take_id: Callable[[], int],
    **changes: Any,
) -> tuple[TransactionRecord, Producer]:
    """The record that decides on an end, and the producer as it goes on. `version` is the protocol
    of the end: one that bumps takes a new producer id where the epochs are used up."""
    answer, last_epoch = (
        Producer(transaction.producer_id, transaction.epoch),
        transaction.last_epoch,
    )
    if version >= BUMPING:
        last_epoch = transaction.epoch
        answer = Producer(transaction.producer_id, transaction.epoch + 1)
        changes["producer_epoch"] = answer.epoch
        if transaction.is_exhausted:
            answer = Producer(take_id(), 0)
            changes["next_producer_id"] = answer.id
    value = transaction.value(
        transaction_status=state,
        transaction_last_update_timestamp_ms=now_ms,
        client_transaction_version=version,
        **changes,
    )
    return TransactionRecord(transaction.id, value, last_epoch), answer


def fenced(
    transaction: Transaction, version: int, now_ms: int, take_id: Callable[[], int]
) -> TransactionRecord:
    """The record that aborts under an epoch that nobody has. `version` is the cluster's."""
    state = State.PREPARE_ABORT
    if version >= BUMPING:
        return prepared(transaction, state, version, now_ms, take_id)[0]
    epoch = transaction.epoch + 1
    record, _ = prepared(transaction, state, 0, now_ms, take_id, producer_epoch=epoch)
    return record._replace(last_epoch=NO_EPOCH)


def completed(transaction: Transaction, now_ms: int) -> TransactionRecord:
    """The record that all its markers are written."""
    changes: dict[str, Any] = {}
    if transaction.next_producer_id != NO_ID:
        changes["producer_id"] = transaction.next_producer_id
        changes["producer_epoch"] = 0
        changes["next_producer_id"] = NO_ID
    value = transaction.value(
        partitions=(),
        transaction_status=COMPLETED[transaction.state],
        transaction_last_update_timestamp_ms=now_ms,
        **changes,
    )
    return TransactionRecord(transaction.id, value, transaction.last_epoch)
