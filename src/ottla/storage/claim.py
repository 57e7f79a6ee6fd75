"""Taking a log directory for this node, before anything in it is touched.

A directory that belongs to another node or cluster, or that another process uses, is refused: the
start ends there. One whose disk does not let us is a failure of that directory alone.
"""

from typing import NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.ids import Uuid
from ottla.base.world import Disk, Lock, Rng
from ottla.storage.checkpoints import make_durable_directory
from ottla.storage.identity import (
    Identity,
    MetaProperties,
    read_meta_properties,
    write_meta_properties,
)
from ottla.storage.names import LOCK


class LogDirError(Exception):
    """A directory that this node must not or cannot use: one line that says why."""


class LogDirFailedError(LogDirError):
    """It cannot be used because its disk does not let us: others may do without it."""


class Claim(NamedTuple):
    directory_id: Uuid
    lock: Lock


def claim_directory(disk: Disk, rng: Rng, path: str, identity: Identity) -> Claim:
    """Compare its identity, lock it, and give it one where it has none. LogDirError where it is
    another's or in use, LogDirFailedError where it cannot be read or written."""
    lock = None
    try:
        meta = _read_meta(disk, path, identity)
        make_durable_directory(disk, path)
        lock = disk.lock(f"{path}/{LOCK}")
        if meta is None:
            meta = MetaProperties(identity, Uuid(rng.randbytes(16)))
            write_meta_properties(disk, path, meta)
    except BlockingIOError as error:
        raise LogDirError(f"{path} is in use by another process") from error
    except OSError as error:
        if lock is not None:
            lock.release()
        raise not_usable(path, error) from error
    return Claim(meta.directory_id, lock)


def _read_meta(disk: Disk, path: str, identity: Identity) -> MetaProperties | None:
    try:
        meta = read_meta_properties(disk, path)
    except CorruptionError as error:
        raise LogDirError(str(error)) from error
    if meta is not None and meta.identity != identity:
        found = meta.identity
        raise LogDirError(
            f"{path} belongs to node {found.node_id} of cluster {found.cluster_id},"
            f" this is node {identity.node_id} of cluster {identity.cluster_id}"
        )
    return meta


def not_usable(path: str, error: OSError) -> LogDirFailedError:
    return LogDirFailedError(f"{error.filename or path} cannot be used: {error.strerror}")
