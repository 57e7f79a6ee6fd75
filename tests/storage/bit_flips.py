"""Damage to a small data directory, one at a time: what is served of it, and what `verify` says.

    python -m tests.storage.bit_flips            a sample, as in ./dev test
    python -m tests.storage.bit_flips --all      every bit of every file, and all other damage

The directory: two partitions of one topic with several segments each, all codecs, idempotent
producers, two leader epochs, records deleted at the start; its checkpoints, snapshots, book of
epochs, ids and mark. Each damage is met three times: as after a clean stop, as after an unclean one
whose recovery point is the log's end, and as after one whose recovery point lies further back.

Then everything is read as consumers do: in order with large and small answers, and from every
offset, each answer through the check that a Fetch makes. What may come of it:

    right     everything is there as it was written
    refused   the directory is not opened: one line says why
    offline   the partition is not served, with path, position and bytes in the log
    reported  a read is answered with an error, with path, position and bytes
    told      less or other is served, with a warning that says so (a tail cut, a stray)
    crc       a batch is sent whose CRC does not hold: a client may see it
    BAD       anything else: other bytes under a true CRC, offsets that are missing, silence
"""

import argparse
import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ottla.base.errors import CorruptionError, KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.world import FileRange
from ottla.records.batch import HEADER_BYTES, batch_crc, iterate_headers, read_header
from ottla.storage.checkpoints import offsets_text
from ottla.storage.config import LogConfig
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir, LogDirError
from ottla.storage.unread import check_of, note_checked
from ottla.storage.verify import verify
from ottla.storage.verify_log import Tally

from .makers import append, batch_of
from .memory_disk import MemoryDisk
from .test_log_dir import IDENTITY, TOPIC_ID, Clock

CONFIG = LogConfig(segment_bytes=600, segment_index_bytes=240, index_interval_bytes=150)
NAMES = [TopicPartition("orders", PartitionIndex(index)) for index in range(2)]
MARK = "data/.kafka_cleanshutdown"
POINTS = "data/recovery-point-offset-checkpoint"
START = 3
SECTOR_BYTES = 128
"""Of a disk in proportion to the files."""


class Damage(NamedTuple):
    kind: str
    path: str
    position: int
    what: int = 0
    """The bit; where from, where it was misdirected."""


@dataclass
class Truth:
    """What was written."""

    batches: dict[TopicPartition, list[bytes]]
    images: dict[str, dict[str, bytes]]
    stale: dict[str, bytes]
    """Each file as it was half way."""
    directories: list[str]
    baselines: dict[str, set[str]]


def open_dir(disk: MemoryDisk) -> LogDir:
    return LogDir.open(
        "data", IDENTITY, lambda _: CONFIG, disk=disk, rng=random.Random(1), clock=Clock()
    )


def fill(log_dir: LogDir, rng: random.Random, turns: range) -> None:
    for name in NAMES:
        log = log_dir.create(name, TOPIC_ID, CONFIG)
        for turn in turns:
            known = log.producer_state.get(7)
            batch = batch_of(
                rng.randrange(1, 5),
                timestamp=1_000 + 50 * turn,
                producer=(7, 0, known.last_sequence + 1 if known else 0),
                codec=turn % 5,
                value=rng.randbytes(rng.randrange(3, 12)),
            )
            append(log, batch, leader_epoch=2 if turn < 9 else 5, now_ms=1_000 + 50 * turn)


def make_truth() -> Truth:
    disk, rng = MemoryDisk(), random.Random(3)
    log_dir = open_dir(disk)
    fill(log_dir, rng, range(8))
    log_dir.close()
    stale = {path: bytes(data) for path, data in disk.files.items()}
    log_dir = open_dir(disk)
    fill(log_dir, rng, range(8, 14))
    for log in log_dir.logs.values():
        log.advance_start(START)
    ends = {name: log.log_end_offset for name, log in log_dir.logs.items()}
    borders = {name: log.segments[-2].base_offset for name, log in log_dir.logs.items()}
    log_dir.close(ends)
    clean = {path: bytes(data) for path, data in disk.files.items() if path != "data/.lock"}
    unclean = {path: data for path, data in clean.items() if path != MARK}
    early = {**unclean, POINTS: offsets_text(borders)}
    truth = Truth(
        {}, {"clean": clean, "unclean": unclean, "early": early}, stale, [*disk.directories], {}
    )
    for name, log in open_dir(disk_of(truth, "clean")).logs.items():
        truth.batches[name] = []
        for segment in log.segments:
            data = clean[segment.path]
            for at, header in iterate_headers(data):
                truth.batches[name].append(data[at : at + header.size_bytes])
    for image in truth.images:
        truth.baselines[image] = seen_by_verify(disk_of(truth, image))
    return truth


