"""What one file of a log directory holds, as rows of names and values.

The rows and their names are `kafka-dump-log`'s where that tool knows the file. A batch that is not
sound is a row too, with what is wrong, and the walk goes on behind it. What a batch claims to hold
is unpacked to `DECOMPRESSED_BYTES` at most; a file of lines is read to `CHECKPOINT_BYTES`.

Keys and values: text where they are UTF-8, with what does not print escaped as `\\n`, `\\x1b`,
`\\u2028`; else every byte that is no ASCII text as `\\xff`. A backslash is doubled in both.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ottla.base.errors import CorruptionError, KafkaError
from ottla.base.limits import DECOMPRESSED_BYTES
from ottla.base.world import Disk, File
from ottla.records.batch import HEADER_BYTES, BatchHeader
from ottla.records.compression import CODEC_NAMES
from ottla.records.control import read_control_type, read_marker
from ottla.records.record import Record, iterate_records
from ottla.storage.batch_walk import Stretch, walk
from ottla.storage.checkpoints import parse_lines, read_whole
from ottla.storage.index_walk import walk_index
from ottla.storage.names import (
    CLEANED,
    DELETED,
    LEADER_EPOCHS,
    LOG,
    META_PROPERTIES,
    OFFSET_INDEX,
    PARTITION_METADATA,
    SNAPSHOT,
    SWAP,
    TIME_INDEX,
    TRANSACTION_INDEX,
    parse_file,
)
from ottla.storage.offset_index import ENTRY as OFFSET_ENTRY
from ottla.storage.producer_state import ProducerState
from ottla.storage.sound import OFFSET_MAX
from ottla.storage.time_index import ENTRY as TIME_ENTRY
from ottla.storage.transaction_index import ENTRY as ABORTED_ENTRY

BATCH_BYTES: Final = 128 << 20
CHECKPOINT_END: Final = "-offset-checkpoint"
Row = dict[str, object]


class DumpOptions(NamedTuple):
    with_records: bool = False
    with_data: bool = False
    """Keys, values and headers too."""
    first_offset: int = 0
    last_offset: int = OFFSET_MAX


class NotDumpedError(Exception):
    """A file of which nothing can be shown: one line that says why."""


def dump(disk: Disk, path: str, options: DumpOptions) -> Iterator[Row]:
    """The rows of a file. Damage is a row with a `fault`; NotDumpedError where the name tells no
    kind of file."""
    name = path.rpartition("/")[2]
    of_lines = _LINES.get(name) or (_offsets if name.endswith(CHECKPOINT_END) else None)
    bare = name
    for state in (DELETED, CLEANED, SWAP):
        bare = bare.removesuffix(state)
    kind = next((kind for kind in _KINDS if bare.endswith(kind)), None)
    if of_lines is None and kind is None:
        raise NotDumpedError(
            f"{path} has not the name of a file of a log directory: {' '.join(_KINDS)},"
            f" *{CHECKPOINT_END} {' '.join(_LINES)}"
        )
    try:
        if of_lines is not None:
            yield from of_lines(read_whole(disk, path), path)
        elif kind is not None:
            parsed = parse_file(bare)
            file = disk.open(path, read_only=True)
            try:
                yield from _KINDS[kind](file, parsed.offset if parsed else 0, options)
            finally:
                file.close()
    except CorruptionError as error:
        yield {"position": error.position, "size": error.size_bytes, "fault": error.cause}


# -- logs


def _log(file: File, base_offset: int, options: DumpOptions) -> Iterator[Row]:
    yield {"startingOffset": base_offset}
    for each in walk(file, base_offset, file.size()):
        header = each.header
        if header is None or (each.fault and not _is_batch(each, header)):
            yield {"position": each.position, "size": each.size_bytes, "fault": each.fault}
            continue
        if header.base_offset > options.last_offset and not each.fault:
            return
        if header.last_offset < options.first_offset and not each.fault:
            continue
        yield _batch_row(each, header)
        if options.with_records and each.fault != "CRC":
            yield from _record_rows(file, each, header, options)


def _is_batch(each: Stretch, header: BatchHeader) -> bool:
    """Whether the header is that of the bytes there, whatever else is wrong."""
    return header.size_bytes == each.size_bytes


def _batch_row(each: Stretch, header: BatchHeader) -> Row:
    codec = header.codec
    horizon = header.base_timestamp if header.has_delete_horizon else None
    row: Row = {
        "baseOffset": header.base_offset,
        "lastOffset": header.last_offset,
        "count": header.record_count,
        "baseSequence": header.base_sequence,
        "lastSequence": header.last_sequence,
        "producerId": header.producer_id,
        "producerEpoch": header.producer_epoch,
        "partitionLeaderEpoch": header.partition_leader_epoch,
        "isTransactional": header.is_transactional,
        "isControl": header.is_control,
        "deleteHorizonMs": horizon,
        "position": each.position,
        _time_name(header): header.max_timestamp,
        "size": each.size_bytes,
        "magic": header.magic,
        "compresscodec": CODEC_NAMES[codec] if codec < len(CODEC_NAMES) else codec,
        "crc": header.crc,
        "isvalid": not each.fault,
    }
    if each.fault:
        row["fault"] = each.fault
    return row


def _time_name(header: BatchHeader) -> str:
    return "LogAppendTime" if header.is_log_append_time else "CreateTime"


def _record_rows(
    file: File, each: Stretch, header: BatchHeader, options: DumpOptions
) -> Iterator[Row]:
    fault: str
    if each.size_bytes > BATCH_BYTES:
        fault = "too large to be unpacked"
    else:
        try:
            batch = file.pread(each.size_bytes, each.position)
            for record in iterate_records(batch, DECOMPRESSED_BYTES):
                if options.first_offset <= record.offset <= options.last_offset:
                    yield _record_row(record, header, options)
            return
        except KafkaError as error:
            fault = error.message or error.code.name
    yield {"position": each.position + HEADER_BYTES, "recordsOf": header.base_offset, "note": fault}


def _record_row(record: Record, header: BatchHeader, options: DumpOptions) -> Row:
    sequence = -1
    if header.base_sequence >= 0:
        delta = record.offset - header.base_offset
        sequence = (header.base_sequence + delta) & 0x7FFFFFFF
    row: Row = {
        "offset": record.offset,
        _time_name(header): record.timestamp,
        "keySize": -1 if record.key is None else len(record.key),
        "valueSize": -1 if record.value is None else len(record.value),
        "sequence": sequence,
        "headerKeys": [
            escaped(name.encode("utf-8", "surrogateescape")) for name, _ in record.headers
        ],
    }
    if header.is_control:
        row |= _control(record)
    elif options.with_data:
        row["key"] = None if record.key is None else escaped(record.key)
        row["payload"] = None if record.value is None else escaped(record.value)
        if record.headers:
            values = [None if value is None else escaped(value) for _, value in record.headers]
            row["headerValues"] = values
    return row


def _control(record: Record) -> Row:
    try:
        kind, marker = read_control_type(record), read_marker(record)
    except KafkaError as error:
        return {"note": error.message}
    if marker is None:
        return {"controlType": kind.name}
    return {"endTxnMarker": kind.name, "coordinatorEpoch": marker.coordinator_epoch}


def escaped(data: bytes) -> str:
    """Bytes as one line of text that can be told back."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
        return "".join(_shown(each) if each < "\x7f" else f"\\x{ord(each):02x}" for each in text)
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character == "\\" or not character.isprintable():
        return character.encode("unicode_escape").decode()
    return character


