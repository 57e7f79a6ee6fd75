"""Assignors of the classic protocol: who of a group reads which partition.

The leader of a generation asks the assignor that all members know; the others take what they are
told. So a member of ours may stand beside members of any other client: names, what members say
(protocol/consumer_protocol) and the promises of each assignor are Kafka's.

    range               of each topic a run of neighbours; the first members get one more
    roundrobin          all partitions in turn to all members
    sticky              as even as may be, and what a member had it keeps where that allows it
    cooperative-sticky  the same; members keep reading while the group is rebalanced, and what
                        moves is given up by the one before the other gets it (KIP-429)

An assignor is a function of the members and of how many partitions each topic has. Racks of
members are not looked at (KIP-881).
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.client.sticky import Shares, StickyMember, kept_shares, sticky_shares
from ottla.protocol.consumer_protocol import (
    ConsumerProtocolSubscription,
    CooperativeStickyUserData,
    StickyUserData,
    read_sticky,
    read_subscription,
    rows_of,
    user_data,
)

RANGE: Final = "range"
ROUND_ROBIN: Final = "roundrobin"
STICKY: Final = "sticky"
COOPERATIVE_STICKY: Final = "cooperative-sticky"
COOPERATIVE: Final = (COOPERATIVE_STICKY,)
"""Those under which members may keep reading through a rebalance."""


class MemberView(NamedTuple):
    """A member as an assignor sees it."""

    topics: frozenset[str]
    instance_id: str | None
    owned: tuple[TopicPartition, ...]
    generation: int


Members = Mapping[str, MemberView]
Counts = Mapping[str, int]


def range_shares(members: Members, counts: Counts) -> Shares:
    shares: Shares = {member_id: [] for member_id in members}
    for topic in sorted(counts):
        readers = [each for each in _in_order(members) if topic in members[each].topics]
        if not readers:
            continue
        each_count, extra_count = divmod(counts[topic], len(readers))
        start = 0
        for number, member_id in enumerate(readers):
            stop = start + each_count + (number < extra_count)
            shares[member_id] += [_place(topic, index) for index in range(start, stop)]
            start = stop
    return shares


def round_robin_shares(members: Members, counts: Counts) -> Shares:
    shares: Shares = {member_id: [] for member_id in members}
    turn = cycle(_in_order(members))
    for topic in sorted(counts):
        if not any(topic in member.topics for member in members.values()):
            continue
        for index in range(counts[topic]):
            member_id = next(each for each in turn if topic in members[each].topics)
            shares[member_id].append(_place(topic, index))
    return shares


def even_and_sticky(members: Members, counts: Counts) -> Shares:
    return sticky_shares(_sticky(members), counts)


def cooperative_shares(members: Members, counts: Counts) -> Shares:
    """What goes from one member to another is left out for now: the one gives it up, joins again,
    and then the other gets it."""
    shares = even_and_sticky(members, counts)
    owners: dict[TopicPartition, list[str]] = {}
    for member_id, member in members.items():
        for key in member.owned:
            owners.setdefault(key, []).append(member_id)
    return {
        member_id: [key for key in share if all(o == member_id for o in owners.get(key, ()))]
        for member_id, share in shares.items()
    }


ASSIGNORS: Final[Mapping[str, Callable[[Members, Counts], Shares]]] = {
    RANGE: range_shares,
    ROUND_ROBIN: round_robin_shares,
    STICKY: even_and_sticky,
    COOPERATIVE_STICKY: cooperative_shares,
}


def user_data_of(name: str, had: Mapping[str, list[int]], generation: int) -> bytes | None:
    """What a member tells this assignor beside its topics, who had these in a generation."""
    if name == STICKY and generation >= 0:
        return user_data(StickyUserData(previous_assignment=rows_of(had), generation=generation))
    if name == COOPERATIVE_STICKY:
        return user_data(CooperativeStickyUserData(generation=generation))
    return None


def member_view(name: str, data: bytes, instance_id: str | None) -> MemberView:
    """What a member said to this assignor. KafkaError where it is no subscription; what it says
    of its past is left aside where it cannot be read."""
    try:
        said = read_subscription(data)
    except ValueError as error:
        raise KafkaError(
            ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"a member's subscription: {error}"
        ) from error
    rows, generation = said.owned_partitions, said.generation_id
    if name == STICKY:
        past = _past(said)
        rows, generation = past.previous_assignment, past.generation
    elif name == COOPERATIVE_STICKY and generation < 0 and len(said.user_data or b"") >= 4:
        generation = int.from_bytes((said.user_data or b"")[:4], "big", signed=True)
    owned = tuple(_place(row.topic, index) for row in rows for index in row.partitions)
    return MemberView(frozenset(said.topics), instance_id, owned, generation)


def _past(said: ConsumerProtocolSubscription) -> StickyUserData:
    try:
        return read_sticky(said.user_data or b"")
    except ValueError:
        return StickyUserData(previous_assignment=[])


def _sticky(members: Members) -> dict[str, StickyMember]:
    kept = kept_shares({each: (view.owned, view.generation) for each, view in members.items()})
    return {
        each: StickyMember(members[each].topics, tuple(kept[each])) for each in _in_order(members)
    }


def _in_order(members: Members) -> list[str]:
    """Static members first, by their instance ids, which outlive the member ids."""

    def rank(member_id: str) -> tuple[bool, str]:
        instance_id = members[member_id].instance_id
        return instance_id is None, member_id if instance_id is None else instance_id

    return sorted(members, key=rank)


def _place(topic: str, index: int) -> TopicPartition:
    return TopicPartition(topic, PartitionIndex(index))


def by_topic(keys: Iterable[TopicPartition]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key in keys:
        found.setdefault(key.topic, []).append(key.partition)
    return found
