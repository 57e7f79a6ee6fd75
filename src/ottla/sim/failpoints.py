"""Failpoints by name: every step of the storage at which a crash or an error makes a difference.

Each such step is a call of the Disk, since nothing else touches it. So nothing stands in the
storage's own code: `FailDisk` lies over any Disk, a real or a simulated one, and names each call
by the kind of file it is about and by what it does with it,

    KIND.CALL      log.write   index.truncate   recovery-points.rename   partition-delete.remove

with the kinds of `KINDS` and the calls of `FILE_CALLS` and `DIRECTORY_CALLS`. The list is whole by
construction: a path that no kind fits is `other`, and a call that is not known is an error here.
A file that is written under a passing name (`.tmp`, `.next`) is of the kind it is to become.

A plan arms some of them, by a text of NAME:N:ACTION, several with commas between. N counts the
hits from 1; `N+` is the N-th and all after it. `*` for a name is any of them. Actions:

    kill         the process ends before the call, as by SIGKILL
    kill-after   … after the call
    EIO …        the call fails with this errno, and has done nothing
    short        half of a write is done, then ENOSPC
    delay:MS     the call takes so much longer
    log          a line at each hit: what a run meets, and how often

`ottla serve` takes a plan from its environment (`OTTLA_FAILPOINT`), and imports this module only
where there is one. Ending the process and waiting are handed in: this room touches neither.
"""

import errno
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar, get_args

from ottla.base.errors import check
from ottla.base.world import Bytes, Disk, File, Lock
from ottla.sim.faults import Operation
from ottla.storage import names

logger = logging.getLogger(__name__)

T = TypeVar("T")

ANY: Final = "*"
PASSING: Final = (names.TEMPORARY, ".next")

Word = Literal["kill", "kill-after", "errno", "short", "delay", "log"]

FILE_CALLS: Final = {
    "open": "it is opened, or made",
    "read": "bytes of it are read",
    "write": "bytes are written into it",
    "truncate": "it is cut, or grown by zeros",
    "sync": "its contents become durable",
    "map": "it is mapped into memory",
    "read-ahead": "it is brought into the page cache",
    "rename": "it gets another name: the one it is called here is the one before",
    "remove": "its name goes",
}
DIRECTORY_CALLS: Final = {
    "list": "its names are read",
    "make": "it is made",
    "rename": "it gets another name",
    "remove": "it goes, with the files in it",
    "sync": "the names in it become durable",
}
SEGMENT_KINDS: Final = {
    "log": (names.LOG, "batches of a segment"),
    "index": (names.OFFSET_INDEX, "offset index of a segment"),
    "timeindex": (names.TIME_INDEX, "time index of a segment"),
    "txnindex": (names.TRANSACTION_INDEX, "aborted transactions of a segment"),
    "snapshot": (names.SNAPSHOT, "producers before an offset"),
}
STATES: Final = {
    names.DELETED: "on its way out",
    names.CLEANED: "being compacted",
    names.SWAP: "compacted, about to take its place",
}
FIXED_KINDS: Final = {
    "lock": (names.LOCK, "lock of a log directory"),
    "meta-properties": (names.META_PROPERTIES, "whose a log directory is"),
    "clean-shutdown": (names.CLEAN_SHUTDOWN, "mark of a clean stop"),
    "sync-failed": (names.SYNC_FAILED, "mark of a sync that failed"),
    "recovery-points": (names.RECOVERY_POINTS, "checkpoint: what was flushed"),
    "log-starts": (names.LOG_STARTS, "checkpoint: where logs start"),
    "high-watermarks": (names.HIGH_WATERMARKS, "checkpoint: high watermarks"),
    "cleaner-offsets": ("cleaner-offset-checkpoint", "checkpoint: what was compacted"),
    "leader-epochs": (names.LEADER_EPOCHS, "where the leader epochs of a log begin"),
    "partition-metadata": (names.PARTITION_METADATA, "topic id of a log"),
}
DIRECTORY_KINDS: Final = {
    "directory": "a log directory, or one above it",
    "partition": "directory of a partition",
    "partition-delete": "… of one that was deleted",
    "partition-future": "… of one that is being moved",
    "partition-stray": "… of one that is nobody's",
}
OTHER: Final = "other"


def _file_kinds() -> dict[str, str]:
    kinds = {kind: told for kind, (_, told) in SEGMENT_KINDS.items()}
    for state, why in STATES.items():
        for kind, (_, told) in SEGMENT_KINDS.items():
            kinds[f"{kind}-{state[1:]}"] = f"{told}, {why}"
    kinds |= {kind: told for kind, (_, told) in FIXED_KINDS.items()}
    kinds[OTHER] = "any other file"
    return kinds


