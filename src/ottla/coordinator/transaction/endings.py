"""What EndTxn comes to, by the state of the transactional id.

                          first protocol                    second protocol (every end bumps)
    Ongoing               BEGUN                             BEGUN
    Prepare…, same end    CONCURRENT_TRANSACTIONS           the same, of the epoch before
    Complete…, same end   DONE: an answer was lost          DONE, of the epoch before
    Complete…, abort      as above                          BEGUN_EMPTY, of the epoch as it is
    Empty, abort          INVALID_TXN_STATE                 BEGUN_EMPTY
    anything else         INVALID_TXN_STATE

A producer of another id is INVALID_PRODUCER_ID_MAPPING, one of another epoch PRODUCER_FENCED. In
the second protocol the epoch tells a request that is sent again from the next: the first has the
epoch from before the bump, or the last of a producer id that was replaced.
"""

from enum import Enum

from ottla.base.errors import ErrorCode, KafkaError
from ottla.coordinator.transaction.state import LAST_EPOCH, PREPARED, State, Transaction


class Ending(Enum):
    BEGUN = "begun"
    BEGUN_EMPTY = "begun without a transaction"
    DONE = "done before"


_ENDED = {
    State.PREPARE_COMMIT: True,
    State.COMPLETE_COMMIT: True,
    State.PREPARE_ABORT: False,
    State.COMPLETE_ABORT: False,
}
"""Whether a commit led to the state."""


def ending_of(
    transaction: Transaction, producer_id: int, epoch: int, *, commit: bool, is_bumping: bool
) -> Ending:
    """KafkaError where it cannot be ended so. `is_bumping`: the request is of the second
    protocol."""
    is_again = is_bumping and _is_again(transaction, producer_id, epoch)
    if transaction.producer_id != producer_id and not is_again:
        raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    state = transaction.state
    is_current = epoch == transaction.epoch
    if is_bumping and transaction.is_bumping and state in PREPARED:
        is_current = False  # nobody has the new epoch before the old one was answered
    if not is_current and not is_again:
        raise KafkaError(ErrorCode.PRODUCER_FENCED)
    if state is State.ONGOING:
        return Ending.BEGUN
    is_same = _ENDED.get(state) is commit
    if state in PREPARED and is_same:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    if is_again or not is_bumping:
        if is_same:
            return Ending.DONE
    elif not commit and state not in PREPARED:
        return Ending.BEGUN_EMPTY
    raise KafkaError(ErrorCode.INVALID_TXN_STATE)


def _is_again(transaction: Transaction, producer_id: int, epoch: int) -> bool:
    """Whether an end that was decided is asked for again."""
    if not transaction.is_bumping or transaction.state not in _ENDED:
        return False
    if transaction.producer_id == producer_id:
        return epoch == transaction.epoch - 1
    is_replaced = transaction.previous_producer_id == producer_id and transaction.epoch == 0
    return is_replaced and epoch == LAST_EPOCH
