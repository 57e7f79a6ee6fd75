"""Failures of a disk: which of them pass.

A shortage (no room on the file system, no descriptor left, a limit on the size of files) says
nothing against what is there: what needs room is refused or put off, and goes on when there is
some again. Any other error is a disk that fails, and a sync that failed is one whatever its
number: the kernel may have dropped what was to be written, and would report success the next
time. So those who sync raise `SyncError`.
"""

import errno
from typing import Final

SHORTAGES: Final = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
)


class SyncError(OSError):
    """A sync that was begun failed. It is never tried again."""


def is_shortage(error: BaseException | None) -> bool:
    """Whether it may be tried again later, with nothing lost."""
    return (
        isinstance(error, OSError) and not isinstance(error, SyncError) and error.errno in SHORTAGES
    )


def sync_error(error: OSError) -> SyncError:
    """The same failure, as one of a sync."""
    return SyncError(error.errno, error.strerror, error.filename)