# -- indexes and snapshots


def _offset_index(file: File, base_offset: int, options: DumpOptions) -> Iterator[Row]:
    for part in walk_index(file, OFFSET_ENTRY):
        if part.is_entry():
            offset = base_offset + part.fields[0]
            if options.first_offset <= offset <= options.last_offset:
                yield {"offset": offset, "position": part.fields[1]}
        else:
            yield _rest(part.at, part.size_bytes, OFFSET_ENTRY.size)


def _time_index(file: File, base_offset: int, options: DumpOptions) -> Iterator[Row]:
    for part in walk_index(file, TIME_ENTRY):
        if part.is_entry():
            offset = base_offset + part.fields[1]
            if options.first_offset <= offset <= options.last_offset:
                yield {"timestamp": part.fields[0], "offset": offset}
        else:
            yield _rest(part.at, part.size_bytes, TIME_ENTRY.size)


def _transaction_index(file: File, base_offset: int, options: DumpOptions) -> Iterator[Row]:
    for part in walk_index(file, ABORTED_ENTRY):
        if part.is_entry():
            version, producer_id, first, last, stable = part.fields
            yield {
                "version": version,
                "producerId": producer_id,
                "firstOffset": first,
                "lastOffset": last,
                "lastStableOffset": stable,
            }
        else:
            yield _rest(part.at, part.size_bytes, ABORTED_ENTRY.size)


