"""Taking a log directory for a node, and making one a node's.

A directory is a node's once it has a `meta.properties`. One that belongs to another node or
cluster, or that another process uses, is refused before anything in it is touched: the start ends
there. One whose disk does not let us is a failure of that directory alone.
"""

from typing import NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.world import Disk, Lock
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
    meta: MetaProperties | None
    """None: it is nobody's yet, and to be formatted."""
    lock: Lock


def claim_directory(disk: Disk, path: str, identity: Identity | None) -> Claim:
    """Compare its identity, make it where it is not there, and lock it. LogDirError where it is
    another's or in use, LogDirFailedError where it cannot be read or written."""
    try:
        meta = identity_of(disk, path)
        if meta is not None and meta.identity != identity:
            raise LogDirError(_not_ours(path, meta.identity, identity))
        make_durable_directory(disk, path)
        return Claim(meta, disk.lock(f"{path}/{LOCK}"))
    except BlockingIOError as error:
        raise LogDirError(f"{path} is in use by another process") from error
    except OSError as error:
        raise not_usable(path, error) from error


def identity_of(disk: Disk, path: str) -> MetaProperties | None:
    """Whose it is; None where it is nobody's, or not there. Touches nothing. LogDirError where
    that cannot be understood; OSError."""
    try:
        return read_meta_properties(disk, path)
    except CorruptionError as error:
        raise LogDirError(str(error)) from error


def format_directory(disk: Disk, path: str, meta: MetaProperties) -> None:
    """Make it a node's. LogDirFailedError."""
    try:
        write_meta_properties(disk, path, meta)
    except OSError as error:
        raise not_usable(path, error) from error


def _not_ours(path: str, found: Identity, identity: Identity | None) -> str:
    belongs = f"{path} belongs to node {found.node_id} of cluster {found.cluster_id}"
    if identity is None:
        return f"{belongs}, the others to none"
    return f"{belongs}, this is node {identity.node_id} of cluster {identity.cluster_id}"


def not_usable(path: str, error: OSError) -> LogDirFailedError:
    return LogDirFailedError(f"{error.filename or path} cannot be used: {error.strerror}")
