"""The bytes of one simulated file: what is seen, what is durable, and what a power cut leaves.

    live      what reads see (the page cache)
    durable   what was synced
    pending   the writes and cuts that lead from durable to live, in order

A power cut makes a new durable content from durable and pending, in one of FoundationDB's modes:

    NONE  every pending change is there
    DROP  each change is there or not, by itself
    TEAR  as DROP, and a write keeps some of its sectors only; the size may have grown for all
    FULL  each 512-byte sector stands at its own moment of the history, and so does the size:
          writes are reordered and torn, and a file has grown over sectors that are still zero

A sector is written whole. Bytes that nobody wrote never appear, but for zeros where the file grew.
An older write never lands on top of a newer one of the same sector: no page cache does that.
The kernel writes back by itself: past PENDING_CHANGES the older half becomes durable.

A map (`view`) shows later writes, as mmap does. The buffer of a bytearray that has views cannot
be resized, so one that must grow stays behind as a shadow that is written too, as long as it is
viewed. Cutting a file below a living view is SIGBUS in the real world: a BugError here.
"""

import random
from collections.abc import Callable
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple

from ottla.base.errors import check
from ottla.base.world import Bytes

SECTOR_BYTES: Final = 512
LARGE_BYTES: Final = 1 << 20
"""A change this large (a preallocated index is cut) is torn into 64 KiB pieces."""
PENDING_CHANGES: Final = 1_024


class CrashMode(Enum):
    NONE = "none"
    DROP = "drop"
    TEAR = "tear"
    FULL = "full"


class Write(NamedTuple):
    position: int
    data: bytes


class Cut(NamedTuple):
    """The size is set: cut, or grown by zeros."""

    size: int