FILE_KINDS: Final = _file_kinds()
KINDS: Final = {**FILE_KINDS, **DIRECTORY_KINDS}
CALLS: Final[dict[Operation, str]] = {
    "open": "open",
    "pread": "read",
    "pwrite": "write",
    "truncate": "truncate",
    "sync": "sync",
    "map": "map",
    "read_ahead": "read-ahead",
    "list_directory": "list",
    "make_directory": "make",
    "rename": "rename",
    "remove": "remove",
    "remove_directory": "remove",
    "sync_directory": "sync",
    "sync_file_system": "sync",
    "lock": "lock",
}
SPECIAL: Final = {
    "lock.lock": "the lock of a log directory is taken",
    "other.lock": "that of the metadata store is",
    "file-system.sync": "everything on the file system becomes durable",
}
_OF_SUFFIX: Final = {suffix: kind for kind, (suffix, _) in SEGMENT_KINDS.items()}
_OF_NAME: Final = {name: kind for kind, (name, _) in FIXED_KINDS.items()}
_OF_DIRECTORIES: Final = ("list_directory", "make_directory", "remove_directory", "sync_directory")


def all_points() -> Iterator[str]:
    for kinds, calls in ((FILE_KINDS, FILE_CALLS), (DIRECTORY_KINDS, DIRECTORY_CALLS)):
        for kind in kinds:
            yield from (f"{kind}.{call}" for call in calls)
    yield from SPECIAL


POINTS: Final = dict.fromkeys(all_points())


def point_of(operation: Operation, path: str) -> str:
    """The name of a call."""
    if operation == "sync_file_system":
        return "file-system.sync"
    if operation == "lock":
        return "lock.lock" if path.endswith("/" + names.LOCK) else "other.lock"
    return f"{_kind_of(operation, path)}.{CALLS[operation]}"


def _kind_of(operation: Operation, path: str) -> str:
    name = path.rpartition("/")[2]
    for passing in PASSING:
        name = name.removesuffix(passing)
    if name in _OF_NAME:
        return _OF_NAME[name]
    file = names.parse_file(name)
    if file is not None:
        return _OF_SUFFIX[file.kind] + file.state.replace(".", "-")
    leaving = names.leaving_state(name)
    if leaving is not None:
        return f"partition-{leaving}"
    if names.parse_partition_directory(name) is not None:
        return "partition"
    return "directory" if operation in _OF_DIRECTORIES else OTHER


# ---- plans


@dataclass
class Armed:
    """A failpoint of a plan, and how often it was passed. Helper threads pass it too."""

    name: str
    nth: int
    is_lasting: bool
    word: Word
    number: int = 0
    """An errno, or milliseconds."""
    hits: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def strikes(self, name: str) -> bool:
        if self.name not in (ANY, name):
            return False
        hit = next(self.hits)
        return hit == self.nth or (self.is_lasting and hit > self.nth)


def parse_plan(text: str) -> list[Armed]:
    """ValueError, with a line for a person, where it is not a plan."""
    return [_parse(part.strip()) for part in text.split(",")]


def _parse(text: str) -> Armed:
    name, *rest = text.split(":")
    if name != ANY and name not in POINTS:
        raise ValueError(f"no failpoint is called {name[:60]!r}: ./dev sim failpoints lists them")
    if len(rest) < 2:
        raise ValueError(f"{text[:80]!r} is not NAME:N:ACTION")
    count, action, *more = rest
    digits = count.removesuffix("+")
    if not (digits.isascii() and digits.isdigit() and int(digits[:9]) > 0):
        raise ValueError(f"{count[:20]!r} of {name} is no count: N or N+, from 1")
    word, number = _action(":".join([action, *more]))
    if word == "short" and name != ANY and not name.endswith(".write"):
        raise ValueError(f"{name} writes nothing that could be short")
    return Armed(name, int(digits[:9]), count.endswith("+"), word, number)


def _action(text: str) -> tuple[Word, int]:
    word, _, number = text.partition(":")
    if word == "delay" and number.isascii() and number.isdigit():
        return "delay", int(number[:9])
    if not number:
        for known in get_args(Word):
            if word == known not in ("errno", "delay"):
                return known, 0
        code = getattr(errno, word, None) if word.isupper() else None
        if isinstance(code, int):
            return "errno", code
    raise ValueError(
        f"no action is called {text[:40]!r}: kill, kill-after, short, delay:MS, log or an errno"
    )


