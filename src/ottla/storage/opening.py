"""What is known of a log before its directory is looked at."""

from dataclasses import dataclass

from ottla.base.world import Disk, Rng


@dataclass(frozen=True, slots=True)
class Opening:
    disk: Disk
    rng: Rng
    now_ms: int
    is_clean: bool
    recovery_point: int = 0
    log_start_offset: int = 0
    high_watermark: int = 0
    sync_failed: bool = False
    """Before this start: what the page cache shows of unflushed bytes may not be on the disk."""
