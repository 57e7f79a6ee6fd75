"""From an offset, a length or a timestamp to places in one segment.

A place is found by the index (a search in a map) and a scan of headers from there, which is
bounded by the index interval. What the index says is not believed: where the position it names
holds no batch header that could stand there, the index is built anew from the log.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from ottla.base.errors import CorruptionError
from ottla.records.batch import LENGTH_OVERHEAD, BatchHeader
from ottla.storage.segment import Segment

logger = logging.getLogger(__name__)


class Boundary(NamedTuple):
    position: int
    next_offset: int
    """Base offset of the batch that starts there."""


def find(segment: Segment, offset: int) -> tuple[int, BatchHeader] | None:
    """The first batch that ends at or past `offset`, and where it starts."""
    start = segment.index.floor(offset)
    if start and not _is_batch(segment, start, offset):
        mend(segment)
        start = segment.index.floor(offset)
    for position, header in segment.headers(start, segment.size_bytes):
        if header.base_offset + header.last_offset_delta >= offset:
            return position, header
    return None


def boundary(segment: Segment, start: int, limit: int) -> Boundary:
    """The last start of a batch in `start`..`limit`, where `start` is one and `limit` lies
    within the segment."""
    # hot: fetch
    near = segment.index.floor_position(limit)
    if near < start:
        near = start
    elif near > start and not _is_batch(segment, near, None):
        mend(segment)
        near = max(start, segment.index.floor_position(limit))
    for position, header in segment.headers(near, segment.size_bytes):
        if position + header.batch_length + LENGTH_OVERHEAD > limit:
            return Boundary(position, header.base_offset)
    raise CorruptionError("no batch header", path=segment.path, position=limit)


def warn_of_gap(segment: Segment, offset: int, next_offset: int) -> None:
    """Offsets that are asked for are not there, in a log that is not compacted: damage, unless it
    was compacted once."""
    logger.warning(
        "%s: offsets %d to %d are missing before it goes on",
        segment.path,
        offset,
        next_offset - 1,
    )


def before(segment: Segment, position: int) -> int:
    """Start of an indexed batch before the one at `position`; 0 without one."""
    near = segment.index.floor_position(position - 1) if position else 0
    if near and not _is_batch(segment, near, None):
        mend(segment)
        near = segment.index.floor_position(position - 1)
    return near


def batches_from(segment: Segment, offset: int) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of the batches of a segment, from the one that holds `offset` on."""
    found = find(segment, offset)
    return segment.headers(found[0] if found else segment.size_bytes, segment.size_bytes)


def last_header(segment: Segment) -> BatchHeader | None:
    """The header of the last batch of a segment; None in an empty one."""
    start = segment.index.last_position()
    if start and not _is_batch(segment, start, None):
        mend(segment)
        start = segment.index.last_position()
    last = None
    for _, header in segment.headers(start, segment.size_bytes):
        last = header
    return last


def offset_back(segment: Segment, entries: int) -> int:
    """Base offset of the batch that was indexed so many entries before the end; of the first
    batch where there are fewer."""
    position = segment.index.position_back(entries)
    if position and not _is_batch(segment, position, None):
        mend(segment)
        position = segment.index.position_back(entries)
    return segment.header_at(position).base_offset


def _is_batch(segment: Segment, position: int, offset: int | None) -> bool:
    """Whether a batch can start there, one that ends at or below `offset`."""
    if not 0 <= position < segment.size_bytes:
        return False
    try:
        header = segment.header_at(position)
    except CorruptionError:
        return False
    return offset is None or header.last_offset <= offset


def mend(segment: Segment) -> None:
    """Build its indexes anew."""
    logger.warning("%s: index does not fit the log, built anew", segment.index.path)
    segment.rebuild_indexes()
    if segment.is_sealed:
        segment.close_indexes()
