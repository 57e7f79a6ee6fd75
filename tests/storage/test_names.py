import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.storage.names import (
    DELETE_SUFFIX,
    SegmentFile,
    file_name,
    leaving_directory,
    leaving_state,
    parse_file,
    parse_partition_directory,
    partition_directory,
)

TOPICS = st.from_regex(r"[a-zA-Z0-9._-]{1,249}", fullmatch=True).filter(
    lambda topic: topic not in (".", "..")
)


@given(TOPICS, st.integers(0, (1 << 31) - 1))
def test_partition_directories_parse_back(topic: str, partition: int) -> None:
    topic_partition = TopicPartition(topic, PartitionIndex(partition))
    name = partition_directory(topic_partition)
    assert parse_partition_directory(name) == topic_partition
    gone = leaving_directory(topic_partition, bytes(range(16)), DELETE_SUFFIX)
    assert len(gone) <= 255
    assert leaving_state(gone) == "delete"
    assert parse_partition_directory(gone) is None


@given(st.integers(0, (1 << 63) - 1), st.sampled_from([".log", ".index", ".snapshot"]))
def test_file_names_parse_back(offset: int, kind: str) -> None:
    name = file_name(offset, kind)
    assert parse_file(name) == SegmentFile(offset, kind, "")
    assert parse_file(name + ".deleted") == SegmentFile(offset, kind, ".deleted")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "a-",
        "-1",
        "a-01",
        "a-2147483648",
        "..-0",
        "a/b-0",
        "a b-0",
        "a-1.x",
        "a-1\n",
    ],
)
def test_what_is_no_partition(name: str) -> None:
    assert parse_partition_directory(name) is None


@pytest.mark.parametrize(
    "name", ["1.log", "0" * 21 + ".log", "0" * 20 + ".lo", "0" * 20 + ".log.x", "٠" * 20 + ".log"]
)
def test_what_is_no_segment_file(name: str) -> None:
    assert parse_file(name) is None
