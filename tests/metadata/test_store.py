"""The conformance suite of the store: every twin passes every test."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ottla.metadata.store import (
    NO_REVISION,
    Changes,
    CompactedError,
    Compare,
    Delete,
    DeletePrefix,
    Entry,
    Event,
    LeaseLostError,
    Put,
    StoreError,
    StoreUnavailableError,
)


class Seen:
    """What a watch was told, and a way to wait for it."""

    def __init__(self):
        self.changes = []
        self.errors = []
        self._told = asyncio.Event()

    def __call__(self, changes):
        self.changes.append(changes)
        self._told.set()

    def failed(self, error):
        self.errors.append(error)
        self._told.set()

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition(self):
                self._told.clear()
                await self._told.wait()

    async def until_revision(self, revision):
        await self.until(lambda seen: seen.changes and seen.changes[-1].revision >= revision)


async def put(store, key, value=b"", lease=None):
    result = await store.txn([], [Put(key, value, lease)])
    assert result.committed
    return result.revision


def on(kind, test):
    async def main():
        async with kind.open() as store:
            await test(store)

    asyncio.run(main())


def test_an_empty_store_is_at_revision_0(kind):
    async def test(store):
        assert await store.read("") == (0, {})
        assert await store.txn([], []) == (True, 0, {})

    on(kind, test)


def test_a_put_is_read_under_every_prefix_of_its_key_in_key_order(kind):
    async def test(store):
        await store.txn([], [Put("b/2", b"x"), Put("b/10", b"y"), Put("c", b""), Put("a~", b"z")])
        assert await store.read("b/") == (1, {"b/10": Entry(b"y", 1), "b/2": Entry(b"x", 1)})
        assert list((await store.read("b/"))[1]) == ["b/10", "b/2"]
        assert list((await store.read(""))[1]) == ["a~", "b/10", "b/2", "c"]
        assert (await store.read("b/3"))[1] == {}

    on(kind, test)


def test_a_transaction_takes_one_revision_and_nothing_takes_none(kind):
    async def test(store):
        assert await put(store, "a") == 1
        assert (await store.txn([], [Put("b", b"1"), Put("c", b"2")])).revision == 2
        assert (await store.txn([], [Delete("nothing")])).revision == 2
        assert (await store.txn([], [DeletePrefix("nothing/")])).revision == 2
        assert await put(store, "b", b"1") == 3
        assert (await store.read("b"))[1] == {"b": Entry(b"1", 3)}

    on(kind, test)


def test_a_failed_comparison_writes_nothing_and_says_what_is(kind):
    async def test(store):
        await put(store, "a", b"1")
        compares = [Compare("a", 1), Compare("b", 7)]
        result = await store.txn(compares, [Put("a", b"2")])
        assert result == (False, 1, {"a": Entry(b"1", 1), "b": None})
        result = await store.txn([Compare("a", NO_REVISION)], [Delete("a")])
        assert result == (False, 1, {"a": Entry(b"1", 1)})
        assert await store.read("") == (1, {"a": Entry(b"1", 1)})

    on(kind, test)


def test_comparisons_that_hold(kind):
    async def test(store):
        result = await store.txn([Compare("a", NO_REVISION)], [Put("a", b"1")])
        assert result == (True, 1, {})
        result = await store.txn([Compare("a", 1), Compare("b", NO_REVISION)], [Delete("a")])
        assert result == (True, 2, {})
        assert await store.read("") == (2, {})

    on(kind, test)


def test_of_concurrent_transactions_on_one_revision_one_wins(kind):
    async def test(store):
        results = await asyncio.gather(
            *(
                store.txn([Compare("a", NO_REVISION)], [Put("a", b"%d" % number)])
                for number in range(50)
            )
        )
        winners = [number for number, result in enumerate(results) if result.committed]
        assert len(winners) == 1
        assert (await store.read("a"))[1] == {"a": Entry(b"%d" % winners[0], 1)}

    on(kind, test)


def test_concurrent_increments_are_not_lost(kind):
    async def increment(store):
        while True:
            entry = (await store.read("n"))[1].get("n", Entry(b"0", NO_REVISION))
            compare = Compare("n", entry.mod_revision)
            value = b"%d" % (int(entry.value) + 1)
            if (await store.txn([compare], [Put("n", value)])).committed:
                return

    async def test(store):
        await asyncio.gather(*(increment(store) for _ in range(12)))
        assert await store.read("n") == (12, {"n": Entry(b"12", 12)})

    on(kind, test)


@pytest.mark.parametrize(
    "writes",
    [
        [Put("a", b""), Put("a", b"")],
        [Put("a", b""), Delete("a")],
        [DeletePrefix("a/"), Put("a/b", b"")],
        [Delete("a/b"), DeletePrefix("a/")],
        [DeletePrefix("a/"), DeletePrefix("a/b/")],
        [Put("", b"")],
        [Put("ä", b"")],
        [Put("a\n", b"")],
        [DeletePrefix("")],
    ],
)
def test_what_is_no_transaction_is_refused(kind, writes):
    async def test(store):
        with pytest.raises(ValueError):
            await store.txn([], writes)
        assert await store.read("") == (0, {})

    on(kind, test)


def test_a_watch_gets_what_was_and_what_comes_by_revision(kind):
    async def test(store):
        await put(store, "a/1", b"x")
        await put(store, "a/2", b"y")
        await put(store, "b", b"z")
        seen = Seen()
        store.watch("a/", 2, seen, seen.failed)
        await seen.until_revision(2)
        writes = [Put("a/9", b"1"), Put("b", b""), Put("a/3", b"2"), Delete("a/1")]
        await store.txn([], writes)
        await store.txn([], [DeletePrefix("a/")])
        await seen.until_revision(5)
        assert seen.changes == [
            Changes(2, [Event("a/2", b"y")]),
            Changes(4, [Event("a/9", b"1"), Event("a/3", b"2"), Event("a/1", None)]),
            Changes(5, [Event("a/2", None), Event("a/3", None), Event("a/9", None)]),
        ]
        assert not seen.errors

    on(kind, test)


def test_a_watch_from_the_future_waits_for_it(kind):
    async def test(store):
        seen = Seen()
        store.watch("", 3, seen, seen.failed)
        for _ in range(4):
            await put(store, "a")
        await seen.until_revision(4)
        assert [changes.revision for changes in seen.changes] == [3, 4]

    on(kind, test)


def test_a_watch_that_comes_while_another_is_served_misses_nothing(kind):
    async def test(store):
        for _ in range(4):
            await put(store, "a")
        late, early = Seen(), Seen()
        store.watch("", 3, late, late.failed)
        store.watch("", 1, early, early.failed)
        await early.until_revision(4)
        await late.until_revision(4)
        assert [changes.revision for changes in late.changes] == [3, 4]
        assert [changes.revision for changes in early.changes] == [1, 2, 3, 4]

    on(kind, test)


def test_watches_are_called_in_turns_of_their_own_and_may_add_and_cancel(kind):
    async def test(store):
        await put(store, "a", b"1")
        inside = True
        late, seen = Seen(), Seen()

        def first(changes):
            assert not inside
            watch.cancel()
            watch.cancel()
            store.watch("", 1, late, late.failed)

        watch = store.watch("", 2, first, seen.failed)
        store.watch("", 2, seen, seen.failed)
        txn = asyncio.ensure_future(store.txn([], [Put("a", b"2")]))
        inside = False
        await txn
        await put(store, "a", b"3")
        await seen.until_revision(3)
        await late.until_revision(3)
        assert [changes.revision for changes in seen.changes] == [2, 3]
        assert [changes.revision for changes in late.changes] == [1, 2, 3]

    on(kind, test)


def test_a_watch_from_what_is_forgotten_fails(make_kind):
    async def test(store):
        for _ in range(7):
            await put(store, "a")
        seen, kept = Seen(), Seen()
        store.watch("", 1, seen, seen.failed)
        store.watch("", 5, kept, kept.failed)
        await seen.until(lambda seen: seen.errors)
        await kept.until_revision(7)
        assert [type(error) for error in seen.errors] == [CompactedError]
        assert not seen.changes
        assert [changes.revision for changes in kept.changes] == [5, 6, 7]
        assert await store.read("a") == (7, {"a": Entry(b"", 7)})

    on(make_kind(history_revisions=3), test)


def test_a_revoked_lease_takes_its_keys_along_in_one_revision(kind):
    async def test(store):
        lease, other = await store.grant(60_000), await store.grant(60_000)
        assert lease != other
        writes = [Put("b", b"", lease), Put("a", b"", lease), Put("c", b"", other), Put("d", b"")]
        await store.txn([], writes)
        await put(store, "b", b"free")
        seen = Seen()
        store.watch("", 3, seen, seen.failed)
        await put(store, "e", b"", lease)
        await store.keep_alive(lease)
        await store.revoke(lease)
        await seen.until_revision(4)
        assert seen.changes[1:] == [Changes(4, [Event("a", None), Event("e", None)])]
        assert list((await store.read(""))[1]) == ["b", "c", "d"]
        await store.revoke(lease)
        with pytest.raises(LeaseLostError):
            await store.keep_alive(lease)
        with pytest.raises(LeaseLostError):
            await store.txn([], [Put("f", b""), Put("g", b"", lease)])
        assert (await store.read(""))[0] == 4

    on(kind, test)


def test_two_faces_share_content_and_watches(make_kind):
    async def main():
        kind = make_kind(poll_ms=1)
        async with kind.open() as one, kind.open() as two:
            seen = Seen()
            two.watch("", 1, seen, seen.failed)
            revisions = await asyncio.gather(
                *(put(store, f"k/{number}") for number in range(10) for store in (one, two))
            )
            assert sorted(revisions) == list(range(1, 21))
            await seen.until_revision(20)
            assert [changes.revision for changes in seen.changes] == list(range(1, 21))
            assert await one.read("") == await two.read("")

    asyncio.run(main())


def test_a_closed_store_says_so(kind):
    async def main():
        store = await kind.open_store()
        seen = Seen()
        store.watch("", 1, seen, seen.failed)
        pending = asyncio.ensure_future(store.txn([], [Put("a", b"")]))
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        assert (await pending).committed
        with pytest.raises(StoreUnavailableError):
            await store.read("")
        assert not seen.changes and not seen.errors

    asyncio.run(main())


keys = st.sampled_from(["a", "a/b", "a/c", "b/a", "b/b"])
values = st.binary(max_size=3)
writes = st.lists(
    st.one_of(
        st.builds(Put, keys, values, st.none()),
        st.builds(Delete, keys),
        st.builds(DeletePrefix, st.sampled_from(["a/", "b/", "a"])),
    ),
    max_size=3,
)
compares = st.lists(st.builds(Compare, keys, st.integers(0, 8)), max_size=1)


def applied(model, write, revision):
    """The dict after a write, and its events."""
    if isinstance(write, Put):
        return {**model, write.key: Entry(write.value, revision)}, [Event(write.key, write.value)]
    hit = write.prefix if isinstance(write, DeletePrefix) else write.key
    prefix = isinstance(write, DeletePrefix)
    gone = [key for key in sorted(model) if (key.startswith(hit) if prefix else key == hit)]
    left = {key: entry for key, entry in model.items() if key not in gone}
    return left, [Event(key, None) for key in gone]


async def compare_with_a_dict(store, script):
    model, revision, history = {}, 0, []
    for conditions, changes in script:
        holds = all(
            model.get(key, Entry(b"", NO_REVISION)).mod_revision == expected
            for key, expected in conditions
        )
        try:
            result = await store.txn(conditions, changes)
        except ValueError:
            continue
        events = []
        if holds:
            for write in changes:
                model, more = applied(model, write, revision + 1)
                events += more
        if events:
            revision += 1
            history.append(Changes(revision, events))
        assert (result.committed, result.revision) == (holds, revision)
        assert await store.read("") == (revision, model)
    if history:
        seen = Seen()
        store.watch("", 1, seen, seen.failed)
        await seen.until_revision(revision)
        assert seen.changes == history


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(st.tuples(compares, writes), max_size=12))
def test_a_store_is_a_dict_with_revisions(kind_in, script):
    with tempfile.TemporaryDirectory() as directory:
        on(kind_in(Path(directory)), lambda store: compare_with_a_dict(store, script))


def test_every_error_of_a_store_is_a_store_error():
    for error in (CompactedError, LeaseLostError, StoreUnavailableError):
        assert issubclass(error, StoreError)
