"""System calls that not every platform has, each beside a plain twin.

Linux has them all. Which twin of a pair is used is decided here, once, at import; the tests put
the plain one in its place and run the same cases again.

    name               first choice                     plain twin
    sync_data          F_FULLFSYNC (macOS), fdatasync   fsync
    is_resident        preadv2(RWF_NOWAIT) probes       assume it is
    advise             posix_fadvise(WILLNEED)          nothing
    sync_file_system   syncfs, Linux >= 5.8             OSError(ENOSYS)
    send_range         sendfile                         pread and send

A probe reads one byte, so that asking costs a microsecond whatever the range: it looks once in
every window of the kernel's read-ahead and at the last byte. Pages between two probes may have
been dropped alone; then a read waits once for the disk. A file system that cannot be probed
(tmpfs) counts as resident.

Before Linux 5.8 syncfs returned success over failed writes: it counts as missing there. ctypes
is imported when the first syncfs is asked for: it takes longer to load than all of this room.
"""

import errno
import fcntl
import functools
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

MSG_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)
"""Flag of a send that more follows at once; 0 where there is none."""

PROBE_STRIDE_BYTES: Final = 128 * 1024
COPY_BYTES: Final = 256 * 1024

_probe_target = [bytearray(1)]


def full_sync(fd: int) -> None:
    """macOS: fsync stops at the drive's cache, this does not."""
    fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]


def probe_resident(fd: int, position: int, length: int) -> bool:
    last = position + length - 1
    try:
        for probe in range(position, last, PROBE_STRIDE_BYTES):
            os.preadv(fd, _probe_target, probe, os.RWF_NOWAIT)
        os.preadv(fd, _probe_target, max(last, position), os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    return True


def assume_resident(fd: int, position: int, length: int) -> bool:
    return True


def advise_needed(fd: int, position: int, length: int) -> None:
    os.posix_fadvise(fd, position, length, os.POSIX_FADV_WILLNEED)


def advise_nothing(fd: int, position: int, length: int) -> None:
    pass


@functools.cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def syncfs(fd: int) -> None:
    import ctypes

    if _libc().syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def no_syncfs(fd: int) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def sendfile(sock: socket.socket, fd: int, position: int, length: int) -> int:
    return os.sendfile(sock.fileno(), fd, position, length)


class Sends(Protocol):
    def send(self, data: bytes, /) -> int: ...


def send_copy(sock: Sends, fd: int, position: int, length: int) -> int:
    data = os.pread(fd, min(length, COPY_BYTES), position)
    return sock.send(data) if data else 0


def _reports_syncfs_errors() -> bool:
    if sys.platform != "linux":
        return False
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)))) >= (5, 8)


FdCall = Callable[[int], None]
RangeCall = Callable[[int, int, int], None]

sync_data: FdCall = (
    full_sync if hasattr(fcntl, "F_FULLFSYNC") else getattr(os, "fdatasync", os.fsync)
)
is_resident: Callable[[int, int, int], bool] = (
    probe_resident if hasattr(os, "RWF_NOWAIT") else assume_resident
)
advise: RangeCall = advise_needed if hasattr(os, "posix_fadvise") else advise_nothing
sync_file_system: FdCall = syncfs if _reports_syncfs_errors() else no_syncfs
send_range: Callable[[socket.socket, int, int, int], int] = (
    sendfile if hasattr(os, "sendfile") else send_copy
)
