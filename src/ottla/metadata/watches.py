"""The watches of one face of a store: who waits for what, and from which revision on.

A twin reads its history from `lowest()` and hands it to `deliver`, as often as it likes: a
watch takes what it has not had. A call-back may add and cancel watches.
"""

from collections.abc import Callable, Sequence

from ottla.metadata.store import Changes, CompactedError, Revision, StoreError


class _Watch:
    __slots__ = ("_watches", "call_back", "failed", "live", "next_revision", "prefix")

    def __init__(
        self,
        watches: "Watches",
        prefix: str,
        next_revision: Revision,
        call_back: Callable[[Changes], None],
        failed: Callable[[StoreError], None],
    ) -> None:
        self._watches = watches
        self.prefix = prefix
        self.next_revision = next_revision
        self.call_back = call_back
        self.failed = failed
        self.live = True

    def cancel(self) -> None:
        self._watches.drop(self)

    def take(self, changes: Changes) -> None:
        if changes.revision < self.next_revision:
            return
        self.next_revision = Revision(changes.revision + 1)
        if not self.prefix:
            self.call_back(changes)
        elif mine := [event for event in changes.events if event.key.startswith(self.prefix)]:
            self.call_back(Changes(changes.revision, mine))


class Watches:
    def __init__(self) -> None:
        self._live: list[_Watch] = []

    def add(
        self,
        prefix: str,
        from_revision: Revision,
        call_back: Callable[[Changes], None],
        failed: Callable[[StoreError], None],
    ) -> _Watch:
        watch = _Watch(self, prefix, from_revision, call_back, failed)
        self._live.append(watch)
        return watch

    def drop(self, watch: _Watch) -> None:
        watch.live = False
        self._live = [other for other in self._live if other is not watch]

    def lowest(self) -> Revision | None:
        """The first revision that some watch has not had; None where nobody watches."""
        return min((watch.next_revision for watch in self._live), default=None)

    def deliver(
        self, from_revision: Revision, history: Sequence[Changes], compacted: Revision
    ) -> None:
        """Hand out `history`: all changes from `from_revision` on but those up to `compacted`,
        which are forgotten. A watch that came meanwhile and wants more waits for the next."""
        live = list(self._live)
        for watch in live:
            if watch.next_revision <= compacted:
                self.drop(watch)
                watch.failed(CompactedError(f"revision {watch.next_revision} is forgotten"))
        served = [watch for watch in live if watch.next_revision >= from_revision]
        for changes in history:
            for watch in served:
                if watch.live:
                    watch.take(changes)

    def fail(self, error: StoreError) -> None:
        for watch in list(self._live):
            self.drop(watch)
            watch.failed(error)

    def clear(self) -> None:
        for watch in list(self._live):
            self.drop(watch)
