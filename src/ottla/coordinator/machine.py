"""What a shard and the state machine on it have to do with each other.

A machine says what its records are, and its durable state changes by them alone. An operation is a
function of the machine and the wall clock: what it comes to is an `Outcome`, records to be written
and what is answered then; while it runs it may ask its `Host`, the shard, for some things.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from ottla.base.errors import ErrorCode
from ottla.coordinator.pending import Pending

R = TypeVar("R")


class Machine(Protocol[R]):
    """The state of a shard. `replay` is the only way in which durable state changes."""

    def encode(self, record: R) -> tuple[bytes, bytes | None]:
        """Key and value of a record."""

    def decode(self, key: bytes, value: bytes | None) -> R | None:
        """The record; None for one of a kind or version that is not known here."""

    def replay(self, record: R) -> None: ...

    def replay_pending(self, record: R, producer_id: int) -> None:
        """One of a transaction that has not ended."""

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """What was pending counts from now on, or never did."""

    def loaded(self, now_ms: int) -> None:
        """The whole log was replayed; timers may be set."""

    def closed(self, code: ErrorCode) -> None:
        """No operation will come any more: whoever was kept waiting is told. It may not have been
        loaded to its end."""


M = TypeVar("M", bound=Machine[Any])


class Outcome(NamedTuple):
    """What an operation comes to."""

    records: Sequence[Any] = ()
    response: Any = None
    """None: the request was kept, to be answered by a later operation."""
    producer: tuple[int, int] | None = None
    """Id and epoch of the producer in whose transaction the records are."""
    is_divisible: bool = False
    """The log may have some of its records and not the others. Else it has all or none, and one
    batch has to hold them."""
    effects: Sequence[Callable[[], object]] = ()
    """What changes in memory beside the records, just before they are replayed; not where the
    operation is refused after all."""


Operation = Callable[[M, int], Outcome]
"""Of (machine, wall clock in ms). KafkaError refuses the request, and may have changed nothing."""


class Host(Protocol):
    """What a machine may do with its shard, while an operation of it runs."""

    @property
    def record_max_bytes(self) -> int:
        """Most that key and value of one record may have together."""

    @property
    def epoch(self) -> int:
        """Of the coordinator: the leader epoch of its partition."""

    def answer(self, pending: Pending, response: Any) -> None:
        """Answer a request that was kept, when all this is committed."""

    def schedule(self, key: Hashable, delay_ms: int, operation: Operation[Any]) -> None:
        """Perform an operation later; the key's former timer is replaced."""

    def cancel(self, key: Hashable) -> None: ...
