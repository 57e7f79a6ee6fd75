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


def write_once(sock: socket.socket, queue: list[Part]) -> int:
    """One system call for the front of the queue; how many bytes went out."""
    # hot: fetch
    first = queue[0]
    if isinstance(first, FileRange):
        return _write_range(sock, first)
    if len(queue) == 1:
        return sock.send(first)
    views: list[Bytes] = []
    flags = 0
    for part in queue:
        if isinstance(part, FileRange):
            flags = syscalls.MSG_MORE
            break
        if len(views) == IOV_COUNT:
            break
        views.append(part)
    return sock.sendmsg(views, (), flags)


def _write_range(sock: socket.socket, part: FileRange) -> int:
    file, position, length = part
    sent = syscalls.send_range(sock, file.fileno(), position, length)
    if not sent:
        raise FileCutShortError(f"{file.path}: no {length} bytes at position {position}")
    return sent


def drop(queue: list[Part], sent: int) -> bool:
    """Take the first `sent` bytes off; whether no part was left in half."""
    count = 0
    for part in queue:
        size = part.length if isinstance(part, FileRange) else len(part)
        if sent < size:
            break
        sent -= size
        count += 1
    del queue[:count]
    if not sent:
        return True
    first = queue[0]
    if isinstance(first, FileRange):
        file, position, length = first
        queue[0] = FileRange(file, position + sent, length - sent)
    else:
        queue[0] = memoryview(first)[sent:]
    return False
