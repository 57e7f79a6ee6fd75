"""The log directories that a node has had: by their ids, with the paths where they last were.

Each node keeps its own row, so that it can tell a disk that is missing from one that is new. A
directory leaves the row when nothing is missing without it.
"""

from collections.abc import Mapping

from ottla.base.errors import CorruptionError
from ottla.base.ids import NodeId, Uuid, id_of_text, id_text
from ottla.metadata import keys
from ottla.metadata.store import Put, Store


async def known_directories(store: Store, node_id: NodeId) -> dict[Uuid, str]:
    """Path by directory id. StoreError; CorruptionError where the row is not understood."""
    key = keys.directories_key(node_id)
    _, entries = await store.read(key)
    entry = entries.get(key)
    if entry is None:
        return {}
    try:
        content = keys.content_of(entry.value)
        return {id_of_text(text): str(path) for text, path in content.items()}
    except ValueError as error:
        raise CorruptionError(f"content that is not understood: {error}", path=key) from error


async def remember_directories(
    store: Store, node_id: NodeId, directories: Mapping[Uuid, str]
) -> None:
    """These are the node's, durably. StoreError."""
    content = {id_text(each): path for each, path in directories.items()}
    await store.txn([], [Put(keys.directories_key(node_id), keys.value_of(content))])
