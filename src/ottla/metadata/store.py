"""The store of what must be agreed: etcd's model, cut down to what a broker needs.

Keys are printable ASCII texts, values bytes. A transaction compares the revisions of some keys
and, if all compare, makes all of its writes; it moves the store's revision by one. Twins, held
to this page by one conformance suite: `memory` (simulation, tests), `embedded` (SQLite).

Guarantees
- *Serial.* Transactions and reads happen one after another, in an order that agrees with time:
  what was committed before a read began is in it. A read sees one revision.
- *All or nothing*, and durable when `txn` returns. A caller that is cancelled, or that got a
  `StoreError`, does not know the outcome: it must look.
- *Revisions* start at 0 in an empty store and never go back. A transaction that changes
  nothing (a failed one, one without writes, deletes of keys that are not there) takes none.
  The `mod_revision` of an entry is the revision that wrote it last; 0 is compared with a key
  that must not exist.
- *A watch* gets every change under its prefix from a revision on, once, in order, and all
  changes of one revision in one call, in the order of the writes (a prefix that is deleted:
  in the order of its keys). Its call-back runs on the node's loop, never inside a call to the
  store. History is bounded: a watch that asks for what was forgotten fails with
  `CompactedError`; then read everything again.
- *A lease* holds keys. They go when it is revoked or when its holder has died: by etcd's clock
  (memory: the loop's clock) when it was not kept alive for its time to live; in the embedded
  store when the process is gone, whatever the clock says. A put without a lease takes a key
  out of its lease.

Comparing revisions alone is enough (etcd could also compare values, versions, leases): who
decides has read, and the revision says whether that is still so.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, NewType, Protocol

Revision = NewType("Revision", int)
LeaseId = NewType("LeaseId", int)

NO_REVISION: Final = Revision(0)
HISTORY_REVISIONS: Final = 10_000
"""Revisions that a store remembers for its watches, at least."""


class StoreError(Exception):
    """The store could not do it, and the outcome of a write is not known."""


class StoreBusyError(StoreError):
    """Another process held the store for too long. Worth another try."""


class StoreUnavailableError(StoreError):
    """The store cannot be opened, read or written, or it was closed."""


class StoreVersionError(StoreError):
    """The store was written by a later version of Ottla, or by another program."""


class LeaseLostError(StoreError):
    """The lease is not there (any more). Nothing was written."""


class CompactedError(StoreError):
    """The revision that a watch starts from is no longer remembered."""


class Entry(NamedTuple):
    value: bytes
    mod_revision: Revision


class Compare(NamedTuple):
    """Holds where the key was last written by that revision; NO_REVISION: does not exist."""

    key: str
    mod_revision: Revision


class Put(NamedTuple):
    key: str
    value: bytes
    lease: LeaseId | None = None


class Delete(NamedTuple):
    key: str


class DeletePrefix(NamedTuple):
    prefix: str


Write = Put | Delete | DeletePrefix


Commit = Callable[[Sequence[Compare], Sequence[Write]], Awaitable[bool]]
"""A controller's: write, if all that is compared stands as it was read, and it still is the
controller; whether it was written. Where it was not, the image knows why: plan again."""


class TxnResult(NamedTuple):
    committed: bool
    revision: Revision
    """Of this transaction if it changed something, else of the store when it was looked at."""
    current: Mapping[str, Entry | None]
    """What the compared keys hold, where the comparison failed; empty where it did not."""


class Event(NamedTuple):
    key: str
    value: bytes | None
    """None: deleted."""


class Changes(NamedTuple):
    """What one revision changed."""

    revision: Revision
    events: Sequence[Event]


class Watch(Protocol):
    def cancel(self) -> None:
        """No call-back after this. May be called twice."""


class Store(Protocol):
    async def read(self, prefix: str) -> tuple[Revision, dict[str, Entry]]:
        """All entries under a prefix in the order of their keys, and the revision of that."""

    async def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        """ValueError where two writes touch the same key, or a key is no key."""

    def watch(
        self,
        prefix: str,
        from_revision: Revision,
        call_back: Callable[[Changes], None],
        failed: Callable[[StoreError], None],
    ) -> Watch:
        """Changes of `from_revision` and all after it. `failed` is called once at most, and the
        watch is over with it."""

    async def grant(self, ttl_ms: int) -> LeaseId: ...

    async def keep_alive(self, lease: LeaseId) -> None:
        """Start its time to live anew; LeaseLostError if it is gone."""

    async def revoke(self, lease: LeaseId) -> None:
        """End a lease, and with it its keys. It may be gone."""

    async def close(self) -> None:
        """End the watches of this face of the store. Leases are left to die or be revoked."""


def check_key(key: str) -> None:
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(f"not a key: {key!r}")


def check_txn(compares: Iterable[Compare], writes: Sequence[Write]) -> None:
    """What every twin refuses, as etcd does: one key touched twice, and odd keys."""
    for compare in compares:
        check_key(compare.key)
    keys = [write.key for write in writes if not isinstance(write, DeletePrefix)]
    prefixes = [write.prefix for write in writes if isinstance(write, DeletePrefix)]
    for key in (*keys, *prefixes):
        check_key(key)
    if len(set(keys)) != len(keys):
        raise ValueError("a transaction writes a key twice")
    for number, prefix in enumerate(prefixes):
        others = prefixes[:number] + prefixes[number + 1 :]
        if any(text.startswith(prefix) for text in (*keys, *others)):
            raise ValueError(f"a transaction writes under a prefix that it deletes: {prefix}")
