"""Epochs of a transactional producer: where they are used up, fenced, or not yet heard of."""

import asyncio
from contextlib import contextmanager

import pytest

from ottla.base.errors import ErrorCode
from ottla.coordinator.shard import State as ShardState
from ottla.coordinator.transaction.state import LAST_EPOCH, State
from ottla.metadata.store import StoreError
from ottla.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from tests.broker.apis.transacting import (
    FEW,
    FIRST,
    SECOND,
    Client,
    committed,
    kept,
    machine_of,
    settled,
)

both = pytest.mark.parametrize("protocol", [FIRST, SECOND])


async def at_last_epoch(node, protocol=SECOND):
    """A producer that has one epoch left."""
    client = Client(node, protocol=protocol)
    await client.init_patiently()
    kept(node).epoch = client.epoch = LAST_EPOCH
    return client


@contextmanager
def markers_held(node):
    """Markers come to their partitions when this ends."""
    leaders = node.services.marker_leaders
    held = []
    leaders.write = lambda *written: held.append(written)
    yield
    del leaders.write
    for written in held:
        leaders.write(*written)


def test_a_producer_that_was_answered_waits_for_its_markers(on_node):
    """It goes on under its new epoch, and is told to come again: it is not fenced."""

    async def test(node):
        await node.topic("a")
        client = Client(node)
        await client.init_patiently()
        assert await client.send("a", 0, b"1") == 0
        with markers_held(node):
            assert await client.end() == 0
            for commit in (True, False):
                assert await client.end(commit) == ErrorCode.CONCURRENT_TRANSACTIONS
            assert await client.init(knows=True) == ErrorCode.CONCURRENT_TRANSACTIONS
            assert await client.send("a", 0, b"2") == ErrorCode.CONCURRENT_TRANSACTIONS
        await settled(node)
        assert await client.end(commit=False) == 0, "of nothing, for the bump alone"
        await settled(node)
        assert await client.send("a", 0, b"2") == 0
        assert await client.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"1", b"2"]

    on_node(test, FEW)


@both
def test_the_next_transaction_waits_a_moment_for_the_markers_of_the_last(on_node, protocol):
    async def test(node):
        await node.topic("a")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        assert await client.send("a", 0, b"1") == 0
        with markers_held(node):
            assert await client.end() == 0
            sending = asyncio.ensure_future(client.send("a", 0, b"2"))
            while not machine_of(node)._settling:
                await asyncio.sleep(0)
            assert not sending.done()
        assert await sending == 0
        assert not machine_of(node)._settling
        assert await client.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"1", b"2"]

    on_node(test, FEW)


def test_whoever_waits_for_markers_is_told_when_the_coordinator_goes(on_node):
    async def test(node):
        await node.topic("a")
        client = Client(node)
        await client.init_patiently()
        assert await client.send("a", 0, b"1") == 0
        with markers_held(node):
            assert await client.end() == 0
            sending = asyncio.ensure_future(client.send("a", 0, b"2"))
            while not machine_of(node)._settling:
                await asyncio.sleep(0)
            for shard in node.services.transactions._runtime._shards.values():
                shard._load_again(ErrorCode.NOT_COORDINATOR)
            assert await sending == ErrorCode.NOT_ENOUGH_REPLICAS
        await settled(node)
        assert await committed(node, "a") == [b"1"]

    on_node(test, FEW)


def test_a_producer_with_a_new_id_waits_for_the_markers_of_the_old_one(on_node):
    async def test(node):
        await node.topic("a")
        client = await at_last_epoch(node)
        assert await client.send("a", 0, b"1") == 0
        with markers_held(node):
            old_id = client.producer_id
            assert await client.end() == 0
            assert (client.producer_id, client.epoch) == (old_id + 1, 0)
            assert await client.send("a", 0, b"2") == ErrorCode.CONCURRENT_TRANSACTIONS
            assert await client.end(commit=False) == ErrorCode.CONCURRENT_TRANSACTIONS
            assert await client.init(knows=True) == ErrorCode.CONCURRENT_TRANSACTIONS
        await settled(node)
        assert await client.send("a", 0, b"2") == 0
        assert await client.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"1", b"2"]

    on_node(test, FEW)


@pytest.mark.parametrize("way", ["end", "init"])
def test_a_fence_at_the_last_epoch_brings_a_new_producer_id(on_node, way):
    """No epoch above the last is ever a client's: it could not be fenced any more."""

    async def test(node):
        await node.topic("a")
        client = await at_last_epoch(node)
        assert await client.send("a", 0, b"1") == 0
        kept(node).timeout_ms = 1
        while await settled(node) is not State.COMPLETE_ABORT:
            await asyncio.sleep(0.01)
        kept(node).timeout_ms = 60_000
        old_id = client.producer_id
        code = await (client.end(commit=False) if way == "end" else client.init(knows=True))
        assert code == 0
        assert client.producer_id == old_id + 1
        assert client.epoch == 0
        client.sequences.clear()
        assert await client.send("a", 0, b"2") == 0
        assert await client.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"2"]

    options = {**FEW, "transaction.abort.timed.out.transaction.cleanup.interval.ms": "20"}
    on_node(test, options)


