"""What InitProducerId comes to, where no transaction is open.

    who asks                       the producer that it gets
    a new instance                 the next epoch, which fences all before it
    the producer itself (KIP-360)  the next epoch; what it named may be named once more
    the same, once more            the epoch that it was given before: an answer was lost
    anybody else                   PRODUCER_FENCED

Where the epochs of a producer id are used up, the next one is epoch 0 of a new id.
"""

from collections.abc import Callable

from ottla.base.errors import ErrorCode, KafkaError
from ottla.coordinator.transaction.records import TransactionRecord
from ottla.coordinator.transaction.state import (
    LAST_EPOCH,
    NO_EPOCH,
    NO_ID,
    Producer,
    State,
    Transaction,
)


def check_known(transaction: Transaction, expected: Producer | None) -> None:
    """KafkaError PRODUCER_FENCED where a client that believes to be `expected` cannot be the
    producer of this id. Of which epoch it is, is another question."""
    if expected is None or transaction.epoch == NO_EPOCH or expected.id == transaction.producer_id:
        return
    # Who used up the epochs of the id before may not have heard of the new one.
    if expected.id != transaction.previous_producer_id or expected.epoch < LAST_EPOCH:
        raise KafkaError(ErrorCode.PRODUCER_FENCED)


def begun(
    transaction: Transaction,
    expected: Producer | None,
    timeout_ms: int,
    now_ms: int,
    take_id: Callable[[], int],
) -> tuple[TransactionRecord, Producer]:
    """The record of the producer as it begins anew, and that producer. KafkaError."""
    producer, last_epoch = _next(transaction, expected, take_id)
    value = transaction.value(
        producer_id=producer.id,
        producer_epoch=producer.epoch,
        next_producer_id=NO_ID,
        transaction_timeout_ms=timeout_ms,
        transaction_status=State.EMPTY,
        transaction_start_timestamp_ms=-1,
        transaction_last_update_timestamp_ms=now_ms,
        client_transaction_version=0,
    )
    return TransactionRecord(transaction.id, value, last_epoch), producer


def _next(
    transaction: Transaction, expected: Producer | None, take_id: Callable[[], int]
) -> tuple[Producer, int]:
    """The producer, and the epoch that it may name once more."""
    epoch = transaction.epoch
    is_current = epoch == NO_EPOCH or expected is None or expected.epoch == epoch
    if is_current:
        last_epoch = NO_EPOCH if expected is None else epoch
        if epoch == NO_EPOCH or transaction.is_exhausted:
            return Producer(take_id(), 0), last_epoch
        return Producer(transaction.producer_id, epoch + 1), last_epoch
    if expected is not None and expected.epoch == transaction.last_epoch:
        return Producer(transaction.producer_id, epoch), transaction.last_epoch
    raise KafkaError(ErrorCode.PRODUCER_FENCED)
