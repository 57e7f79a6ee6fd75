"""Faults to plant in compaction: which record of a key stays, and where it stands."""

from collections.abc import Sequence
from typing import Any, Final

from ottla.records import sieve
from ottla.records.batch import BatchHeader
from ottla.records.sieve import RawRecord
from ottla.sim.planted_coordinators import Patch
from ottla.storage.compaction import Compaction


def compaction_takes_the_latest_of_a_key(patch: Patch) -> None:
    def upside_down(self: Compaction, record: RawRecord, horizon_ms: int | None) -> bool:
        is_known = record.key is not None and record.offset <= self._map.latest_offset
        return not is_known or record.offset < self._map.get(record.key or b"")

    patch(Compaction, "_is_kept", upside_down)


def compaction_moves_records_by_one(patch: Patch) -> None:
    """Where the batch has room for it, because its last record is gone."""
    rebuild = sieve.rebuild

    def moved(header: BatchHeader, body: bytes, kept: Sequence[RawRecord], *rest: Any) -> bytearray:
        if kept[-1].offset < header.last_offset:
            header = header._replace(
                base_offset=header.base_offset + 1, last_offset_delta=header.last_offset_delta - 1
            )
        return rebuild(header, body, kept, *rest)

    patch(sieve, "rebuild", moved)


def compaction_drops_a_record_too_many(patch: Patch) -> None:
    is_kept = Compaction._is_kept

    def careless(self: Compaction, record: RawRecord, horizon_ms: int | None) -> bool:
        return is_kept(self, record, horizon_ms) and record.offset % 7 != 3

    patch(Compaction, "_is_kept", careless)


WHOLE: Final = (compaction_takes_the_latest_of_a_key, compaction_moves_records_by_one)
STORAGE: Final = (compaction_drops_a_record_too_many,)
