"""What an earlier life wrote and this one has not read: it is checked before it is first sent.

A start after a clean stop reads next to nothing, so that damage would be met by the clients, of
which not all look at the CRC, and which cannot know of base offsets and epochs, that no CRC covers.
So the first read of such a range is checked on a helper thread (`sound.RangeCheck`); what was
found sound is known from then on, per segment as one stretch, which suits sequential readers.
What this life wrote, or read after an unclean stop, is not read again.
"""

from bisect import bisect_right
from typing import Final

from ottla.base.world import FileRange
from ottla.storage import reader
from ottla.storage.log import Log
from ottla.storage.segment import Segment
from ottla.storage.sound import RangeCheck

LOG_NAME_CHARS: Final = 24
"""Of `<20 digits>.log`."""


def check_of(log: Log, found: FileRange) -> RangeCheck | None:
    """What a helper thread has to do before this range of the log is sent; None where that was
    done, or need not be."""
    # hot: fetch
    file, position, length = found
    name = file.path[-LOG_NAME_CHARS:].partition(".")[0]
    slot = _slot(log, int(name)) if name.isdigit() else -1
    if slot < 0:
        return None  # it was dropped meanwhile
    segment = log.segments[slot]
    if not segment.is_unread(position, length):
        return None
    is_last = segment is log.active
    return RangeCheck(
        log.disk,
        segment.path,
        reader.before(segment, position),
        position,
        length,
        segment.size_bytes,
        segment.base_offset,
        log.log_end_offset if is_last else log.segments[slot + 1].base_offset,
        log.epochs.copy(),
    )


def note_checked(log: Log, check: RangeCheck) -> None:
    """It found nothing wrong."""
    slot = _slot(log, check.base_offset)
    if slot >= 0:
        log.segments[slot].note_checked(check.position, check.length)


def _slot(log: Log, base_offset: int) -> int:
    slot = bisect_right(log.segments, base_offset, key=_base_offset) - 1
    return slot if slot >= 0 and log.segments[slot].base_offset == base_offset else -1


def _base_offset(segment: Segment) -> int:
    return segment.base_offset
