"""The storage of one node by itself, under everything that happens to it, and images of its drive.

A run is some lives over one drive. In each, logs of one directory are appended to, rolled, flushed
in rounds that overlap with what goes on, cut by retention and by DeleteRecords, truncated, deleted
and made anew, checkpointed; a life ends by a clean stop, by a kill, or by a power cut. Beside it
stands a model: for each partition what was appended, and how much of it is promised.

Before calls of the disk, by chance but more often where most is at stake (`images.TENSE`), the
drive is copied, the copy loses its power, is opened as a start opens it, and held to the model
(`storage_model`). Some images die once more while they are opened. No loop, no network and no
tracing: an image costs two or three milliseconds, a hundred thousand of them some minutes.
"""

import errno
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ottla.base.errors import CorruptionError
from ottla.base.ids import TopicPartition
from ottla.sim.disk import SimDisk
from ottla.sim.drive import Drive
from ottla.sim.failpoints import point_of
from ottla.sim.faults import Operation
from ottla.sim.images import LOSSY, TENSE
from ottla.sim.storage_life import Clock, Life, config_of
from ottla.sim.storage_model import Model, Promise, hold, promise_of, whole_promise_of
from ottla.sim.trace import Trace
from ottla.sim.workload import Violation
from ottla.storage.identity import Identity
from ottla.storage.log_dir import LogDir, LogDirError

PATH: Final = "d"
IDENTITY: Final = Identity("kQ0m4vGWTPyXwRhDzPlnQg", 1)
TURNS: Final = 25
LIVES: Final = 4
RATE: Final = 0.02
TENSE_RATE: Final = 0.08
AGAIN_RATE: Final = 0.1
"""Of the images, those that die once more."""


class Untraced(Trace):
    def __init__(self) -> None:
        super().__init__(lambda: 0.0)

    def note(self, kind: str, *values: int | str) -> None:
        pass


# ---- the run


def open_dir(disk: SimDisk, seed: int, clock: Clock) -> LogDir:
    try:
        return LogDir.open(
            PATH, IDENTITY, config_of, disk=disk, rng=random.Random(seed), clock=clock
        )
    except (LogDirError, CorruptionError) as error:
        raise Violation("no-start", str(error)) from error


