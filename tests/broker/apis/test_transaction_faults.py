"""What peers and networks do to a transaction: everything twice, too late, or hostile."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.coordinator.transaction import machine
from ottla.coordinator.transaction.state import State
from ottla.records.control import Marker
from tests.broker.apis.test_join_group import join, sync
from tests.broker.apis.test_transaction_epochs import markers_held
from tests.broker.apis.transacting import (
    FEW,
    FIRST,
    SECOND,
    Client,
    committed,
    group_offset,
    kept,
    machine_of,
    settled,
)

both = pytest.mark.parametrize("protocol", [FIRST, SECOND])


@both
@pytest.mark.parametrize("commit", [True, False])
def test_every_request_may_come_twice(on_node, protocol, commit):
    async def test(node):
        await node.topic("a")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        again = client.twin()
        assert await client.init(knows=True) == 0
        assert await again.init(knows=True) == 0
        assert (again.producer_id, again.epoch) == (client.producer_id, client.epoch)
        for turn in range(2):
            again = client.twin()
            for each in (client, again):
                assert await each.send("a", 0, b"%d" % turn) == 0
            for each in (client, again):
                assert await each.commit_offset("g", "a", 0, turn + 1) == 0
            with markers_held(node):
                assert await client.end(commit) == 0
                assert await again.end(commit) == ErrorCode.CONCURRENT_TRANSACTIONS
            await settled(node)
            assert await again.end(commit) == 0
            assert (again.producer_id, again.epoch) == (client.producer_id, client.epoch)
        assert await committed(node, "a") == ([b"0", b"1"] if commit else [])
        assert await group_offset(node, "g", "a") == (0, 2 if commit else -1)

    on_node(test, FEW)


@both
@pytest.mark.parametrize("commit", [True, False])
def test_a_timeout_while_markers_are_written_changes_nothing(on_node, protocol, commit):
    async def test(node):
        await node.topic("a")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        assert await client.send("a", 0, b"1") == 0
        machine_now, rounds = machine_of(node), 0
        abort_overdue = machine_now._abort_overdue

        def counted(*given):
            nonlocal rounds
            rounds += 1
            return abort_overdue(*given)

        machine_now._abort_overdue = counted
        with markers_held(node):
            assert await client.end(commit) == 0
            kept(node).timeout_ms = 1
            while rounds < 3:
                await asyncio.sleep(0.005)
            assert kept(node).state is (State.PREPARE_COMMIT if commit else State.PREPARE_ABORT)
        wanted = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
        assert await settled(node) is wanted
        assert await committed(node, "a") == ([b"1"] if commit else [])

    options = {**FEW, "transaction.abort.timed.out.transaction.cleanup.interval.ms": "10"}
    on_node(test, options)


@both
def test_only_who_is_of_the_group_now_commits_its_offsets(on_node, protocol):
    """KIP-447: the member and its generation fence, as epochs do; nothing is pending of what was
    refused."""

    async def test(node):
        await node.topic("a")
        client = Client(node, protocol=protocol)
        await client.init_patiently()
        assert await client.commit_offset("g", "a", 0, 1, generation_id_or_member_epoch=3) == (
            ErrorCode.ILLEGAL_GENERATION
        ), "of a group that is not there"
        joined = await node.ask(join(), 3)
        member, generation = joined.member_id, joined.generation_id

        async def commit(offset, member_id, generation_id):
            return await client.commit_offset(
                "g",
                "a",
                0,
                offset,
                member_id=member_id,
                generation_id_or_member_epoch=generation_id,
            )

        assert await commit(1, member, generation) == 0, "also in a rebalance"
        assert not (await node.ask(sync(member, generation, b"all"), 2)).error_code
        assert await commit(2, "somebody", generation) == ErrorCode.UNKNOWN_MEMBER_ID
        assert await commit(2, member, generation - 1) == ErrorCode.ILLEGAL_GENERATION
        assert await commit(2, member, generation + 1) == ErrorCode.ILLEGAL_GENERATION
        assert await group_offset(node, "g", "a") == (ErrorCode.UNSTABLE_OFFSET_COMMIT, -1)
        assert await client.end() == 0
        await settled(node)
        assert await group_offset(node, "g", "a") == (0, 1)
        assert await commit(5, "", -1) == 0, "a producer that names no member"
        assert await client.end() == 0
        await settled(node)
        assert await group_offset(node, "g", "a") == (0, 5)

    on_node(test, {**FEW, "group.initial.rebalance.delay.ms": "0"})


@pytest.mark.parametrize(
    ("is_bumped", "code"),
    [(True, ErrorCode.INVALID_PRODUCER_EPOCH), (False, ErrorCode.INVALID_TXN_STATE)],
)
def test_a_marker_that_overtakes_the_coordinators_yes_keeps_the_batch_out(on_node, is_bumped, code):
    """The batch was let in to a transaction that has ended meanwhile. A producer that was fenced
    is told so: it recovers of that (KAFKA-19690)."""

    async def test(node):
        await node.topic("a")
        client = Client(node)
        await client.init_patiently()
        assert await client.send("a", 0, b"1") == 0
        assert await client.end() == 0
        await settled(node)
        partition = node.services.replicas.leader_of("a", 0)
        token = partition.begin_verification(client.producer_id, client.epoch)
        partition.append_marker(
            Marker(False, 9), client.producer_id, client.epoch + is_bumped, 0, is_bumped=is_bumped
        )
        batch = memoryview(client.batch("a", 0, (b"late",)))
        now_ms = node.services.world.clock.time_ms()
        with pytest.raises(KafkaError) as caught:
            partition.append(batch, acks_all=True, now_ms=now_ms, version=12, token=token)
        assert caught.value.code == code
        partition.end_verification(client.producer_id, token)

    on_node(test, FEW)


def test_a_transaction_over_partitions_that_are_added_one_by_one(on_node):
    """As producers of the second protocol do: each Produce adds its own."""

    async def test(node):
        await node.topic("a", 200)
        client = Client(node)
        await client.init_patiently()
        for index in range(200):
            assert await client.send("a", index, b"v") == 0
        assert await client.end() == 0
        assert await settled(node) is State.COMPLETE_COMMIT
        replicas = node.services.replicas
        for index in range(200):
            partition = replicas.leader_of("a", index)
            assert partition.log.log_end_offset == 2
            assert partition.last_stable_offset == 2
        assert await committed(node, "a", 199) == [b"v"]

    on_node(test, FEW)


def test_too_many_ids_are_refused_and_those_that_are_known_go_on(on_node, monkeypatch, caplog):
    monkeypatch.setattr(machine, "TRANSACTIONAL_IDS_BYTES", 3 * machine.ID_BYTES)

    async def test(node):
        await node.topic("a")
        client = Client(node, "a")
        await client.init_patiently()
        assert await Client(node, "b").init() == 0
        for _ in range(3):
            assert await Client(node, "c").init() == ErrorCode.POLICY_VIOLATION
        assert await Client(node, "d" * 2_000).init() == ErrorCode.POLICY_VIOLATION
        assert caplog.text.count("new ones are refused") == 1
        assert await client.send("a", 0, b"1") == 0
        assert await client.end() == 0
        assert await client.init_patiently() is None
        kept(node, "b").updated_ms = 0
        while "b" in machine_of(node, "b").transactions:
            await asyncio.sleep(0.005)
        assert await Client(node, "c").init() == 0

    options = {
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "10",
    }
    on_node(test, options)


def test_ids_that_rest_for_long_are_forgotten_and_open_ones_are_not(on_node):
    async def test(node):
        await node.topic("a")
        for name in ("resting", "open"):
            client = Client(node, name)
            await client.init_patiently()
            assert await client.send("a", 0, b"1") == 0
            if name == "resting":
                resting = client
                assert await client.end() == 0
                await settled(node, "resting")
        for name in ("resting", "open"):
            kept(node, name).updated_ms = 0
        while "resting" in machine_of(node, "resting").transactions:
            await asyncio.sleep(0.005)
        assert kept(node, "open").state is State.ONGOING
        assert await resting.send("a", 0, b"2") == ErrorCode.INVALID_PRODUCER_ID_MAPPING
        assert await resting.init(knows=True) == 0, "as if it were new"
        assert resting.epoch == 0
        assert await resting.send("a", 0, b"2") == 0
        assert await resting.end() == 0
        assert await client.end(commit=False) == 0
        await settled(node, "open")
        await settled(node, "resting")
        assert await committed(node, "a") == [b"1", b"2"]

    options = {
        **FEW,
        "transaction.remove.expired.transaction.cleanup.interval.ms": "10",
    }
    on_node(test, options)


def test_what_time_brings_to_many_ids_need_not_fit_in_one_batch(on_node):
    """Each is aborted, and forgotten, on its own: else they would hang, all of them."""

    async def test(node):
        await node.topic("a")
        clients = [Client(node, letter * 1_500) for letter in "xyz"]
        for client in clients:
            await client.init_patiently()
            assert await client.send("a", 0, b"1") == 0
        for client in clients:
            kept(node, client.id).start_ms = 0
        for client in clients:
            while kept(node, client.id).state is not State.COMPLETE_ABORT:
                await asyncio.sleep(0.005)
        assert await committed(node, "a") == []
        for client in clients:
            kept(node, client.id).updated_ms = 0
        while machine_of(node, clients[0].id).transactions:
            await asyncio.sleep(0.005)

    options = {
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
        "message.max.bytes": "3000",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "10",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "10",
    }
    on_node(test, options)