def test_a_new_instance_fences_the_last_epoch(on_node):
    async def test(node):
        await node.topic("a")
        zombie = await at_last_epoch(node)
        assert await zombie.send("a", 0, b"1") == 0
        heir = Client(node)
        await heir.init_patiently()
        assert heir.producer_id > zombie.producer_id
        assert await zombie.end() in (
            ErrorCode.INVALID_PRODUCER_ID_MAPPING,
            ErrorCode.PRODUCER_FENCED,
        )
        assert await heir.send("a", 0, b"2") == 0
        assert await heir.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"2"]

    on_node(test, FEW)


def test_without_producer_ids_all_goes_on_but_what_needs_one(on_node, monkeypatch):
    async def test(node):
        await node.topic("a")
        client = Client(node)
        await client.init_patiently()
        ids = node.services.producer_ids
        ids._next = ids._end  # the block is used up

        async def refuse(count):
            raise StoreError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(node.services.controller, "allocate_producer_ids", refuse)
            assert await client.send("a", 0, b"1") == 0
            assert await client.end() == 0
            await settled(node)
            assert await client.init(knows=True) == 0
            other = Client(node, "other")
            assert await other.init() == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            assert await client.send("a", 0, b"2") == 0
            kept(node).epoch = client.epoch = LAST_EPOCH
            assert await client.end() == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            assert kept(node).state is State.ONGOING
            kept(node).timeout_ms = 1
            overdue = machine_of(node)._abort_overdue
            assert overdue(None, kept(node).start_ms + 9).records == [], "it is put off"
            kept(node).timeout_ms = 60_000
        assert await client.end() == 0
        assert client.epoch == 0
        await settled(node)
        assert await committed(node, "a") == [b"1", b"2"]

    on_node(test, FEW)


@both
def test_a_zombie_of_a_replaced_id_does_not_abort_what_its_heir_has_open(on_node, protocol):
    async def test(node):
        await node.topic("a")
        zombie = await at_last_epoch(node, protocol)
        heir = Client(node, protocol=protocol)
        await heir.init_patiently()
        assert heir.producer_id > zombie.producer_id
        assert await heir.send("a", 0, b"1") == 0
        assert await zombie.init(knows=True) == ErrorCode.PRODUCER_FENCED
        assert await heir.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"1"]

    on_node(test, FEW)


@pytest.mark.parametrize("is_last", [False, True])
def test_whoever_did_not_hear_of_its_end_may_begin_anew(on_node, is_last):
    """KIP-890: the epoch from before the end is the producer's own."""

    async def test(node):
        await node.topic("a")
        if is_last:
            client = await at_last_epoch(node)
        else:
            client = Client(node)
            await client.init_patiently()
        assert await client.send("a", 0, b"1") == 0
        deaf = client.twin()
        assert await client.end() == 0
        await settled(node)
        assert await deaf.init(knows=True) == 0
        assert (deaf.producer_id, deaf.epoch) == (client.producer_id, client.epoch)
        assert await deaf.send("a", 0, b"2") == 0
        assert await deaf.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"1", b"2"]

    on_node(test, FEW)


def test_a_marker_for_a_group_that_is_being_loaded_is_told_as_for_a_log(on_node):
    """Whoever sends markers knows the errors of partitions, and none of coordinators."""

    async def test(node):
        await node.topic("a")
        client = Client(node)
        await client.init_patiently()
        assert await client.commit_offset("g", "a", 0, 7) == 0
        marker = WritableTxnMarker(
            producer_id=client.producer_id,
            producer_epoch=client.epoch,
            transaction_result=False,
            coordinator_epoch=0,
            topics=[WritableTxnMarkerTopic(name="__consumer_offsets", partition_indexes=[0, 1, 2])],
        )
        for shard in node.services.groups._runtime._shards.values():
            shard.state = ShardState.LOADING
        answer = await node.ask(WriteTxnMarkersRequest(markers=[marker]), 1)
        codes = [each.error_code for each in answer.markers[0].topics[0].partitions]
        assert ErrorCode.NOT_LEADER_OR_FOLLOWER in codes
        assert set(codes) <= {ErrorCode.NONE, ErrorCode.NOT_LEADER_OR_FOLLOWER}

    on_node(test, FEW)
