"""A node over two log directories, one of which fails alone."""

import asyncio
from collections import Counter

import pytest

from ottla.sim.admin import Admin
from ottla.sim.faults import Fault
from ottla.sim.history import Fate
from ottla.sim.main import main
from ottla.sim.node_workload import SETTINGS
from ottla.sim.stage import Stage
from ottla.sim.world import SimWorld


@pytest.mark.parametrize(
    "words",
    [("--seeds", "5", "--power-cuts", "100"), ("--seed", "53", "--seeds", "1")],
    ids=["seeds", "the other directory acknowledges"],
)
def test_seeds_of_two_directories(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--workload", "directories", *words]) == 0, capsys.readouterr().out


def test_one_directory_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    """What is in the other is appended to all the while; what was promised of either is there
    when the power is back."""
    sim = SimWorld(3)
    stage = Stage(sim, {**SETTINGS, "log.dirs": "/d,/e"})
    server, history = stage.server, stage.history
    fates: dict[str, Counter[Fate]] = {"/d": Counter(), "/e": Counter()}

    async def script() -> None:
        server.start()
        await Admin(stage.client("admin"), history, sim.rng("admin"), stage.boot).make_all()
        producer = stage.producer(1, -1, is_idempotent=False)
        topics = [each for each in history.topics if not each.is_soft]
        for topic in topics:
            assert await producer.round(topic)
        assert server.node is not None
        homes = {
            (each.topic, each.index): directory.log_dir.path
            for directory in server.node.services.replicas.directories
            for each in directory
        }
        sim.machine("node").disk.faults.plan(
            Fault("sync", path_part="/e/", loses_pending=True, times=1_000)
        )
        before = len(history.sends)
        for topic in topics:
            await producer.round(topic)
        for send in history.sends[before:]:
            topic = next(each for each in topics if send.key in list(each.partitions))
            fates[homes[topic.name, send.key[1]]][send.fate] += 1
        server.power_cut()
        server.start()
        await asyncio.sleep(1)
        await stage.read_all(stage.reader("last", 0), topics)
        for key, sends in history.acknowledged.items():
            there = dict(history.final[key])
            for send in sends:
                assert [there[send.offset + at] for at in range(send.count)] == list(send.ids())

    sim.run(script())
    assert [text.split()[2] for text in caplog.messages if "goes offline" in text] == ["/e"]
    assert set(fates["/d"]) == {Fate.OK}, fates
    assert fates["/e"][Fate.OK] == 0, fates
    assert fates["/e"].total() > 0
