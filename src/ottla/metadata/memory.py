"""The store in memory: what the simulation and the tests of other rooms agree by.

`MemoryKeep` is the thing that many nodes share (it plays the etcd cluster), `MemoryStore` one
node's face of it. Everything happens at once in the order of the calls; call-backs of watches
come in a later turn of the loop. Leases run by the loop's clock, which in the simulation is
virtual.
"""

import asyncio
from collections.abc import Callable, Sequence

from ottla.metadata.store import (
    HISTORY_REVISIONS,
    NO_REVISION,
    Changes,
    Compare,
    Delete,
    Entry,
    Event,
    LeaseId,
    LeaseLostError,
    Put,
    Revision,
    StoreError,
    StoreUnavailableError,
    TxnResult,
    Watch,
    Write,
    check_txn,
)
from ottla.metadata.watches import Watches


class MemoryKeep:
    def __init__(self, *, history_revisions: int = HISTORY_REVISIONS) -> None:
        self.revision = NO_REVISION
        self.compacted = NO_REVISION
        self._entries: dict[str, Entry] = {}
        self._lease_of: dict[str, LeaseId] = {}
        self._leases: dict[LeaseId, tuple[int, asyncio.TimerHandle]] = {}
        self._leases_granted = 0
        self._history: list[Changes] = []
        self._history_revisions = history_revisions
        self.faces: list[MemoryStore] = []

    def under(self, prefix: str) -> dict[str, Entry]:
        keys = sorted(key for key in self._entries if key.startswith(prefix))
        return {key: self._entries[key] for key in keys}

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def history(self, from_revision: Revision) -> list[Changes]:
        return self._history[max(from_revision - self.compacted - 1, 0) :]

    def write(self, writes: Sequence[Write]) -> None:
        for write in writes:
            if isinstance(write, Put) and write.lease is not None:
                self.check_lease(write.lease)
        revision = Revision(self.revision + 1)
        events = [event for write in writes for event in self._apply(write, revision)]
        if not events:
            return
        self.revision = revision
        self._history.append(Changes(revision, events))
        if len(self._history) > 2 * self._history_revisions:
            del self._history[: -self._history_revisions]
            self.compacted = Revision(revision - self._history_revisions)
        for face in self.faces:
            face.wake()

    def _apply(self, write: Write, revision: Revision) -> list[Event]:
        if isinstance(write, Put):
            self._entries[write.key] = Entry(write.value, revision)
            self._lease_of.pop(write.key, None)
            if write.lease is not None:
                self._lease_of[write.key] = write.lease
            return [Event(write.key, write.value)]
        if isinstance(write, Delete):
            gone = [write.key] if write.key in self._entries else []
        else:
            gone = list(self.under(write.prefix))
        for key in gone:
            del self._entries[key]
            self._lease_of.pop(key, None)
        return [Event(key, None) for key in gone]

    def grant(self, ttl_ms: int) -> LeaseId:
        self._leases_granted += 1
        lease = LeaseId(self._leases_granted)
        self._leases[lease] = (ttl_ms, self._expiry(lease, ttl_ms))
        return lease

    def check_lease(self, lease: LeaseId) -> None:
        if lease not in self._leases:
            raise LeaseLostError(f"lease {lease} is gone")

    def keep_alive(self, lease: LeaseId) -> None:
        self.check_lease(lease)
        ttl_ms, timer = self._leases[lease]
        timer.cancel()
        self._leases[lease] = (ttl_ms, self._expiry(lease, ttl_ms))

    def revoke(self, lease: LeaseId) -> None:
        if lease not in self._leases:
            return
        self._leases.pop(lease)[1].cancel()
        keys = sorted(key for key, holder in self._lease_of.items() if holder == lease)
        self.write([Delete(key) for key in keys])

    def _expiry(self, lease: LeaseId, ttl_ms: int) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(ttl_ms / 1000, self.revoke, lease)


class MemoryStore:
    def __init__(self, keep: MemoryKeep) -> None:
        self._keep = keep
        self._watches = Watches()
        self._woken = False
        self._closed = False
        keep.faces.append(self)

    async def read(self, prefix: str) -> tuple[Revision, dict[str, Entry]]:
        self._check_open()
        return self._keep.revision, self._keep.under(prefix)

    async def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        self._check_open()
        check_txn(compares, writes)
        current = {compare.key: self._keep.get(compare.key) for compare in compares}
        for key, expected in compares:
            entry = current[key]
            if (entry.mod_revision if entry else NO_REVISION) != expected:
                return TxnResult(False, self._keep.revision, current)
        self._keep.write(writes)
        return TxnResult(True, self._keep.revision, {})

    def watch(
        self,
        prefix: str,
        from_revision: Revision,
        call_back: Callable[[Changes], None],
        failed: Callable[[StoreError], None],
    ) -> Watch:
        self._check_open()
        watch = self._watches.add(prefix, from_revision, call_back, failed)
        self.wake()
        return watch

    async def grant(self, ttl_ms: int) -> LeaseId:
        self._check_open()
        return self._keep.grant(ttl_ms)

    async def keep_alive(self, lease: LeaseId) -> None:
        self._check_open()
        self._keep.keep_alive(lease)

    async def revoke(self, lease: LeaseId) -> None:
        self._check_open()
        self._keep.revoke(lease)

    async def close(self) -> None:
        self._closed = True
        self._watches.clear()
        self._keep.faces = [face for face in self._keep.faces if face is not self]

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        lowest = self._watches.lowest()
        if lowest is not None:
            history = self._keep.history(lowest)
            self._watches.deliver(lowest, history, self._keep.compacted)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