class Plan:
    """What happens at the calls of a disk."""

    def __init__(
        self,
        armed: Sequence[Armed],
        *,
        kill: Callable[[], None],
        sleep: Callable[[float], None],
    ) -> None:
        self.armed = armed
        self.kill = kill
        self.sleep = sleep

    def pass_through(
        self, name: str, path: str, call: Callable[[], T], half: Callable[[], T] | None = None
    ) -> T:
        """Make the call, as far as the plan lets it; `half` is a write of half of the data."""
        struck = [each for each in self.armed if each.strikes(name)]
        for each in struck:
            if each.word == "log":
                logger.warning("failpoint %s", name)
            elif each.word == "delay":
                self.sleep(each.number / 1000)
            elif each.word == "kill":
                self.kill()
            elif each.word == "errno":
                raise OSError(each.number, "planted by a failpoint", path)
            elif each.word == "short" and half is not None:
                half()
                raise OSError(errno.ENOSPC, "planted by a failpoint", path)
        result = call()
        if any(each.word == "kill-after" for each in struck):
            self.kill()
        return result


# ---- the disk


class FailDisk:
    """Another disk, each call of which passes a failpoint."""

    def __init__(self, disk: Disk, plan: Plan) -> None:
        self._disk = disk
        self._plan = plan

    def _pass(self, operation: Operation, path: str, call: Callable[[], T]) -> T:
        return self._plan.pass_through(point_of(operation, path), path, call)

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> "FailFile":
        file = self._pass(
            "open", path, lambda: self._disk.open(path, create=create, read_only=read_only)
        )
        return FailFile(file, self._plan)

    def exists(self, path: str) -> bool:
        return self._disk.exists(path)

    def is_directory(self, path: str) -> bool:
        return self._disk.is_directory(path)

    def size(self, path: str) -> int:
        return self._disk.size(path)

    def list_directory(self, path: str) -> list[str]:
        return self._pass("list_directory", path, lambda: self._disk.list_directory(path))

    def make_directory(self, path: str) -> None:
        self._pass("make_directory", path, lambda: self._disk.make_directory(path))

    def rename(self, old: str, new: str) -> None:
        self._pass("rename", old, lambda: self._disk.rename(old, new))

    def remove(self, path: str) -> None:
        self._pass("remove", path, lambda: self._disk.remove(path))

    def remove_directory(self, path: str) -> None:
        self._pass("remove_directory", path, lambda: self._disk.remove_directory(path))

    def sync_directory(self, path: str) -> None:
        self._pass("sync_directory", path, lambda: self._disk.sync_directory(path))

    def sync_file_system(self, file: File) -> None:
        check(isinstance(file, FailFile), "a file of another disk")
        inner = file._file if isinstance(file, FailFile) else file
        self._pass("sync_file_system", "", lambda: self._disk.sync_file_system(inner))

    def usage(self, path: str) -> tuple[int, int]:
        return self._disk.usage(path)

    def open_files_max(self) -> int:
        return self._disk.open_files_max()

    def lock(self, path: str) -> Lock:
        return self._pass("lock", path, lambda: self._disk.lock(path))


class FailFile:
    def __init__(self, file: File, plan: Plan) -> None:
        self._file = file
        self._plan = plan

    @property
    def path(self) -> str:
        return self._file.path

    def _pass(self, operation: Operation, call: Callable[[], T]) -> T:
        return self._plan.pass_through(point_of(operation, self.path), self.path, call)

    def size(self) -> int:
        return self._file.size()

    def pread(self, length: int, position: int) -> bytes:
        return self._pass("pread", lambda: self._file.pread(length, position))

    def pwrite(self, data: Bytes, position: int) -> None:
        view = memoryview(data)
        self._plan.pass_through(
            point_of("pwrite", self.path),
            self.path,
            lambda: self._file.pwrite(data, position),
            lambda: self._file.pwrite(view[: len(view) // 2], position),
        )

    def truncate(self, size: int) -> None:
        self._pass("truncate", lambda: self._file.truncate(size))

    def sync(self) -> None:
        self._pass("sync", self._file.sync)

    def map(self) -> memoryview:
        return self._pass("map", self._file.map)

    def is_resident(self, position: int, length: int) -> bool:
        return self._file.is_resident(position, length)

    def read_ahead(self, position: int, length: int) -> None:
        self._pass("read_ahead", lambda: self._file.read_ahead(position, length))

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


# ---- the list


def told(hits: Counter[str]) -> str:
    """Every failpoint, a line for each kind of file, and behind each call how often it was hit."""
    lines = ["A failpoint is KIND.CALL. Behind each call: how often it was hit.", ""]
    for kinds, calls in ((FILE_KINDS, FILE_CALLS), (DIRECTORY_KINDS, DIRECTORY_CALLS)):
        for kind, what in kinds.items():
            row = "  ".join(f"{call} {hits[f'{kind}.{call}'] or '-'}" for call in calls)
            lines += [f"{kind:18} {what}", f"{'':18} {row}"]
        lines += ["", *(f"  {call:12} {what}" for call, what in calls.items()), ""]
    lines += [f"{name:18} {what}: {hits[name] or '-'}" for name, what in SPECIAL.items()]
    lines += ["", f"{len(POINTS)} failpoints, {sum(name in hits for name in POINTS)} of them hit"]
    return "\n".join(lines)
