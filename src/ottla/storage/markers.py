"""What a control batch in a `.log` says of the transaction that it ends."""

from contextlib import suppress
from typing import Final

from ottla.base.errors import KafkaError
from ottla.base.world import File
from ottla.records.batch import BatchHeader
from ottla.records.control import Marker, read_marker
from ottla.records.record import iterate_records

CONTROL_BYTES: Final = 1 << 16
"""Larger control batches are none that a coordinator wrote."""


def marker_at(file: File, position: int, header: BatchHeader) -> Marker | None:
    """Its marker; None where it is of another kind, holds nothing, or is too large."""
    if not header.is_control or header.size_bytes > CONTROL_BYTES:
        return None
    with suppress(KafkaError):
        for record in iterate_records(file.pread(header.size_bytes, position), CONTROL_BYTES):
            return read_marker(record)
    return None
