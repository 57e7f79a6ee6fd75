"""The real disk whose syncs take as long as a test has ordered; all else is the disk's own.

The time is spent where the sync is: on the helper thread, so that nothing but who waits for the
sync feels it. (The metadata store syncs its own file, and is not slowed.)
"""

from ottla.base.world import File
from ottla.host.disk import HostDisk, HostFile
from ottla.testing.faults import Faults


class SlowFile(HostFile):
    __slots__ = ("_faults",)

    def __init__(self, file: HostFile, faults: Faults) -> None:
        """Takes the descriptor over from `file`."""
        super().__init__(file.path, file.fileno())
        self._faults = faults

    def sync(self) -> None:
        self._faults.wait_for_disk()
        super().sync()


class SlowDisk(HostDisk):
    __slots__ = ("_faults",)

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> HostFile:
        return SlowFile(super().open(path, create=create, read_only=read_only), self._faults)

    def sync_file_system(self, file: File) -> None:
        self._faults.wait_for_disk()
        super().sync_file_system(file)
