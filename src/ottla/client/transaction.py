"""A producer's transactions as a book of states: what may happen now, and what an error does.

    unready -> ready -> open -> committing -> ready
                ^        |  \\       |
                |        v   v      v           broken: a record or an offset of it is lost,
                +---- aborting <- broken                so it can only be aborted
                                                fatal: any state; the producer is of no use any more

Nothing here asks or waits: `transacting` does, and tells what came of it.

Two versions of the protocol. In the first each partition and group is added by a request before
anything of it is sent, and the epoch stays. In the second (KIP-890, where the cluster has
finalised transaction.version 2) the first Produce or TxnOffsetCommit adds it, and each end brings
a new epoch, so that nothing of one transaction can be taken for part of the next. A transaction
keeps the version it began with.
"""

from enum import Enum
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.client.batch import NO_SEQUENCE
from ottla.client.errors import (
    ClientError,
    FatalTransactionError,
    ProducerFencedError,
    TransactionError,
)

Key = tuple[str, int]


class State(Enum):
    UNREADY = "unready"
    READY = "ready"
    OPEN = "open"
    COMMITTING = "committing"
    ABORTING = "aborting"
    BROKEN = "broken"
    FATAL = "fatal"


STEPS: Final = {
    (State.UNREADY, "ended"): State.READY,
    (State.READY, "begin"): State.OPEN,
    (State.OPEN, "commit"): State.COMMITTING,
    (State.COMMITTING, "commit"): State.COMMITTING,  # it was not answered in time
    (State.COMMITTING, "ended"): State.READY,
    (State.OPEN, "abort"): State.ABORTING,
    (State.BROKEN, "abort"): State.ABORTING,
    (State.ABORTING, "abort"): State.ABORTING,  # as above
    (State.ABORTING, "ended"): State.READY,
}

FENCED: Final = frozenset({ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH})
LOST_ID: Final = frozenset({ErrorCode.INVALID_PRODUCER_ID_MAPPING, ErrorCode.UNKNOWN_PRODUCER_ID})
"""The coordinator does not know the producer id: it is asked for another one after the abort."""
ABORTABLE: Final = LOST_ID | {
    ErrorCode.TRANSACTION_ABORTABLE,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ErrorCode.GROUP_AUTHORIZATION_FAILED,
    ErrorCode.OPERATION_NOT_ATTEMPTED,
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.FENCED_INSTANCE_ID,
    ErrorCode.FENCED_MEMBER_EPOCH,
    ErrorCode.STALE_MEMBER_EPOCH,
    ErrorCode.OFFSET_METADATA_TOO_LARGE,
    ErrorCode.INVALID_COMMIT_OFFSET_SIZE,
}
"""Of a coordinator's codes: those after which the producer may go on, when it has aborted."""
FATAL_OF_RECORDS: Final = frozenset(
    {
        ErrorCode.PRODUCER_FENCED,
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    }
)
"""Of a partition leader's codes. All else breaks the transaction alone."""


class Transaction:
    def __init__(self, transactional_id: str) -> None:
        self.id = transactional_id
        self.state = State.UNREADY
        self.error: TransactionError | None = None
        self.producer_id = self.epoch = NO_SEQUENCE
        self.is_second_version = False
        self.partitions: set[Key] = set()
        """Those in the transaction."""
        self.wanted: set[Key] = set()
        """Those to be added before anything of them is sent."""
        self.groups: set[str] = set()
        self.is_begun = False
        """Whether the coordinator may know of it: else there is nothing to end."""
        self.is_confirmed = False
        """Whether the coordinator is known to know of it."""
        self.has_lost_id = False

    # ---- steps

    def step(self, event: str) -> None:
        """ClientError where the step is none of this state."""
        following = STEPS.get((self.state, event))
        if following is None:
            self.raise_error()
            raise ClientError(f"transaction {self.id!r} is {self.state.value}: it cannot {event}")
        self.state = following

    def begin(self, *, is_second_version: bool) -> None:
        self.step("begin")
        self.is_second_version = is_second_version

    def ended(self, producer_id: int, epoch: int) -> None:
        """Committed or aborted; the producer id and epoch of the next one."""
        self.step("ended")
        self.producer_id, self.epoch = producer_id, epoch
        self.partitions, self.wanted, self.groups = set(), set(), set()
        self.is_begun = self.is_confirmed = self.has_lost_id = False
        self.error = None

    def require_open(self) -> None:
        if self.state is not State.OPEN:
            self.raise_error()
            raise ClientError(f"transaction {self.id!r} is {self.state.value}: begin one first")

    # ---- what may be sent

    def admits(self, key: Key) -> bool:
        """Whether records of the partition may leave now. Where it has to be added first, it is
        in `wanted` from here on."""
        if self.state not in (State.OPEN, State.COMMITTING):
            return False
        if key in self.partitions:
            return True
        if not self.is_second_version:
            self.wanted.add(key)
            return False
        self.partitions.add(key)
        self.is_begun = True
        return True

    def added(self, keys: set[Key]) -> None:
        self.wanted -= keys
        self.partitions |= keys
        self.is_confirmed = True

    # ---- what goes wrong

    def records_failed(self, code: ErrorCode | None, cause: str) -> None:
        """A batch of the transaction was not delivered."""
        self._failed(code, cause, is_fatal=code in FATAL_OF_RECORDS)

    def refused(self, code: ErrorCode | None, cause: str) -> None:
        """A coordinator said no, or (None) nothing in time."""
        self.has_lost_id |= code in LOST_ID
        self._failed(code, cause, is_fatal=code is not None and code not in ABORTABLE)

    def _failed(self, code: ErrorCode | None, cause: str, *, is_fatal: bool) -> None:
        if self.state is State.FATAL:
            return
        if is_fatal:
            kind = ProducerFencedError if code in FENCED else FatalTransactionError
            self.state, self.error = State.FATAL, kind(cause, code=code)
        elif self.state in (State.OPEN, State.COMMITTING):
            self.state, self.error = State.BROKEN, TransactionError(cause, code=code)

    def raise_error(self) -> None:
        """What broke it, if anything did: a new one each time, with its own traceback."""
        if self.error is not None:
            raise self.error.__class__(str(self.error), code=self.error.code)
