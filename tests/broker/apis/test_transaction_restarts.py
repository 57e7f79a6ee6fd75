"""A node that dies at any step of a transaction, and what its heir makes of the directory.

What SIGKILL leaves is what was written until then: a copy of the directory, taken right behind
each write to a log, is what the next life would find there.
"""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from ottla.base.errors import ErrorCode
from ottla.coordinator.transaction.state import State
from ottla.storage.log import Log
from tests.broker.apis.transacting import (
    FEW,
    FIRST,
    SECOND,
    Client,
    committed,
    group_offset,
    kept,
    latest,
    settled,
)

both = pytest.mark.parametrize("protocol", [FIRST, SECOND])
SMALL = {**FEW, "log.index.size.max.bytes": "4096"}


class Images:
    """Copies of a node's directory, one for each write to one of its logs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.count = 0
        write = Log._write

        def written(*given: Any, **named: Any) -> Any:
            try:
                return write(*given, **named)
            finally:
                self.take()

        monkeypatch.setattr(Log, "_write", written)

    def __getitem__(self, index: int) -> Path:
        return self.folder / f"image-{index}"

    def take(self) -> None:
        shutil.copytree(self.folder / "logs-0", self[self.count] / "logs-0")
        self.count += 1


async def patient(ask: Any) -> Any:
    """Ask as clients do while a coordinator is being loaded."""
    while (code := await ask()) == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
        await asyncio.sleep(0.001)
    return code


async def stable_offset(node: Any) -> int:
    """How far the group has read, for sure."""
    await patient(lambda: Client(node, "other").commit_offset("g", "a", 0, 1))
    while True:
        code, offset = await group_offset(node, "g", "a")
        if not code:
            return offset
        assert code in (ErrorCode.UNSTABLE_OFFSET_COMMIT, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        await asyncio.sleep(0.001)


@both
@pytest.mark.parametrize("commit", [True, False])
def test_a_node_killed_between_any_two_steps_tears_no_transaction(
    on_node, monkeypatch, tmp_path, protocol, commit
):
    answered_at = 0

    async def life(node):
        nonlocal images, answered_at
        await node.topic("a")
        await node.topic("b")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        images = Images(monkeypatch, tmp_path)
        for value in (b"1", b"2"):
            assert await client.send("a", 0, value) == 0
            assert await client.send("b", 0, value) == 0
        assert await client.commit_offset("g", "a", 0, 5) == 0
        assert await client.end(commit) == 0
        answered_at = images.count
        await settled(node)
        images.take()
        monkeypatch.undo()

    async def heir(node):
        client = Client(node, protocol=protocol)
        assert await patient(client.init) in (0, ErrorCode.CONCURRENT_TRANSACTIONS)
        await client.init_patiently()  # who it was is fenced, and what that had open is aborted
        await settled(node)
        seen.append([await committed(node, topic) for topic in "ab"])
        offsets.append(await stable_offset(node))
        for topic in "ab":
            partition = node.services.replicas.leader_of(topic, 0)
            assert partition.last_stable_offset == partition.log.log_end_offset, "it hangs"
        assert await client.send("a", 0, b"3") == 0
        assert await client.end() == 0
        await settled(node)
        assert (await committed(node, "a"))[-1:] == [b"3"]

    images: Any = None
    seen: list[list[list[bytes]]] = []
    offsets: list[int] = []
    on_node(life, SMALL)
    assert images.count >= 10
    for index in range(images.count):
        on_node(heir, SMALL, directory=images[index])
    whole, nothing = [[b"1", b"2"]] * 2, [[]] * 2
    for index, (values, offset) in enumerate(zip(seen, offsets, strict=True)):
        assert (values, offset) in ((whole, 5), (nothing, -1)), f"torn at step {index}"
        if index >= answered_at:
            assert values == (whole if commit else nothing), f"step {index}"
        assert commit or values == nothing
    assert seen[0] == nothing


@both
@pytest.mark.parametrize(
    "state",
    [
        State.EMPTY,
        State.ONGOING,
        State.PREPARE_COMMIT,
        State.PREPARE_ABORT,
        State.COMPLETE_COMMIT,
        State.COMPLETE_ABORT,
    ],
)
def test_a_start_goes_on_from_each_state(on_node, protocol, state):
    """With the same producer: it need not know that there was a start."""
    client = Client(None, protocol=protocol)
    commit = state in (State.PREPARE_COMMIT, State.COMPLETE_COMMIT)

    async def before(node):
        client.node = node
        await node.topic("a")
        await client.init_patiently()
        if state is State.EMPTY:
            return
        assert await client.send("a", 0, b"1") == 0
        if state is State.ONGOING:
            return
        if state in (State.COMPLETE_COMMIT, State.COMPLETE_ABORT):
            assert await client.end(commit) == 0
            await settled(node)
            return
        leaders = node.services.marker_leaders
        leaders.write = lambda *written: None  # no marker is written in this life
        assert await client.end(commit) == 0
        assert kept(node).state is state

    async def after(node):
        client.node = node
        assert await patient(lambda: client.send("a", 0, b"2")) in (
            0,
            ErrorCode.NOT_ENOUGH_REPLICAS,
        )
        if not client.sequences.get(("a", 0)):
            assert await client.send("a", 0, b"2") == 0
        assert await client.end() == 0
        assert await settled(node) is State.COMPLETE_COMMIT
        first = [b"1"] if commit or state is State.ONGOING else []
        assert await committed(node, "a") == [*first, b"2"]
        assert await latest(node, "a", 1) == await latest(node, "a", 0)

    on_node(before, SMALL)
    on_node(after, SMALL)


@both
def test_the_log_alone_is_enough(on_node, tmp_path, protocol):
    """B9, KAFKA-12520: without snapshots, indexes and checkpoints."""
    client = Client(None, protocol=protocol)

    async def before(node):
        client.node = node
        await node.topic("a")
        await client.init_patiently()
        assert await client.send("a", 0, b"0") == 0
        assert await client.end(commit=False) == 0
        await settled(node)
        assert await client.send("a", 0, b"1") == 0
        assert await client.commit_offset("g", "a", 0, 5) == 0

    async def after(node):
        client.node = node
        again = client.twin()
        again.sequences = {key: number - 1 for key, number in client.sequences.items()}
        assert await patient(lambda: again.send("a", 0, b"1")) == 0, "a duplicate"
        assert await committed(node, "a") == []
        assert await patient(client.end) == 0
        await settled(node)
        assert await committed(node, "a") == [b"1"]
        assert await stable_offset(node) == 5

    on_node(before, SMALL)
    lost = [
        path
        for name in (
            "*.snapshot",
            "*.index",
            "*.timeindex",
            "*.txnindex",
            "*checkpoint*",
            ".kafka*",
        )
        for path in tmp_path.rglob(name)
        if path.is_file()
    ]
    assert any(path.suffix == ".snapshot" for path in lost)
    assert any(path.suffix == ".txnindex" for path in lost)
    for path in lost:
        path.unlink()
    on_node(after, SMALL)


@both
def test_markers_that_a_start_finds_due_are_written_once(on_node, protocol):
    """Some partitions have theirs from before."""

    async def before(node):
        await node.topic("a", 2)
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        for index in (0, 1):
            assert await client.send("a", index, b"1") == 0
        leaders = node.services.marker_leaders
        write = leaders.write
        leaders.write = lambda marker, place, done: place[1] or write(marker, place, done)
        assert await client.end() == 0
        partition = node.services.replicas.leader_of("a", 0)
        while partition.log.log_end_offset < 2:
            await asyncio.sleep(0.001)

    async def after(node):
        while True:
            try:
                assert await settled(node) is State.COMPLETE_COMMIT
                break
            except StopIteration:  # still being loaded
                pass
        for index in (0, 1):
            assert await committed(node, "a", index) == [b"1"]
        ends = [node.services.replicas.leader_of("a", n).log.log_end_offset for n in (0, 1)]
        assert ends == ([2, 2] if protocol == SECOND else [3, 2])

    on_node(before, SMALL)
    on_node(after, SMALL)
