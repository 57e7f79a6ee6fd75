"""Power-cut images of the storage by itself, against a model; and the words of the command."""

import re

import pytest

from ottla.base.ids import Uuid
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.sim.failpoints import POINTS
from ottla.sim.main import main
from ottla.sim.storage_model import Batch, Model, Promise, _hold_each, promise_of
from ottla.sim.storage_workload import StorageRun
from ottla.sim.workload import Violation


def test_two_thousand_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "--images", "2000"]) == 0, capsys.readouterr().out
    events, moments, closing = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"2000 images of \d+ seeds, 0 violations", closing)
    for event in (
        "append",
        "roll",
        "retain",
        "expire",
        "delete_records",
        "checkpoint",
        "truncate",
        "make_anew",
        "clean stop",
        "kill",
        "power cut",
    ):
        assert re.search(rf"\d {event}", events), event
    for moment in ("log.write", "log.sync", "log.rename", "log-starts.rename", "partition.rename"):
        assert f" {moment}" in moments, moment


def test_a_seed_replays() -> None:
    first, second = StorageRun(5, image_limit=30), StorageRun(5, image_limit=30)
    first.play()
    second.play()
    assert first.hits == second.hits
    assert first.moments == second.moments
    assert all(name in POINTS for name in first.hits)


def batch(offset: int, value: bytes) -> Batch:
    data = build_batch([Record(0, 1, None, value)])
    data[:8] = offset.to_bytes(8, "big")
    return Batch(offset, bytes(data))


def promised(firm_end: int, *batches: Batch) -> Promise:
    model = Model(Uuid(bytes(16)), list(batches), len(batches), firm_end)
    return promise_of(model)


def test_the_model_sees_what_is_wrong() -> None:
    one, two, other = batch(0, b"one"), batch(1, b"two"), batch(1, b"other")
    _hold_each(promised(2, one, two), [one, two], 0)
    with pytest.raises(Violation, match="is not what was flushed"):
        _hold_each(promised(2, one, two), [one, other], 0)
    with pytest.raises(Violation, match="is none that was written"):
        _hold_each(promised(1, one, two), [one, other], 0)
    with pytest.raises(Violation, match="offset 2 where 1 was due"):
        _hold_each(promised(0, one, two), [one, batch(2, b"three")], 0)
    with pytest.raises(Violation, match="offset 1 where 0 was due"):
        _hold_each(promised(2, one, two), [two], 0)


def test_a_truncation_is_former_until_it_is_flushed() -> None:
    batches = [batch(offset, b"%d" % offset) for offset in range(4)]
    model = Model(Uuid(bytes(16)), batches, 4, 3)
    assert model.truncate(2) == 2
    assert (model.end, model.firm_end, len(model.batches)) == (2, 2, 2)
    _hold_each(promise_of(model), batches, 0)
    model.former = {}
    with pytest.raises(Violation, match="is none that was written"):
        _hold_each(promise_of(model), batches, 0)


def test_the_list_of_failpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["failpoints"]) == 0
    told = capsys.readouterr().out
    counted = re.search(r"(\d+) failpoints, (\d+) of them hit\n$", told)
    assert counted is not None
    assert int(counted[1]) == len(POINTS)
    assert int(counted[2]) > 60


def test_the_table_of_planted_faults(capsys: pytest.CaptureFixture[str]) -> None:
    name = "rolled_segments_are_not_synced"
    assert main(["planted", "--only", name]) == 0
    head, row, closing = capsys.readouterr().out.splitlines()
    assert head.startswith("fault")
    assert row.startswith(name)
    assert closing == "0 not found"
