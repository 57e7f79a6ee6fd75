"""The log directories of a node at its start: whose they are, which are new, which are missing.

A directory is the node's once it has a `meta.properties`; the metadata store has the ids of all
that the node ever had. One without is new, or its disk is not mounted, which looks the same: what
is made of it depends on the others.

    all are new, and the store knows none      the first start: they become this node's
    some are new, and none is missing          they were added to log.dirs, and become this node's
    some are new, and some are missing         refused, with nothing touched
    the first is new, the others are not       refused: the metadata store was in it
    some are missing, and none is new          they were left out of log.dirs: partitions that are
                                               nowhere else are refused, not made anew

Kafka starts with no directory that `kafka-storage` has not formatted. Here the first start formats;
whoever knows a disk to be lost for good says so by `ottla storage format`, with the id of the lost
directory. What is missing is forgotten when every partition is found without it.

One whose disk does not let us is offline, and counts as one that is missing.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from ottla.base.ids import NodeId, TopicPartition, Uuid, id_text
from ottla.base.world import World
from ottla.metadata import keys
from ottla.metadata.directories import known_directories, remember_directories
from ottla.metadata.image import ClusterImage
from ottla.metadata.store import Store
from ottla.storage.claim import identity_of, not_usable
from ottla.storage.identity import Identity, MetaProperties
from ottla.storage.log_dir import LogDir, LogDirError, LogDirFailedError
from ottla.storage.names import parse_partition_directory

log = logging.getLogger(__name__)

STORE_NAME: Final = "ottla-metadata.sqlite"
"""In the first log directory. Kafka, which looks for directories there, passes over it."""
COMMAND: Final = "ottla storage format --cluster-id={} --node-id={} --directory-id={} {}"


class NodeDirs:
    def __init__(self, world: World, paths: Sequence[str]) -> None:
        """Reads whose they are, and touches nothing. LogDirError where they cannot be those of
        one node."""
        self._world = world
        self._paths = paths
        self._taken: Callable[[LogDir], object] = lambda _: None
        self._metas: dict[str, MetaProperties] = {}
        self._failures: dict[str, LogDirFailedError] = {}
        """Of those that cannot be read."""
        self._missing: dict[Uuid, str] = {}
        """Path, at the last start, by id."""
        self.log_dirs: list[LogDir] = []
        """In the order of log.dirs; once they are claimed."""
        for path in paths:
            self._look(path)
        self._check()
        self.identity = next((meta.identity for meta in self._metas.values()), None)
        """Whose they are; None where they are nobody's."""

    def _look(self, path: str) -> None:
        try:
            meta = identity_of(self._world.disk, path)
        except OSError as error:
            self._failures[path] = not_usable(path, error)
            return
        if meta is not None:
            self._metas[path] = meta

    def _check(self) -> None:
        first = self._paths[0]
        by_id: dict[Uuid, str] = {}
        for path, meta in self._metas.items():
            other = by_id.setdefault(meta.directory_id, path)
            if other != path:
                raise LogDirError(
                    f"{path} has the directory.id of {other}: one is a copy of the other"
                )
        if self._metas and first not in self._metas and first not in self._failures:
            raise LogDirError(
                f"{first}, the first of log.dirs, holds the metadata and has no meta.properties,"
                f" while {next(iter(self._metas))} belongs to a node: is its disk mounted?"
            )

    def path_of_store(self) -> str:
        """Where the store has its file, if it has one: in the first. LogDirError where there is
        one in another alone, whose order in log.dirs has changed: it would be made anew."""
        disk, paths = self._world.disk, [f"{path}/{STORE_NAME}" for path in self._paths]
        there = [path for path in paths if disk.exists(path)]
        if there and paths[0] not in there:
            raise LogDirError(
                f"{there[0]} holds the metadata: its directory must be the first of log.dirs"
            )
        return paths[0]

    # -- taking them

    def claim(self, node_id: NodeId, taken: Callable[[LogDir], object]) -> None:
        """Lock those that are a node's, and the first, where the store will be; `taken` is told
        of each. LogDirError where one is another node's or in use; one whose disk does not let us
        is offline if there are others."""
        self._taken = taken
        if self.identity is not None:
            self.identity = self.identity._replace(node_id=node_id)
        self.log_dirs = [self._blank(path) for path in self._paths]
        for at, path in enumerate(self._paths):
            if path in self._failures:
                self._fail(at, self._failures[path])
            elif at == 0 or path in self._metas:
                self._claim(at)
        first = self.log_dirs[0].failure
        if first is not None:  # it holds the metadata store
            raise first

    def _blank(self, path: str) -> LogDir:
        return LogDir(path, self._world.disk, self._world.rng, self._world.clock)

    def _claim(self, at: int) -> None:
        world, path = self._world, self._paths[at]
        try:
            log_dir = LogDir.claim(
                path, self.identity, disk=world.disk, rng=world.rng, clock=world.clock
            )
        except LogDirFailedError as error:
            self._fail(at, error)
        else:
            self.log_dirs[at] = log_dir
            self._taken(log_dir)

    def _fail(self, at: int, error: LogDirFailedError) -> None:
        if len(self._paths) == 1:
            raise error
        log.error("%s: its partitions are not served", error)
        self.log_dirs[at] = self._blank(self._paths[at]).shut(error)

    # -- against what the store knows

    async def settle(self, store: Store, identity: Identity) -> None:
        """Make this node's what is new, unless something is missing: LogDirError then. The store
        knows of all of them afterwards."""
        node_id = NodeId(identity.node_id)
        known = await known_directories(store, node_id)
        found = {meta.directory_id: path for path, meta in self._metas.items()}
        self._missing = {each: path for each, path in known.items() if each not in found}
        new = [at for at, each in enumerate(self.log_dirs) if self._is_new(each)]
        if new:
            self._check_none_missing(new, identity)
            _, adopted = await store.read(keys.ADOPTED)
            if not adopted:
                self._check_nothing_to_adopt(self._paths[new[0]])
        for at in new:
            self._format(at, identity)
            log_dir = self.log_dirs[at]
            if log_dir.is_formatted:
                found[log_dir.directory_id] = log_dir.path
        if {**known, **found} != known:
            await remember_directories(store, node_id, {**known, **found})

    @staticmethod
    def _is_new(log_dir: LogDir) -> bool:
        return not log_dir.is_formatted and log_dir.failure is None

    def _check_none_missing(self, new: Sequence[int], identity: Identity) -> None:
        paths = [self._paths[at] for at in new]
        if len(self._missing) <= len(self._failures):
            return
        missing = sorted(self._missing, key=lambda each: self._missing[each] not in paths)[0]
        was_at = self._missing[missing]
        path = was_at if was_at in paths else paths[0]
        command = COMMAND.format(*identity, id_text(missing), path)
        raise LogDirError(
            f"{path} has no meta.properties, and the log directory {id_text(missing)} of this"
            f" node, last at {was_at}, is missing: is its disk mounted?"
            f" If it is lost for good, with all that was in it: {command}"
        )

    def _check_nothing_to_adopt(self, new: str) -> None:
        for path in self._metas:
            for name in self._world.disk.list_directory(path):
                if parse_partition_directory(name) is not None:
                    raise LogDirError(
                        f"{new} has no meta.properties, while {path} holds the logs of another"
                        " broker: if its disk is not mounted, mount it first; if it is new, add it"
                        " to log.dirs after this start"
                    )

    def _format(self, at: int, identity: Identity) -> None:
        if at:
            self._claim(at)
        if self.log_dirs[at].failure is None:
            try:
                self.log_dirs[at].format(identity)
            except LogDirFailedError as error:
                self._fail(at, error)

    # -- when it was seen what is in them

    async def account(self, store: Store, node_id: NodeId, image: ClusterImage) -> bool:
        """Whether partitions of this node may be in a directory that is missing. Where none is,
        the store forgets that directory."""
        if len(self._missing) <= len(self._failures):
            return False
        lost_count = sum(
            node_id in partition.replicas
            and not self._holds(TopicPartition(topic.name, partition.index))
            for topic in image.topics.values()
            for partition in topic.partitions
        )
        left_out = ", ".join(
            f"{id_text(each)}, last at {path}" for each, path in self._missing.items()
        )
        if lost_count:
            log.error(
                "not in log.dirs: log directory %s; %d partitions are nowhere else, and not served",
                left_out,
                lost_count,
            )
            return True
        log.info("not in log.dirs, and nothing is missing without it: log directory %s", left_out)
        held = {meta.directory_id: path for path, meta in self._metas.items()}
        await remember_directories(store, node_id, held)
        return False

    def _holds(self, topic_partition: TopicPartition) -> bool:
        return any(
            topic_partition in each.pending or topic_partition in each for each in self.log_dirs
        )
