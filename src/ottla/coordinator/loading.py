"""Reading a coordinator's log from its start to its end, a little in each turn of the loop.

A piece that is not in the page cache is read ahead on a helper thread. Every batch is held to its
CRC: state that is built from damaged bytes would be written back as if it were true. Records of a
transaction are replayed as such, and so is the marker that says whether they count.
"""

import asyncio
from collections.abc import Iterator
from typing import Final, Protocol

from ottla.base.errors import CorruptionError
from ottla.base.limits import DECOMPRESSED_BYTES
from ottla.base.world import FileRange, Offload
from ottla.records.batch import BatchHeader, batch_crc, iterate_headers
from ottla.records.control import read_marker
from ottla.records.record import Record, iterate_records
from ottla.storage.log import Log

PIECE_BYTES: Final = 256 * 1024
TURN_RECORDS: Final = 500
"""Records that are replayed before others get their turn: some 5 ms."""


class Replay(Protocol):
    def record(self, record: Record, producer_id: int) -> None:
        """The next record; of a transaction of that producer, if that is not -1."""

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Its marker."""


class Loading:
    """One pass over a log, up to where it ends when the pass gets there."""

    def __init__(self, log: Log, offload: Offload, replay: Replay) -> None:
        self._log = log
        self._offload = offload
        self._replay = replay
        self._offset = log.log_start_offset

    async def run(self) -> None:
        """CorruptionError, KafkaError or OSError where the log cannot be read."""
        replayed = 0
        while (piece := await self._next_piece()) is not None:
            for record, producer_id in self._records(piece):
                self._replay.record(record, producer_id)
                replayed += 1
                if replayed % TURN_RECORDS == 0:
                    await asyncio.sleep(0)

    async def _next_piece(self) -> bytes | None:
        log = self._log
        is_warm = False
        while True:
            self._offset = max(self._offset, log.log_start_offset)
            end = log.log_end_offset
            found = log.read(self._offset, PIECE_BYTES, end) if self._offset < end else None
            if found is None:
                return None
            file, position, length = found.range
            if is_warm or file.is_resident(position, length):
                break
            await self._read_ahead(found.range)
            is_warm = True
        data = file.pread(length, position)
        if len(data) != length:
            raise CorruptionError("the file is short", path=file.path, position=position)
        self._check(data, found.range)
        self._offset = found.hint.offset
        return data

    async def _read_ahead(self, cold: FileRange) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_: None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        file, position, length = cold
        self._offload.submit(lambda: file.read_ahead(position, length), done)
        await future

    @staticmethod
    def _check(data: bytes, place: FileRange) -> None:
        for at, header in iterate_headers(data):
            if batch_crc(data, at, header.size_bytes) != header.crc:
                raise CorruptionError(
                    "a batch does not have the CRC it names",
                    path=place.file.path,
                    position=place.position + at,
                    size_bytes=header.size_bytes,
                )

    def _records(self, data: bytes) -> Iterator[tuple[Record, int]]:
        view = memoryview(data)
        for at, header in iterate_headers(data):
            batch = view[at : at + header.size_bytes]
            if header.is_control:
                self._end(batch, header)
                continue
            producer_id = header.producer_id if header.is_transactional else -1
            for record in iterate_records(batch, DECOMPRESSED_BYTES):
                yield record, producer_id

    def _end(self, batch: memoryview, header: BatchHeader) -> None:
        for record in iterate_records(batch, DECOMPRESSED_BYTES):
            marker = read_marker(record)
            if marker is not None:
                self._replay.end_transaction(header.producer_id, committed=marker.committed)
