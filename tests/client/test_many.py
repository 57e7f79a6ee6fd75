"""`send_many`: what it may be given, in which order it arrives, and how it is gathered."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ottla
from ottla.client import columns_in
from ottla.client.columns_in import items_of
from ottla.client.many import Many
from tests.client.reading import read_all

ITEMS = st.lists(
    st.binary(max_size=60)
    | st.tuples(st.none() | st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(max_size=60))
    | st.tuples(st.none() | st.just(b"a"), st.binary(max_size=9), st.just({"h": b"x"})),
    max_size=60,
)


class Taken:
    """What a Many hands on: runs, and records for themselves."""

    def __init__(self, run_bytes=100, *, is_quick=True):
        self.records = []
        self.runs = []
        self.many = Many(
            run_bytes=run_bytes,
            is_quick=is_quick,
            choose=self.choose,
            take=self.take,
            take_one=self.take_one,
        )

    def choose(self, key, value):
        """Records without a key go to whichever partition: here to that of key b"a"."""
        return key[0] % 2 if key else None

    async def take(self, where, run):
        self.runs.append(run)
        keys = run.keys or [None] * len(run.values)
        partition = 1 if where is None else where
        assert len(keys) == len(run.values) > 0
        self.records += [(partition, *row) for row in zip(keys, run.values, strict=True)]

    async def take_one(self, key, value, headers):
        where = self.choose(key, value)
        self.records.append((1 if where is None else where, key, value))

    def all_of(self, items):
        async def run():
            await self.many.add_all(iter(items))
            await self.many.finish()

        asyncio.run(run())
        return self.records


def parts(item):
    return (item[0], item[1]) if isinstance(item, tuple) else (None, item)


@given(ITEMS, st.integers(1, 300), st.booleans())
def test_every_record_is_taken_once_and_those_of_a_partition_in_order(items, most, is_quick):
    taken = Taken(most, is_quick=is_quick)
    records = taken.all_of(items)
    wanted = [
        (1 if not key else key[0] % 2, key, value) for key, value in (parts(each) for each in items)
    ]
    for partition in (0, 1):
        mine, theirs = (
            [each for each in all_ if each[0] == partition] for all_ in (records, wanted)
        )
        assert mine == theirs
    assert len(records) == len(items)
    assert all(run.size <= most for run in taken.runs if len(run.values) > 1)


@given(st.lists(st.binary(max_size=80), max_size=3_000), st.integers(1, 5_000))
def test_values_alone_fill_their_runs(values, most):
    taken = Taken(most)
    assert [value for _, _, value in taken.all_of(values)] == values
    for run, following in zip(taken.runs, taken.runs[1:], strict=False):
        assert run.size + len(following.values[0]) + 16 > most


def test_what_came_before_a_bad_record_is_taken(broker):
    async def script():
        async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as producer:
            with pytest.raises(TypeError, match="bytes-like"):
                await producer.send_many("t", [(b"k", b"1"), (None, b"2"), (b"k", "text"), b"3"])
            with pytest.raises(TypeError, match="headers"):
                await producer.send_many("t", [(b"k", b"4"), (b"k", b"5", 7)])

    asyncio.run(script())
    assert sorted(each.value for each in read_all(broker, "t")) == [b"1", b"2", b"4"]


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("kind", ["list", "S", "V", "object", "binary", "chunked", "large_binary"])
def test_columns(start_broker, kind, keyed):
    broker = start_broker(settings={"num.partitions": "3"})
    values = [b"v%04d" % n for n in range(5_000)]
    keys = [b"k%d" % (n % 50) for n in range(5_000)] if keyed else None

    async def script():
        async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as producer:
            given_keys = None if keys is None else column(kind, keys)
            sent = await producer.send_many("t", column(kind, values), keys=given_keys)
            assert sent.count == 5_000
            await sent

    asyncio.run(script())
    seen = [each for index in range(3) for each in read_all(broker, "t", index)]
    wanted = list(zip(keys or [None] * 5_000, values, strict=True))
    width = 3 if kind == "V" else 0
    assert sorted((each.key, each.value) for each in seen) == sorted(
        (key if key is None else key.ljust(width, b"\0"), value) for key, value in wanted
    )


def column(kind, values):
    if kind == "list":
        return values
    if kind in ("S", "V", "object"):
        numpy = pytest.importorskip("numpy", reason="numpy is not installed")
        width = max(map(len, values))
        types = {"S": f"S{width}", "V": f"V{width}", "object": object}
        if kind == "V":
            values = [value.ljust(width, b"\0") for value in values]
        return numpy.array(values, types[kind])
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    if kind == "chunked":
        return arrow.chunked_array([values[:1_000], values[1_000:]], arrow.binary())
    return arrow.array(values, getattr(arrow, kind)())


def test_nulls_of_an_arrow_column_and_arrow_without_numpy(monkeypatch):
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    monkeypatch.setattr(columns_in, "PIECE_COUNT", 2)
    values = [b"a", None, b"", b"d", None]
    assert list(items_of(arrow.array(values, arrow.binary()))) == values

    class WithoutNumpy:
        type = "binary"

        def __len__(self):
            return len(values)

        def __getitem__(self, at):
            return Piece(values[at])

        def to_pylist(self):
            raise AssertionError("the whole column at once")

    class Piece(list):
        def to_numpy(self, *, zero_copy_only):
            raise ImportError("numpy")

        def to_pylist(self):
            return list(self)

    assert list(items_of(WithoutNumpy())) == values


def test_columns_that_are_none_are_refused():
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    for wrong in (numpy.zeros(3), numpy.array([[b"a"]]), numpy.array(["text"])):
        with pytest.raises(TypeError, match="a column"):
            list(items_of(wrong))
    with pytest.raises(ValueError, match="zip"):
        list(items_of([b"a", b"b"], keys=[b"k"]))
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with pytest.raises(TypeError, match="a column is of binary"):
        list(items_of(arrow.array(["text"])))