def disk_of(truth: Truth, image: str) -> MemoryDisk:
    disk = MemoryDisk()
    disk.files = {path: bytearray(data) for path, data in truth.images[image].items()}
    disk.directories = dict.fromkeys(truth.directories, True)
    return disk


# -- damages


def all_damages(truth: Truth) -> Iterator[Damage]:
    for path, data in truth.images["clean"].items():
        for position in range(len(data)):
            for bit in range(8):
                yield Damage("bit", path, position, bit)
    yield from coarse_damages(truth)


def coarse_damages(truth: Truth) -> Iterator[Damage]:
    for path, data in truth.images["clean"].items():
        for position in range(0, len(data), SECTOR_BYTES):
            yield Damage("zeros", path, position)
        if data:
            cuts = [0, 1, len(data) // 2, len(data) - 1]
            if path.endswith(".log"):
                cuts += [at for at, _ in iterate_headers(data)][1:]
            for position in dict.fromkeys(cuts):
                yield Damage("truncation", path, position)
        if truth.stale.get(path, data) != data:
            yield Damage("stale", path, 0)
        if path.endswith(".log"):
            places = [at for at, _ in iterate_headers(data)]
            for source, target in pairwise(places):
                yield Damage("misdirected", path, target, source)
                yield Damage("misdirected", path, source, target)


def apply(truth: Truth, damage: Damage, disk: MemoryDisk) -> bool:
    """Do it; False where there is no such file, or where nothing changes by it."""
    data = disk.files.get(damage.path)
    if data is None:
        return False
    before = bytes(data)
    if damage.position >= len(data) and damage.kind != "stale":
        return False
    if damage.kind == "bit":
        data[damage.position] ^= 1 << damage.what
    elif damage.kind == "zeros":
        end = min(damage.position + SECTOR_BYTES, len(data))
        data[damage.position : end] = bytes(end - damage.position)
    elif damage.kind == "truncation":
        del data[damage.position :]
    elif damage.kind == "stale":
        data[:] = truth.stale[damage.path]
    else:
        size = read_header(before, damage.what).size_bytes
        piece = before[damage.what : damage.what + size]
        end = min(damage.position + size, len(data))
        data[damage.position : end] = piece[: end - damage.position]
    return bytes(data) != before


# -- what comes of it


class Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def tell_of(self, *words: str) -> bool:
        return any(word in line for line in self.lines for word in words)


def outcomes(truth: Truth, disk: MemoryDisk) -> dict[str, str]:
    """Verdict, and why, for each partition."""
    warnings = Warnings()
    logger = logging.getLogger("ottla")
    logger.addHandler(warnings)
    propagates, logger.propagate = logger.propagate, False
    try:
        try:
            log_dir = open_dir(disk)
        except LogDirError as error:
            return {"data": f"refused {error}"}
        return {str(name): _outcome(truth, log_dir, name, warnings) for name in NAMES}
    finally:
        logger.removeHandler(warnings)
        logger.propagate = propagates


def _outcome(truth: Truth, log_dir: LogDir, name: TopicPartition, warnings: Warnings) -> str:
    damage = log_dir.offline_logs.get(name)
    if damage is not None:
        return f"offline {damage}"
    try:
        log = log_dir.create(name, TOPIC_ID, CONFIG)
    except KafkaError as error:
        return f"offline {error}"
    written = truth.batches[name]
    verdicts = list(_readings(log, written))
    end = read_header(written[-1]).last_offset + 1
    if log.log_start_offset != START or log.log_end_offset != end:
        verdicts.append(f"other {log.log_start_offset}..{log.log_end_offset}")
    for kind in ("BAD", "other"):
        found = next((each for each in verdicts if each.startswith(kind)), None)
        if found is not None and warnings.tell_of(str(name), "checkpoint passed over"):
            return f"told {found}"
        if found is not None:
            return f"BAD {found}"
    return max(verdicts, key=lambda each: each.startswith("crc"), default="right")


def _readings(log: Log, written: list[bytes]) -> Iterator[str]:
    """What is wrong with reading everything, in each of the ways."""
    for max_bytes in (1 << 20, 1):
        yield from _sequence(log, written, max_bytes)
    end = read_header(written[-1]).last_offset + 1
    for offset in range(START, end):
        verdict, served = _answer(log, offset, 1)
        if verdict:
            yield verdict
        elif not served:
            yield f"other nothing at {offset}"
        elif served[0] not in written:
            yield _served(served[0])
        elif not read_header(served[0]).base_offset <= offset <= read_header(served[0]).last_offset:
            yield f"BAD {offset} is passed over"


def _sequence(log: Log, written: list[bytes], max_bytes: int) -> Iterator[str]:
    offset, wanted = (
        log.log_start_offset,
        [b for b in written if read_header(b).last_offset >= START],
    )
    for batch in wanted:
        if offset > read_header(batch).last_offset:
            continue
        verdict, served = _answer(log, offset, max_bytes)
        if verdict:
            yield verdict
            offset = read_header(batch).last_offset + 1
            continue
        for each in served:
            if each not in written:
                yield _served(each)
                break
            if read_header(each).base_offset > offset:
                yield f"BAD {offset} is passed over"
            offset = read_header(each).last_offset + 1
        if not served or each not in written:
            offset = read_header(batch).last_offset + 1


def _answer(log: Log, offset: int, max_bytes: int) -> tuple[str, list[bytes]]:
    """As a Fetch answers: an error, or batches."""
    try:
        found = log.read(offset, max_bytes, log.log_end_offset)
        if found is None:
            return "", []
        check = check_of(log, found.range)
        if check is not None:
            check.run()
            note_checked(log, check)
    except CorruptionError as error:
        return f"reported {error}", []
    except KafkaError as error:
        return f"other {error.code.name} at {offset}", []
    return "", _batches(found.range)


def _batches(found: FileRange) -> list[bytes]:
    data = found.file.pread(found.length, found.position)
    batches, at = [], 0
    for at_batch, header in iterate_headers(data):
        batches.append(data[at_batch : at_batch + header.size_bytes])
        at = at_batch + header.size_bytes
    return batches if at == len(data) else [*batches, data[at:]]


def _served(batch: bytes) -> str:
    if len(batch) < HEADER_BYTES or read_header(batch).crc != batch_crc(batch, 0, len(batch)):
        return "crc"
    return f"BAD other bytes at {read_header(batch).base_offset}"


def seen_by_verify(disk: MemoryDisk) -> set[str]:
    return {str(each) for each in verify(disk, "data", Tally())}


class Result(NamedTuple):
    damage: Damage
    image: str
    verdict: str
    why: str
    is_seen: bool
    """`verify` says more, or other things, than of the directory as it was."""


def meet(truth: Truth, damage: Damage) -> Iterator[Result]:
    for image in truth.images:
        disk = disk_of(truth, image)
        if not apply(truth, damage, disk):
            continue
        is_seen = seen_by_verify(disk) != truth.baselines[image]
        for why in outcomes(truth, disk).values():
            yield Result(damage, image, why.partition(" ")[0], why, is_seen)


def sample(truth: Truth, bit_count: int, coarse_count: int, seed: int) -> list[Damage]:
    """So many bits of all files, each file as likely as another, and so many coarse damages."""
    rng = random.Random(seed)
    files = [(path, len(data)) for path, data in truth.images["clean"].items() if data]
    bits = []
    for _ in range(bit_count):
        path, size = rng.choice(files)
        bits.append(Damage("bit", path, rng.randrange(size), rng.randrange(8)))
    coarse = list(coarse_damages(truth))
    return [*bits, *rng.sample(coarse, min(coarse_count, len(coarse)))]


def kind_of(path: str) -> str:
    name = path.rpartition("/")[2]
    return name[20:] if name[:20].isdigit() else name


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--bits", type=int, default=500, help="bits in the sample")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=20)
    chosen = parser.parse_args(arguments)
    truth = make_truth()
    damages = all_damages(truth) if chosen.all else sample(truth, chosen.bits, 1_000, chosen.seed)
    table: Counter[tuple[str, str, str, str]] = Counter()
    unseen: Counter[tuple[str, str, str]] = Counter()
    shown: Counter[str] = Counter()
    cases = 0
    for damage in damages:
        cases += 1
        for result in meet(truth, damage):
            kind = kind_of(damage.path)
            table[damage.kind, kind, result.image, result.verdict] += 1
            if not result.is_seen:
                unseen[damage.kind, kind, result.image] += 1
            what = (
                "BAD"
                if result.verdict in ("BAD", "crc")
                else "unseen"
                if not result.is_seen
                else ""
            )
            if what and shown[what] < chosen.show:
                shown[what] += 1
                print(what, *damage, result.image, result.why[:150])
    for (damage_kind, kind, image, verdict), count in sorted(table.items()):
        print(f"{damage_kind:12} {kind:34} {image:8} {verdict:9} {count}")
    for (damage_kind, kind, image), count in sorted(unseen.items()):
        print(f"not seen by verify: {damage_kind:12} {kind:34} {image:8} {count}")
    bad = sum(count for key, count in table.items() if key[3] in ("BAD", "crc"))
    print(f"{cases} damages, {sum(table.values())} outcomes, {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
