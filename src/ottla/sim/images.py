"""Crash images: what the drive would hold if the power went now, taken while a run goes on.

A camera stands before every call that a disk gets, and at some of them copies the drive and asks
what has been promised until then. After the run each shot is developed: a power cut on the copy,
then a recovery on what is left, which must hold what was promised. So one run gives hundreds of
power cuts, at every kind of call, without being disturbed by them.
"""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from ottla.sim.content import CrashMode
from ottla.sim.disk import SimDisk
from ottla.sim.drive import Drive

P = TypeVar("P")

LOSSY = (CrashMode.DROP, CrashMode.TEAR, CrashMode.FULL)
TENSE = ("sync", "sync_directory", "rename", "remove", "truncate")
"""Before a sync most is not durable yet; what changes names changes what a start finds."""


class Shot(NamedTuple, Generic[P]):
    drive: Drive
    moment: str
    """The call before which it was taken."""
    promised: P


class Film(Generic[P]):
    """So many shots, evenly chosen from all that could have been taken."""

    def __init__(self, rng: random.Random, length: int) -> None:
        self.shots: list[Shot[P]] = []
        self._rng = rng
        self._length = length
        self._seen = 0

    def expose(self, shoot: Callable[[], Shot[P]]) -> None:
        place = self._seen
        self._seen += 1
        if place >= self._length:
            place = self._rng.randrange(self._seen)
        if place < self._length:
            self.shots[place : place + 1] = [shoot()]


class Camera(Generic[P]):
    def __init__(self, rng: random.Random, promised: Callable[[], P], *, count: int) -> None:
        """Keeps `count` shots of the disks it watches: half of them before any call, half before
        one of those at which most is at stake."""
        self._rng = rng
        self._promised = promised
        self._any: Film[P] = Film(rng, count - count // 2)
        self._tense: Film[P] = Film(rng, count // 2)
        self._calls = 0

    @property
    def shots(self) -> list[Shot[P]]:
        return [*self._any.shots, *self._tense.shots]

    def watch(self, disk: SimDisk) -> None:
        """To be called at each boot of the node."""
        disk.faults.on_call = partial(self._call, disk)

    def _call(self, disk: SimDisk, operation: str, path: str) -> None:
        self._calls += 1

        def shoot() -> Shot[P]:
            moment = f"before call {self._calls}, {operation} {path}"
            return Shot(disk.drive.clone(), moment, self._promised())

        self._any.expose(shoot)
        if operation in TENSE:
            self._tense.expose(shoot)

    def develop(self) -> Iterator[Shot[P]]:
        """Each shot after its power cut."""
        for shot in self.shots:
            shot.drive.power_cut(self._rng, self._rng.choice(LOSSY))
            yield shot