def _rest(at: int, size_bytes: int, entry_bytes: int) -> Row:
    if size_bytes % entry_bytes:
        return {"position": at, "size": size_bytes, "fault": "part of an entry"}
    return {"position": at, "size": size_bytes, "note": "zeros: room for more entries"}


def _snapshot(file: File, offset: int, options: DumpOptions) -> Iterator[Row]:
    state = ProducerState()
    state.load(file.pread(min(file.size(), DECOMPRESSED_BYTES), 0), file.path)
    for producer in state:
        last = producer.batches[-1] if producer.batches else None
        start = producer.transaction_start
        yield {
            "producerId": producer.producer_id,
            "producerEpoch": producer.epoch,
            "coordinatorEpoch": producer.coordinator_epoch,
            "currentTxnFirstOffset": start if start >= 0 else None,
            "lastTimestamp": producer.last_timestamp,
            "firstSequence": last.first_sequence if last else -1,
            "lastSequence": last.last_sequence if last else -1,
            "lastOffset": last.last_offset if last else -1,
            "offsetDelta": last.last_offset - last.first_offset if last else 0,
            "timestamp": producer.last_timestamp,
        }


# -- files of lines


def _offsets(data: bytes, path: str) -> Iterator[Row]:
    def parse(words: list[str]) -> Row:
        topic, partition, offset = words
        return {
            "topic": escaped(topic.encode()),
            "partition": int(partition),
            "offset": int(offset),
        }

    yield from parse_lines(data, path, parse) if data else ()


def _epochs(data: bytes, path: str) -> Iterator[Row]:
    def parse(words: list[str]) -> Row:
        epoch, offset = words
        return {"epoch": int(epoch), "startOffset": int(offset)}

    yield from parse_lines(data, path, parse) if data else ()


def _pairs(separator: str) -> Callable[[bytes, str], Iterator[Row]]:
    def rows(data: bytes, path: str) -> Iterator[Row]:
        row: Row = {}
        for line in data.splitlines():
            name, found, value = line.partition(separator.encode())
            if found:
                row[escaped(name.strip())] = escaped(value.strip())
            elif line and line[:1] not in (b"#", b"!"):
                yield {"line": escaped(line), "fault": f"no {separator!r} in it"}
        yield row

    return rows


_LINES: Final[dict[str, Callable[[bytes, str], Iterator[Row]]]] = {
    LEADER_EPOCHS: _epochs,
    PARTITION_METADATA: _pairs(":"),
    META_PROPERTIES: _pairs("="),
}
_KINDS: Final[dict[str, Callable[[File, int, DumpOptions], Iterator[Row]]]] = {
    LOG: _log,
    OFFSET_INDEX: _offset_index,
    TIME_INDEX: _time_index,
    TRANSACTION_INDEX: _transaction_index,
    SNAPSHOT: _snapshot,
}
