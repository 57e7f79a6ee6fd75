"""The record kernel: both twins against the strict reader and the builder, and each other.

`./dev fuzz kernel` is the long form. The compiled twin also runs under the sanitizers of the
compiler (long), so that a read or write outside of what is there is seen where it happens.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.records import kernel, pure_kernel
from ottla.records.builder import encode_headers
from ottla.records.record import Record
from tests.fuzz import kernel as fuzz_kernel
from tests.fuzz.kernel import Differ, Feed, Twins, compiled_twin

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "ottla" / "records").glob("_kernel*.c"))
COMPILED = compiled_twin()
NOT_BUILT = "the compiled kernel was not built (no compiler, or no headers of Python)"
needs_compiled = pytest.mark.skipif(COMPILED is None, reason=NOT_BUILT)
TWINS = [
    pytest.param(pure_kernel, id="pure"),
    pytest.param(COMPILED, id="compiled", marks=needs_compiled),
]
LOW, HIGH = -(1 << 63), (1 << 63) - 1

CONTENT = st.none() | st.binary(max_size=300) | st.just(bytes(9_000))
ROWS = st.lists(st.tuples(st.integers(-300, 1 << 62), CONTENT, CONTENT), min_size=1, max_size=20)


def both(check: object) -> None:
    """Run a check with each twin that is there."""
    for twin in (pure_kernel, COMPILED):
        if twin is not None:
            check(twin)  # type: ignore[operator]


def body_of(twin: ModuleType, times: list[int], key: bytes | None = b"k") -> bytes:
    body = bytearray()
    for index, when in enumerate(times):
        twin.append(body, when, index, key, b"v%d" % index, None)
    return bytes(body)


@given(ROWS, st.lists(st.tuples(st.text(max_size=9), CONTENT), max_size=3))
def test_what_is_written_is_read(
    rows: list[tuple[int, bytes | None, bytes | None]], headers: list[tuple[str, bytes | None]]
) -> None:
    def check(twin: ModuleType) -> None:
        body = bytearray()
        for index, (when, key, value) in enumerate(rows):
            twin.append(body, when, index, key, value, encode_headers(headers))
        block = twin.read(body, len(rows), 1_000, 5, None)
        wanted = [
            Record(1_000 + index, 5 + when, key, value, tuple(headers))
            for index, (when, key, value) in enumerate(rows)
        ]
        assert block.rows(Record, (), 0, len(rows)) == wanted
        assert block.timestamps(0, len(rows)) == [each.timestamp for each in wanted]

    both(check)


@given(st.integers(0, 1 << 40), st.integers(0, 3_000), st.lists(st.tuples(CONTENT, CONTENT)))
def test_many_in_one_go_are_as_one_by_one(
    when: int, first: int, rows: list[tuple[bytes | None, bytes | None]]
) -> None:
    def check(twin: ModuleType) -> None:
        one_by_one, in_one_go, without_keys = bytearray(b"x"), bytearray(b"x"), bytearray(b"x")
        for index, (key, value) in enumerate(rows):
            twin.append(one_by_one, when, first + index, key, value, None)
        keys, values = [key for key, _ in rows], [value for _, value in rows]
        assert twin.extend(in_one_go, when, first, keys, values, 0, 1 << 40) == len(rows)
        assert in_one_go == one_by_one
        del one_by_one[1:]
        for index, (_, value) in enumerate(rows):
            twin.append(one_by_one, when, first + index, None, value, None)
        twin.extend(without_keys, when, first, None, values, 0, 1 << 40)
        assert without_keys == one_by_one

    both(check)


@given(st.lists(st.tuples(CONTENT, CONTENT)), st.integers(0, 9_000), st.data())
def test_what_has_no_room_is_left(
    rows: list[tuple[bytes | None, bytes | None]], limit: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(rows)))

    def check(twin: ModuleType) -> None:
        body, longer = bytearray(b"before"), bytearray(b"before")
        keys, values = [key for key, _ in rows], [value for _, value in rows]
        stop = twin.extend(body, 3, 7, keys, values, start, limit)
        assert len(body) <= limit or stop == start
        twin.extend(longer, 3, 7, keys[:stop], values[:stop], start, 1 << 40)
        assert body == longer
        if stop < len(rows):
            twin.append(longer, 3, 7 + stop - start, keys[stop], values[stop], None)
            assert len(longer) > limit

    both(check)


@pytest.mark.parametrize("twin", TWINS)
def test_many_that_cannot_be_written_change_nothing(twin: ModuleType) -> None:
    body, values = bytearray(b"before"), [b"v"] * 3
    for wrong, error in (
        ((0, 0, None, values, -1, 1_000), IndexError),
        ((0, 0, None, values, 4, 1_000), IndexError),
        ((0, 0, [b"k"], values, 0, 1_000), ValueError),
        ((0, (1 << 31) - 2, None, values, 0, 1_000), OverflowError),
        ((0, 1 << 31, None, values, 0, 1_000), OverflowError),
        ((1 << 63, 0, None, values, 0, 1_000), OverflowError),
        ((0, 0, None, [*values, bytearray(b"v")], 0, 1_000), TypeError),
        ((0, 0, [b"k", "k", b"k"], values, 0, 1_000), TypeError),
    ):
        with pytest.raises(error):
            twin.extend(body, *wrong)
    with memoryview(body), pytest.raises(BufferError):
        twin.extend(body, 0, 0, None, values, 0, 1_000)
    assert body == b"before"


@given(
    st.lists(st.tuples(st.binary(max_size=9), st.none() | st.binary(max_size=3))),
    st.integers(1, 40),
)
def test_pairs_are_spread_by_their_keys(
    pairs: list[tuple[bytes, bytes | None]], count: int
) -> None:
    def check(twin: ModuleType) -> None:
        groups = twin.spread(pairs, count)
        assert len({index for index, _, _ in groups}) == len(groups)
        for index, keys, values in groups:
            mine = [
                each for each in pairs if (twin.murmur2(each[0]) & 0x7FFF_FFFF) % count == index
            ]
            assert list(zip(keys, values, strict=True)) == mine != []
        assert sum(len(keys) for _, keys, _ in groups) == len(pairs)

    both(check)


@pytest.mark.parametrize("twin", TWINS)
def test_what_is_no_plain_pair_is_not_spread(twin: ModuleType) -> None:
    class Pair(tuple[bytes, bytes]):
        pass

    one = (b"k", b"v")
    for odd in (b"v", None, (b"k",), (*one, {}), (None, b"v"), ("k", b"v"), (b"k", 1), Pair(one)):
        assert twin.spread([one, odd], 3) is None
    for count in (0, -1):
        with pytest.raises(ValueError):
            twin.spread([one], count)


@pytest.mark.parametrize("twin", TWINS)
def test_a_walk_holds_records_to_the_rules(twin: ModuleType) -> None:
    times = [0, 7, -3]
    body = body_of(twin, times)
    assert twin.walk(body, 3, 100, True, LOW, HIGH) == 107
    assert twin.walk(memoryview(body), 3, 100, True, 97, 107) == 107
    keyless = body_of(twin, times, key=None)
    assert twin.walk(keyless, 3, 100, False, LOW, HIGH) == 107
    swapped = bytearray()
    for offset in (0, 2, 1):
        twin.append(swapped, 0, offset, b"k", b"v", None)
    refused = [
        (body, 2, 100, True, LOW, HIGH),
        (body, 4, 100, True, LOW, HIGH),
        (body + b"\0", 3, 100, True, LOW, HIGH),
        (body[:-1], 3, 100, True, LOW, HIGH),
        (body, 3, 100, True, 98, HIGH),
        (body, 3, 100, True, LOW, 106),
        (body, 3, HIGH - 6, True, LOW, HIGH),
        (body, 3, LOW, True, LOW, HIGH),
        (keyless, 3, 100, True, LOW, HIGH),
        (swapped, 3, 100, True, LOW, HIGH),
    ]
    for arguments in refused:
        with pytest.raises(ValueError, match="records are not what they say"):
            twin.walk(*arguments)


@pytest.mark.parametrize("twin", TWINS)
def test_a_timestamp_of_minus_one_is_none_and_has_no_bounds(twin: ModuleType) -> None:
    assert twin.walk(body_of(twin, [0, 0]), 2, -1, True, 50, 60) == -1
    with pytest.raises(ValueError):
        twin.walk(body_of(twin, [0, -1]), 2, -1, True, 50, 60)


@pytest.mark.parametrize("twin", TWINS)
def test_a_count_that_is_claimed_costs_nothing(twin: ModuleType) -> None:
    for count in (1 << 40, (1 << 62), 2, -1):
        with pytest.raises(ValueError):
            twin.read(body_of(twin, [0]), count, 0, 0, None)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("content", ["text", 7, [1]], ids=str)
def test_what_has_no_bytes_is_refused_and_nothing_is_written(
    twin: ModuleType, content: object
) -> None:
    body = bytearray(b"before")
    for key, value in ((content, b"v"), (b"k", content)):
        with pytest.raises(TypeError):
            twin.append(body, 0, 0, key, value, None)
        with pytest.raises(TypeError):
            twin.extend(body, 0, 0, [b"k", key], [b"v", value], 0, 1_000)
    assert body == b"before"


@pytest.mark.parametrize("twin", TWINS)
def test_a_block_keeps_the_bytes_it_was_read_from(twin: ModuleType) -> None:
    source = bytearray(body_of(twin, [0, 1, 2]))
    block = twin.read(memoryview(source), 3, 0, 0, None)
    del source
    assert block.values(1, 3) == [b"v1", b"v2"]
    assert block.packed_values(1, 3)[0] == b"v1v2"


@pytest.mark.parametrize("twin", TWINS)
def test_rows_are_tuples_of_the_type_that_is_asked_for(twin: ModuleType) -> None:
    block = twin.read(body_of(twin, [4]), 1, 9, 0, None)
    (row,) = block.rows(Record, (), 0, 1)
    assert type(row) is Record and row == Record(9, 4, b"k", b"v0", ())
    assert block.rows(tuple, ("t", 3), 0, 1) == [("t", 3, 9, 4, b"k", b"v0", ())]
    with pytest.raises(TypeError):
        block.rows(SimpleNamespace, (), 0, 1)


@needs_compiled
@given(st.integers(0, 1 << 30))
def test_the_twins_agree_on_random_records(seed: int) -> None:
    assert COMPILED is not None
    feed = Feed(Twins(COMPILED), seed)
    for _ in range(5):
        feed.step()


@needs_compiled
def test_a_difference_is_found() -> None:
    class Wrong:
        def __getattr__(self, name: str) -> object:
            return getattr(COMPILED, name)

        def walk(self, *arguments: object) -> int:
            return 1 + COMPILED.walk(*arguments)  # type: ignore[union-attr,no-any-return]

    feed = Feed(Twins(Wrong()), 1)
    with pytest.raises(Differ, match="walk"):
        for _ in range(100):
            feed.step()


def test_the_environment_forces_the_pure_twin() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from ottla.records import kernel; print(kernel.IS_COMPILED)"],
        env={**os.environ, "OTTLA_PURE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "False\n"
    forced = os.environ.get("OTTLA_PURE") == "1"
    assert (COMPILED is not None and not forced) == kernel.IS_COMPILED


def build(target: Path, *flags: str) -> None:
    """The compiled twin, without a single warning; skips where it cannot be built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    headers = Path(sysconfig.get_paths()["include"])
    if compiler is None or not (headers / "Python.h").exists():
        pytest.skip("no C compiler, or no headers of Python, to build the kernel with")
    command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", *flags]
    command += [f"-I{headers}", *map(str, SOURCES), "-o", str(target)]
    if sys.platform == "darwin":
        command += ["-undefined", "dynamic_lookup"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "sanitize" in done.stderr:
        pytest.skip(f"the compiler has no sanitizers: {done.stderr.splitlines()[0]}")
    assert not done.returncode, done.stderr


def test_it_compiles_without_a_warning(tmp_path: Path) -> None:
    build(tmp_path / "_kernel.so", "-O2")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_nothing_is_read_or_written_out_of_place(tmp_path: Path) -> None:
    target = tmp_path / "_kernel.so"
    build(target, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    found = (
        subprocess.run(
            ["cc", f"-print-file-name={name}"], capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    )
    preloaded = [path for path in found if os.path.isabs(path)]
    if len(preloaded) < 2:
        pytest.skip("the compiler has no sanitizer libraries that can be loaded first")
    done = subprocess.run(
        [sys.executable, "-m", fuzz_kernel.__name__, "--seconds", "60", "--module", str(target)],
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(preloaded),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
