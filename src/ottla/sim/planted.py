"""Faults to plant in the node, a line or a few each: the simulation must find every one.

A list, as data: the name of each says what the code does wrong, and `finder` which workload has to
find it. `whole` runs seeds of a whole node with its clients and its faults, `transactions` and
`groups` those of the coordinators (`planted_coordinators`), `storage` the storage by itself with
images of power cuts. A fault that no seed finds means that the simulation has stopped being able to
find what it is for.

What is "not synced" is planted at the disk: the call is made and does nothing.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from ottla.replica.partition import Partition
from ottla.sim import planted_compaction
from ottla.sim.disk import SimDisk, SimFile
from ottla.sim.failpoints import point_of
from ottla.sim.group_workload import groups
from ottla.sim.node_workload import whole_node
from ottla.sim.planted_coordinators import GROUPS, TRANSACTIONS, Patch
from ottla.sim.storage_workload import StorageRun
from ottla.sim.transaction_workload import transactions
from ottla.sim.workload import Violation, Workload, run_seed
from ottla.storage import recovery, retention, sound, tail_scan
from ottla.storage.flusher import Flusher, Round
from ottla.storage.leader_epochs import LeaderEpochs
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir
from ottla.storage.producer_state import ProducerState
from ottla.storage.removal import remove_files
from ottla.storage.snapshots import Snapshots
from ottla.storage.unflushed import Unflushed

Plant = Callable[[Patch], None]
Finder = Literal["whole", "transactions", "groups", "storage"]
WORKLOADS: Final[dict[Finder, Workload]] = {
    "whole": whole_node,
    "transactions": transactions,
    "groups": groups,
}

WHOLE_SEEDS: Final = 40
WHOLE_POWER_CUTS: Final = 40
STORAGE_SEEDS: Final = 120
STORAGE_IMAGES: Final = 100


class Sound(int):
    """A CRC that equals every other."""

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


# ---- what the whole node finds


def acknowledged_before_the_flush(patch: Patch) -> None:
    append = Partition.append

    def hasty(self: Partition, *known: object, **others: object) -> object:
        info = append(self, *known, **others)  # type: ignore[arg-type]
        self.high_watermark = self.log.log_end_offset
        return info

    patch(Partition, "append", hasty)


def a_flush_covers_what_came_after_it_began(patch: Patch) -> None:
    patch(Partition, "_durable_end", lambda self: self.log.log_end_offset)


def no_sync_of_directories(patch: Patch) -> None:
    init = Round.__init__

    def without_names(self: Round, logs: list[Log]) -> None:
        init(self, logs)
        self.directories = []

    patch(Round, "__init__", without_names)


def one_file_of_a_round_is_not_synced(patch: Patch) -> None:
    init = Round.__init__

    def without_the_last(self: Round, logs: list[Log]) -> None:
        init(self, logs)
        if len(self.files) > 1:
            self.files.pop()

    patch(Round, "__init__", without_the_last)


def recovery_without_the_crc(patch: Patch) -> None:
    patch(sound, "crc32c", lambda view: Sound())


def recovery_that_trusts_everything(patch: Patch) -> None:
    patch(recovery, "scan_tail", lambda log, opening: None)


def no_look_at_sequences(patch: Patch) -> None:
    patch(ProducerState, "duplicate_of", lambda self, batch: None)
    patch(ProducerState, "check", lambda self, batch, before=None: None)


def duplicates_are_out_of_order(patch: Patch) -> None:
    patch(ProducerState, "duplicate_of", lambda self, batch: None)


def a_duplicate_is_told_the_end_of_the_log(patch: Patch) -> None:
    duplicate = Log._duplicate

    def misplaced(self: Log, original: object) -> object:
        return duplicate(self, original)._replace(first_offset=self.log_end_offset)  # type: ignore[arg-type]

    patch(Log, "_duplicate", misplaced)


def a_high_watermark_too_high_by_one(patch: Patch) -> None:
    patch(
        Partition,
        "_durable_end",
        lambda self: min(self.log.flushed_end_offset + 1, self.log.log_end_offset),
    )


def a_failed_sync_is_passed_over(patch: Patch) -> None:
    def passed_over(self: Flusher, failure: BaseException) -> None:
        return

    patch(Flusher, "_go_offline", passed_over)


def what_a_failed_sync_lost_is_not_written_again(patch: Patch) -> None:
    patch(tail_scan, "_write_again", lambda segment: None)


def retention_takes_one_segment_more(patch: Patch) -> None:
    deletable_count = retention.deletable_count

    def too_many(segments: list[object], *known: object, **others: object) -> int:
        count = deletable_count(segments, *known, **others)  # type: ignore[arg-type]
        return min(count + 1, len(segments) - 1) if count else 0

    patch(retention, "deletable_count", too_many)


def reads_begin_one_batch_late(patch: Patch) -> None:
    read = Log.read

    def late(self: Log, offset: int, *known: object, **others: object) -> object:
        if offset % 7 == 3 and offset + 1 < self.log_end_offset:
            offset += 1
        return read(self, offset, *known, **others)  # type: ignore[arg-type]

    patch(Log, "read", late)


# ---- what images of the storage find


def _without(patch: Patch, owner: type, operation: Literal["sync", "remove"], *points: str) -> None:
    """Calls that are named so are not made."""
    real = getattr(owner, operation)

    def passed_over(self: object, path: str = "") -> None:
        at = path or getattr(self, "path", "")
        if point_of(operation, at) not in points:
            real(self, *filter(None, [path]))

    patch(owner, operation, passed_over)


def checkpoints_get_their_name_before_they_are_synced(patch: Patch) -> None:
    _without(patch, SimFile, "sync", "recovery-points.sync", "log-starts.sync")


def the_log_directory_is_never_synced(patch: Patch) -> None:
    sync = SimDisk.sync_directory

    def passed_over(self: SimDisk, path: str) -> None:
        if "/" in path:
            sync(self, path)

    patch(SimDisk, "sync_directory", passed_over)


def the_mark_of_a_clean_stop_stays(patch: Patch) -> None:
    _without(patch, SimDisk, "remove", "clean-shutdown.remove")


def a_clean_stop_does_not_flush(patch: Patch) -> None:
    close, sync, sync_all = LogDir.close, SimFile.sync, SimDisk.sync_file_system
    closing: list[bool] = []

    def lazy(self: LogDir, *known: object, **others: object) -> None:
        closing.append(True)
        try:
            close(self, *known, **others)  # type: ignore[arg-type]
        finally:
            closing.pop()

    def sync_some(self: SimFile) -> None:
        if not closing or "checkpoint" in self.path:
            sync(self)

    def sync_nothing(self: SimDisk, file: object) -> None:
        if not closing:
            sync_all(self, file)

    patch(LogDir, "close", lazy)
    patch(SimFile, "sync", sync_some)
    patch(SimDisk, "sync_file_system", sync_nothing)


def snapshots_are_not_written(patch: Patch) -> None:
    patch(Snapshots, "take", lambda self, state, offset: None)


def a_snapshot_past_the_end_is_believed(patch: Patch) -> None:
    newest = Snapshots.newest
    patch(Snapshots, "newest", lambda self, start, end: newest(self, start, 1 << 60))


def rolled_segments_are_not_synced(patch: Patch) -> None:
    patch(Unflushed, "add_rolled", lambda self, segment: None)


def segments_go_before_the_log_start_is_durable(patch: Patch) -> None:
    retire = Log.retire_old_segments

    def hasty(self: Log, now_ms: int, high_watermark: int) -> None:
        retire(self, now_ms, high_watermark)
        self.drop_retired(now_ms, self.log_start_offset)
        remove_files(self.disk, self.take_deleted(now_ms + (1 << 40)))

    patch(Log, "retire_old_segments", hasty)


def recovery_keeps_what_stands_behind_damage(patch: Patch) -> None:
    patch(
        tail_scan,
        "_cut",
        lambda log, segment, end_offset, cut, opening: segment.file.truncate(cut.position),
    )


def epochs_past_the_end_are_kept(patch: Patch) -> None:
    patch(LeaderEpochs, "truncate_end", lambda self, offset: None)


def a_truncation_forgets_no_producer(patch: Patch) -> None:
    load = Log.load_producers

    def at_starts_alone(self: Log, now_ms: int, **others: bool) -> None:
        if "scanned" in others:
            load(self, now_ms, **others)

    patch(Log, "load_producers", at_starts_alone)


def what_compaction_wrote_is_not_synced(patch: Patch) -> None:
    _without(patch, SimFile, "sync", "log-cleaned.sync")


# ---- the list


class Planted(NamedTuple):
    plant: Plant
    finder: Finder

    @property
    def name(self) -> str:
        return self.plant.__name__


PLANTED: Final = [
    *(Planted(plant, "transactions") for plant in TRANSACTIONS),
    *(Planted(plant, "groups") for plant in GROUPS),
    *(
        Planted(plant, "whole")
        for plant in (
            acknowledged_before_the_flush,
            a_flush_covers_what_came_after_it_began,
            no_sync_of_directories,
            one_file_of_a_round_is_not_synced,
            recovery_without_the_crc,
            recovery_that_trusts_everything,
            no_look_at_sequences,
            duplicates_are_out_of_order,
            a_duplicate_is_told_the_end_of_the_log,
            a_high_watermark_too_high_by_one,
            a_failed_sync_is_passed_over,
            what_a_failed_sync_lost_is_not_written_again,
            retention_takes_one_segment_more,
            reads_begin_one_batch_late,
            *planted_compaction.WHOLE,
        )
    ),
    *(
        Planted(plant, "storage")
        for plant in (
            checkpoints_get_their_name_before_they_are_synced,
            the_log_directory_is_never_synced,
            the_mark_of_a_clean_stop_stays,
            a_clean_stop_does_not_flush,
            snapshots_are_not_written,
            a_snapshot_past_the_end_is_believed,
            rolled_segments_are_not_synced,
            segments_go_before_the_log_start_is_durable,
            recovery_keeps_what_stands_behind_damage,
            epochs_past_the_end_are_kept,
            a_truncation_forgets_no_producer,
            what_compaction_wrote_is_not_synced,
            *planted_compaction.STORAGE,
        )
    ),
]


class Found(NamedTuple):
    seed: int
    error: BaseException


def search(finder: Finder) -> Found | None:
    """Run seeds until one finds something; None where none does."""
    count = STORAGE_SEEDS if finder == "storage" else WHOLE_SEEDS
    for seed in range(1, count + 1):
        error = _storage(seed) if finder == "storage" else _whole(finder, seed)
        if error is not None:
            return Found(seed, error)
    return None


def _whole(finder: Finder, seed: int) -> BaseException | None:
    return run_seed(WORKLOADS[finder], seed, WHOLE_POWER_CUTS).error


def _storage(seed: int) -> BaseException | None:
    try:
        StorageRun(seed, image_limit=STORAGE_IMAGES).play()
    except Violation as found:
        return found
    return None


def table(only: Sequence[str], tell: Callable[[str], None]) -> int:
    """Plant them one at a time, and tell of each what found it; how many were not found."""
    missed = 0
    tell(f"{'fault':50} {'found by':9} {'seeds':>5}  as")
    for planted in PLANTED:
        if only and planted.name not in only:
            continue
        with Patches() as patch:
            planted.plant(patch)
            found = search(planted.finder)
        missed += found is None
        what = f"{found.seed:5}  {found.error}" if found else "    -  NOT FOUND"
        tell(f"{planted.name:50} {planted.finder:9} {what}"[:160])
    tell(f"{missed} not found")
    return missed


class Patches:
    """Attributes set for as long as the block lasts."""

    def __init__(self) -> None:
        self._before: list[tuple[object, str, object]] = []

    def __call__(self, owner: object, name: str, value: object) -> None:
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def __enter__(self) -> "Patches":
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, value in reversed(self._before):
            setattr(owner, name, value)
