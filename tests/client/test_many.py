"""`send_many`: what it may be given, in which order it arrives, and how it is gathered."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ottla
from ottla.client import columns_in, many
from ottla.client.columns_in import items_of
from ottla.client.errors import RecordTooLargeError
from ottla.client.many import Many
from ottla.client.murmur2 import partition_of
from ottla.client.partitioners import Default
from ottla.records.batch import HEADER_BYTES
from tests.client.reading import read_all

ITEMS = st.lists(
    st.binary(max_size=60)
    | st.tuples(st.none() | st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(max_size=60))
    | st.tuples(st.none() | st.just(b"a"), st.binary(max_size=9), st.just({"h": b"x"})),
    max_size=60,
)
PLACE_OF_A = partition_of(b"a", 2)


class Taken:
    """What a Many hands on: records of one partition, and records for themselves."""

    def __init__(self, *, is_quick=True, among=None):
        self.records = []
        self.counts = []
        self.many = Many(
            is_quick=is_quick,
            among=among,
            choose=self.choose,
            take=self.take,
            take_one=self.take_one,
        )

    def choose(self, key, value):
        """Records without a key go to whichever partition: here to that of key b"a"."""
        return partition_of(key, 2) if key else None

    async def take(self, where, keys, values):
        self.counts.append(len(values))
        partition = PLACE_OF_A if where is None else where
        keys = keys or [None] * len(values)
        assert len(keys) == len(values) > 0
        self.records += [(partition, *row) for row in zip(keys, values, strict=True)]

    async def take_one(self, key, value, headers):
        where = self.choose(key, value)
        self.records.append((PLACE_OF_A if where is None else where, key, value))

    def all_of(self, items):
        async def run():
            await self.many.add_all(iter(items))
            await self.many.finish()

        asyncio.run(run())
        return self.records


def parts(item):
    return (item[0], item[1]) if isinstance(item, tuple) else (None, item)


@given(
    ITEMS | st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.binary(max_size=60))),
    st.booleans(),
    st.sampled_from([None, range(2)]),
)
def test_every_record_is_taken_once_and_those_of_a_partition_in_order(items, is_quick, among):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "PIECE_COUNT_MAX", 3)
        patch.setattr(many, "TURN_BYTES", 100)
        records = Taken(is_quick=is_quick, among=among).all_of(items)
    wanted = [
        (partition_of(key, 2) if key else PLACE_OF_A, key, value)
        for key, value in (parts(each) for each in items)
    ]
    for partition in (0, 1):
        mine, theirs = (
            [each for each in all_ if each[0] == partition] for all_ in (records, wanted)
        )
        assert mine == theirs
    assert len(records) == len(items)


def test_values_alone_and_keyed_pairs_are_taken_a_piece_at_a_time():
    rows = [(b"k%d" % (n % 9), b"v") for n in range(3_000)]
    taken = Taken(among=range(2))
    taken.all_of([*(value for _, value in rows), *rows])
    assert len(taken.counts) <= 3 + 2 * 4


@pytest.mark.parametrize("keyed", [False, True])
def test_batches_are_filled(broker, keyed):
    most, values = 10_000, [b"%05d" % n * (1 + n % 40) for n in range(4_000)]
    rows = [(b"k", value) for value in values] if keyed else values

    async def script():
        async with ottla.Producer(
            bootstrap_servers=broker.bootstrap_servers, batch_size=most, linger_ms=60_000
        ) as producer:
            sent = await producer.send_many("t", rows)
            batches = [batch for batch, _, _ in sent.pieces]
            sizes = [batch.sent_bytes for batch in batches]
            assert [each.count for each in batches] == [count for _, _, count in sent.pieces]
            await producer.flush()
            return sizes

    sizes = asyncio.run(script())
    assert sum(sizes) > 300_000
    assert all(most - 250 < size <= most + HEADER_BYTES for size in sizes[:-1])
    assert [each.value for each in read_all(broker, "t")] == values


def test_a_record_larger_than_a_batch_has_one_for_itself(broker):
    values = [b"a", bytes(5_000), b"b", bytes(6_000), bytes(7_000), b"c"]

    async def script():
        async with ottla.Producer(
            bootstrap_servers=broker.bootstrap_servers, batch_size=1_000
        ) as producer:
            await (await producer.send_many("t", values))
            await (await producer.send_many("t", [(b"k", value) for value in values]))
            with pytest.raises(RecordTooLargeError):
                await producer.send_many("t", [b"d", bytes(2 << 20), b"never"])

    asyncio.run(script())
    assert [each.value for each in read_all(broker, "t")] == [*values, *values, b"d"]


def test_a_partitioner_of_ones_own_is_asked_for_each_record(start_broker):
    broker = start_broker(settings={"num.partitions": "2"})

    class Mine(Default):
        def __call__(self, choice, key, value):
            return 1

    async def script():
        async with ottla.Producer(
            bootstrap_servers=broker.bootstrap_servers, partitioner=Mine()
        ) as producer:
            await (await producer.send_many("t", [(b"%d" % n, b"v") for n in range(50)]))
            await (await producer.send_many("t", [b"v"] * 50))

    asyncio.run(script())
    assert len(read_all(broker, "t", 1)) == 100


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
