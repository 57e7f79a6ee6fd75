"""What of one log a power cut could still take, besides the bytes of its active segment.

Rolled segments are synced with their indexes, for those are believed once the recovery point
has passed them. Names are durable when their directory is synced, those that an unclean start
found as well: the process that made them may have died before its flush. `partition.metadata` is
written with the first flush, as `leader-epoch-checkpoint` is whenever it changed: making a log
costs a directory, and neither file is ever there in part.
"""

from typing import NamedTuple

from ottla.base.world import File
from ottla.storage.checkpoints import directory_of
from ottla.storage.leader_epochs import LeaderEpochs
from ottla.storage.names import LEADER_EPOCHS, PARTITION_METADATA
from ottla.storage.segment import Segment


class FlushWork(NamedTuple):
    """What makes a log durable up to `end_offset`: all contents, then all names."""

    files: list[File]
    replacements: list[tuple[str, bytes]]
    """(path, content) of small files to replace as a whole."""
    directories: list[str]
    """Directories in which names are new."""
    rolled: list[Segment]
    end_offset: int
    active: Segment
    position: int
    """Where in the active segment `end_offset` is."""


class Unflushed:
    __slots__ = ("directories", "indexed", "metadata", "rolled")

    def __init__(self) -> None:
        self.indexed: list[Segment] = []
        """Segments whose transaction index was written to."""
        self.rolled: list[Segment] = []
        self.directories: list[str] = []
        self.metadata: bytes | None = None
        """Content of `partition.metadata`, while it is yet to be written."""

    def add_directory(self, directory: str) -> None:
        """Neither its names nor the directory's own are durable."""
        self.directories = [directory, directory_of(directory)]

    def add_rolled(self, segment: Segment) -> None:
        """It is no longer the last, and a name is new beside it."""
        self.rolled.append(segment)
        if not self.directories:
            self.directories = [directory_of(segment.path)]

    def add_indexed(self, segment: Segment) -> None:
        """Its transaction index was written to, and may be new."""
        if not any(each is segment for each in self.indexed):
            self.indexed.append(segment)
        if not self.directories:
            self.directories = [directory_of(segment.path)]

    def drop(self, segment: Segment) -> None:
        self.rolled = [each for each in self.rolled if each is not segment]
        self.indexed = [each for each in self.indexed if each is not segment]

    def forget_names(self) -> None:
        """The directory is on its way out."""
        self.directories = []
        self.metadata = None

    def take(
        self, active: Segment, epochs: LeaderEpochs, end_offset: int, *, is_settled: bool
    ) -> FlushWork:
        """All of it, and the active segment; with its indexes, if they are settled too."""
        files = [file for segment in self.rolled for file in segment.trimmed_files()]
        has_indexes = is_settled and active.size_bytes > 0
        files += active.trimmed_files() if has_indexes else [active.made_file]
        files += [segment.transaction_index.open() for segment in self.indexed]
        directory = directory_of(active.path)
        replacements = []
        if self.metadata is not None:
            replacements.append((f"{directory}/{PARTITION_METADATA}", self.metadata))
        if epochs.is_dirty:
            replacements.append((f"{directory}/{LEADER_EPOCHS}", epochs.text()))
            epochs.is_dirty = False
        work = FlushWork(
            files,
            replacements,
            self.directories,
            self.rolled,
            end_offset,
            active,
            active.size_bytes,
        )
        self.rolled, self.directories, self.metadata = [], [], None
        self.indexed = []
        return work
