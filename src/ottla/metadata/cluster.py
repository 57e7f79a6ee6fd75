"""The cluster's metadata as one node follows it: the store, and the image made of it.

`Metadata.open` reads the store once; from then on a watch brings the changes, each revision is
one new image, and whoever subscribed is told of delta and image, in order, each subscriber
before the next revision is taken in. A subscriber's first delta leads from nothing to the
image that is there, so that starting up and following are the same code.

When the watch is lost because the store has forgotten what it asked for, everything is read
again and subscribers get one delta for all that was missed. Any other loss is final: `failed`
is set, those who wait get the error, and the image stays what it was (data goes on flowing).
"""

import asyncio
from collections.abc import Callable

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.base.ids import Uuid, id_text
from ottla.base.world import Rng
from ottla.metadata import keys
from ottla.metadata.delta import Delta, delta_between, delta_of_edit
from ottla.metadata.image import EMPTY, ClusterImage, Edit
from ottla.metadata.store import (
    NO_REVISION,
    Changes,
    CompactedError,
    Compare,
    Put,
    Revision,
    Store,
    StoreError,
    StoreUnavailableError,
    Watch,
)

Subscriber = Callable[[Delta, ClusterImage], None]


def random_id(rng: Rng) -> Uuid:
    """A random UUID (version 4) whose text does not begin like an option of a command."""
    while True:
        uuid = bytearray(rng.randbytes(16))
        uuid[6] = uuid[6] & 0x0F | 0x40
        uuid[8] = uuid[8] & 0x3F | 0x80
        if not id_text(Uuid(bytes(uuid))).startswith("-"):
            return Uuid(bytes(uuid))


class Metadata:
    def __init__(self, store: Store, image: ClusterImage) -> None:
        """Use `open`."""
        self.store = store
        self.image = image
        self.failed: StoreError | CorruptionError | None = None
        self._subscribers: list[Subscriber] = []
        self._waiting: dict[asyncio.Future[None], Revision] = {}
        self._reload: asyncio.Task[None] | None = None
        self._watch = self._watch_on()

    @classmethod
    async def open(cls, store: Store, rng: Rng, *, cluster_id: str | None = None) -> "Metadata":
        """Make the cluster where the store is empty: with `cluster_id`, or a random one.
        KafkaError INCONSISTENT_CLUSTER_ID where it belongs to another cluster."""
        fresh = cluster_id or id_text(random_id(rng))
        await store.txn(
            [Compare(keys.CLUSTER, NO_REVISION)],
            [Put(keys.CLUSTER, keys.value_of({"id": fresh}))],
        )
        image = await _read_all(store)
        if cluster_id is not None and image.cluster_id != cluster_id:
            raise KafkaError(
                ErrorCode.INCONSISTENT_CLUSTER_ID,
                f"The metadata is that of cluster {image.cluster_id}, not of {cluster_id}.",
            )
        return cls(store, image)

    def subscribe(self, call_back: Subscriber) -> Callable[[], None]:
        """Tell `call_back` of the image as it is, now, and of every one after it; returns what
        ends that. An error in it is a bug, and the loop's to report."""
        self._subscribers.append(call_back)
        call_back(delta_between(EMPTY, self.image), self.image)

        def unsubscribe() -> None:
            self._subscribers = [other for other in self._subscribers if other is not call_back]

        return unsubscribe

    async def wait_revision(self, revision: Revision) -> None:
        """Until the image has that revision, and subscribers know; the error of the store if
        that will not be."""
        if self.image.revision >= revision:
            return
        if self.failed is not None:
            raise self.failed
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = revision
        try:
            await future
        finally:
            self._waiting.pop(future, None)

    async def close(self) -> None:
        """Follow no more, and close the store."""
        self._watch.cancel()
        if self._reload is not None:
            self._reload.cancel()
        self._fail(StoreUnavailableError("the metadata is closed"))
        await self.store.close()

    def _watch_on(self) -> Watch:
        following = Revision(self.image.revision + 1)
        return self.store.watch("", following, self._changed, self._lost)

    def _changed(self, changes: Changes) -> None:
        edit = Edit(self.image)
        try:
            edit.take(changes)
            image = edit.image()
        except CorruptionError as error:
            self._watch.cancel()
            self._fail(error)
            return
        self._become(image, delta_of_edit(self.image, image, edit))

    def _become(self, image: ClusterImage, delta: Delta) -> None:
        self.image = image
        try:
            for call_back in list(self._subscribers):
                call_back(delta, image)
        finally:
            for future, revision in list(self._waiting.items()):
                if revision <= image.revision and not future.done():
                    future.set_result(None)

    def _lost(self, error: StoreError) -> None:
        if isinstance(error, CompactedError):
            self._reload = asyncio.get_running_loop().create_task(self._read_again())
        else:
            self._fail(error)

    async def _read_again(self) -> None:
        try:
            image = await _read_all(self.store)
            self._become(image, delta_between(self.image, image))
            self._watch = self._watch_on()
        except (StoreError, CorruptionError) as error:
            self._fail(error)

    def _fail(self, error: StoreError | CorruptionError) -> None:
        if self.failed is None:
            self.failed = error
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)


async def _read_all(store: Store) -> ClusterImage:
    revision, entries = await store.read("")
    edit = Edit(EMPTY)
    edit.load(entries, revision)
    return edit.image()
