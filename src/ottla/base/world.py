"""The outside world, as protocols: everything that a node does not compute by itself.

A `World` is handed to whoever needs one. `host/` implements it with the real clock, disk,
network and threads; `sim/` with virtual ones, so that a whole cluster replays from a seed.
No other room imports socket, ssl, threading, time or random, or opens a file.

Who runs where. All calls are made on the node's one thread, but for what is handed to
`Offload.submit`: such a call runs on a helper thread and touches nothing but its arguments
(a `File` may be synced, read or read ahead there). Its outcome comes back on the node's thread.

Failures are `OSError`s with an errno, from both worlds; of a sync, `disk_errors.SyncError`s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

Bytes = bytes | bytearray | memoryview


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back. For deadlines and durations."""

    def time_ms(self) -> int:
        """Wall clock, milliseconds since the Unix epoch. For timestamps alone: it may jump."""


class Rng(Protocol):
    """What is used of `random.Random`. In the real world `randbytes` is fit for secrets."""

    def random(self) -> float: ...
    def randrange(self, start: int, stop: int) -> int: ...
    def randbytes(self, n: int) -> bytes: ...


class File(Protocol):
    """An open file. Positions and lengths in bytes."""

    @property
    def path(self) -> str: ...

    def size(self) -> int: ...

    def pread(self, length: int, position: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""

    def pwrite(self, data: Bytes, position: int) -> None:
        """Write all of `data` (short writes are continued); OSError if that cannot be."""

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None:
        """fdatasync. Blocks: for helper threads and start-up. Never retried after an error."""

    def map(self) -> memoryview:
        """A read-only view of the whole file as long as it is now, shared with the page cache.
        The file must not be cut below it while the view lives."""

    def is_resident(self, position: int, length: int) -> bool:
        """Whether reading that range would not wait for the disk (a probe of the page cache)."""

    def read_ahead(self, position: int, length: int) -> None:
        """Bring a range into the page cache. Blocks: for helper threads."""

    def fileno(self) -> int:
        """Descriptor for sendfile; -1 in a world without one."""

    def close(self) -> None: ...


class Lock(Protocol):
    def release(self) -> None: ...


class Disk(Protocol):
    """Directories and whole files. Paths are texts with `/`, absolute or from the start-up
    directory. Names are durable only after `sync_directory` of the directory they stand in."""

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        """Open a file; with `create`, make it when it is missing. FileNotFoundError otherwise."""

    def exists(self, path: str) -> bool: ...
    def is_directory(self, path: str) -> bool: ...
    def size(self, path: str) -> int: ...

    def list_directory(self, path: str) -> list[str]:
        """Names in a directory, sorted."""

    def make_directory(self, path: str) -> None:
        """Make it, and the ones above it that are missing; it may exist."""

    def rename(self, old: str, new: str) -> None:
        """Atomic; replaces a file at `new`."""

    def remove(self, path: str) -> None:
        """Remove a file; FileNotFoundError if it is not there."""

    def remove_directory(self, path: str) -> None:
        """Remove a directory and all files in it."""

    def sync_directory(self, path: str) -> None:
        """Make the names in it durable. Blocks."""

    def sync_file_system(self, file: File) -> None:
        """Make all of the file's file system durable in one call (Linux syncfs). Blocks;
        OSError(ENOSYS) where that cannot be had or does not report errors."""

    def open_files_max(self) -> int:
        """How many descriptors, of sockets too, may be open at once."""

    def usage(self, path: str) -> tuple[int, int]:
        """(total, usable) bytes of the file system that holds `path`."""

    def lock(self, path: str) -> Lock:
        """Take the lock file `path` (made when missing) for as long as this process lives;
        BlockingIOError if another holds it."""


class FileRange(NamedTuple):
    """A piece of a file that a reply carries: it leaves by sendfile, without a copy."""

    file: File
    position: int
    length: int


class Connection(Protocol):
    """One peer. Whatever is sent leaves in the order of the calls."""

    @property
    def peer(self) -> str:
        """`host:port` of the other side, for log lines."""

    @property
    def local(self) -> str:
        """`host:port` of this side, as the peer reached it."""

    def send(self, parts: Sequence[Bytes | FileRange]) -> None:
        """Queue these bytes and ranges. They are written at the latest at the end of this turn
        of the loop, with whatever else was queued in it. What a part views must not change."""

    @property
    def unsent_bytes(self) -> int: ...

    def pause(self) -> None:
        """Stop reading; the peer feels it by its full socket."""

    def resume(self) -> None:
        """Read again. What `received` left unused is handed in once more, soon."""

    def close(self) -> None:
        """Write what is queued as far as the peer takes it at once, then close. May be called
        twice. `Handler.lost` follows."""


class Handler(Protocol):
    """What a connection calls: made by whoever accepts or connects."""

    def received(self, data: memoryview) -> int:
        """Bytes arrived; returns how many of them were used up (whole frames). The rest is kept
        and comes again in front of what arrives next. `data` is writable, and gone when this
        returns: nothing may keep a view into it."""

    def drained(self) -> None:
        """The output queue became empty after it had not been."""

    def lost(self, cause: str) -> None:
        """The connection is gone; called once, for whatever reason."""


class Listener(Protocol):
    @property
    def address(self) -> tuple[str, int]: ...

    def close(self) -> None:
        """Accept no more; connections that are open stay."""


class ListenCaps(NamedTuple):
    """What a listener allows of its peers; None is no cap. Counts are over the whole node.

    `max_kept_bytes` is what connections may keep of unfinished requests and unread answers.
    """

    max_connections: int | None = None
    max_connections_per_ip: int | None = None
    max_idle_ms: int | None = None
    max_kept_bytes: int | None = None


NO_CAPS = ListenCaps()


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS to whom one connects to: version 1.2 or later, the other side's certificate
    always verified. Files are PEM (KIP-651)."""

    cafile: str | None = None
    """Whom to believe; None: the authorities that the system believes."""
    certfile: str | None = None
    """Who we are: our certificate and those between it and an authority."""
    keyfile: str | None = None
    """Its key; None: it stands in `certfile` too."""
    password: str | None = field(default=None, repr=False)
    """Of the key, where that is encrypted."""
    check_hostname: bool = True
    context: object | None = field(default=None, hash=False)
    """An `ssl.SSLContext` that is used as it is, instead of all else here."""


class TlsError(OSError):
    """The two sides do not agree on a secure connection. To try again does not help."""


TLS_REFUSED: Final = "refused by the other side's TLS"
"""Stands in a cause of `Handler.lost` where that is so: with TLS 1.3 a client learns only after
the handshake that its certificate was not taken."""


class Network(Protocol):
    def listen(
        self,
        host: str,
        port: int,
        accept: Callable[[Connection], Handler | None],
        *,
        caps: ListenCaps = NO_CAPS,
    ) -> Listener:
        """Accept on `host:port` (port 0: a free one). `accept` makes the handler of each new
        connection, or None to close it at once. At `max_connections` new ones wait in the
        kernel's queue; one too many from an address, and one idle too long, are closed."""

    async def connect(
        self,
        host: str,
        port: int,
        handler: Callable[[Connection], Handler],
        *,
        tls: Tls | None = None,
    ) -> Connection:
        """Look the host up and connect. OSError where that fails, whatever host and port are;
        TlsError where there is no secure one."""


class Offload(Protocol):
    def submit(
        self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        """Run `call` on a helper thread; then `done(result, None)` or `done(None, error)` on
        the node's thread. Calls may overlap and finish in any order."""


@dataclass(frozen=True, slots=True)
class World:
    clock: Clock
    rng: Rng
    disk: Disk
    network: Network
    offload: Offload
