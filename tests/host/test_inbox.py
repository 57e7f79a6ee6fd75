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
        self.scratch = inbox.Scratch(SCRATCH_BYTES)
        self.tail: inbox.Tail | None = None
        self.frames: list[bytes] = []
        self.used_count = 0

    def receive(self) -> int:
        if self.tail is None:
            count = self.sock.recv_into(self.scratch.view)
            data = self.scratch.view[:count]
        else:
            count, data = inbox.receive(self.sock, self.tail, self.scratch)
        assert count, "no room to receive into"
        used = self.take_frames(data)
        self.tail = inbox.tail_after(data, used, self.tail, self.scratch)
        self.scratch.view[:] = b"\xff" * SCRATCH_BYTES  # other connections use it meanwhile
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


def lent_out() -> inbox.Scratch:
    """A scratch that lends no more."""
    scratch = inbox.Scratch(SCRATCH_BYTES)
    while scratch.lend() is not None:
        pass
    return scratch


def test_a_backlog_of_its_own_holds_at_most_twice_what_came():
    left, right = socket.socketpair()
    with left, right:
        left.sendall(bytes(50_000))
        scratch = lent_out()
        tail = inbox.tail_after(scratch.view[: SHORT + 1], 0, None, scratch)
        assert isinstance(tail, inbox.Backlog)
        came = SHORT + 1
        while came < 50_000:
            count, data = inbox.receive(right, tail, scratch)
            came += count
            assert len(data) == came
            assert data.obj is not None
            assert len(data.obj) <= 2 * came
            tail = inbox.tail_after(data, 0, tail, scratch)


def test_a_long_tail_stays_where_it_is_and_the_buffer_comes_back():
    scratch = inbox.Scratch(SCRATCH_BYTES)
    buffer = scratch.view.obj
    scratch.view[:] = bytes(range(SCRATCH_BYTES))
    tail = inbox.tail_after(scratch.view[:60], 10, None, scratch)
    assert isinstance(tail, inbox.Backlog)
    assert tail.view().obj is buffer
    assert tail.view() == bytes(range(10, 60))
    assert scratch.view.obj is not buffer
    assert inbox.tail_after(tail.view(), 50, tail, scratch) is None
    assert inbox.tail_after(scratch.view[:60], 10, None, scratch).view().obj is not buffer
    assert scratch.view.obj is buffer


def test_the_begin_of_the_next_long_frame_stays_in_the_same_buffer():
    scratch = inbox.Scratch(SCRATCH_BYTES)
    scratch.view[:] = bytes(range(SCRATCH_BYTES))
    tail = inbox.tail_after(scratch.view, 0, None, scratch)
    buffer = tail.view().obj
    tail = inbox.tail_after(tail.view(), 10, tail, scratch)
    assert tail.view() == bytes(range(10, SCRATCH_BYTES))
    assert tail.view().obj is buffer
    inbox.drop(tail)
    assert scratch.lend().obj is not buffer
    assert scratch.view.obj is buffer


def test_a_backlog_of_its_own_moves_to_a_lent_buffer_when_the_rest_fits():
    scratch = lent_out()
    own = inbox.tail_after(scratch.view[: SHORT + 2], 0, None, scratch)
    scratch.take_back(memoryview(bytearray(SCRATCH_BYTES)))
    buffer = scratch.view.obj
    tail = inbox.tail_after(own.view(), 1, own, scratch)
    assert tail.view().obj is buffer


def test_a_backlog_that_outgrows_its_lent_buffer_gives_it_back():
    left, right = socket.socketpair()
    with left, right:
        left.sendall(bytes(100))
        scratch = inbox.Scratch(SCRATCH_BYTES)
        buffer = scratch.view.obj
        tail = inbox.tail_after(scratch.view, 0, None, scratch)
        assert inbox.receive(right, tail, scratch)[0] == SCRATCH_BYTES
        assert scratch.lend().obj is not buffer
        assert scratch.view.obj is buffer
        inbox.drop(tail)
        inbox.drop(tail)


def test_as_many_as_are_lent_are_missing_and_no_more():
    scratch = inbox.Scratch(SCRATCH_BYTES)
    tails = []
    for _ in range(inbox.LENT_COUNT + 3):
        tails.append(inbox.tail_after(scratch.view, 0, None, scratch))
    assert scratch.lend() is None
    buffers = {id(tail.view().obj) for tail in tails} | {id(scratch.view.obj)}
    assert len(buffers) == inbox.LENT_COUNT + 4
    for tail in tails:
        inbox.drop(tail)
    for _ in range(inbox.LENT_COUNT):
        assert id(scratch.lend().obj) in buffers
    assert scratch.lend() is None


def test_a_backlog_gives_way_to_a_short_tail_and_then_to_nothing():
    scratch = lent_out()
    backlog = inbox.tail_after(memoryview(bytes(range(100))), 0, None, scratch)
    assert isinstance(backlog, inbox.Backlog)
    data = backlog.view()
    smaller = inbox.tail_after(data, 10, backlog, scratch)
    assert isinstance(smaller, inbox.Backlog)
    assert smaller.view() == bytes(range(10, 100))
    assert inbox.tail_after(data, 95, backlog, scratch) == bytes(range(95, 100))
    assert inbox.tail_after(data, 100, backlog, scratch) is None


def test_what_is_presented_is_writable():
    scratch = inbox.Scratch(SCRATCH_BYTES)
    for size in (SHORT, SHORT + 1):
        tail = inbox.tail_after(scratch.view[:size], 0, None, scratch)
        assert tail is not None
        assert not inbox.view_of(tail, scratch).readonly
