"""What is known of a log before its directory is looked at."""

from typing import NamedTuple

from ottla.base.world import Disk, Rng


class Opening(NamedTuple):
    disk: Disk
    rng: Rng
    now_ms: int
    is_clean: bool
    recovery_point: int
    log_start_offset: int
    high_watermark: int
    sync_failed: bool
    """Before this start: what the page cache shows of unflushed bytes may not be on the disk."""
