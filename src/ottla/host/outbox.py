"""The send queue of a connection: a plain list of byte parts and file ranges.

It exists only while something is unsent, and mostly for one turn with one part. `write_once`
makes one system call for what stands at its front:

    one part of bytes       send
    several                 sendmsg, IOV_COUNT at most, MSG_MORE if a range stands behind them
    a file range            sendfile

and `drop` takes off what was sent, leaving the rest of a part that went out in half.

Rejected: a deque (600 bytes for every connection that ever waits; taking a few hundred entries
off the front of a list costs less than the call that sent them).
"""

import socket
from typing import Final

from ottla.base.world import Bytes, FileRange
from ottla.host import syscalls

Part = Bytes | FileRange

IOV_COUNT: Final = 512
"""Parts of one sendmsg; the kernel takes 1,024."""


class FileCutShortError(OSError):
    """A file range that was promised to the peer is not in its file."""


def size_of(part: Part) -> int:
    return part.length if type(part) is FileRange else len(part)


def write_once(sock: socket.socket, queue: list[Part]) -> tuple[int, bool]:
    """One system call; (bytes that went out, whether that is all it was given)."""
    # hot: fetch
    first = queue[0]
    if isinstance(first, FileRange):
        return _write_range(sock, first)
    if len(queue) == 1:
        sent = sock.send(first)
        return sent, sent == len(first)
    views: list[Bytes] = []
    flags = offered = 0
    for part in queue:
        if isinstance(part, FileRange):
            flags = syscalls.MSG_MORE
            break
        if len(views) == IOV_COUNT:
            break
        views.append(part)
        offered += len(part)
    sent = sock.sendmsg(views, (), flags)
    return sent, sent == offered


def _write_range(sock: socket.socket, part: FileRange) -> tuple[int, bool]:
    file, position, length = part
    sent = syscalls.send_range(sock, file.fileno(), position, length)
    if not sent:
        raise FileCutShortError(f"{file.path}: no {length} bytes at position {position}")
    return sent, sent == length


def drop(queue: list[Part], sent: int) -> None:
    """Take the first `sent` bytes off the queue."""
    count = 0
    for part in queue:
        size = size_of(part)
        if sent < size:
            break
        sent -= size
        count += 1
    del queue[:count]
    if sent:
        first = queue[0]
        if isinstance(first, FileRange):
            file, position, length = first
            queue[0] = FileRange(file, position + sent, length - sent)
        else:
            queue[0] = memoryview(first)[sent:]
