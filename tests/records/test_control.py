"""Markers: their bytes, both ways, and keys and values that are cut or of the future."""

import pytest
from aiokafka.record.control_record import ABORT_MARKER, COMMIT_MARKER, ControlRecord

from ottla.base.errors import ErrorCode, KafkaError
from ottla.records.batch import read_header
from ottla.records.control import (
    ControlType,
    Marker,
    build_marker,
    read_control_type,
    read_marker,
)
from ottla.records.record import Record, iterate_records


@pytest.mark.parametrize("committed", [False, True])
def test_a_marker_and_back(committed: bool) -> None:
    marker = Marker(committed, coordinator_epoch=11)
    batch = build_marker(marker, producer_id=4, producer_epoch=2, timestamp=99, base_offset=50)
    header = read_header(batch)
    assert header.is_control and header.is_transactional and header.codec == 0
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (4, 2, -1)
    assert (header.base_offset, header.record_count, header.max_timestamp) == (50, 1, 99)
    (record,) = iterate_records(batch, 1_000)
    assert record.value == bytes.fromhex("0000 0000000b")
    assert read_marker(record) == marker
    theirs = COMMIT_MARKER if committed else ABORT_MARKER
    assert record.key is not None and ControlRecord.parse(record.key) == theirs


def test_other_types_are_no_markers() -> None:
    leader_change = Record(0, 0, bytes.fromhex("0000 0002"), b"")
    assert read_control_type(leader_change) is ControlType.LEADER_CHANGE
    assert read_marker(leader_change) is None
    assert read_control_type(Record(0, 0, bytes.fromhex("0000 0063"))) is ControlType.UNKNOWN


def test_later_versions_are_read_as_far_as_they_are_known() -> None:
    record = Record(0, 0, bytes.fromhex("0001 0001 ff"), bytes.fromhex("0001 00000007 ffff"))
    assert read_marker(record) == Marker(True, 7)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b""),
        ("000000", b""),
        ("ffff0000", b""),
        ("00000000", None),
        ("00000001", "0000000000"),
        ("00000001", "ffff00000001"),
    ],
)
def test_cut_and_negative_ones_are_refused(key: str | None, value: str | bytes | None) -> None:
    record = Record(
        0,
        0,
        None if key is None else bytes.fromhex(key),
        bytes.fromhex(value) if isinstance(value, str) else value,
    )
    with pytest.raises(KafkaError) as caught:
        read_marker(record)
    assert caught.value.code is ErrorCode.INVALID_RECORD
