import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from ottla.base.errors import BugError
from ottla.base.world import Connection, FileRange, ListenCaps, World
from ottla.sim.connection import CAPACITY_BYTES, SimConnection
from ottla.sim.world import SimWorld

SERVER = ("server", 9092)


@dataclass
class Peer:
    """A handler that keeps what it got, using up `unit` bytes at a time."""

    connection: Connection | None = None
    unit: int = 1
    got: bytearray = field(default_factory=bytearray)
    pieces: list[int] = field(default_factory=list)
    lost_by: str | None = None
    drained_count: int = 0

    def received(self, data: memoryview) -> int:
        used = len(data) - len(data) % self.unit
        self.got += data[:used]
        self.pieces.append(len(data))
        return used

    def drained(self) -> None:
        self.drained_count += 1

    def lost(self, cause: str) -> None:
        assert self.lost_by is None, "told once"
        self.lost_by = cause


@dataclass
class Scene:
    world: SimWorld
    server: World
    client: World
    accepted: list[Peer]

    async def connect(self, near: Peer | None = None) -> tuple[SimConnection, Peer]:
        peer = near or Peer()

        async def dial() -> Connection:
            return await self.client.network.connect(*SERVER, lambda _: peer)

        connection = await self.world.machine("client").process.spawn(dial())
        assert isinstance(connection, SimConnection)
        return connection, peer


def scene(
    seed: int = 1,
    *,
    make: Callable[[Connection], Peer] = Peer,
    caps: ListenCaps | None = None,
) -> Scene:
    world = SimWorld(seed)
    server, client = world.boot("server"), world.boot("client")
    accepted: list[Peer] = []

    def accept(connection: Connection) -> Peer:
        accepted.append(make(connection))
        return accepted[-1]

    server.network.listen("", 9092, accept, caps=caps or ListenCaps())
    return Scene(world, server, client, accepted)


@pytest.mark.parametrize("seed", range(10))
def test_bytes_arrive_whole_in_order_and_in_pieces(seed: int) -> None:
    s = scene(seed)
    data = random.Random(seed).randbytes(300_000)

    async def main() -> None:
        connection, _ = await s.connect()
        at = 0
        while at < len(data):
            connection.send([data[at : at + 7_000], memoryview(data)[at + 7_000 : at + 9_000]])
            at += 9_000
            await asyncio.sleep(0.001)
        await asyncio.sleep(60)
        assert s.accepted[0].got == data
        assert connection.unsent_bytes == 0
        assert len(set(s.accepted[0].pieces)) > 3

    s.world.run(main())


def test_unused_bytes_come_again_in_front() -> None:
    s = scene(make=lambda connection: Peer(connection, unit=1_000))

    async def main() -> None:
        connection, _ = await s.connect()
        for number in range(100):
            connection.send([bytes([number]) * 137])
            await asyncio.sleep(0.01)
        await asyncio.sleep(10)
        assert s.accepted[0].got == b"".join(bytes([n]) * 137 for n in range(100))[:13_000]

    s.world.run(main())


def test_a_reader_that_pauses_holds_the_sender_up() -> None:
    s = scene()

    async def main() -> None:
        connection, near = await s.connect()
        await asyncio.sleep(1)
        far = s.accepted[0]
        assert far.connection is not None
        far.connection.pause()
        connection.send([bytes(5 * CAPACITY_BYTES)])
        await asyncio.sleep(60)
        assert connection.unsent_bytes == 4 * CAPACITY_BYTES
        assert len(far.got) == 0 and near.drained_count == 0
        far.connection.resume()
        await asyncio.sleep(60)
        assert len(far.got) == 5 * CAPACITY_BYTES
        assert connection.unsent_bytes == 0 and near.drained_count == 1

    s.world.run(main())


def test_resume_hands_in_again_what_was_left() -> None:
    class Slow(Peer):
        def received(self, data: memoryview) -> int:
            assert self.connection is not None
            self.got += data[:1]
            self.connection.pause()
            return 1

    s = scene(make=Slow)

    async def main() -> None:
        connection, _ = await s.connect()
        connection.send([b"abcde"])
        for expected in (b"a", b"ab", b"abc", b"abcd", b"abcde"):
            await asyncio.sleep(1)
            assert s.accepted[0].got == expected
            far = s.accepted[0].connection
            assert far is not None
            far.resume()

    s.world.run(main())


def test_a_file_range_is_read_when_it_leaves() -> None:
    s = scene()
    file = s.client.disk.open("f", create=True)
    file.pwrite(b"0123456789", 0)

    async def main() -> None:
        connection, near = await s.connect()
        connection.send([b"<", FileRange(file, 2, 5), b">"])
        assert connection.unsent_bytes == 7
        file.pwrite(b"X", 3)
        await asyncio.sleep(1)
        assert s.accepted[0].got == b"<2X456>"
        connection.send([FileRange(file, 8, 5)])
        await asyncio.sleep(1)
        assert near.lost_by == "the file of a range failed"
        assert s.accepted[0].lost_by == "reset by peer"

    s.world.run(main())


