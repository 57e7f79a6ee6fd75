"""Transactions over a whole node, request by request, in both protocols."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.coordinator.transaction.state import LAST_EPOCH, State
from tests.broker.apis.transacting import (
    FEW,
    FIRST,
    SECOND,
    Client,
    committed,
    fetched,
    group_offset,
    kept,
    latest,
    settled,
)

both = pytest.mark.parametrize("protocol", [FIRST, SECOND])


@both
def test_a_commit_is_seen_whole_and_an_abort_is_not(on_node, protocol):
    async def test(node):
        await node.topic("a", 2)
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        assert await client.send("a", 0, b"1", b"2") == 0
        assert await client.send("a", 1, b"3") == 0
        assert await committed(node, "a") == []
        assert (await fetched(node, "a")).last_stable_offset == 0
        assert (await latest(node, "a", 0), await latest(node, "a", 1)) == (2, 0)
        assert await client.end() == 0
        assert await settled(node) is State.COMPLETE_COMMIT
        assert await committed(node, "a") == [b"1", b"2"]
        assert await committed(node, "a", 1) == [b"3"]
        assert await client.send("a", 0, b"4") == 0
        assert await client.end(commit=False) == 0
        assert await settled(node) is State.COMPLETE_ABORT
        assert await committed(node, "a") == [b"1", b"2"]
        row = await fetched(node, "a")
        assert [each.first_offset for each in row.aborted_transactions] == [3]
        assert (await latest(node, "a", 0), await latest(node, "a", 1)) == (5, 5)
        assert (await fetched(node, "a", isolation=0)).aborted_transactions is None

    on_node(test, FEW)


@both
def test_offsets_count_when_the_transaction_commits(on_node, protocol):
    async def test(node):
        await node.topic("a")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        assert await client.commit_offset("g", "a", 0, 7) == 0
        assert await group_offset(node, "g", "a") == (ErrorCode.UNSTABLE_OFFSET_COMMIT, -1)
        assert await group_offset(node, "g", "a", stable=False) == (0, -1)
        assert await client.end() == 0
        await settled(node)
        assert await group_offset(node, "g", "a") == (0, 7)
        assert await client.commit_offset("g", "a", 0, 9) == 0
        assert await client.end(commit=False) == 0
        await settled(node)
        assert await group_offset(node, "g", "a") == (0, 7)

    on_node(test, FEW)


@both
def test_b11_a_produce_that_comes_behind_the_end_is_refused(on_node, protocol):
    """KAFKA-14402: a Produce overtaken by EndTxn on another connection must neither hang the
    partition nor become part of the next transaction."""

    async def test(node):
        await node.topic("a")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        assert await client.send("a", 0, b"1") == 0
        late = client.twin()
        assert await client.end() == 0
        await settled(node)
        code = await late.send("a", 0, b"late", version=12 if protocol == SECOND else 11)
        expected = {
            FIRST: ErrorCode.INVALID_TXN_STATE,
            SECOND: ErrorCode.INVALID_PRODUCER_EPOCH,
        }
        if protocol == FIRST:  # TRANSACTION_ABORTABLE since Produce 11
            assert code == ErrorCode.TRANSACTION_ABORTABLE
            assert await late.send("a", 0, b"late", version=10) == expected[FIRST]
        else:
            assert code == expected[SECOND]
        assert await latest(node, "a", 1) == await latest(node, "a", 0)
        if protocol == SECOND:
            assert await client.send("a", 0, b"2") == 0
            assert await late.send("a", 0, b"late") == ErrorCode.INVALID_PRODUCER_EPOCH
            assert await client.end() == 0
            await settled(node)
            assert await committed(node, "a") == [b"1", b"2"]

    on_node(test, FEW)


def test_b11_an_end_that_comes_twice_does_not_end_the_next_transaction(on_node):
    async def test(node):
        await node.topic("a")
        client = Client(node)
        await client.init_patiently()
        assert await client.send("a", 0, b"1") == 0
        again = client.twin()
        assert await client.end() == 0
        await settled(node)
        assert await client.send("a", 0, b"2") == 0
        assert await again.end() == ErrorCode.PRODUCER_FENCED
        assert await again.end(commit=False) == ErrorCode.PRODUCER_FENCED
        assert await committed(node, "a") == [b"1"]
        assert await client.end(commit=False) == 0
        await settled(node)
        assert await committed(node, "a") == [b"1"]

    on_node(test, FEW)


@both
def test_an_end_that_is_asked_for_again_is_answered_again(on_node, protocol):
    async def test(node):
        await node.topic("a")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        await client.send("a", 0, b"1")
        again = client.twin()
        assert await client.end() == 0
        await settled(node)
        assert await again.end() == 0
        assert (again.producer_id, again.epoch) == (client.producer_id, client.epoch)
        other = client.twin()
        if protocol == SECOND:
            other.epoch -= 1
        assert await other.end(commit=False) == ErrorCode.INVALID_TXN_STATE

    on_node(test, FEW)


def test_b12_a_produce_without_an_answer_is_sent_again_and_stands_once(on_node):
    """redpanda #3039, #5355: what may have been appended is answered as a duplicate."""

    async def test(node):
        await node.topic("a")
        client = Client(node)
        await client.init_patiently()
        again = client.twin()
        for value in (b"1", b"2", b"3", b"4", b"5"):
            assert await client.send("a", 0, value) == 0
        for value in (b"1", b"2", b"3", b"4", b"5"):
            assert await again.send("a", 0, value) == 0
        ahead = client.twin()
        ahead.sequences["a", 0] += 3
        assert await ahead.send("a", 0, b"9") == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert await client.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"1", b"2", b"3", b"4", b"5"]

    on_node(test, FEW)


