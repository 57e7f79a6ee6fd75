"""Faults planted in the node, a line each: the simulation must find every one within a few seeds.

Where it does not, it has stopped being able to find what it is for.
"""

from collections.abc import Callable

import pytest

from ottla.replica.partition import Partition
from ottla.sim.node_workload import whole_node
from ottla.sim.workload import Violation, run_seed
from ottla.storage import recovery, retention
from ottla.storage.flusher import Flusher, Round
from ottla.storage.log import Log
from ottla.storage.producer_state import ProducerState

SEEDS = 40
POWER_CUTS = 40

Patch = Callable[[object, str, object], None]


class Sound(int):
    """A CRC that equals every other."""

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


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
    patch(recovery, "crc32c", lambda view: Sound())


def recovery_that_trusts_everything(patch: Patch) -> None:
    patch(recovery, "_scan_tail", lambda log, opening: None)


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
    patch(recovery, "_write_again", lambda segment: None)


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


FAULTS: list[Callable[[Patch], None]] = [
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
]


@pytest.mark.parametrize("plant", FAULTS, ids=[plant.__name__ for plant in FAULTS])
def test_a_planted_fault_is_found(
    plant: Callable[[Patch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch.setattr)
    for seed in range(1, SEEDS + 1):
        error = run_seed(whole_node, seed, POWER_CUTS).error
        if error is not None:
            print(f"{plant.__name__}: seed {seed}: {error!r}"[:200])
            assert isinstance(error, Violation)
            return
    pytest.fail(f"{SEEDS} seeds ran through")