def test_close_sends_what_was_queued_and_both_sides_are_told() -> None:
    s = scene()

    async def main() -> None:
        connection, near = await s.connect()
        connection.send([b"bye"])
        connection.close()
        connection.close()
        connection.send([b"ignored"])
        await asyncio.sleep(1)
        assert s.accepted[0].got == b"bye"
        assert (near.lost_by, s.accepted[0].lost_by) == ("closed", "closed by peer")
        assert near.drained_count == 0, "no call of a handler inside another"
        assert not s.world.wires.connections

    s.world.run(main())


def test_changing_bytes_that_were_sent_is_a_bug() -> None:
    s = scene()

    async def main() -> None:
        connection, _ = await s.connect()
        data = bytearray(b"data")
        connection.send([data])
        data[0] = 0
        await asyncio.sleep(1)

    with pytest.raises(BugError, match="changed after they were sent"):
        s.world.run(main())


def test_keeping_a_view_of_received_bytes_is_a_bug() -> None:
    class Keeper(Peer):
        def received(self, data: memoryview) -> int:
            self.kept = data[1:]
            return len(data)

    s = scene(make=Keeper)

    async def main() -> None:
        connection, _ = await s.connect()
        connection.send([b"data"])
        await asyncio.sleep(1)

    with pytest.raises(BugError, match="was kept"):
        s.world.run(main())


def test_nothing_listens_or_the_port_is_taken() -> None:
    s = scene()

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await s.client.network.connect("server", 1, lambda _: Peer())
        with pytest.raises(OSError, match="in use"):
            s.server.network.listen("server", 9092, Peer)
        other = s.server.network.listen("server", 0, Peer)
        assert other.address[1] != 0
        await s.client.network.connect(*other.address, lambda _: Peer())
        other.close()
        with pytest.raises(ConnectionRefusedError):
            await s.client.network.connect(*other.address, lambda _: Peer())

    s.world.run(main())


def test_a_clogged_link_holds_bytes_one_way_until_it_heals() -> None:
    s = scene()

    async def main() -> None:
        connection, near = await s.connect()
        await asyncio.sleep(1)
        s.world.wires.clog("client", "server")
        connection.send([b"one"])
        far = s.accepted[0].connection
        assert far is not None
        far.send([b"back"])
        await asyncio.sleep(1)
        connection.send([b"two"])
        await asyncio.sleep(100)
        assert s.accepted[0].got == b"" and near.got == b"back"
        with pytest.raises(TimeoutError):
            await s.client.network.connect(*SERVER, lambda _: Peer())
        s.world.wires.unclog("client", "server")
        await asyncio.sleep(1)
        assert s.accepted[0].got == b"onetwo"

    s.world.run(main())


def test_a_reset_is_told_to_both_ends() -> None:
    s = scene()

    async def main() -> None:
        connection, near = await s.connect()
        connection.send([bytes(10)])
        await asyncio.sleep(0)
        s.world.wires.reset(connection)
        await asyncio.sleep(1)
        assert near.lost_by == s.accepted[0].lost_by == "reset by peer"
        assert s.accepted[0].got == b""

    s.world.run(main())


@pytest.mark.parametrize(
    ("end", "cause", "at_most_s"),
    [(SimWorld.kill, "reset by peer", 1), (SimWorld.power_cut, "timed out", 61)],
)
def test_peers_learn_of_a_death(
    end: Callable[[SimWorld, str], None], cause: str, at_most_s: float
) -> None:
    s = scene()

    async def main() -> None:
        _, near = await s.connect()
        end(s.world, "server")
        await asyncio.sleep(at_most_s)
        assert near.lost_by == cause
        with pytest.raises(ConnectionRefusedError):
            await s.client.network.connect(*SERVER, lambda _: Peer())
        assert s.accepted[0].lost_by is None, "the dead are told nothing"
        s.world.boot("server").network.listen("", 9092, Peer)
        await s.connect()

    s.world.run(main())


def test_caps_of_a_listener() -> None:
    caps = ListenCaps(max_connections=3, max_connections_per_ip=2, max_idle_ms=60_000)
    s = scene(caps=caps)
    other = s.world.boot("other").network

    async def main() -> None:
        (first, _), (second, _) = await s.connect(), await s.connect()
        _, refused = await s.connect()
        await asyncio.sleep(1)
        assert len(s.accepted) == 2 and refused.lost_by == "closed by peer"
        await other.connect(*SERVER, lambda _: Peer())
        await other.connect(*SERVER, lambda _: Peer())
        await asyncio.sleep(1)
        assert len(s.accepted) == 3, "the fourth waits"
        first.close()
        await asyncio.sleep(1)
        assert len(s.accepted) == 4
        await asyncio.sleep(30)
        second.send([b"x"])
        await asyncio.sleep(40)
        assert [peer.lost_by for peer in s.accepted] == ["closed by peer", None, "closed", "closed"]

    s.world.run(main())
