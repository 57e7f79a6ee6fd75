"""Bad input made from valid requests of every API: each ends as bench.py says it must.

`./dev fuzz` is the long form. The fuzzer itself is held to: it has the same inputs for the same
seed, and it finds what is planted.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ottla.broker.context import CloseConnection
from ottla.broker.registry import ENDPOINTS, Endpoint
from ottla.protocol.messages.api_versions import ApiVersionsResponse
from ottla.protocol.registry import APIS, ApiKey
from tests.fuzz import fuzz
from tests.fuzz.bench import Bench, Failed, batch, fuzz_bench
from tests.fuzz.changes import Mutator, byte_changes, prefixes
from tests.fuzz.valid import SERVED, frame_of

RANDOM_COUNT = 3_000


def label(value: object) -> str:
    return value.name if isinstance(value, ApiKey) else str(value)


def feed(directory: Path, inputs: Callable[[Bench], Iterable[bytes]]) -> Bench:
    async def run() -> Bench:
        async with fuzz_bench(directory) as bench:
            for data in inputs(bench):
                await bench.give(data)
            await bench.finish()
            return bench

    return asyncio.run(run())


def valid(bench: Bench, key: ApiKey, version: int) -> bytes:
    return frame_of(key, version, topic_id=bench.topic_id, records=bytes(batch(2)))


def every_version(
    bench: Bench, key: ApiKey, change: Callable[..., Iterable[bytes]], **options: Any
) -> Iterable[bytes]:
    for served, version in SERVED:
        if served == key:
            yield from change(valid(bench, key, version), **options)


def test_every_served_request_is_valid(tmp_path: Path) -> None:
    bench = feed(tmp_path, lambda bench: (valid(bench, *each) for each in SERVED))
    assert bench.counts == {"inputs": len(SERVED), "answered": len(SERVED)}


@pytest.mark.parametrize("key", ENDPOINTS, ids=label)
def test_every_prefix_is_refused(key: ApiKey, tmp_path: Path) -> None:
    bench = feed(tmp_path, lambda bench: every_version(bench, key, prefixes))
    assert bench.counts["rejected"] == bench.counts["inputs"]


@pytest.mark.parametrize("key", ENDPOINTS, ids=label)
def test_every_byte_changed_to_telling_values(key: ApiKey, tmp_path: Path) -> None:
    feed(tmp_path, lambda bench: every_version(bench, key, byte_changes))


def test_every_byte_of_a_produce_changed_behind_its_like(tmp_path: Path) -> None:
    """A session learns what a Produce looks like: what looks almost so must not pass for it."""

    def behind(frame: bytes) -> Iterable[bytes]:
        return (frame + bad for bad in (*byte_changes(frame), *prefixes(frame)))

    feed(tmp_path, lambda bench: every_version(bench, ApiKey.PRODUCE, behind))


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("key", ENDPOINTS, ids=label)
def test_every_byte_changed_to_every_value(key: ApiKey, tmp_path: Path) -> None:
    feed(tmp_path, lambda bench: every_version(bench, key, byte_changes, exhaustive=True))


def test_random_changes(tmp_path: Path) -> None:
    async def run() -> None:
        async with fuzz_bench(tmp_path) as bench:
            mutator = Mutator(20_260, bench.topic_id, bytes(batch(2)))
            for _ in range(RANDOM_COUNT):
                await bench.give(*mutator.next())

    asyncio.run(run())


# --- the fuzzer itself ------------------------------------------------------------------------


def test_one_seed_has_one_sequence_of_inputs() -> None:
    records = bytes(batch(2))

    def some(seed: int) -> list[Any]:
        mutator = Mutator(seed, bytes(16), records)
        return [mutator.next() for _ in range(200)]

    assert some(1) == some(1)
    assert some(1) != some(2)


def raises(error: Exception) -> Callable[..., Any]:
    def handler(*_: Any) -> Any:
        raise type(error)(*error.args)

    return handler


def keeps_its_request(kept: list[Any]) -> Callable[..., Any]:
    def handler(_: Any, request: Any) -> Any:
        kept.append(request.topic_data[0].partition_data[0].records)
        raise CloseConnection("kept")

    return handler


@pytest.mark.parametrize(
    ("key", "handler", "cause"),
    [
        (ApiKey.FIND_COORDINATOR, raises(ZeroDivisionError()), "ZeroDivisionError"),
        (
            ApiKey.FIND_COORDINATOR,
            lambda *_: ApiVersionsResponse(api_keys=[]),
            "FIND_COORDINATOR failed",
        ),
        (ApiKey.FIND_COORDINATOR, raises(CloseConnection("two\nlines")), "log lines"),
        (ApiKey.PRODUCE, keeps_its_request([]), "a view into the received bytes was kept"),
    ],
)
def test_the_fuzzer_finds_a_planted_bug(
    key: ApiKey, handler: Any, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Endpoint("planted")
    planted._handler = handler
    monkeypatch.setitem(ENDPOINTS, key, planted)
    with pytest.raises(Failed, match=cause):
        feed(tmp_path, lambda bench: [valid(bench, key, APIS[key].last)])


def test_a_failure_shows_the_seed_and_the_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Endpoint("planted")
    planted._handler = raises(ZeroDivisionError())
    monkeypatch.setitem(ENDPOINTS, ApiKey.PRODUCE, planted)
    assert fuzz.main(["--seed", "5", "--seconds", "30"]) == 1
    out = capsys.readouterr().out
    assert "FAILED (seed 5)" in out
    assert "ZeroDivisionError" in out
    sent = out.partition(" bytes): ")[2].split()[0]
    assert bytes.fromhex(sent)[4:6] == b"\0\0"
    assert fuzz.main(["--input", sent]) == 1


def test_a_run_counts_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--seconds", "0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("seed 1: 500 inputs, ")
    assert "/s)" in out


def test_the_walk_goes_on_from_node_to_node(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exhaustive: however short the time, every input of the walk is given, and once."""
    monkeypatch.setattr(fuzz, "ROUND_COUNT", 300)
    monkeypatch.setattr(fuzz, "CLOCK_EVERY", 100)
    monkeypatch.setattr(fuzz, "SERVED", [(ApiKey.FIND_COORDINATOR, 0)])
    frame = frame_of(ApiKey.FIND_COORDINATOR, 0)
    count = 1 + len(frame) - 4 + 255 * len(frame)
    assert fuzz.main(["--seconds", "0", "--exhaustive"]) == 0
    given = int(capsys.readouterr().out.split(" inputs")[0].split()[-1].replace(",", ""))
    assert count < given <= count + 400