@both
def test_a_new_instance_fences_the_old_one_and_aborts_what_it_had_open(on_node, protocol):
    async def test(node):
        await node.topic("a")
        zombie = Client(node, protocol=protocol)
        await zombie.init_patiently()
        assert await zombie.send("a", 0, b"1") == 0
        client = Client(node, protocol=protocol)
        assert await client.init() == ErrorCode.CONCURRENT_TRANSACTIONS
        await client.init_patiently()
        assert client.producer_id == zombie.producer_id
        assert client.epoch > zombie.epoch
        assert await zombie.send("a", 0, b"2") in (
            ErrorCode.INVALID_PRODUCER_EPOCH,
            ErrorCode.PRODUCER_FENCED,
        )
        assert await zombie.end() == ErrorCode.PRODUCER_FENCED
        assert await zombie.end(version=1) == ErrorCode.INVALID_PRODUCER_EPOCH
        assert await zombie.init(knows=True) == ErrorCode.PRODUCER_FENCED
        assert await zombie.init(knows=True, version=3) == ErrorCode.INVALID_PRODUCER_EPOCH
        assert await zombie.commit_offset("g", "a", 0, 1) in (
            ErrorCode.INVALID_PRODUCER_EPOCH,
            ErrorCode.PRODUCER_FENCED,
        )
        assert await client.send("a", 0, b"3") == 0
        assert await client.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"3"]

    on_node(test, FEW)


def test_a_producer_that_names_itself_goes_on(on_node):
    """KIP-360."""

    async def test(node):
        client = Client(node)
        await client.init_patiently()
        lost = client.twin()
        assert await client.init(knows=True) == 0
        assert await lost.init(knows=True) == 0, "the answer to the same was lost"
        assert (lost.producer_id, lost.epoch) == (client.producer_id, client.epoch)

    on_node(test, FEW)


@both
def test_epochs_that_are_used_up_bring_a_new_producer_id(on_node, protocol):
    async def test(node):
        await node.topic("a")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        kept(node).epoch = client.epoch = LAST_EPOCH
        assert await client.send("a", 0, b"1") == 0
        again = client.twin()
        assert await client.end() == 0
        await settled(node)
        if protocol == SECOND:
            assert (client.producer_id, client.epoch) == (again.producer_id + 1, 0)
            assert await again.end() == 0
            assert (client.producer_id, client.epoch) == (again.producer_id, again.epoch)
        else:
            first_id = client.producer_id
            await client.init_patiently()
            assert (client.producer_id, client.epoch) == (first_id + 1, 0)
        assert await client.send("a", 0, b"2") == 0
        assert await client.end() == 0
        await settled(node)
        assert await committed(node, "a") == [b"1", b"2"]

    on_node(test, FEW)


def test_a_transaction_that_takes_too_long_is_aborted(on_node):
    async def test(node):
        await node.topic("a")
        client = Client(node)
        await client.init_patiently()
        late = client.twin()
        assert await client.send("a", 0, b"1") == 0
        kept(node).timeout_ms = 1
        while await settled(node) is State.ONGOING:
            await asyncio.sleep(0.01)
        assert await settled(node) is State.COMPLETE_ABORT
        kept(node).timeout_ms = 60_000
        late.sequences = dict(client.sequences)
        assert await late.send("a", 0, b"2") == ErrorCode.INVALID_PRODUCER_EPOCH
        assert await client.end() == ErrorCode.INVALID_TXN_STATE
        assert await client.end(commit=False) == 0
        assert await committed(node, "a") == []
        assert await client.send("a", 0, b"3") == 0
        await settled(node)

    options = {**FEW, "transaction.abort.timed.out.transaction.cleanup.interval.ms": "20"}
    on_node(test, options)


