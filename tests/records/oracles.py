"""The batches of kafka-python and aiokafka, as independent writers and readers to compare with."""

import warnings
from collections.abc import Callable, Sequence

import aiokafka.codec
import aiokafka.record.default_records as aio
import pytest

from ottla.records.compression import SNAPPY
from ottla.records.record import Record

with warnings.catch_warnings():  # kafka-python reads its schemas in a way that Python deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka.codec
    import kafka.record.default_records as kpy

Writer = Callable[[Sequence[Record], int, int, int, int, bool], bytes]
Reader = Callable[[bytes], list[Record]]


def write_kafka_python(
    records: Sequence[Record], codec: int, pid: int, epoch: int, sequence: int, transactional: bool
) -> bytes:
    builder = kpy.DefaultRecordBatchBuilder(2, codec, transactional, pid, epoch, sequence, 1 << 24)
    return append_all(builder, records)


def write_aiokafka(
    records: Sequence[Record], codec: int, pid: int, epoch: int, sequence: int, transactional: bool
) -> bytes:
    builder = aio.DefaultRecordBatchBuilder(2, codec, transactional, pid, epoch, sequence, 1 << 24)
    return append_all(builder, records)


def append_all(builder, records: Sequence[Record]) -> bytes:
    for record in records:
        done = builder.append(
            record.offset, record.timestamp, record.key, record.value, list(record.headers)
        )
        assert done is not None
    return bytes(builder.build())


def read_kafka_python(batch: bytes) -> list[Record]:
    return read_all(kpy.DefaultRecordBatch(memoryview(batch)))


def read_aiokafka(batch: bytes) -> list[Record]:
    return read_all(aio.DefaultRecordBatch(bytes(batch)))


def read_all(batch) -> list[Record]:
    assert batch.validate_crc()
    return [
        Record(
            one.offset,
            one.timestamp,
            one.key,
            one.value,
            tuple((name, value) for name, value in one.headers),
        )
        for one in batch
    ]


WRITERS: dict[str, Writer] = {"kafka-python": write_kafka_python, "aiokafka": write_aiokafka}
READERS: dict[str, Reader] = {"kafka-python": read_kafka_python, "aiokafka": read_aiokafka}
HAS_SNAPPY = {
    "kafka-python": kafka.codec.has_snappy(),
    "aiokafka": aiokafka.codec.has_snappy(),
}


def need_codec(oracle: str, codec: int) -> None:
    if codec == SNAPPY and not HAS_SNAPPY[oracle]:
        pytest.skip(f"{oracle} has no snappy here: python-snappy is not installed")
