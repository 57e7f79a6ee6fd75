"""The drive of a simulated machine: a tree of names over contents, which outlives its node.

A directory has the entries that are seen (live) and those that are durable. What changes names
(create, rename, remove) stands in one journal, in order, until a sync of a directory it touches.

At a power cut some changes of the journal are kept: a beginning of it, as a journaling file
system does, or any of them, as POSIX allows. A rename is one change, over two names and perhaps
two directories: all of it or none. A kept change takes along the earlier ones of the same file,
so that nothing is ever found under two names. The contents then go through `Content.crashed`.
A synced file whose name was not synced may be gone; a synced name may stand for an empty file.

`clone` copies a drive with everything that is pending: one run gives many crash images, taken at
any moment, without disturbing it.
"""

import errno
import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from ottla.sim.content import Content, CrashMode

JOURNAL_CHANGES: Final = 1_024
"""Changes of names that may be pending; past it the older half becomes durable by itself."""
SIZE_BYTES: Final = 1 << 40


class Directory:
    __slots__ = ("durable", "live")

    def __init__(self) -> None:
        self.live: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}


Node = Directory | Content


class Effect(NamedTuple):
    directory: Directory
    name: str
    node: Node | None


class NameChange(NamedTuple):
    """What one call did to names: durable as a whole or not at all."""

    node: Node
    effects: tuple[Effect, ...]


