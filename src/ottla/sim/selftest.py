"""A toy log server, to test the simulated world on: right, or with a mistake planted.

    record     id 8 bytes, 37 times; CRC-32 of that; segments NUMBER.log of SEGMENT_BYTES
    request    id          (append it)
    response   the same id (it is durable)

The server appends at once, syncs on a helper thread, one sync at a time, and answers what the
sync covered; a new segment is named durably (sync of its directory) before anything in it is
acknowledged. Recovery cuts at the first record that is torn. What was acknowledged must be there
after any kill, power cut, reset or clog, in order and once.

The workload must pass with no mistake, and must fail with each of `MISTAKES`: if it does not,
the simulated world has stopped being able to find what it is for.
"""

import asyncio
import zlib
from dataclasses import dataclass, field
from typing import Final, Literal

from ottla.base.errors import check
from ottla.base.world import Connection, Disk, File, World
from ottla.sim.drive import Drive
from ottla.sim.images import Camera
from ottla.sim.nemesis import Nemesis
from ottla.sim.workload import Report, Violation
from ottla.sim.world import SimWorld

Mistake = Literal["ack before sync", "no sync of directory", "no recovery"]
MISTAKES: Final[tuple[Mistake, ...]] = ("ack before sync", "no sync of directory", "no recovery")

ID_BYTES: Final = 8
BODY_BYTES: Final = 37 * ID_BYTES
RECORD_BYTES: Final = BODY_BYTES + 4
SEGMENT_RECORDS: Final = 100
SEGMENT_BYTES: Final = SEGMENT_RECORDS * RECORD_BYTES
DIRECTORY: Final = "log"
PORT: Final = 7_000
CLIENTS: Final = 8
RUN_S: Final = 15.0
IMAGES: Final = 20


