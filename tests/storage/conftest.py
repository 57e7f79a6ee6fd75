import pytest

from ottla.storage.log import Log

from .makers import make_log
from .memory_disk import MemoryDisk


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def log(disk: MemoryDisk) -> Log:
    return make_log(disk)
