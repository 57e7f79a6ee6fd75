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


class Shot(NamedTuple, Generic[P]):
    drive: Drive
    moment: str
    """The call before which it was taken."""
    promised: P


class Camera(Generic[P]):
    def __init__(self, rng: random.Random, promised: Callable[[], P], *, count: int) -> None:
        """Keeps `count` shots, evenly chosen from all calls of the disks it watches."""
        self.shots: list[Shot[P]] = []
        self._rng = rng
        self._promised = promised
        self._count = count
        self._calls = 0

    def watch(self, disk: SimDisk) -> None:
        """To be called at each boot of the node."""
        disk.faults.on_call = partial(self._call, disk)

    def _call(self, disk: SimDisk, operation: str, path: str) -> None:
        place = self._calls
        self._calls += 1
        if place >= self._count:
            place = self._rng.randrange(self._calls)
            if place >= self._count:
                return
        moment = f"before call {self._calls}, {operation} {path}"
        self.shots[place : place + 1] = [Shot(disk.drive.clone(), moment, self._promised())]

    def develop(self) -> Iterator[Shot[P]]:
        """Each shot after its power cut."""
        for shot in self.shots:
            shot.drive.power_cut(self._rng, self._rng.choice(LOSSY))
            yield shot
