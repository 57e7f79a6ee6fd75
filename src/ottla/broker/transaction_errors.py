"""What a client of transactions is told, by what it can understand.

Older versions know no PRODUCER_FENCED, and no TRANSACTION_ABORTABLE: they are told what fenced and
refused producers were told then.

What a Produce is told of a verification that did not come to a yes is an error of its own: a
coordinator that cannot be asked is NOT_ENOUGH_REPLICAS there, which every producer takes as a
reason to send again.
"""

from collections.abc import Mapping
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.broker.group_errors import coordinator_error

BUMPING_PRODUCE: Final = 12
"""From this Produce on partitions are added to a transaction as they are written to."""
BUMPING_COMMIT: Final = 5
"""The same of TxnOffsetCommit."""
BUMPING_END: Final = 5
"""From this EndTxn on every end bumps the epoch."""

_NOT_NOW: Final = (
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.NETWORK_EXCEPTION,
)
ABORTABLE_PRODUCE: Final = 11
"""The first Produce that knows TRANSACTION_ABORTABLE."""


def transaction_error(code: ErrorCode, version: int, fenced_since: int) -> ErrorCode:
    """The answer of an API that knows PRODUCER_FENCED since that version."""
    told = coordinator_error(code)
    if told is ErrorCode.PRODUCER_FENCED and version < fenced_since:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return told


def produce_error(code: ErrorCode, version: int) -> ErrorCode:
    """The answer of Produce to a batch that its coordinator did not let in."""
    told = coordinator_error(code)
    if told in _NOT_NOW:
        return ErrorCode.NOT_ENOUGH_REPLICAS
    if told is ErrorCode.CONCURRENT_TRANSACTIONS and version < BUMPING_PRODUCE:
        return ErrorCode.NOT_ENOUGH_REPLICAS
    if told is ErrorCode.PRODUCER_FENCED:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if told is ErrorCode.TRANSACTION_ABORTABLE and version < ABORTABLE_PRODUCE:
        return ErrorCode.INVALID_TXN_STATE
    return told


def marker_error(code: ErrorCode) -> ErrorCode:
    """The answer of WriteTxnMarkers: whoever sends them knows the errors of a log alone, and what
    a group's coordinator is busy with makes it send again."""
    return ErrorCode.NOT_LEADER_OR_FOLLOWER if code in _NOT_NOW else code


_COMMIT: Final[Mapping[ErrorCode, ErrorCode]] = {
    ErrorCode.PRODUCER_FENCED: ErrorCode.INVALID_PRODUCER_EPOCH,
    ErrorCode.NETWORK_EXCEPTION: ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.STALE_MEMBER_EPOCH: ErrorCode.ILLEGAL_GENERATION,
}


def offset_commit_error(code: ErrorCode, version: int) -> ErrorCode:
    """The answer of TxnOffsetCommit."""
    told = coordinator_error(code)
    if told is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS and version < 2:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE  # producers before 2.0 know no other wait
    if told is ErrorCode.TRANSACTION_ABORTABLE and version < 4:
        return ErrorCode.INVALID_TXN_STATE
    if told is ErrorCode.STALE_MEMBER_EPOCH and version >= 6:
        return told
    return _COMMIT.get(told, told)