class Server:
    def __init__(self, world: World, mistake: Mistake | None) -> None:
        self._world = world
        self._mistake = mistake
        self._waiting: list[tuple[Connection, bytes]] = []
        self._is_syncing = False
        self._is_named = False
        world.disk.make_directory(DIRECTORY)
        world.disk.sync_directory("/")
        ids = recover(world.disk, mistake)
        self._segment = open_segment(world.disk, len(ids) // SEGMENT_RECORDS)
        world.network.listen("", PORT, lambda connection: Session(self, connection))

    def append(self, connection: Connection, record_id: bytes) -> None:
        if self._segment.size() >= SEGMENT_BYTES:
            self._roll()
        self._segment.pwrite(record_of(record_id), self._segment.size())
        if self._mistake == "ack before sync":
            connection.send([record_id])
            return
        self._waiting.append((connection, record_id))
        self._maybe_sync()

    def _roll(self) -> None:
        number = int(self._segment.path.split("/")[1].split(".")[0])
        self._segment.sync()
        self._segment = open_segment(self._world.disk, number + 1)
        self._is_named = self._mistake == "no sync of directory"

    def _maybe_sync(self) -> None:
        if self._waiting and not self._is_syncing:
            self._is_syncing = True
            covered, self._waiting = self._waiting, []
            segment, is_named = self._segment, self._is_named
            self._is_named = True
            self._world.offload.submit(
                lambda: self._sync(segment, is_named), lambda _, error: self._synced(covered, error)
            )

    def _sync(self, segment: File, is_named: bool) -> None:
        segment.sync()
        if not is_named:
            self._world.disk.sync_directory(DIRECTORY)

    def _synced(self, covered: list[tuple[Connection, bytes]], error: object) -> None:
        check(error is None, f"sync failed: {error}")
        self._is_syncing = False
        for connection, record_id in covered:
            connection.send([record_id])
        self._maybe_sync()


@dataclass
class Session:
    server: Server
    connection: Connection

    def received(self, data: memoryview) -> int:
        used = len(data) - len(data) % ID_BYTES
        for at in range(0, used, ID_BYTES):
            self.server.append(self.connection, bytes(data[at : at + ID_BYTES]))
        return used

    def drained(self) -> None: ...

    def lost(self, cause: str) -> None: ...


def open_segment(disk: Disk, number: int) -> File:
    return disk.open(f"{DIRECTORY}/{number:06d}.log", create=True)


def record_of(record_id: bytes) -> bytes:
    body = record_id * (BODY_BYTES // ID_BYTES)
    return body + zlib.crc32(body).to_bytes(4, "big")


def recover(disk: Disk, mistake: Mistake | None) -> list[int]:
    """The ids in the log, after everything behind the first torn record is cut off."""
    ids: list[int] = []
    is_torn = False
    for name in disk.list_directory(DIRECTORY):
        path = f"{DIRECTORY}/{name}"
        if is_torn:
            disk.remove(path)
            continue
        file = disk.open(path)
        data = file.pread(file.size(), 0)
        good = 0
        for at in range(0, len(data), RECORD_BYTES):
            body, crc = data[at : at + BODY_BYTES], data[at + BODY_BYTES : at + RECORD_BYTES]
            if crc != zlib.crc32(body).to_bytes(4, "big"):
                break
            ids.append(int.from_bytes(body[:ID_BYTES], "big"))
            good = at + RECORD_BYTES
        if mistake != "no recovery" and good < len(data):
            file.truncate(good)
        file.sync()
        is_torn = good < SEGMENT_BYTES
    disk.sync_directory(DIRECTORY)
    return ids


@dataclass
class Client:
    """Appends ids of its own, one at a time; an id that was not answered is not tried again."""

    world: World
    number: int
    sent_count: int = 0
    acknowledged: list[int] = field(default_factory=list)
    _answer: asyncio.Future[bool] | None = None

    async def run(self) -> None:
        while True:
            try:
                connection = await self.world.network.connect("server", PORT, lambda _: self)
            except OSError:
                await asyncio.sleep(0.1 + self.world.rng.random())
                continue
            while await self._append(connection):
                await asyncio.sleep(0.05 * self.world.rng.random())
            connection.close()

    async def _append(self, connection: Connection) -> bool:
        self.sent_count += 1
        record_id = self.number << 32 | self.sent_count
        self._answer = asyncio.get_running_loop().create_future()
        connection.send([record_id.to_bytes(ID_BYTES, "big")])
        try:
            answered = await asyncio.wait_for(self._answer, 1.0)
        except TimeoutError:
            return False
        if answered:
            self.acknowledged.append(record_id)
        return answered

    def received(self, data: memoryview) -> int:
        if len(data) < ID_BYTES:
            return 0
        self._settle(True)
        return ID_BYTES

    def drained(self) -> None: ...

    def lost(self, cause: str) -> None:
        self._settle(False)

    def _settle(self, answered: bool) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answered)


def verify(ids: list[int], clients: list[list[int]], moment: str) -> None:
    if len(ids) != len(set(ids)):
        raise Violation("duplicate", moment)
    for number, acknowledged in enumerate(clients):
        mine = [record_id for record_id in ids if record_id >> 32 == number]
        if mine != sorted(mine):
            raise Violation("reordered", moment)
        missing = sorted(set(acknowledged) - set(mine))
        if missing:
            raise Violation("lost-write", f"{moment}: {len(missing)} lost, the first {missing[0]}")


async def toy_log(sim: SimWorld, power_cuts: int, mistake: Mistake | None = None) -> Report:
    clients = [Client(sim.boot(f"client-{n}"), n) for n in range(CLIENTS)]

    def promised() -> list[list[int]]:
        return [list(client.acknowledged) for client in clients]

    camera = Camera(sim.rng("camera"), promised, count=max(IMAGES, power_cuts))

    def start() -> None:
        world = sim.boot("server")
        camera.watch(sim.machine("server").disk)
        sim.machine("server").process.run(lambda: Server(world, mistake))

    start()
    for client in clients:
        sim.machine(f"client-{client.number}").process.spawn(client.run())
    nemesis = Nemesis(sim, "server", [f"client-{n}" for n in range(CLIENTS)], start)
    await nemesis.run(RUN_S)
    sim.power_cut("server")
    _examine(sim, sim.machine("server").drive, mistake, promised(), "at the end")
    for shot in camera.develop():
        _examine(sim, shot.drive, mistake, shot.promised, shot.moment)
    return Report(
        power_cuts=len(camera.shots) + nemesis.counts["power cut"] + 1,
        operations=sum(client.sent_count for client in clients),
        acknowledged=sum(len(client.acknowledged) for client in clients),
    )


def _examine(
    sim: SimWorld, drive: Drive, mistake: Mistake | None, promised: list[list[int]], moment: str
) -> None:
    """Recover a drive: it must hold what was promised, and be a log that can be added to."""
    disk = sim.disk_of(drive)
    ids = recover(disk, mistake) if disk.exists(DIRECTORY) else []
    verify(ids, promised, moment)
    disk.make_directory(DIRECTORY)
    segment = open_segment(disk, len(ids) // SEGMENT_RECORDS)
    segment.pwrite(record_of(bytes(ID_BYTES)), segment.size())
    if recover(disk, mistake) != [*ids, 0]:
        raise Violation("lost-write", f"{moment}: what was appended after the recovery")
