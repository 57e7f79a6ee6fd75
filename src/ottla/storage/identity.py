"""Whose directory this is: `meta.properties` of a log directory, `partition.metadata` of a log.

    meta.properties (Java properties)         partition.metadata (no newline at its end)
    version=1                                 version: 0
    cluster.id=<22 characters>                topic_id: <22 characters>
    node.id=1
    directory.id=<22 characters>

Both are written once and then only compared: what does not fit is refused, never rewritten.
"""

from typing import NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.ids import Uuid, id_of_text, id_text, is_reserved_directory_id
from ottla.base.world import Disk
from ottla.storage.checkpoints import read_whole, replace_whole
from ottla.storage.names import META_PROPERTIES, PARTITION_METADATA


class Identity(NamedTuple):
    cluster_id: str
    node_id: int


class MetaProperties(NamedTuple):
    identity: Identity
    directory_id: Uuid


def read_meta_properties(disk: Disk, log_dir: str) -> MetaProperties | None:
    """None where the directory has none yet; CorruptionError where they cannot be read."""
    path = f"{log_dir}/{META_PROPERTIES}"
    try:
        data = read_whole(disk, path)
    except FileNotFoundError:
        return None
    try:
        lines = [line.strip() for line in data.decode().splitlines()]
        pairs = [line.split("=", 1) for line in lines if line and line[0] not in "#!"]
        found = {key.strip(): value.strip() for key, value in pairs}
        if found["version"] != "1":
            raise ValueError(f"version {found['version']}")
        identity = Identity(found["cluster.id"], int(found["node.id"]))
        directory_id = id_of_text(found["directory.id"])
        if is_reserved_directory_id(directory_id):
            raise ValueError(f"directory.id {id_text(directory_id)} is a reserved one")
        return MetaProperties(identity, directory_id)
    except (ValueError, KeyError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        cause = f"not readable: {what}"
        raise CorruptionError(cause, path=path, size_bytes=len(data)) from error


def write_meta_properties(disk: Disk, log_dir: str, meta: MetaProperties) -> None:
    text = (
        "version=1\n"
        f"cluster.id={meta.identity.cluster_id}\n"
        f"node.id={meta.identity.node_id}\n"
        f"directory.id={id_text(meta.directory_id)}\n"
    )
    replace_whole(disk, f"{log_dir}/{META_PROPERTIES}", text.encode())


def read_topic_id(disk: Disk, directory: str) -> Uuid | None:
    """The id of the topic that a partition's directory belongs to; None where it says none."""
    path = f"{directory}/{PARTITION_METADATA}"
    try:
        data = read_whole(disk, path)
    except FileNotFoundError:
        return None
    try:
        version, topic_id = data.decode().splitlines()
        if version != "version: 0" or not topic_id.startswith("topic_id: "):
            raise ValueError("unknown lines")
        return id_of_text(topic_id.removeprefix("topic_id: "))
    except ValueError as error:
        cause = f"not readable: {error}"
        raise CorruptionError(cause, path=path, size_bytes=len(data)) from error


def topic_id_text(topic_id: Uuid) -> bytes:
    return f"version: 0\ntopic_id: {id_text(topic_id)}".encode()
