"""The assignors: complete, disjoint, balanced, with few moves, and the same every time."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.ids import Uuid
from ottla.coordinator.group.assignors import ASSIGNORS
from ottla.coordinator.group.assignors.model import GroupSpec, MemberSpec, Place, Shares
from ottla.coordinator.group.assignors.range import assign_range
from ottla.coordinator.group.assignors.uniform import assign_uniform
from ottla.coordinator.group.consumer_records import Partitions


def topic(number: int) -> Uuid:
    return Uuid(number.to_bytes(16, "big"))


A, B, C = topic(1), topic(2), topic(3)


def group(
    counts: Mapping[Uuid, int],
    members: Mapping[str, set[Uuid]],
    has: Mapping[str, Partitions] | None = None,
) -> GroupSpec:
    now = has or {}
    specs = {
        member_id: MemberSpec(frozenset(topics & counts.keys()), now.get(member_id, {}))
        for member_id, topics in members.items()
    }
    return GroupSpec(specs, counts)


def places(share: Partitions) -> set[Place]:
    return {(topic_id, index) for topic_id, indexes in share.items() for index in indexes}


def sizes(shares: Shares) -> dict[str, int]:
    return {member_id: len(places(share)) for member_id, share in shares.items()}


# -- known cases


def test_uniform_gives_a_new_member_its_share_and_moves_nothing_else() -> None:
    first = assign_uniform(group({A: 6}, {"x": {A}, "y": {A}}))
    assert sizes(first) == {"x": 3, "y": 3}
    then = assign_uniform(group({A: 6}, {"x": {A}, "y": {A}, "z": {A}}, first))
    assert sizes(then) == {"x": 2, "y": 2, "z": 2}
    for member_id in ("x", "y"):
        assert places(then[member_id]) < places(first[member_id])


def test_uniform_leaves_the_larger_share_with_whoever_has_it() -> None:
    has = {"x": {A: frozenset({0})}, "y": {A: frozenset({1, 2})}}
    assert assign_uniform(group({A: 3}, {"x": {A}, "y": {A}}, has)) == has


def test_uniform_gives_nobody_a_topic_that_he_does_not_read() -> None:
    shares = assign_uniform(group({A: 4, B: 2}, {"x": {A}, "y": {A, B}, "z": {B}}))
    assert sizes(shares) == {"x": 2, "y": 2, "z": 2}
    assert set(shares["x"]) == {A}
    assert set(shares["z"]) == {B}


def test_uniform_takes_a_topic_from_who_reads_it_no_more() -> None:
    has = {"x": {A: frozenset({0, 1})}, "y": {B: frozenset({0})}}
    shares = assign_uniform(group({A: 2, B: 1}, {"x": {B}, "y": {A, B}}, has))
    assert shares["y"][A] == frozenset({0, 1})


def test_range_keeps_topics_together_and_orders_static_members_first() -> None:
    spec = group({A: 3, B: 3}, {"x": {A, B}, "y": {A, B}})
    members = {**spec.members, "y": spec.members["y"]._replace(instance_id="1")}
    assert assign_range(GroupSpec(members, spec.partition_counts)) == {
        "y": {A: frozenset({0, 1}), B: frozenset({0, 1})},
        "x": {A: frozenset({2}), B: frozenset({2})},
    }


def test_range_of_different_subscriptions() -> None:
    spec = group({A: 2, B: 3}, {"x": {A}, "y": {A, B}, "z": {B}})
    assert assign_range(spec) == {
        "x": {A: frozenset({0})},
        "y": {A: frozenset({1}), B: frozenset({0, 1})},
        "z": {B: frozenset({2})},
    }


@pytest.mark.parametrize("name", ASSIGNORS)
def test_nobody_and_nothing(name: str) -> None:
    assign = ASSIGNORS[name]
    assert assign(GroupSpec({}, {})) == {}
    assert assign(group({}, {"x": {A}, "y": set()})) == {"x": {}, "y": {}}
    assert assign(group({A: 1}, {"x": {A}, "y": {A}, "z": {A}})) == {
        "x": {A: frozenset({0})},
        "y": {},
        "z": {},
    }


# -- any group

TOPICS = [topic(number) for number in range(1, 6)]
COUNTS = st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 12))
NAMES = st.sampled_from([f"m{number}" for number in range(8)])
READS = st.dictionaries(NAMES, st.sets(st.sampled_from(TOPICS)))


def check_complete(spec: GroupSpec, shares: Shares) -> None:
    assert shares.keys() == spec.members.keys()
    seen: list[Place] = []
    for member_id, share in shares.items():
        assert share.keys() <= spec.members[member_id].topics
        assert all(share.values())
        seen += places(share)
    assert len(seen) == len(set(seen))
    read = {topic_id for member in spec.members.values() for topic_id in member.topics}
    assert set(seen) == {
        (topic_id, index) for topic_id in read for index in range(spec.partition_counts[topic_id])
    }


def check_level(spec: GroupSpec, shares: Shares) -> None:
    """No partition could move to a reader whose share would stay the smaller one."""
    size = sizes(shares)
    for member_id, share in shares.items():
        for topic_id in share:
            for other_id, other in spec.members.items():
                if topic_id in other.topics:
                    assert size[member_id] - size[other_id] < 2


@given(COUNTS, READS)
@pytest.mark.parametrize("name", ASSIGNORS)
def test_everything_is_assigned_once(
    name: str, counts: dict[Uuid, int], reads: dict[str, set[Uuid]]
) -> None:
    spec = group(counts, reads)
    shares = ASSIGNORS[name](spec)
    check_complete(spec, shares)
    shuffled = GroupSpec(
        dict(reversed(spec.members.items())), dict(reversed(spec.partition_counts.items()))
    )
    assert ASSIGNORS[name](shuffled) == shares


@given(st.lists(st.tuples(COUNTS, READS), min_size=1, max_size=5))
@settings(max_examples=200)
def test_uniform_stays_level_through_any_changes(
    changes: list[tuple[dict[Uuid, int], dict[str, set[Uuid]]]],
) -> None:
    shares: Shares = {}
    for counts, reads in changes:
        spec = group(counts, reads, shares)
        shares = assign_uniform(spec)
        check_complete(spec, shares)
        check_level(spec, shares)
        assert assign_uniform(group(counts, reads, shares)) == shares, "it has settled"


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 8))
def test_uniform_moves_as_little_as_it_can(partitions: int, before: int, after: int) -> None:
    def members(count: int) -> dict[str, set[Uuid]]:
        return {f"m{number}": {A} for number in range(count)}

    first = assign_uniform(group({A: partitions}, members(before)))
    then = assign_uniform(group({A: partitions}, members(after), first))
    kept = sum(
        len(places(share) & places(first.get(member_id, {}))) for member_id, share in then.items()
    )
    size, larger = divmod(partitions, after)
    most = sorted((len(places(first.get(each, {}))) for each in members(after)), reverse=True)
    best = sum(min(has, size + (rank < larger)) for rank, has in enumerate(most))
    assert kept == best


def test_a_large_group_is_done_in_passing() -> None:
    counts = {topic(number): 100 for number in range(1, 51)}
    reads = {
        f"m{number}": {topic(1 + (number + step) % 50) for step in range(number % 7 + 1)}
        for number in range(300)
    }
    spec = group(counts, reads)
    shares = assign_uniform(spec)
    check_complete(spec, shares)
    check_level(spec, shares)
