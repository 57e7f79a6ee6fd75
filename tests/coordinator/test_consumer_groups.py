"""Consumer groups, heartbeat by heartbeat: who gets what, when, and who is put out."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from ottla.base.errors import ErrorCode
from ottla.coordinator.group import consumer_records as records
from ottla.coordinator.group.consumer_group import ConsumerGroupState
from ottla.coordinator.group.consumer_member import MemberState
from ottla.coordinator.machine import Outcome
from ottla.metadata.image import BrokerImage, Revision
from ottla.sim.loop import SimLoop
from tests.coordinator.consumers import ONE, Consumer, ConsumerPlace, durable, subscription
from tests.coordinator.places import on_loop

NO_INTERVAL = {"group_consumer_assignment_interval_ms": "0"}


def on_place(test: Callable[[ConsumerPlace], Coroutine[Any, Any, None]], **options: str) -> None:
    async def run(loop: SimLoop) -> None:
        await test(ConsumerPlace(loop, **{**NO_INTERVAL, **options}))

    on_loop(run)


async def settle(*members: Consumer) -> None:
    """Heartbeats in turn, until nothing changes any more."""
    for _ in range(20):
        before = [(each.epoch, each.places) for each in members]
        for each in members:
            await each.beat()
            assert each.told.error_code == 0, each.told
        if before == [(each.epoch, each.places) for each in members]:
            return
    raise AssertionError("it does not settle")


# -- joining and sharing


def test_the_first_member_gets_everything_at_once() -> None:
    async def test(place: ConsumerPlace) -> None:
        a = place.make("a", 3)
        told = await Consumer(place, "m").join()
        assert (told.error_code, told.member_id, told.member_epoch) == (0, "m", 1)
        assert told.heartbeat_interval_ms == 5_000
        assert told.assignment is not None
        (row,) = told.assignment.topic_partitions
        assert (row.topic_id, row.partitions) == (a, [0, 1, 2])
        assert place.consumers().state is ConsumerGroupState.STABLE

    on_place(test)


def test_an_assignment_is_told_when_it_is_news() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 3)
        m = Consumer(place, "m")
        await m.join()
        assert (await m.beat()).assignment is None
        full = await m.beat(topics=["a"], rebalance_ms=60_000)
        assert full.assignment is not None

    on_place(test)


def test_nobody_gets_a_partition_before_it_is_given_back() -> None:
    async def test(place: ConsumerPlace) -> None:
        a = place.make("a", 4)
        m, n = Consumer(place, "m"), Consumer(place, "n")
        await m.join()
        m.is_lazy = True
        told = await n.join()
        assert told.member_epoch == 2
        assert n.has == {}
        assert place.consumers().members["n"].state is MemberState.UNRELEASED_PARTITIONS
        told = await m.beat()
        assert told.member_epoch == 1
        assert told.assignment is not None
        assert told.assignment.topic_partitions[0].partitions == [0, 1]
        assert place.consumers().state is ConsumerGroupState.RECONCILING
        await n.beat()
        assert n.has == {}, "m did not say that it gave anything back"
        m.is_lazy = False
        assert (await m.beat()).member_epoch == 2
        await n.beat()
        assert n.has == {a: [2, 3]}
        assert place.consumers().state is ConsumerGroupState.STABLE

    on_place(test)


def test_who_leaves_makes_room_for_the_others() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 4)
        m, n = Consumer(place, "m"), Consumer(place, "n")
        await m.join()
        await n.join()
        await settle(m, n)
        assert (len(m.places), len(n.places)) == (2, 2)
        told = await place.beaten("m", -1)
        assert (told.error_code, told.member_epoch) == (0, -1)
        await settle(n)
        assert len(n.places) == 4

    on_place(test)


def test_a_group_without_members_goes_on_with_its_epoch() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        await Consumer(place, "m").join()
        await place.beaten("m", -1)
        assert place.consumers().state is ConsumerGroupState.EMPTY
        assert place.consumers().epoch == 2
        assert (await Consumer(place, "n").join()).member_epoch == 3
        assert place.budget.members == 1

    on_place(test)


def test_topics_that_come_grow_and_go() -> None:
    async def test(place: ConsumerPlace) -> None:
        m = Consumer(place, "m", topics=["a", "b"])
        await m.join()
        assert m.has == {}
        a = place.make("a", 1)
        await m.beat()
        assert m.has == {a: [0]}
        place.make("a", 3)
        b = place.make("b", 1)
        await settle(m)
        assert m.has == {a: [0, 1, 2], b: [0]}
        place.drop("a")
        await settle(m)
        assert m.has == {b: [0]}
        again = place.make("a", 1)
        assert again != a
        await settle(m)
        assert m.has == {again: [0], b: [0]}

    on_place(test)


def test_another_subscription_takes_what_is_not_read_any_more() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        b = place.make("b", 2)
        m, n = Consumer(place, "m", topics=["a", "b"]), Consumer(place, "n", topics=["b"])
        await m.join()
        await n.join()
        await settle(m, n)
        await m.beat(topics=["b"])
        await settle(m, n)
        assert {*m.has, *n.has} == {b}
        assert (len(m.places), len(n.places)) == (1, 1)

    on_place(test)


def test_the_assignor_that_most_members_ask_for() -> None:
    async def test(place: ConsumerPlace) -> None:
        a, b = place.make("a", 2), place.make("b", 2)
        options: dict[str, Any] = {"topics": ["a", "b"], "assignor": "range"}
        m, n = Consumer(place, "m", **options), Consumer(place, "n", **options)
        await m.join()
        await n.join()
        await settle(m, n)
        assert m.has == {a: [0], b: [0]}

    on_place(test)


def test_one_target_for_all_changes_within_the_interval() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 6)
        m, n, o = (Consumer(place, each) for each in "mno")
        await m.join()
        for other in (n, o):
            assert (await other.join()).member_epoch == 1
        group = place.consumers()
        assert (group.epoch, group.target_epoch) == (3, 1)
        assert group.state is ConsumerGroupState.ASSIGNING
        await asyncio.sleep(1.1)
        assert place.consumers().target_epoch == 3
        await settle(m, n, o)
        assert [len(each.places) for each in (m, n, o)] == [2, 2, 2]

    on_place(test, group_consumer_assignment_interval_ms="1000")


# -- epochs


def test_epochs_fence() -> None:
    async def test(place: ConsumerPlace) -> None:
        a = place.make("a", 2)
        m, n = Consumer(place, "m"), Consumer(place, "n")
        await m.join()
        await n.join()
        await settle(m, n)
        for epoch in (m.epoch + 1, m.epoch - 2):
            if epoch > 0:
                told = await place.beaten("m", epoch)
                assert told.error_code == ErrorCode.FENCED_MEMBER_EPOCH
                assert told.error_message
        lost = await place.beaten("m", 1, owned=m.has)
        assert (lost.error_code, lost.member_epoch) == (0, m.epoch)
        told = await place.beaten("m", 1, owned={a: [0, 1]})
        assert told.error_code == ErrorCode.FENCED_MEMBER_EPOCH, "it has more than it may"
        told = await place.beaten("m", 1)
        assert told.error_code == ErrorCode.FENCED_MEMBER_EPOCH, "it does not say what it has"

    on_place(test)


def test_a_fenced_member_joins_again_under_its_id() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        m = Consumer(place, "m")
        await m.join()
        before = m.has
        told = await m.join()
        assert (told.error_code, m.has) == (0, before)
        assert len(place.consumers().members) == 1

    on_place(test)


def test_unknown_members_and_groups() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        assert (await place.beaten("m", 1)).error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert (await place.beaten("m", -1)).error_code == ErrorCode.GROUP_ID_NOT_FOUND
        await Consumer(place, "m").join()
        assert (await place.beaten("x", 1)).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert (await place.beaten("x", -1)).error_code == ErrorCode.UNKNOWN_MEMBER_ID

    on_place(test)


JOINING = {"topics": ["a"], "rebalance_ms": 1, "owned": {}}


@pytest.mark.parametrize(
    ("args", "options", "code"),
    [
        (("m", 0), {**JOINING, "group": ""}, ErrorCode.INVALID_REQUEST),
        (("m", 0), {**JOINING, "instance": ""}, ErrorCode.INVALID_REQUEST),
        (("m", 0), {**JOINING, "rebalance_ms": -1}, ErrorCode.INVALID_REQUEST),
        (("m", 0), {**JOINING, "owned": None}, ErrorCode.INVALID_REQUEST),
        (("m", 0), {**JOINING, "owned": {b"1" * 16: [0]}}, ErrorCode.INVALID_REQUEST),
        (("m", 0), {**JOINING, "topics": None}, ErrorCode.INVALID_REQUEST),
        (("", 0), JOINING, ErrorCode.INVALID_REQUEST),
        (("", 1), {"version": 0}, ErrorCode.INVALID_REQUEST),
        (("", -1), {"version": 0}, ErrorCode.INVALID_REQUEST),
        (("m", -2), {}, ErrorCode.INVALID_REQUEST),
        (("m", -3), {}, ErrorCode.INVALID_REQUEST),
        (("m", 0), {**JOINING, "assignor": "none"}, ErrorCode.UNSUPPORTED_ASSIGNOR),
        (("m", 0), {**JOINING, "regex": "(a"}, ErrorCode.INVALID_REGULAR_EXPRESSION),
        (("m", 0), {**JOINING, "regex": "(a+)+\\1"}, ErrorCode.INVALID_REGULAR_EXPRESSION),
        (("m", 0), {**JOINING, "regex": "((a{99}){99}){9}"}, ErrorCode.INVALID_REGULAR_EXPRESSION),
    ],
)
def test_requests_that_cannot_be(args: Any, options: Any, code: ErrorCode) -> None:
    async def test(place: ConsumerPlace) -> None:
        told = await place.beaten(*args, **options)
        assert told.error_code == code
        assert told.error_message
        assert place.machine.groups.find_consumer("g") is None
        assert place.place.log.log_end_offset == 0

    on_place(test)


def test_a_member_without_an_id_gets_one() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        told = await place.beaten("", 0, version=0, **JOINING)
        assert told.error_code == 0
        assert told.member_id in place.consumers().members

    on_place(test)


def test_a_group_that_is_full() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        m = Consumer(place, "m")
        await m.join()
        told = await Consumer(place, "n").join()
        assert told.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
        assert (await m.beat()).error_code == 0

    on_place(test, group_consumer_max_size="1")


# -- time


def test_who_is_not_heard_of_is_put_out() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        m, n = Consumer(place, "m"), Consumer(place, "n")
        await m.join()
        await n.join()
        await settle(m, n)
        for _ in range(4):
            await asyncio.sleep(15)
            await m.beat()
        assert list(place.consumers().members) == ["m"]
        await settle(m)
        assert len(m.places) == 2
        assert (await n.beat()).error_code == ErrorCode.UNKNOWN_MEMBER_ID

    on_place(test)


def test_who_does_not_give_back_is_put_out() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        m, n = Consumer(place, "m", rebalance_ms=20_000), Consumer(place, "n")
        await m.join()
        m.is_lazy = True
        await n.join()
        for _ in range(3):
            await m.beat()
            await asyncio.sleep(8)
        assert list(place.consumers().members) == ["n"]
        await settle(n)
        assert len(n.places) == 2
        assert (await m.beat()).error_code == ErrorCode.UNKNOWN_MEMBER_ID

    on_place(test)


def test_a_groups_own_timeouts() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        configs = {"consumer.heartbeat.interval.ms": "7000", "consumer.session.timeout.ms": "50000"}
        place.image = place.image.__class__(
            **{
                **{name: getattr(place.image, name) for name in place.image.__slots__},
                "group_configs": {"g": configs},
            }
        )
        assert (await Consumer(place, "m").join()).heartbeat_interval_ms == 7_000
        await asyncio.sleep(48)
        assert place.consumers().members
        await asyncio.sleep(4)
        assert not place.consumers().members

    on_place(test)


# -- static members


def test_a_static_member_comes_back_to_what_it_had() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 4)
        m, n = Consumer(place, "m", instance="i"), Consumer(place, "n")
        await m.join()
        await n.join()
        await settle(m, n)
        before, epoch = m.has, place.consumers().epoch
        other = Consumer(place, "x", instance="i")
        assert (await other.join()).error_code == ErrorCode.UNRELEASED_INSTANCE_ID
        told = await place.beaten("m", -2, instance="i")
        assert (told.error_code, told.member_epoch) == (0, -2)
        assert (await n.beat()).error_code == 0
        assert len(n.places) == 2
        assert (await other.join()).error_code == 0
        assert (other.has, place.consumers().epoch) == (before, epoch)
        told = await place.beaten("m", m.epoch, instance="i")
        assert told.error_code == ErrorCode.FENCED_INSTANCE_ID
        told = await place.beaten("m", -1, instance="i")
        assert told.error_code == ErrorCode.FENCED_INSTANCE_ID
        assert (await place.beaten("y", 5, instance="j")).error_code == ErrorCode.UNKNOWN_MEMBER_ID

    on_place(test)


def test_a_static_member_that_does_not_come_back() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 4)
        m, n = Consumer(place, "m", instance="i"), Consumer(place, "n")
        await m.join()
        await n.join()
        await settle(m, n)
        await place.beaten("m", -2, instance="i")
        for _ in range(4):
            await asyncio.sleep(15)
            await n.beat()
        await settle(n)
        assert len(n.places) == 4

    on_place(test)


# -- expressions


def test_an_expression_reads_what_it_matches_and_what_comes_to_match() -> None:
    async def test(place: ConsumerPlace) -> None:
        ab = place.make("ab", 1)
        place.make("cab", 1)
        m = Consumer(place, "m", topics=None, regex="a.*")
        await m.join()
        assert m.has == {}
        await asyncio.sleep(0.1)
        await settle(m)
        assert m.has == {ab: [0]}, "the whole name has to match"
        ax = place.make("ax", 1)
        await settle(m)
        assert m.has == {ab: [0]}
        await asyncio.sleep(11)
        await m.beat()
        await asyncio.sleep(0.1)
        await settle(m)
        assert m.has == {ab: [0], ax: [0]}
        place.drop("ab")
        await settle(m)
        assert m.has == {ax: [0]}

    on_place(test)


def test_an_expression_that_nobody_uses_is_forgotten() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("ab", 1)
        m, n = (Consumer(place, each, topics=None, regex="a.*") for each in "mn")
        await m.join()
        await n.join()
        await asyncio.sleep(0.1)
        assert place.consumers().expressions.keys() == {"a.*"}
        await place.beaten("m", -1)
        assert place.consumers().expressions.keys() == {"a.*"}
        await n.beat(regex="b.*")
        assert place.consumers().expressions.keys() == set()
        await asyncio.sleep(11)
        await n.beat()
        await asyncio.sleep(0.1)
        assert place.consumers().expressions.keys() == {"b.*"}
        await n.beat(regex="")
        assert place.consumers().expressions == {}
        await settle(n)
        assert n.has == {}

    on_place(test)


def test_names_and_an_expression_together() -> None:
    async def test(place: ConsumerPlace) -> None:
        a, z = place.make("a", 1), place.make("z", 1)
        m = Consumer(place, "m", topics=["z"], regex="a")
        await m.join()
        assert m.has == {z: [0]}
        await asyncio.sleep(0.1)
        await settle(m)
        assert m.has == {a: [0], z: [0]}

    on_place(test)


# -- faults


def test_a_restart_keeps_everybody_where_he_was() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 4)
        m, n = Consumer(place, "m"), Consumer(place, "n")
        await m.join()
        m.is_lazy = True
        await n.join()
        await m.beat()
        before = durable(place.consumers())
        place.shard.close()
        again = ConsumerPlace(place.loop, place.place, **NO_INTERVAL)
        again.image = place.image
        await asyncio.sleep(0.1)
        assert durable(again.consumers()) == before
        m.place = n.place = again
        m.is_lazy = False
        await settle(m, n)
        assert (len(m.places), len(n.places)) == (2, 2)

    on_place(test)


def test_a_restart_counts_the_time_to_give_back_anew() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        m, n = Consumer(place, "m", rebalance_ms=20_000), Consumer(place, "n")
        await m.join()
        m.is_lazy = True
        await n.join()
        await m.beat()
        place.shard.close()
        again = ConsumerPlace(place.loop, place.place, **NO_INTERVAL)
        again.image = place.image
        m.place = again
        for _ in range(3):
            await asyncio.sleep(8)
            await m.beat()
        assert "m" not in again.consumers().members

    on_place(test)


def test_an_assignor_that_is_not_known_here_is_not_asked() -> None:
    """Another broker wrote the log, with an assignor of its own."""

    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        value = records.ConsumerMemberValue(
            instance_id=None,
            rack_id=None,
            client_id="c",
            client_host="/h",
            subscribed_topic_names=["a"],
            subscribed_topic_regex=None,
            rebalance_timeout_ms=60_000,
            server_assignor="org.example.Mine",
        )
        member = records.member_record("g", "other", value)
        await place.answer(place.perform(lambda machine, now: Outcome([member], "written")))
        me = Consumer(place, "me")
        assert (await me.join()).error_code == 0
        assert len(me.places) == 1

    on_place(test)


def test_a_member_with_another_instance_id_gives_its_former_one_up() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        me = Consumer(place, "me", instance="one")
        await me.join()
        me.options["instance"] = "two"
        await me.join()
        assert place.consumers().static_ids == {"two": "me"}
        other = Consumer(place, "other", instance="one")
        assert (await other.join()).error_code == 0

    on_place(test)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_full_node_lets_a_static_member_come_back_with_a_new_id(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        await Consumer(place, "m", instance="i").join()
        await place.beaten("m", -2, instance="i")
        monkeypatch.setattr(
            "ottla.coordinator.group.member.GROUP_MEMBERS_COUNT", place.budget.members
        )
        if protocol == "classic":
            share = (("range", subscription("a")),)
            told = await place.answer(place.join(instance="i", protocols=share))
        else:
            told = await Consumer(place, "x", instance="i").join()
        assert told.error_code == 0
        assert (await Consumer(place, "y", instance="j").join()).error_code != 0

    on_place(test)


def test_a_full_node_goes_on_with_the_members_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        me = Consumer(place, "me")
        await me.join()
        bound = place.budget.bytes + 10
        monkeypatch.setattr("ottla.coordinator.group.member.GROUP_SOFT_BYTES", bound)
        assert (await me.beat(topics=["a"])).error_code == 0
        more = await me.beat(topics=["a", "b" * 100])
        assert more.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert (await Consumer(place, "other").join()).error_code != 0
        assert place.budget.bytes <= bound

    on_place(test)


# -- what expires


def test_a_consumer_groups_offsets_expire_and_the_group_with_the_last() -> None:
    """Counted from the commit, of topics that no member reads; a group with members stays."""

    async def test(place: ConsumerPlace) -> None:
        a, b = place.make("a", 1), place.make("b", 1)
        me = Consumer(place, "me")
        await me.join()
        for topic, topic_id in (("a", a), ("b", b)):
            commit = place.commit(
                7, member_id="me", generation=me.epoch, topic=topic, topic_id=topic_id
            )
            assert (await place.answer(commit)).error_code == 0
        for _ in range(300):
            await asyncio.sleep(30)
            await me.beat()
        assert (place.committed(topic="a"), place.committed(topic="b")) == (7, None)
        assert (await place.beaten("me", -1)).error_code == 0
        await asyncio.sleep(601)
        assert place.machine.groups.ids() == []
        place.shard.close()
        again = ConsumerPlace(place.loop, place.place)
        while again.shard.refusal:
            await asyncio.sleep(0)
        assert again.machine.groups.ids() == []

    on_place(test, offsets_retention_minutes="60")


def test_a_topic_that_moves_to_another_rack_makes_a_new_epoch() -> None:
    """KIP-1101."""

    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)

        def brokers(rack: str) -> None:
            broker = BrokerImage(ONE, "localhost", 1, rack, Revision(1))
            place.image = replace(place.image, brokers={ONE: broker})

        brokers("here")
        me = Consumer(place, "me")
        await me.join()
        epoch = me.epoch
        await me.beat()
        assert me.epoch == epoch
        brokers("there")
        await me.beat()
        assert me.epoch == epoch + 1

    on_place(test)
