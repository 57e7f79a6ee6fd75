"""Assignors of the classic protocol: Kafka's shares, and what the sticky ones promise."""

import random

import pytest

from ottla.base.errors import KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.assignors import (
    ASSIGNORS,
    MemberView,
    cooperative_shares,
    even_and_sticky,
    member_view,
    range_shares,
    round_robin_shares,
    user_data_of,
)
from ottla.client.sticky import kept_shares
from ottla.protocol.consumer_protocol import (
    ConsumerProtocolSubscription,
    written,
)
from ottla.protocol.consumer_protocol import (
    TopicPartition as Row,
)


def member(topics, *, instance_id=None, owned=(), generation=-1):
    keys = tuple(key(each) for each in owned)
    return MemberView(frozenset(topics.split()), instance_id, keys, generation)


def key(text):
    topic, index = text.split("-")
    return TopicPartition(topic, int(index))


def texts(shares):
    return {each: " ".join(map(str, share)) for each, share in shares.items()}


def test_range_gives_runs_of_neighbours():
    members = {"b": member("t u"), "a": member("t u"), "c": member("u")}
    assert texts(range_shares(members, {"t": 3, "u": 4, "v": 9})) == {
        "a": "t-0 t-1 u-0 u-1",
        "b": "t-2 u-2",
        "c": "u-3",
    }


def test_static_members_come_first_by_their_instance_ids():
    members = {
        "a": member("t"),
        "y": member("t", instance_id="2"),
        "z": member("t", instance_id="1"),
    }
    assert texts(range_shares(members, {"t": 4})) == {"z": "t-0 t-1", "y": "t-2", "a": "t-3"}
    assert texts(round_robin_shares(members, {"t": 4})) == {"z": "t-0 t-3", "y": "t-1", "a": "t-2"}


def test_round_robin_goes_on_from_topic_to_topic():
    members = {"a": member("t u"), "b": member("t u"), "c": member("u")}
    assert texts(round_robin_shares(members, {"t": 3, "u": 3})) == {
        "a": "t-0 t-2 u-2",
        "b": "t-1 u-0",
        "c": "u-1",
    }


def test_sticky_moves_no_more_than_it_must():
    owned = {"a": ["t-0", "t-1", "t-2"], "b": ["t-3", "t-4", "t-5"]}
    members = {each: member("t", owned=keys, generation=3) for each, keys in owned.items()}
    assert texts(even_and_sticky(members, {"t": 6})) == {
        "a": "t-0 t-1 t-2",
        "b": "t-3 t-4 t-5",
    }
    shares = even_and_sticky({**members, "c": member("t")}, {"t": 6})
    for each, keys in owned.items():
        assert len(shares[each]) == 2 and set(shares[each]) <= {key(text) for text in keys}


def test_of_two_that_claim_a_partition_the_later_generation_is_believed():
    found = kept_shares(
        {
            "old": ([key("t-0"), key("t-1")], 4),
            "new": ([key("t-0"), key("t-2")], 5),
            "twin": ([key("t-2")], 5),
        }
    )
    assert found == {"old": [key("t-1")], "new": [key("t-0")], "twin": []}


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_group_is_every_partition_has_one_reader(seed):
    rng = random.Random(seed)
    counts = {f"t{n}": rng.randint(1, 9) for n in range(rng.randint(1, 5))}
    is_uniform = rng.random() < 0.5
    members = {}
    everything = [TopicPartition(topic, i) for topic, count in counts.items() for i in range(count)]
    for n in range(rng.randint(1, 8)):
        topics = sorted(counts) if is_uniform else rng.sample(sorted(counts), 1)
        owned = rng.sample(everything, rng.randint(0, len(everything)))
        members[f"m{n}"] = MemberView(frozenset(topics), None, tuple(owned), rng.randint(0, 2))
    for name in ("range", "roundrobin", "sticky"):
        shares = ASSIGNORS[name](members, counts)
        given = sorted(each for share in shares.values() for each in share)
        readable = {topic for view in members.values() for topic in view.topics}
        assert given == sorted(each for each in everything if each.topic in readable), name
        for member_id, share in shares.items():
            assert all(each.topic in members[member_id].topics for each in share)
    loads = {each: len(share) for each, share in shares.items()}
    if is_uniform:
        assert max(loads.values()) - min(loads.values()) <= 1
    for giver, share in shares.items():
        for taker, view in members.items():
            movable = any(each.topic in view.topics for each in share)
            assert not (movable and loads[giver] - loads[taker] >= 2)
    again = {
        each: view._replace(owned=tuple(shares[each]), generation=9)
        for each, view in members.items()
    }
    assert even_and_sticky(again, counts) == shares, "it moved what was even"


@pytest.mark.parametrize("seed", range(30))
def test_cooperative_rounds_end_even_and_nothing_goes_from_hand_to_hand(seed):
    rng = random.Random(seed)
    counts = {"t": rng.randint(1, 12), "u": rng.randint(1, 12)}
    members = {}
    for round_number in range(12):
        if rng.random() < 0.4 and members:
            del members[rng.choice(sorted(members))]
        if rng.random() < 0.6 or not members:
            members[f"m{round_number}"] = MemberView(frozenset(counts), None, (), -1)
        for step in range(2):
            owners = {each: m for m, view in members.items() for each in view.owned}
            shares = cooperative_shares(members, counts)
            for member_id, share in shares.items():
                assert all(owners.get(each, member_id) == member_id for each in share)
            members = {
                m: view._replace(owned=tuple(shares[m]), generation=2 * round_number + step)
                for m, view in members.items()
            }
        assert sum(map(len, shares.values())) == sum(counts.values()), "two rounds are enough"


def test_what_members_say_of_their_past():
    said = ConsumerProtocolSubscription(
        topics=["t"], user_data=user_data_of("sticky", {"t": [1, 2]}, 7)
    )
    view = member_view("sticky", written(said, 0), "i")
    assert view == MemberView(frozenset("t"), "i", (key("t-1"), key("t-2")), 7)
    # A member before version 2 of the subscription tells its generation in the user data.
    said = ConsumerProtocolSubscription(
        topics=["t"],
        user_data=user_data_of("cooperative-sticky", {}, 5),
        owned_partitions=[Row(topic="t", partitions=[4])],
    )
    view = member_view("cooperative-sticky", written(said, 1), None)
    assert view == MemberView(frozenset("t"), None, (key("t-4"),), 5)
    for data in (b"\xff", b"\0\0\0\1"):
        said = ConsumerProtocolSubscription(topics=["t"], user_data=data)
        assert member_view("sticky", written(said, 1), None).owned == ()
    with pytest.raises(KafkaError, match="a member's subscription"):
        member_view("range", b"\0\1\0", None)


def test_a_large_group_is_assigned_in_time():
    counts = {f"t{n}": 20 for n in range(100)}
    members = {f"m{n:03}": MemberView(frozenset(counts), None, (), -1) for n in range(200)}
    assert {len(share) for share in even_and_sticky(members, counts).values()} == {10}
