"""A run ends with a look at everything: what is gone as a whole is missed, what the last steps
log is seen, and a stop that hangs is told."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from ottla.broker.node import Node
from ottla.sim import node_workload
from ottla.sim.checkers import check_history
from ottla.sim.consumer import Reader
from ottla.sim.history import Fate, History, Key, Send, Topic
from ottla.sim.nemesis import Nemesis
from ottla.sim.postmortem import Postmortem
from ottla.sim.stage import Stage
from ottla.sim.workload import Violation
from ottla.sim.world import SimWorld


def play(script: Callable[[Stage], Awaitable[None]]) -> Stage:
    sim = SimWorld(1)
    stage = Stage(sim, {})
    sim.run(script(stage))
    return stage


def acknowledged(history: History, key: Key, count: int) -> None:
    send = Send(key, "p/1", True, -1, 10, count, sent_at=0.0, tries=1, tried_at=0.0)
    history.sends.append(send)
    history.end(send, Fate.OK, 1.0, 0)


@pytest.mark.parametrize("is_trimmed", [False, True])
@pytest.mark.parametrize("is_committed", [False, True])
def test_a_partition_that_is_found_empty_has_lost_all(
    monkeypatch: pytest.MonkeyPatch, is_committed: bool, is_trimmed: bool
) -> None:
    async def bounds(self: Reader, topic: Topic, key: Key) -> tuple[int, int]:
        return 0, 0

    async def script(stage: Stage) -> None:
        topic = Topic("t", b"t" * 16, 1, is_transactional=is_committed, is_trimmed=is_trimmed)
        stage.history.add_topic(topic)
        acknowledged(stage.history, topic.partitions[0], 3)
        await stage.read_all(stage.reader("last", 0, is_committed=is_committed), [topic])

    monkeypatch.setattr(Reader, "bounds", bounds)
    stage = play(script)
    assert "unseen" in [violation.check for violation in check_history(stage.history)]


def test_a_stop_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(self: Node) -> None:
        await asyncio.sleep(1e6)

    async def script(stage: Stage) -> None:
        stage.server.start()
        await asyncio.sleep(1)
        nemesis = Nemesis(stage.server, stage.history, stage.peers)
        nemesis.kinds = ["stop"]
        await nemesis.run(600)

    monkeypatch.setattr(Node, "stop", hang)
    with pytest.raises(Violation, match="hanging-stop"):
        play(script)


def test_what_an_image_makes_a_node_log_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stumble(self: Postmortem, shots: object) -> None:
        try:
            raise KeyError("nobody thought of it")
        except KeyError:
            logging.getLogger("ottla.broker").exception("an image")

    monkeypatch.setattr(Postmortem, "examine_all", stumble)
    monkeypatch.setattr(node_workload, "RUN_S", 0.5)
    sim = SimWorld(1)
    with pytest.raises(Violation, match="unforeseen: an image"):
        sim.run(node_workload.whole_node(sim, 0))
