"""The tail logic against a model: frames of every length, cut anywhere, come out whole."""

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.host import inbox

FRAMES = st.lists(st.binary(min_size=0, max_size=300), min_size=1, max_size=20)
SHORT = 16
SCRATCH_BYTES = 64


class Reader:
    """Reads frames led by two bytes of length, as a connection and its handler do."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.tail: inbox.Tail | None = None
        self.frames: list[bytes] = []
        self.used_count = 0

    def receive(self) -> int:
        if self.tail is None:
            count = self.sock.recv_into(self.scratch)
            data = self.scratch[:count]
        else:
            count, data = inbox.receive(self.sock, self.tail, self.scratch)
        assert count, "no room to receive into"
        used = self.take_frames(data)
        self.tail = inbox.tail_after(data, used, self.tail)
        self.scratch[:] = b"\xff" * SCRATCH_BYTES  # other connections use it meanwhile
        self.used_count += used
        return count

    def take_frames(self, data: memoryview) -> int:
        used = 0
        while len(data) - used >= 2:
            end = used + 2 + int.from_bytes(data[used : used + 2], "big")
            if end > len(data):
                break
            self.frames.append(bytes(data[used + 2 : end]))
            used = end
        return used


@pytest.fixture(autouse=True, scope="module")
def short_tails():
    """Both kinds of tail, and the change between them, within a few bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbox, "SHORT_TAIL_BYTES", SHORT)
        yield


@settings(deadline=None)
@given(FRAMES, st.lists(st.integers(1, 400), min_size=1, max_size=10))
def test_frames_come_out_whole_however_they_arrive(frames, cuts):
    wire = b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)
    left, right = socket.socketpair()
    with left, right:
        reader = Reader(right)
        sent = arrived = turn = 0
        while sent < len(wire):
            sent += left.send(wire[sent : sent + cuts[turn % len(cuts)]])
            turn += 1
            while arrived < sent:
                arrived += reader.receive()
                kept = wire[reader.used_count : arrived]
                if reader.tail is None:
                    assert not kept
                else:
                    assert inbox.view_of(reader.tail, reader.scratch) == kept
    assert reader.frames == frames


def test_a_backlog_holds_at_most_twice_what_came():
    left, right = socket.socketpair()
    with left, right:
        left.sendall(bytes(50_000))
        tail = inbox.tail_after(memoryview(bytes(SHORT + 1)), 0, None)
        assert isinstance(tail, inbox.Backlog)
        came = SHORT + 1
        while came < 50_000:
            count, data = inbox.receive(right, tail, memoryview(bytearray()))
            came += count
            assert len(data) == came
            assert data.obj is not None
            assert len(data.obj) <= 2 * came
            tail = inbox.tail_after(data, 0, tail)


def test_a_backlog_gives_way_to_a_short_tail_and_then_to_nothing():
    backlog = inbox.tail_after(memoryview(bytes(range(100))), 0, None)
    assert isinstance(backlog, inbox.Backlog)
    data = backlog.view()
    smaller = inbox.tail_after(data, 10, backlog)
    assert isinstance(smaller, inbox.Backlog)
    assert smaller.view() == bytes(range(10, 100))
    assert inbox.tail_after(data, 95, backlog) == bytes(range(95, 100))
    assert inbox.tail_after(data, 100, backlog) is None


def test_what_is_presented_is_writable():
    scratch = memoryview(bytearray(SCRATCH_BYTES))
    for size in (SHORT, SHORT + 1):
        tail = inbox.tail_after(memoryview(bytes(size)), 0, None)
        assert tail is not None
        assert not inbox.view_of(tail, scratch).readonly
