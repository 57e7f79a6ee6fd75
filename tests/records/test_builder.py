"""What a built batch holds besides its records, and what is not built."""

import pytest

from ottla.base.errors import BugError
from ottla.records.batch import batch_crc, read_header
from ottla.records.builder import build_batch
from ottla.records.record import Record


@pytest.mark.parametrize("codec", range(5))
def test_it_is_sealed(codec: int) -> None:
    batch = build_batch((Record(n, 5) for n in range(9)), codec=codec, control=True)
    header = read_header(batch)
    assert header.crc == batch_crc(batch, 0, len(batch))
    assert header.codec == codec and header.is_control and header.record_count == 9


def test_log_append_time_is_the_time_of_all() -> None:
    header = read_header(build_batch([Record(0, 5), Record(1, 900)], log_append_time=70))
    assert header.is_log_append_time
    assert header.base_timestamp == header.max_timestamp == 70


def test_no_batch_without_records_or_below_its_base() -> None:
    with pytest.raises(BugError):
        build_batch([])
    with pytest.raises(BugError):
        build_batch([Record(4, 0)], base_offset=5)
