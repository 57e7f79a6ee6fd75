"""Following the store: order, reading one's own writes, and what happens when it is lost."""

import asyncio
import random

import pytest

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.base.ids import id_of_text, id_text
from ottla.metadata.cluster import Metadata, random_id
from ottla.metadata.memory import MemoryKeep, MemoryStore
from ottla.metadata.store import Delete, Put, StoreUnavailableError


def with_metadata(test, **options):
    async def main():
        keep = MemoryKeep(**options)
        metadata = await Metadata.open(MemoryStore(keep), random.Random(1))
        await test(keep, metadata)
        await metadata.close()

    asyncio.run(main())


def broker(node, port=1):
    return Put(f"brokers/{node}", b'{"host":"h","port":%d,"rack":null}' % port)


def test_the_cluster_gets_an_id_once(kind):
    async def main():
        async with kind.open() as store:
            made = (await Metadata.open(store, random.Random(1))).image.cluster_id
            assert len(id_of_text(made)) == 16
            again = await Metadata.open(store, random.Random(2))
            assert again.image.cluster_id == made
            assert (await Metadata.open(store, random.Random(2), cluster_id=made)).image.cluster_id
            with pytest.raises(KafkaError) as caught:
                await Metadata.open(store, random.Random(2), cluster_id="other")
            assert caught.value.code is ErrorCode.INCONSISTENT_CLUSTER_ID

    asyncio.run(main())


def test_a_subscriber_begins_with_everything_and_then_gets_each_revision():
    async def test(keep, metadata):
        first = await metadata.store.txn([], [broker(1)])
        await metadata.wait_revision(first.revision)
        seen = []
        unsubscribe = metadata.subscribe(
            lambda delta, image: seen.append((image.revision, delta.brokers_changed))
        )
        await metadata.store.txn([], [broker(2), broker(3)])
        last = await metadata.store.txn([], [Delete("brokers/1"), broker(2, port=9)])
        await metadata.wait_revision(last.revision)
        assert seen == [(2, (1,)), (3, (2, 3)), (4, (1, 2))]
        assert metadata.image.brokers[2].port == 9
        unsubscribe()
        last = await metadata.store.txn([], [broker(4)])
        await metadata.wait_revision(last.revision)
        assert len(seen) == 3

    with_metadata(test)


def test_waiting_for_a_revision_ends_with_it_and_not_before():
    async def test(keep, metadata):
        waiting = asyncio.ensure_future(metadata.wait_revision(3))
        first = await metadata.store.txn([], [broker(1)])
        await metadata.wait_revision(first.revision)
        assert not waiting.done()
        await metadata.store.txn([], [broker(2)])
        await waiting
        assert metadata.image.revision == 3

    with_metadata(test)


def test_what_was_forgotten_is_read_again_as_one_delta():
    async def test(keep, metadata):
        seen = []
        metadata.subscribe(lambda delta, image: seen.append(delta.brokers_changed))
        store = metadata.store
        for node in range(9):
            result = await store.txn([], [broker(node)])
        await metadata.wait_revision(result.revision)
        assert seen == [(), tuple(range(9))]
        result = await store.txn([], [broker(9)])
        await metadata.wait_revision(result.revision)
        assert seen[2:] == [(9,)]

    with_metadata(test, history_revisions=1)


def test_corrupt_content_stops_the_following_and_keeps_the_image():
    async def test(keep, metadata):
        waiting = asyncio.ensure_future(metadata.wait_revision(9))
        image = metadata.image
        result = await metadata.store.txn([], [Put("topics/a", b"?")])
        for wait in (waiting, metadata.wait_revision(result.revision)):
            with pytest.raises(CorruptionError, match="topics/a"):
                await wait
        assert metadata.image is image
        assert isinstance(metadata.failed, CorruptionError)

    with_metadata(test)


def test_who_waits_when_it_is_closed_is_told():
    async def test(keep, metadata):
        waiting = asyncio.ensure_future(metadata.wait_revision(9))
        await asyncio.sleep(0)
        await metadata.close()
        with pytest.raises(StoreUnavailableError):
            await waiting

    with_metadata(test)


def test_a_random_id_is_a_uuid_that_does_not_look_like_an_option():
    rng = random.Random(0)
    ids = [random_id(rng) for _ in range(2_000)]
    assert len(set(ids)) == 2_000
    for uuid in ids:
        assert (uuid[6] >> 4, uuid[8] >> 6) == (4, 2)
        assert not id_text(uuid).startswith("-")
