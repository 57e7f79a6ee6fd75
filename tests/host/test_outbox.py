"""The send queue against a model: whatever a call takes, the bytes leave once and in order."""

import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.world import FileRange
from ottla.host import outbox, syscalls
from ottla.host.disk import HostDisk

CONTENT = bytes(range(256)) * 64


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    opened = HostDisk().open(str(tmp_path_factory.mktemp("outbox") / "file"), create=True)
    opened.pwrite(CONTENT, 0)
    yield opened
    opened.close()


class Spoon:
    """A socket whose every call takes only some bytes."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.out = bytearray()
        self.calls = []
        self.turn = 0

    def take(self, name, data):
        self.turn += 1
        taken = bytes(data)[: self.sizes[self.turn % len(self.sizes)]]
        self.out += taken
        self.calls.append(name)
        return len(taken)

    def send(self, data):
        return self.take("send", data)

    def sendmsg(self, views, ancillary, flags):
        assert len(views) <= outbox.IOV_COUNT
        return self.take("sendmsg more" if flags else "sendmsg", b"".join(views))


PART = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.binary(min_size=1, max_size=40).map(bytearray),
    st.binary(min_size=1, max_size=40).map(memoryview),
    st.tuples(st.integers(0, 16_000), st.integers(1, 300)),
)


@pytest.fixture(autouse=True, scope="module")
def small_bounds():
    """Short and long ranges, and the end of a gathering, within a few hundred bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "SHORT_RANGE_BYTES", 100)
        patch.setattr(outbox, "GATHER_BYTES", 500)
        patch.setattr(outbox, "IOV_COUNT", 8)
        yield


@settings(deadline=None)
@given(
    st.lists(PART, min_size=1, max_size=30), st.lists(st.integers(1, 50), min_size=1, max_size=8)
)
def test_everything_leaves_once_and_in_order(file, parts, sizes):
    spoon = Spoon(sizes)
    queue = [FileRange(file, *part) if isinstance(part, tuple) else part for part in parts]
    expected = b"".join(
        CONTENT[part[0] : part[0] + part[1]] if isinstance(part, tuple) else bytes(part)
        for part in parts
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            syscalls,
            "send_range",
            lambda sock, fd, at, length: sock.take("range", os.pread(fd, length, at)),
        )
        while queue:
            outbox.drop(queue, outbox.write_once(spoon, queue))
    assert spoon.out == expected


def test_one_call_for_one_part_and_for_many(file):
    big = Spoon([1 << 20])
    for parts in ([b"a"], [b"a", b"b", b"c"], [b"h", FileRange(file, 0, 3)]):
        outbox.write_once(big, parts)
    more = "sendmsg more" if syscalls.MSG_MORE else "sendmsg"
    assert big.calls == ["send", "sendmsg", more]


def test_short_ranges_between_other_parts_leave_with_them(file):
    big = Spoon([1 << 20])
    queue = [b"1", FileRange(file, 1, 100), b"2", FileRange(file, 2, 7), b"3"]
    assert outbox.write_once(big, queue) == 110
    assert big.calls == ["sendmsg"]
    assert big.out == b"1" + CONTENT[1:101] + b"2" + CONTENT[2:9] + b"3"
    queue = [FileRange(file, 0, 5), b"1", FileRange(file, 1, 101), b"2"]
    assert outbox.write_once(big, queue) == 6
    assert big.calls[1:] == ["sendmsg more" if syscalls.MSG_MORE else "sendmsg"]


def test_what_one_call_gathers_is_bounded(file):
    big = Spoon([1 << 20])
    assert outbox.write_once(big, [b"x" * 100] * 20) == 500
    assert outbox.write_once(big, [b"x"] * 20) == 8
    assert outbox.write_once(big, [FileRange(file, 0, 100)] * 20) == 500


def test_drop_tells_whether_a_part_was_left_in_half():
    queue = [b"abc", b"def"]
    assert outbox.drop(queue, 3) is True
    assert queue == [b"def"]
    assert outbox.drop(queue, 1) is False
    assert queue == [b"ef"]
    assert outbox.drop(queue, 2) is True
    assert queue == []


def test_a_short_range_that_is_not_in_its_file_is_an_error(file):
    with pytest.raises(outbox.FileCutShortError, match=r"no 6 bytes at position 16384"):
        outbox.write_once(Spoon([9]), [FileRange(file, len(CONTENT), 6), b"more"])


@pytest.mark.parametrize("call", [syscalls.send_range, syscalls.send_copy])
def test_a_range_that_is_not_in_its_file_is_an_error(file, call, monkeypatch):
    monkeypatch.setattr(syscalls, "send_range", call)
    left, right = socket.socketpair()
    with left, right:
        assert outbox.write_once(left, [FileRange(file, len(CONTENT) - 4, 10)]) == 4
        assert right.recv(100) == CONTENT[-4:]
        with pytest.raises(outbox.FileCutShortError, match=r"no 6 bytes at position 16384"):
            outbox.write_once(left, [FileRange(file, len(CONTENT), 6)])