class Content:
    __slots__ = (
        "_mapped_bytes",
        "_shadows",
        "cold_bytes",
        "durable",
        "live",
        "pending",
        "written_bytes",
    )

    def __init__(self, durable: bytes = b"") -> None:
        self.durable: bytes | bytearray = durable
        self.live: bytes | bytearray = durable
        self.pending: list[Write | Cut] = []
        self.cold_bytes = 0
        """So many bytes from the front are not in the page cache."""
        self.written_bytes = len(durable)
        """Where the last write ended: what is behind is a hole and takes no room."""
        self._shadows: list[bytearray] = []
        self._mapped_bytes = 0

    def clone(self) -> "Content":
        """A copy. Both share their bytes, frozen, until one of them is written."""
        if isinstance(self.live, bytearray) and not _is_viewed(self.live):
            self.live = bytes(self.live)
        twin = Content()
        twin.live = bytes(self.live)
        twin.durable = twin.live if twin.live == self.durable else bytes(self.durable)
        self.durable = twin.durable
        twin.pending = list(self.pending)
        twin.cold_bytes = self.cold_bytes
        twin.written_bytes = self.written_bytes
        return twin

    def _thawed(self) -> bytearray:
        """What is live, in a form that can be written."""
        if isinstance(self.live, bytes):
            self.live = bytearray(self.live)
        return self.live

    # ---- what a process does

    def write(self, data: Bytes, position: int) -> None:
        piece = bytes(data)
        if not piece:
            return
        end = position + len(piece)
        if end > len(self.live):
            self._resize(end)
        self.written_bytes = max(self.written_bytes, end)
        self._thawed()[position:end] = piece
        for shadow in self._shadows:
            room = max(0, min(end, len(shadow)) - position)
            shadow[position : position + room] = piece[:room]
        self._add(Write(position, piece))

    def cut(self, size: int) -> None:
        self._resize(size)
        self.written_bytes = min(self.written_bytes, size)
        self._add(Cut(size))

    def view(self) -> memoryview:
        self._mapped_bytes = max(self._mapped_bytes, len(self.live))
        return memoryview(self._thawed()).toreadonly()

    def unmap(self) -> None:
        """Whoever mapped it is dead: its views show no later writes, and hold up no cut."""
        if self._mapped_bytes:
            self.live = bytearray(self.live)
            self._shadows = []
            self._mapped_bytes = 0

    def sync(self) -> None:
        self._write_back(len(self.pending))

    def lose_pending(self) -> None:
        """A sync that failed: the pages are marked clean, and were never written."""
        self.pending.clear()

    def _add(self, change: Write | Cut) -> None:
        self.pending.append(change)
        if len(self.pending) > PENDING_CHANGES:
            self._write_back(PENDING_CHANGES // 2)

    def _write_back(self, count: int) -> None:
        if count and isinstance(self.durable, bytes):
            self.durable = bytearray(self.durable)
        for change in self.pending[:count]:
            _apply(self.durable, change)  # type: ignore[arg-type]
        del self.pending[:count]

    def _resize(self, size: int) -> None:
        live = self._thawed()
        self._shadows = [shadow for shadow in self._shadows if _is_viewed(shadow)]
        if not self._shadows and not _is_viewed(live):
            self._mapped_bytes = 0
            _set_size(live, size)
            return
        check(size >= self._mapped_bytes, f"cut to {size}, below a map of {self._mapped_bytes}")
        grown = live[:size]
        _set_size(grown, size)
        if _is_viewed(live):
            self._shadows.append(live)
        self.live = grown

    # ---- what goes wrong

    def rot(self, position: int, mask: int) -> None:
        self._thawed()[position] ^= mask
        if position < len(self.durable):
            self.durable = bytearray(self.durable)
            self.durable[position] ^= mask

    def crashed(self, rng: random.Random, mode: CrashMode) -> "Content":
        """The content that is found after a power cut: all of it durable, none of it cached."""
        survivor = Content(bytes(_IMAGES[mode](self, rng) if self.pending else self.durable))
        survivor.cold_bytes = len(survivor.durable)
        return survivor


def _apply(image: bytearray, change: Write | Cut) -> None:
    if isinstance(change, Cut):
        _set_size(image, change.size)
        return
    position, data = change
    if position > len(image):
        _set_size(image, position)
    image[position : position + len(data)] = data


def _set_size(image: bytearray, size: int) -> None:
    if size < len(image):
        del image[size:]
    else:
        image.extend(bytes(size - len(image)))


def _is_viewed(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:
        return True
    del buffer[-1]
    return False


def _kept(content: Content, rng: random.Random) -> bytearray:
    image = bytearray(content.durable)
    for change in content.pending:
        _apply(image, change)
    return image


def _dropped(content: Content, rng: random.Random) -> bytearray:
    image = bytearray(content.durable)
    for change in content.pending:
        if rng.random() < 0.5:
            _apply(image, change)
    return image


def _torn(content: Content, rng: random.Random) -> bytearray:
    image = bytearray(content.durable)
    for change in content.pending:
        fate = rng.random()
        if fate < 0.4:
            continue
        if fate < 0.6 or isinstance(change, Cut):
            _apply(image, change)
            continue
        if rng.random() < 0.5:
            _set_size(image, max(len(image), change.position + len(change.data)))
        for start, end in _sectors(change.position, change.position + len(change.data)):
            if rng.random() < 0.5:
                piece = change.data[start - change.position : end - change.position]
                _apply(image, Write(start, piece))
    return image


def _mixed(content: Content, rng: random.Random) -> bytearray:
    image = bytearray(content.durable)
    count = len(content.pending)
    moments: dict[int, int] = {}
    size = len(image)
    sizes = [size]
    for number, change in enumerate(content.pending):
        if isinstance(change, Cut):
            start, end, data = change.size, size, bytes(max(0, size - change.size))
            size = change.size
        else:
            start, data = change
            end = start + len(data)
            size = max(size, end)
        sizes.append(size)
        if size > len(image):
            _set_size(image, size)
        for low, high in _sectors(start, end):
            moment = moments.get(low // SECTOR_BYTES)
            if moment is None:
                moment = moments[low // SECTOR_BYTES] = _moment(rng, count)
            if number < moment:
                image[low:high] = data[low - start : high - start]
    _set_size(image, sizes[_moment(rng, count)])
    return image


def _moment(rng: random.Random, count: int) -> int:
    """How many of `count` changes were in time: often none or all."""
    draw = rng.random()
    if draw < 0.35:
        return count
    return 0 if draw < 0.6 else rng.randrange(count + 1)


def _sectors(start: int, end: int) -> list[tuple[int, int]]:
    """The pieces of a range, cut at the bounds of sectors: of larger ones in a large range."""
    step = SECTOR_BYTES if end - start < LARGE_BYTES else LARGE_BYTES // 16
    bounds = [start, *range((start // step + 1) * step, end, step), end]
    return list(pairwise(bounds)) if start < end else []


_IMAGES: Final[dict[CrashMode, Callable[[Content, random.Random], bytearray]]] = {
    CrashMode.NONE: _kept,
    CrashMode.DROP: _dropped,
    CrashMode.TEAR: _torn,
    CrashMode.FULL: _mixed,
}
