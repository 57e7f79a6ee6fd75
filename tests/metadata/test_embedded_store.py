"""What is the embedded store's alone: the file, its faults, and who else has it open."""

import asyncio
import sqlite3

import pytest

from ottla.base.errors import CorruptionError
from ottla.metadata.embedded_store import EmbeddedStore
from ottla.metadata.store import (
    NO_REVISION,
    Compare,
    Delete,
    Entry,
    LeaseLostError,
    Put,
    StoreBusyError,
    StoreUnavailableError,
    StoreVersionError,
)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "metadata.db")


def with_store(world, path, test, **options):
    async def main():
        store = await EmbeddedStore.open(world, path, **options)
        try:
            return await test(store)
        finally:
            await store.close()

    return asyncio.run(main())


def fill(world, path, count=3):
    async def write(store):
        for number in range(count):
            await store.txn([], [Put(f"k/{number}", b"v")])

    with_store(world, path, write)


def test_content_and_revisions_live_on(world, path):
    fill(world, path)

    async def look(store):
        assert await store.read("k/1") == (3, {"k/1": Entry(b"v", 2)})
        assert (await store.txn([Compare("k/1", 2)], [Delete("k/1")])).revision == 4
        seen = asyncio.get_running_loop().create_future()
        store.watch("", 3, lambda changes: seen.done() or seen.set_result(changes), print)
        assert (await seen).revision == 3

    with_store(world, path, look)


def test_commits_are_durable(world, path):
    async def look(store):
        assert store._file._number("PRAGMA synchronous") == 2
        await store.txn([], [Put("a", b"1")])
        other = sqlite3.connect(path)
        assert other.execute("SELECT value FROM entries").fetchall() == [(b"1",)]
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.close()

    with_store(world, path, look)


def test_what_is_asked_for_meanwhile_is_one_batch(world, path):
    batches = []

    async def look(store):
        run = store._file.run

        def counted(jobs, since):
            batches.append(len(jobs))
            return run(jobs, since)

        store._file.run = counted
        puts = [store.txn([], [Put("a", b"%d" % number)]) for number in range(20)]
        results = await asyncio.gather(*puts)
        assert [result.revision for result in results] == list(range(1, 21))

    with_store(world, path, look)
    assert batches == [1, 19]


def test_leases_of_the_dead_go_at_the_next_open(world, path):
    async def leave(store):
        lease = await store.grant(1)
        await store.txn([], [Put("live", b"", lease), Put("stay", b"")])
        return lease

    lost = with_store(world, path, leave)

    async def look(store):
        assert list((await store.read(""))[1]) == ["stay"]
        with pytest.raises(LeaseLostError):
            await store.keep_alive(lost)
        assert await store.grant(1) != lost

    with_store(world, path, look)


def test_who_shares_the_file_sees_the_other_die(world, path):
    async def main():
        one = await EmbeddedStore.open(world, path)
        two = await EmbeddedStore.open(world, path, poll_ms=1)
        lease = await one.grant(1)
        await one.txn([], [Put("live", b"", lease)])
        assert list((await two.read(""))[1]) == ["live"]
        gone = asyncio.get_running_loop().create_future()
        two.watch("live", 2, gone.set_result, print)
        await one.close()
        assert (await gone).events == [("live", None)]
        await two.close()

    asyncio.run(main())


def test_two_may_make_the_file_at_once(world, path):
    async def main():
        stores = await asyncio.gather(*(EmbeddedStore.open(world, path) for _ in range(3)))
        compares = [Compare("a", NO_REVISION)]
        results = [await store.txn(compares, [Put("a", b"")]) for store in stores]
        assert [result.committed for result in results] == [True, False, False]
        for store in stores:
            await store.close()

    asyncio.run(main())


def test_a_file_that_is_no_database_is_corrupt(world, path):
    with open(path, "wb") as file:
        file.write(b"not a database" * 1000)
    with pytest.raises(CorruptionError, match=r"metadata\.db"):
        with_store(world, path, None)


def test_a_corrupt_page_is_met_at_the_start(world, path):
    fill(world, path, 200)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (1 << 16))
    with pytest.raises(CorruptionError, match=r"metadata\.db"):
        with_store(world, path, None)


def test_a_corrupt_page_makes_the_store_unavailable(world, path):
    fill(world, path, 200)

    async def look(store):
        seen = []
        with open(path, "r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * (1 << 16))
        with pytest.raises(CorruptionError):
            await store.read("")
        with pytest.raises(CorruptionError):
            store.watch("", 1, seen.append, seen.append)
        with pytest.raises(CorruptionError):
            await store.txn([], [Put("a", b"")])

    with_store(world, path, look)


def test_a_later_schema_and_a_strange_database_are_left_alone(world, path):
    fill(world, path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(StoreVersionError, match="version 2"):
        with_store(world, path, None)
    strange = path + ".strange"
    database = sqlite3.connect(strange)
    database.execute("CREATE TABLE entries (a)")
    database.close()
    with pytest.raises(StoreVersionError, match="not a store"):
        with_store(world, strange, None)
    database = sqlite3.connect(strange)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    database.close()


def test_a_directory_that_is_not_there(world, tmp_path):
    with pytest.raises(StoreUnavailableError, match="nowhere"):
        with_store(world, str(tmp_path / "nowhere" / "metadata.db"), None)


def test_a_file_that_cannot_be_written(world, path):
    fill(world, path)

    async def look(store):
        store._file._sql.execute("PRAGMA query_only = 1")
        failures = []
        store.watch("", 4, failures.append, failures.append)
        with pytest.raises(StoreUnavailableError):
            await store.txn([], [Put("a", b"")])
        assert [type(failure) for failure in failures] == [StoreUnavailableError]
        with pytest.raises(StoreUnavailableError):
            await store.read("")

    with_store(world, path, look)


def test_a_store_that_is_locked_too_long_is_busy_and_works_again(world, path):
    async def look(store):
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError):
            await store.txn([], [Put("a", b"")])
        assert await store.read("") == (0, {})
        other.execute("ROLLBACK")
        other.close()
        assert (await store.txn([], [Put("a", b"")])).committed

    with_store(world, path, look, busy_ms=1)


def test_a_cancelled_caller_does_not_undo_the_write(world, path):
    async def look(store):
        task = asyncio.ensure_future(store.txn([], [Put("a", b"1")]))
        await asyncio.sleep(0)
        task.cancel()
        assert (await store.read("a"))[1] == {"a": Entry(b"1", 1)}

    with_store(world, path, look)