class Drive:
    def __init__(self) -> None:
        self.root = Directory()
        self.journal: list[NameChange] = []
        self.locks: dict[str, object] = {}
        self.size_bytes = SIZE_BYTES
        """Lower it for a disk that gets full."""

    # ---- names

    def find(self, path: str) -> Node | None:
        node: Node = self.root
        for part in _parts(path):
            if not isinstance(node, Directory) or part not in node.live:
                return None
            node = node.live[part]
        return node

    def file(self, path: str) -> Content:
        node = self.find(path)
        if node is None:
            raise os_error(errno.ENOENT, path)
        if isinstance(node, Directory):
            raise os_error(errno.EISDIR, path)
        return node

    def directory(self, path: str) -> Directory:
        node = self.find(path)
        if node is None:
            raise os_error(errno.ENOENT, path)
        if not isinstance(node, Directory):
            raise os_error(errno.ENOTDIR, path)
        return node

    def parent(self, path: str) -> tuple[Directory, str]:
        """The directory that a path stands in, which must exist, and its name there."""
        *above, name = _parts(path)
        return self.directory("/".join(above)), name

    def create(self, path: str) -> Content:
        directory, name = self.parent(path)
        content = Content()
        self._change(content, Effect(directory, name, content))
        return content

    def make_directory(self, path: str) -> None:
        directory = self.root
        for part in _parts(path):
            node = directory.live.get(part)
            if node is None:
                node = Directory()
                self._change(node, Effect(directory, part, node))
            if not isinstance(node, Directory):
                raise os_error(errno.EEXIST, path)
            directory = node

    def rename(self, old: str, new: str) -> None:
        source, old_name = self.parent(old)
        target, new_name = self.parent(new)
        node = source.live.get(old_name)
        replaced = target.live.get(new_name)
        if node is None:
            raise os_error(errno.ENOENT, old)
        if isinstance(replaced, Directory):
            raise os_error(errno.ENOTEMPTY if isinstance(node, Directory) else errno.EISDIR, new)
        if replaced is not None and isinstance(node, Directory):
            raise os_error(errno.ENOTDIR, new)
        if replaced is not node:
            self._change(node, Effect(source, old_name, None), Effect(target, new_name, node))

    def remove(self, path: str) -> None:
        content = self.file(path)
        directory, name = self.parent(path)
        self._change(content, Effect(directory, name, None))

    def remove_directory(self, path: str) -> None:
        directory = self.directory(path)
        for name in sorted(directory.live):
            self.remove(f"{path}/{name}")
        above, name = self.parent(path)
        self._change(directory, Effect(above, name, None))

    def _change(self, node: Node, *effects: Effect) -> None:
        for effect in effects:
            _enter(effect.directory.live, effect)
        self.journal.append(NameChange(node, effects))
        if len(self.journal) > JOURNAL_CHANGES:
            self._commit(range(JOURNAL_CHANGES // 2))

    # ---- durability

    def sync_directory(self, directory: Directory) -> None:
        touching = [
            number
            for number, change in enumerate(self.journal)
            if any(effect.directory is directory for effect in change.effects)
        ]
        self._commit(self._with_earlier(touching))

    def sync_all(self) -> None:
        self._commit(range(len(self.journal)))
        for content in _contents(self.root):
            content.sync()

    def _with_earlier(self, numbers: list[int]) -> list[int]:
        """These changes, and the earlier ones of the same files, in order."""
        wanted = dict.fromkeys(numbers)
        nodes: dict[Node, None] = {}
        for number in range(len(self.journal) - 1, -1, -1):
            node = self.journal[number].node
            if number in wanted or node in nodes:
                wanted[number] = nodes[node] = None
        return sorted(wanted)

    def _commit(self, numbers: range | list[int]) -> None:
        for number in numbers:
            for effect in self.journal[number].effects:
                _enter(effect.directory.durable, effect)
        done = dict.fromkeys(numbers)
        self.journal = [c for number, c in enumerate(self.journal) if number not in done]

    # ---- faults

    def power_cut(self, rng: random.Random, mode: CrashMode) -> None:
        """Lose what was not durable, as the mode says. Whoever had the drive open is dead."""
        count = len(self.journal)
        if mode is CrashMode.NONE:
            kept = list(range(count))
        elif rng.random() < 0.5:
            kept = list(range(rng.randrange(count + 1)))
        else:
            kept = self._with_earlier([n for n in range(count) if rng.random() < 0.5])
        self._commit(kept)
        self.journal = []
        self.root = _survivor(self.root, rng, mode)
        self.locks = {}

    def rot(self, path: str, position: int, mask: int) -> None:
        """Flip the bits of `mask` in one byte, on the platter and in the cache."""
        self.file(path).rot(position, mask)

    def chill(self) -> None:
        """Empty the page cache: reads have to wait for the disk."""
        for content in _contents(self.root):
            content.cold_bytes = len(content.live)

    def used_bytes(self) -> int:
        return sum(content.written_bytes for content in _contents(self.root))

    def clone(self) -> "Drive":
        twin = Drive()
        twin.size_bytes = self.size_bytes
        twins: dict[Node, Node] = {}
        twin.root = _twin_directory(self.root, twins)
        twin.journal = [
            NameChange(
                _twin(change.node, twins),
                tuple(
                    Effect(
                        _twin_directory(effect.directory, twins),
                        effect.name,
                        None if effect.node is None else _twin(effect.node, twins),
                    )
                    for effect in change.effects
                ),
            )
            for change in self.journal
        ]
        return twin


def os_error(number: int, path: str) -> OSError:
    return OSError(number, errno.errorcode[number], path)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _enter(entries: dict[str, Node], effect: Effect) -> None:
    if effect.node is None:
        entries.pop(effect.name, None)
    else:
        entries[effect.name] = effect.node


def _contents(directory: Directory) -> Iterator[Content]:
    for name in sorted(directory.live):
        node = directory.live[name]
        if isinstance(node, Directory):
            yield from _contents(node)
        else:
            yield node


def _survivor(directory: Directory, rng: random.Random, mode: CrashMode) -> Directory:
    survivor = Directory()
    for name in sorted(directory.durable):
        node = directory.durable[name]
        if isinstance(node, Directory):
            survivor.durable[name] = _survivor(node, rng, mode)
        else:
            survivor.durable[name] = node.crashed(rng, mode)
    survivor.live = dict(survivor.durable)
    return survivor


def _twin(node: Node, twins: dict[Node, Node]) -> Node:
    if isinstance(node, Directory):
        return _twin_directory(node, twins)
    twin = twins.get(node)
    if twin is None:
        twin = twins[node] = node.clone()
    return twin


def _twin_directory(directory: Directory, twins: dict[Node, Node]) -> Directory:
    known = twins.get(directory)
    if isinstance(known, Directory):
        return known
    twin = twins[directory] = Directory()
    for name, node in directory.live.items():
        twin.live[name] = _twin(node, twins)
    for name, node in directory.durable.items():
        twin.durable[name] = _twin(node, twins)
    return twin
