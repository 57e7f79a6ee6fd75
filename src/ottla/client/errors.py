"""What a user of the client meets: errors, and what each of the broker's codes is worth.

A broker's error comes as `KafkaError` with its code (an admin's as `RefusedError`, a login's as
`AuthenticationError`, which are some); everything the client itself has to say is a
`ClientError`. A request that got no answer (`rpc.errors.RpcError`) is tried again inside until
the time that the user allowed is over, so it is mostly met as the cause of one of these.

`RETRIABLE` are the codes after which the same request may do better later (Kafka's retriable
exceptions), `STALE_METADATA` those of them that say that somebody else leads by now.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ottla.base.errors import ErrorCode
from ottla.base.errors import KafkaError as KafkaError
from ottla.rpc.errors import AuthenticationError as AuthenticationError
from ottla.rpc.errors import code_of as code_of

if TYPE_CHECKING:
    from ottla.client.records import ConsumerRecord


class ClientError(Exception):
    """Something the client could not do; the message says what and why."""


class ConfigError(ClientError, ValueError):
    """An option, or two that contradict each other: nothing was started."""


class NoBrokersError(ClientError):
    """None of the bootstrap servers could be reached; each is named with its reason."""


class ClientClosedError(ClientError):
    """The client was closed, or was not started yet."""


class BufferFullError(ClientError):
    """No room came free in `buffer_memory` within `max_block_ms`: the record was not taken."""


class RecordTooLargeError(ClientError):
    """A record alone is larger than `max_request_size`: it was not taken."""


class TimedOutError(ClientError):
    """What was asked for did not succeed in the time allowed; `__cause__` is the last failure."""


class DeliveryError(ClientError):
    """A record that was taken could not be delivered.

    `is_uncertain`: it may stand in the log all the same, since a try of it was never answered.
    `code` is the broker's last word, or None.
    """

    def __init__(
        self, message: str, *, code: ErrorCode | None = None, is_uncertain: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.is_uncertain = is_uncertain


class TransactionError(ClientError):
    """The transaction cannot be committed, and has to be aborted: `producer.transaction()` does
    that by itself. `code` is the broker's word, or None."""

    def __init__(self, message: str, *, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class FatalTransactionError(TransactionError):
    """The producer can have no more transactions: close it, and make another one. What it left
    open is aborted by the next one with its transactional id, or after `transaction_timeout_ms`."""


class ProducerFencedError(FatalTransactionError):
    """A later producer has the transactional id, or the coordinator aborted a transaction that
    took longer than `transaction_timeout_ms`."""


class CommitFailedError(ClientError):
    """Offsets were not kept, since the consumer that had read them is no member of the group any
    more, or of an older generation: somebody else may have its partitions, and reads on from what
    was committed before. `code` is the broker's word."""

    def __init__(self, message: str, *, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class ProcessingError(ClientError):
    """A record could not be processed, its tries are used up, and there is no topic for dead
    letters. `record` has the failure in its headers; `__cause__` is the handler's last error."""

    def __init__(self, message: str, *, record: "ConsumerRecord") -> None:
        super().__init__(message)
        self.record = record


class RefusedError(KafkaError):
    """What an admin asked for was refused, or some of it: `errors` has the KafkaError of each item
    that was, REQUEST_TIMED_OUT where it was not settled in time; `results` what came of the others,
    which stands. Code and message are those of the first error."""

    def __init__(self, errors: Mapping[Any, KafkaError], results: Mapping[Any, Any]) -> None:
        first, *more = errors.values()
        super().__init__(first.code, first.message + (f" (and {len(more)} more)" if more else ""))
        self.errors = dict(errors)
        self.results = dict(results)


class NoOffsetError(ClientError):
    """A partition has no position, and `auto_offset_reset` is "none"."""


class LogTruncatedError(NoOffsetError):
    """Records that were handed out are not in the log any more: a leader without them was elected
    (KIP-320). `offset` is the first one whose record may be another; seek to go on."""

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class BadAnswerError(ClientError):
    """A broker answered with what is no answer: garbage, or more than
    `receive_message_max_bytes`. Its connection was closed; reading goes on with another."""


STALE_METADATA: Final = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.LISTENER_NOT_FOUND,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)

OUTDATED: Final = frozenset(
    {
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.REBALANCE_IN_PROGRESS,
        ErrorCode.FENCED_MEMBER_EPOCH,
        ErrorCode.STALE_MEMBER_EPOCH,
        ErrorCode.FENCED_INSTANCE_ID,
    }
)
"""Who asks is no member of the group, or not of its present generation."""

STALE_COORDINATOR: Final = frozenset(
    {ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR}
)

RETRIABLE: Final = (
    STALE_METADATA
    | STALE_COORDINATOR
    | {
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode.INVALID_FETCH_SESSION_EPOCH,
        ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
        ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
        ErrorCode.UNSTABLE_OFFSET_COMMIT,
        ErrorCode.THROTTLING_QUOTA_EXCEEDED,
        ErrorCode.BROKER_NOT_AVAILABLE,
    }
)


def raise_for(number: int, message: str | None = None) -> None:
    """KafkaError where `number` is an error."""
    if number:
        raise KafkaError(code_of(number), message or "")


def nobody_of(causes: Sequence[Exception]) -> Exception:
    """What it comes to that nobody answered; that somebody refused us says more than the rest."""
    for each in causes:
        if isinstance(each, AuthenticationError):
            return each
    texts = "; ".join(dict.fromkeys(map(str, causes)))
    return NoBrokersError(f"no broker answers: {texts}")
