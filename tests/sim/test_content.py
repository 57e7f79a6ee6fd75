import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.errors import BugError
from ottla.sim.content import PENDING_CHANGES, SECTOR_BYTES, Content, CrashMode, _sectors

SPAN = 4 * SECTOR_BYTES
writes = st.tuples(st.integers(0, SPAN), st.integers(0, SPAN), st.integers(1, 255))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), writes),
        st.tuples(st.just("cut"), st.integers(0, 2 * SPAN)),
        st.tuples(st.just("sync"), st.none()),
    ),
    max_size=12,
)


class Model:
    """What each byte may be after a power cut, and how long the file."""

    def __init__(self) -> None:
        self.live = b""
        self.durable = b""
        self.sizes = {0}
        self.may_be: dict[int, set[int]] = {}

    def step(self, kind: str, value: object) -> None:
        if kind == "write":
            position, length, byte = value  # type: ignore[misc]
            data = bytes([byte]) * length
            if length == 0:
                return
            old = self.live.ljust(position, b"\0")
            self.live = old[:position] + data + old[position + length :]
        elif kind == "cut":
            size: int = value  # type: ignore[assignment]
            self.live = self.live[:size].ljust(size, b"\0")
        elif kind == "sync":
            self.durable = self.live
            self.sizes = {len(self.live)}
            self.may_be = {}
        self.sizes.add(len(self.live))
        shortest = min(self.sizes)
        for at in range(max(len(self.live), len(self.durable))):
            allowed = self.may_be.setdefault(at, set())
            allowed.update(self.live[at : at + 1] + self.durable[at : at + 1])
            if at >= shortest:
                allowed.add(0)


def run(content: Content, script: list[tuple[str, object]]) -> None:
    for kind, value in script:
        if kind == "write":
            position, length, byte = value  # type: ignore[misc]
            content.write(bytes([byte]) * length, position)
        elif kind == "cut":
            content.cut(value)  # type: ignore[arg-type]
        elif kind == "sync":
            content.sync()


@given(steps, st.integers(0, 1 << 32), st.sampled_from(CrashMode))
def test_a_power_cut_leaves_what_was_synced_and_invents_nothing(
    script: list[tuple[str, object]], seed: int, mode: CrashMode
) -> None:
    content, model = Content(), Model()
    run(content, script)
    for kind, value in script:
        model.step(kind, value)
    assert content.live == model.live
    image = content.crashed(random.Random(seed), mode)
    assert image.live == image.durable
    assert min(model.sizes) <= len(image.live) <= max(model.sizes)
    for at, byte in enumerate(image.live):
        assert byte in model.may_be[at], (at, byte, model.may_be[at])
    if mode is CrashMode.NONE or not content.pending:
        assert image.live == model.live
    assert content.clone().crashed(random.Random(seed), mode).live == image.live


@given(st.integers(1, 3 * SPAN), st.integers(0, 1 << 32), st.sampled_from(CrashMode))
def test_appends_after_a_sync_never_touch_what_was_synced(
    size: int, seed: int, mode: CrashMode
) -> None:
    content = Content()
    content.write(b"s" * size, 0)
    content.sync()
    for number in range(5):
        content.write(b"a" * 300, size + 300 * number)
    assert content.crashed(random.Random(seed), mode).live[:size] == b"s" * size


@pytest.mark.parametrize("mode", [CrashMode.DROP, CrashMode.TEAR, CrashMode.FULL])
def test_each_mode_reaches_both_ends_and_torn_writes_between(mode: CrashMode) -> None:
    content = Content()
    content.write(b"x" * 4 * SECTOR_BYTES, 0)
    images = {bytes(content.crashed(random.Random(seed), mode).live) for seed in range(300)}
    assert b"" in images
    assert bytes(content.live) in images
    torn = [image for image in images if image not in (b"", bytes(content.live))]
    assert bool(torn) == (mode is not CrashMode.DROP)
    assert all(len(image) % SECTOR_BYTES == 0 for image in torn)
    if torn:
        assert any(len(image) == 4 * SECTOR_BYTES and 0 in image for image in torn), "grown, zero"


def test_a_failed_sync_forgets_what_reads_still_show() -> None:
    content = Content()
    content.write(b"old", 0)
    content.sync()
    content.write(b"newer", 0)
    content.lose_pending()
    content.sync()
    assert content.live == b"newer"
    assert content.crashed(random.Random(1), CrashMode.NONE).live == b"old"


def test_a_map_sees_later_writes_while_the_file_grows() -> None:
    content = Content()
    content.write(b"abcd", 0)
    view = content.view()
    content.write(b"X", 1)
    content.write(b"tail", 4)
    content.write(b"Y", 2)
    assert bytes(view) == b"aXYd"
    assert content.live == b"aXYdtail"
    part = view[2:3]
    view.release()
    content.write(b"Z", 2)
    assert bytes(part) == b"Z"
    with pytest.raises(TypeError):
        part[0] = 1


def test_cutting_below_a_living_map_is_a_bug() -> None:
    content = Content()
    content.cut(100)
    view = content.view()
    content.cut(200)
    content.cut(100)
    with pytest.raises(BugError, match="below a map"):
        content.cut(99)
    view.release()
    content.cut(10)
    assert len(content.live) == 10


def test_the_kernel_writes_back_by_itself() -> None:
    content = Content()
    for number in range(PENDING_CHANGES + 1):
        content.write(b"x", number)
    assert len(content.pending) <= PENDING_CHANGES
    assert len(content.durable) >= PENDING_CHANGES // 2


def test_sectors_cover_a_range() -> None:
    assert _sectors(10, 10) == []
    assert _sectors(500, 1100) == [(500, 512), (512, 1024), (1024, 1100)]
    assert _sectors(512, 1024) == [(512, 1024)]