class StorageRun:
    """One seed. `play` raises a Violation where a promise was broken."""

    def __init__(self, seed: int, *, rate: float = 1.0, image_limit: int = 1 << 60) -> None:
        """`rate` scales how often an image is taken."""
        self.rng = random.Random(f"storage {seed}")
        self._image_rng = random.Random(f"images {seed}")
        self.hits: Counter[str] = Counter()
        """Failpoints that were passed, and how often."""
        self.image_count = 0
        self.moments: Counter[str] = Counter()
        """Of the images, by failpoint."""
        self.event_count: Counter[str] = Counter()
        self._rate = rate
        self._image_limit = image_limit
        self._was_killed = False
        """The life before: its page cache is there, so all that was appended is."""
        self.clock = Clock()
        self.drive = Drive()
        self.models: dict[TopicPartition, Model] = {}
        self.life: Life

    def play(self) -> None:
        for number in range(LIVES):
            self._boot()
            self.life.begin(number)
            for _ in range(self.rng.randrange(1, TURNS)):
                self.life.turn()
            self._end()
        self._boot()

    def _boot(self) -> None:
        disk = SimDisk(self.drive, self.rng, Untraced())
        disk.faults.on_call = self._call
        if self.rng.random() < 0.5:
            disk.sync_file_system = _no_syncfs  # type: ignore[method-assign]
        log_dir = open_dir(disk, self.rng.randrange(1 << 30), self.clock)
        promises = self._promises(whole_promise_of if self._was_killed else promise_of)
        self._hold(promises, log_dir, "at the start", is_whole=self._was_killed)
        self.life = Life(self, disk, log_dir)

    def _end(self) -> None:
        """Stop, die, or lose the power."""
        fate, life = self.rng.random(), self.life
        is_clean = fate < 0.3
        self._was_killed = 0.3 <= fate < 0.6
        self.event_count["clean stop" if is_clean else "kill" if fate < 0.6 else "power cut"] += 1
        if is_clean:
            life.flusher.when_idle(lambda: None)
            life.offload.run()
            life.append_some()  # which the stop itself has to flush
            life.log_dir.close({})
            for model in self.models.values():
                model.firm_end, model.former = model.end, {}
        life.disk.die()
        self.drive = self.drive.clone()  # which no mapping of the dead holds
        if fate < 0.15 or fate >= 0.6:
            self.drive.power_cut(self._image_rng, self._image_rng.choice(LOSSY))

    # ---- images

    def _promises(
        self, make: Callable[[Model], Promise] = promise_of
    ) -> dict[TopicPartition, Promise]:
        return {name: make(model) for name, model in self.models.items()}

    def _call(self, operation: Operation, path: str) -> None:
        name = point_of(operation, path)
        self.hits[name] += 1
        rate = TENSE_RATE if operation in TENSE else RATE
        if self.image_count < self._image_limit and self._image_rng.random() < rate * self._rate:
            self.image_count += 1
            self.moments[name] += 1
            moment = f"image {self.image_count}, before {operation} {path}"
            self._develop(self.drive.clone(), self._promises(), moment)

    def _develop(self, drive: Drive, promises: dict[TopicPartition, Promise], moment: str) -> None:
        rng = self._image_rng
        drive.power_cut(rng, rng.choice(LOSSY))
        if rng.random() < AGAIN_RATE:
            moment += ", and again"
            _open_and_die(drive, rng.randrange(1, 120), self.clock)
            drive = drive.clone()
            drive.power_cut(rng, rng.choice(LOSSY))
        disk = SimDisk(drive, rng, Untraced())
        try:
            log_dir = open_dir(disk, 1, self.clock)
        except Violation as found:
            raise Violation(found.check, f"{moment}: {found.where}") from found
        self._hold(promises, log_dir, moment)
        log_dir.close(is_clean=False)

    @staticmethod
    def _hold(
        promises: dict[TopicPartition, Promise],
        log_dir: LogDir,
        moment: str,
        *,
        is_whole: bool = False,
    ) -> None:
        for name, promise in promises.items():
            damage = log_dir.offline_logs.get(name)
            found_id = log_dir.topic_ids.get(name)
            if found_id is None and (is_whole or promise.firm_end):
                found_id = promise.topic_id  # which is written with the first flush of a life
            if found_id != promise.topic_id:
                # Of another topic of that name, or of none yet: the node makes it a stray.
                if promise.firm_end:
                    raise Violation("lost", f"{name} {moment}: is of topic {found_id!r}")
                continue
            if damage is not None:
                raise Violation("no-start", f"{name} {moment}: {damage}")
            log = log_dir.logs.get(name)
            if log is None:
                raise Violation("lost", f"{name} {moment}: there is no log")
            try:
                hold(promise, log)
            except Violation as found:
                raise Violation(found.check, f"{name} {moment}: {found.where}") from found


def _no_syncfs(file: object) -> None:
    raise OSError(errno.ENOSYS, "no syncfs")


def _open_and_die(drive: Drive, count: int, clock: Clock) -> None:
    """A start that dies at its `count`-th call of the disk, if it comes to so many."""
    disk = SimDisk(drive, random.Random(count), Untraced())
    left = count

    def die(operation: Operation, path: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            disk.die()
            raise OSError(errno.EIO, "power lost", path)

    disk.faults.on_call = die
    with suppress(OSError, Violation):
        open_dir(disk, 1, clock)
    disk.die()


# ---- the command


def many(count: int, first_seed: int, tell: Callable[[str], None]) -> int:
    """So many images over as many seeds as they take; the number of violations."""
    images, seed, violations = 0, first_seed, 0
    moments: Counter[str] = Counter()
    events: Counter[str] = Counter()
    while images < count:
        run = StorageRun(seed, image_limit=count - images)
        try:
            run.play()
        except Violation as found:
            violations += 1
            tell(f"seed {seed}: {found}")
        images += run.image_count
        moments += run.moments
        events += run.event_count
        seed += 1
    tell(", ".join(f"{number} {event}" for event, number in sorted(events.items())))
    tell(", ".join(f"{number} {name}" for name, number in moments.most_common()))
    tell(f"{images} images of {seed - first_seed} seeds, {violations} violations")
    return violations
