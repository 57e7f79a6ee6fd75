"""The `.snapshot` files of one log: its producers, saved at a roll and at a clean stop.

Named by the offset at which they were taken. The newest two are kept: one that a stop tore is
found by its CRC, and the one before it is a longer way from the same start. They are not synced
for themselves, for without any of them the headers of the log tell the same.
"""

import logging
from contextlib import suppress
from typing import Final

from ottla.base.errors import CorruptionError
from ottla.base.world import Disk
from ottla.storage.checkpoints import read_whole, write_whole
from ottla.storage.names import SNAPSHOT, file_name, parse_file
from ottla.storage.producer_state import ProducerState

logger = logging.getLogger(__name__)

KEPT_COUNT: Final = 2


class Snapshots:
    __slots__ = ("directory", "disk", "offsets")

    def __init__(self, disk: Disk, directory: str) -> None:
        self.disk = disk
        self.directory = directory
        self.offsets: list[int] = []

    def take(self, state: ProducerState, offset: int) -> None:
        """Save the producers as of `offset`, unless that was done."""
        if self.offsets and self.offsets[-1] == offset:
            return
        write_whole(self.disk, self._path(offset), state.snapshot(), sync=False)
        self.offsets.append(offset)
        while len(self.offsets) > KEPT_COUNT:
            with suppress(FileNotFoundError):
                self.disk.remove(self._path(self.offsets[0]))
            del self.offsets[0]

    def newest(self, start_offset: int, end_offset: int) -> tuple[ProducerState, int]:
        """The newest sound one in this range, and its offset; no producers at `start_offset`
        where there is none. Those past the range, and the unsound, are removed."""
        names = map(parse_file, self.disk.list_directory(self.directory))
        self.offsets = [
            each.offset for each in names if each and each.kind == SNAPSHOT and not each.state
        ]
        state = ProducerState()
        while self.offsets:
            offset = self.offsets[-1]
            path = self._path(offset)
            if start_offset <= offset <= end_offset:
                try:
                    state.load(read_whole(self.disk, path), path)
                    return state, offset
                except CorruptionError as error:
                    logger.warning("producer snapshot passed over: %s", error)
            self.disk.remove(path)
            self.offsets.pop()
        return state, start_offset

    def at_most(self, offset: int) -> tuple[ProducerState, int]:
        """The newest sound one of those at or below `offset`, and its offset; no producers at 0
        where there is none."""
        for at in reversed([each for each in self.offsets if each <= offset]):
            state = ProducerState()
            try:
                state.load(read_whole(self.disk, self._path(at)), self._path(at))
            except CorruptionError as error:
                logger.warning("producer snapshot passed over: %s", error)
                continue
            return state, at
        return ProducerState(), 0

    def _path(self, offset: int) -> str:
        return f"{self.directory}/{file_name(offset, SNAPSHOT)}"