def test_a_thousand_partitions(on_node):
    async def test(node):
        await node.topic("a", 1_000)
        client = Client(node, protocol=FIRST)
        await client.init_patiently()
        assert await client.add("a", *range(1_000)) == 0
        for index in (0, 500, 999):
            assert await client.send("a", index, b"v", version=11) == 0
        assert await client.end() == 0
        assert await settled(node) is State.COMPLETE_COMMIT
        replicas = node.services.replicas
        assert all(replicas.leader_of("a", n).log.log_end_offset for n in range(1_000))
        assert await committed(node, "a", 999) == [b"v"]

    on_node(test, FEW)


@both
def test_a_deleted_topic_does_not_hold_up_the_end(on_node, protocol):
    async def test(node):
        await node.topic("a")
        await node.topic("b")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        await client.send("a", 0, b"1")
        await client.send("b", 0, b"2")
        await node.services.controller.delete_topic(node.image.topics["a"].id)
        assert await client.end() == 0
        assert await settled(node) is State.COMPLETE_COMMIT
        assert await committed(node, "b") == [b"2"]

    on_node(test, FEW)


@both
@pytest.mark.parametrize("has_snapshots", [True, False])
def test_b9_all_of_it_is_there_again_after_a_start(on_node, tmp_path, protocol, has_snapshots):
    """KAFKA-12520: producers, their sequences, open transactions and pending offsets, with and
    without the snapshots."""
    kept = {}

    async def before(node):
        await node.topic("a")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        assert await client.send("a", 0, b"1") == 0
        assert await client.commit_offset("g", "a", 0, 5) == 0
        kept["client"] = client

    async def after(node):
        client = kept["client"]
        client.node = node
        again = client.twin()
        again.sequences = {}
        assert await again.send("a", 0, b"1") == 0, "a duplicate"
        assert await committed(node, "a") == []
        code, _ = await group_offset(node, "g", "a")
        while code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            await asyncio.sleep(0.001)
            code, _ = await group_offset(node, "g", "a")
        assert code == ErrorCode.UNSTABLE_OFFSET_COMMIT
        assert await client.send("a", 0, b"2") == 0
        while (code := await client.end()) == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            await asyncio.sleep(0.001)
        assert code == 0
        await settled(node)
        assert await committed(node, "a") == [b"1", b"2"]
        assert await group_offset(node, "g", "a") == (0, 5)

    on_node(before, FEW)
    snapshots = list(tmp_path.glob("*/a-0/*.snapshot"))
    assert snapshots
    if not has_snapshots:
        for path in tmp_path.glob("*/*/*.snapshot"):
            path.unlink()
    on_node(after, FEW)


@both
@pytest.mark.parametrize("commit", [True, False])
def test_b13_a_coordinator_that_is_loaded_again_between_any_two_steps(on_node, protocol, commit):
    """redpanda #5090, #9571: markers come after all, offsets do not go back."""

    async def test(node):
        await node.topic("a", 2)
        client = Client(node, protocol=protocol)

        async def reloaded():
            for owner in (node.services.transactions, node.services.groups):
                for shard in owner._runtime._shards.values():
                    shard._load_again(ErrorCode.NOT_COORDINATOR)
                    while shard.refusal:
                        await asyncio.sleep(0)

        await client.init_patiently()
        for turn in range(2):
            await reloaded()
            assert await client.send("a", 0, b"%d" % turn) == 0
            await reloaded()
            assert await client.send("a", 1, b"%d" % turn) == 0
            await reloaded()
            assert await client.commit_offset("g", "a", 0, turn + 1) == 0
            await reloaded()
            assert await client.end(commit) == 0
            await reloaded()
            await settled(node)
            await reloaded()
            for index in (0, 1):
                wanted = [b"%d" % each for each in range(turn + 1)] if commit else []
                assert await committed(node, "a", index) == wanted
            assert await group_offset(node, "g", "a") == (0, turn + 1 if commit else -1)

    on_node(test, FEW)


def test_a_refused_or_broken_batch_does_not_fence_the_rightful_producer(on_node):
    class Breaking(Client):
        def batch(self, *given):
            made = super().batch(*given)
            made[52] ^= 1  # of the producer's epoch: the CRC no longer holds
            return made

    async def test(node):
        await node.topic("a", 2)
        client = Client(node)
        await client.init_patiently()
        later = client.twin()
        later.epoch += 5
        assert await later.send("a", 0, b"z") == ErrorCode.INVALID_PRODUCER_EPOCH
        assert await client.send("a", 0, b"1") == 0
        broken = Breaking(node)
        broken.__dict__.update(client.__dict__)
        broken.sequences = {}
        assert await broken.send("a", 1, b"z") != 0
        assert await client.send("a", 1, b"1") == 0

    on_node(test, FEW)
