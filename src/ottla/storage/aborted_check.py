"""The transaction indexes that a start finds, held against the log: no checksum covers them.

Each entry names the marker that ends its transaction, the batch that begins it, and the last stable
offset after it, where another one began or the log went on. All three are looked up, and no later
entry may begin before that offset. In a compacted log data goes before its marker, so that there
the marker alone is asked. What only a walk along the whole log can tell is left to `ottla log
verify`: an abort of which no index tells, or a begin that a bit carried to another batch of the
same producer.
"""

import logging

from ottla.base.errors import CorruptionError
from ottla.records.batch import BatchHeader
from ottla.storage import reader
from ottla.storage.log import Log
from ottla.storage.markers import marker_at
from ottla.storage.segment import Segment
from ottla.storage.sound import OFFSET_MAX
from ottla.storage.transaction_index import AbortedTransaction

logger = logging.getLogger(__name__)


def first_that_lies(log: Log, with_index: dict[int, None]) -> int | None:
    """The base offset of the first segment whose transaction index does not fit the log; of those
    in `with_index`, which have one."""
    lies, least = None, OFFSET_MAX
    for segment in reversed(log.segments):
        if segment.base_offset not in with_index:
            continue
        index = segment.transaction_index
        try:
            index.check_sanity()
            for entry in reversed(index.entries()):
                fault = _fault(log, segment, entry)
                if fault or entry.last_stable_offset > least:
                    cause = fault or f"offset {least} is not stable after {entry.last_offset}"
                    raise CorruptionError(cause, path=index.path)
                least = min(least, entry.first_offset)
        except CorruptionError as error:
            logger.warning("transaction index does not fit the log: %s", error)
            lies = segment.base_offset
    return lies


def _fault(log: Log, segment: Segment, entry: AbortedTransaction) -> str:
    """What is wrong with an entry; empty where nothing is."""
    producer_id, first, last, stable = entry
    found = reader.find(segment, last)
    if found is None or not _is_of(found[1], producer_id, last):
        return f"no marker of producer {producer_id} at offset {last}"
    marker = marker_at(segment.file, *found)
    if marker is None or marker.committed:
        return f"no abort at offset {last}"
    if log.config.is_compacted:
        return ""
    if first >= log.segments[0].base_offset:
        header = _header_of(log, first)
        if header is None or header.is_control or not _is_of(header, producer_id, first):
            return f"no transaction of producer {producer_id} begins at offset {first}"
    if stable < 0:
        return f"last stable offset {stable}"
    if stable != last + 1 and stable >= log.segments[0].base_offset:
        header = _header_of(log, stable)
        if stable > last or header is None or header.producer_id == producer_id:
            return f"last stable offset {stable} after the marker at {last}"
        if header.is_control or not _is_of(header, header.producer_id, stable):
            return f"no transaction begins at the last stable offset {stable}"
    return ""


def _is_of(header: BatchHeader, producer_id: int, offset: int) -> bool:
    """Whether a transactional batch of this producer begins there."""
    return (
        header.is_transactional
        and header.producer_id == producer_id
        and header.base_offset == offset
    )


def _header_of(log: Log, offset: int) -> BatchHeader | None:
    """Of the batch that holds `offset`, or the next one of its segment."""
    at = [each for each in log.segments if each.base_offset <= offset]
    found = reader.find(at[-1], offset) if at else None
    return found[1] if found is not None else None
