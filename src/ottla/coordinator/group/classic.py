"""A classic group: its members, its state, and the rules that need nothing but the group.

    EMPTY ───────── join ──────────> PREPARING_REBALANCE <──┐
      ^  <── nobody came ──────────        │ all came       │ join, leave, failure
      │                                    v                │
      │                            COMPLETING_REBALANCE ────┤
      │                                    │ assigned       │
      │                                    v                │
    DEAD: removed                        STABLE ────────────┘

What is durable is the record of the last generation (`value`): it is written when a generation's
assignments are known, when a static member comes back under a new id, and when the group becomes
empty. All else, who is joining above all, is in memory alone.
Members keep the order in which they came, so that the same requests lead to the same leader.
Source: Kafka's protocol guide, KIP-345 (static members), KIP-394 (member ids).
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError, check
from ottla.coordinator.group.member import Budget, Member, Protocol
from ottla.coordinator.group.records import GroupKey, GroupRecord, GroupValue, MemberValue
from ottla.coordinator.group.subscription import topics_of
from ottla.coordinator.pending import Pending

CONSUMER: Final = "consumer"
"""The protocol type of consumers: what their members say can be read."""


class GroupState(Enum):
    """By the name that clients see."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


EMPTY, PREPARING_REBALANCE, COMPLETING_REBALANCE, STABLE, DEAD = GroupState

BEFORE: Final[dict[GroupState, tuple[GroupState, ...]]] = {
    EMPTY: (PREPARING_REBALANCE,),
    PREPARING_REBALANCE: (STABLE, COMPLETING_REBALANCE, EMPTY),
    COMPLETING_REBALANCE: (PREPARING_REBALANCE,),
    STABLE: (COMPLETING_REBALANCE,),
    DEAD: (STABLE, PREPARING_REBALANCE, COMPLETING_REBALANCE, EMPTY),
}
"""From which states one may come to another."""


class ClassicGroup:
    __slots__ = (
        "_budget",
        "_counts",
        "former_state",
        "generation",
        "id",
        "is_durable",
        "is_extended",
        "joined_count",
        "leader",
        "members",
        "pending_ids",
        "protocol",
        "protocol_type",
        "state",
        "state_since_ms",
        "static_ids",
        "unsynced",
    )

    def __init__(self, group_id: str, budget: Budget, now_ms: int = -1) -> None:
        self.id = group_id
        self.state = EMPTY
        self.former_state = DEAD
        self.state_since_ms = now_ms
        self.generation = 0
        self.protocol_type: str | None = None
        """None: offsets were committed, and nobody ever joined (a simple consumer)."""
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.static_ids: dict[str, str] = {}
        """Member ids of static members, by instance id."""
        self.pending_ids: dict[str, None] = {}
        """Ids that were given and not used yet."""
        self.unsynced: dict[str, None] = {}
        """Members of this generation that did not send a SyncGroup yet."""
        self.is_extended = False
        """Somebody came during the initial rebalance: it may take longer."""
        self.is_durable = False
        """It has a record in the log."""
        self.joined_count = 0
        """Members whose JoinGroup waits."""
        self._counts: dict[str, int] = {}
        """How many members know a protocol."""
        self._budget = budget

    # -- what it is

    def is_in(self, *states: GroupState) -> bool:
        return self.state in states

    @property
    def can_rebalance(self) -> bool:
        return self.state in BEFORE[PREPARING_REBALANCE]

    @property
    def have_all_joined(self) -> bool:
        return not self.pending_ids and self.joined_count == len(self.members)

    @property
    def rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    @property
    def is_worthless(self) -> bool:
        """Nothing would be lost if it were forgotten, but for offsets."""
        is_idle = self.state is EMPTY and not self.members and not self.pending_ids
        return is_idle and not self.is_durable

    def subscribed_topics(self) -> set[str] | None:
        """What its consumers read; None where that cannot be known."""
        if self.protocol_type != CONSUMER:
            return None
        return topics_of(member.metadata(self.protocol) for member in self.members.values())

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member may be reading it: yes, if that is not known of consumers."""
        if self.protocol_type != CONSUMER:
            return False
        if not self.members:
            return False
        topics = self.subscribed_topics() if self.protocol is not None else None
        return topics is None or topic in topics

    # -- protocols

    def supports(self, protocol_type: str, protocols: Iterable[Protocol]) -> bool:
        """Whether who speaks these can be a member beside those that are there."""
        names = [each.name for each in protocols]
        if self.state is EMPTY:
            return bool(protocol_type and names)
        if self.protocol_type != protocol_type:
            return False
        everybody = len(self.members)
        return any(self._counts.get(name, 0) == everybody for name in names)

    def select_protocol(self) -> str:
        """The protocol that all know and most prefer; of equals, the first that was named."""
        everybody = len(self.members)
        votes: dict[str, int] = {}
        for member in self.members.values():
            for each in member.protocols:
                if self._counts.get(each.name) == everybody:
                    votes[each.name] = votes.get(each.name, 0) + 1
                    break
        check(votes, "the members of a group have a protocol in common")
        return max(votes, key=lambda name: votes[name])

    def _count(self, member: Member, change: int) -> None:
        for name in dict.fromkeys(each.name for each in member.protocols):
            count = self._counts.get(name, 0) + change
            if count:
                self._counts[name] = count
            else:
                self._counts.pop(name, None)

    # -- members

    def check_member(self, member_id: str, instance_id: str | None) -> Member:
        """The member that a request names; FENCED_INSTANCE_ID or UNKNOWN_MEMBER_ID."""
        if instance_id is not None:
            known = self.static_ids.get(instance_id)
            if known is None:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            if known != member_id:
                raise KafkaError(ErrorCode.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        return member

    def add(self, member: Member, protocol_type: str) -> None:
        if not self.members:
            self.protocol_type = protocol_type
        if self.leader is None:
            self.leader = member.id
        if member.instance_id is not None:
            self.static_ids[member.instance_id] = member.id
        self.remove_pending(member.id)
        self.members[member.id] = member
        self._count(member, 1)
        member.charged_bytes = member.size_bytes
        self._budget.take(member.charged_bytes)

    def remove(self, member_id: str) -> None:
        """A member or a given id goes; the first of the others leads, if it led."""
        self.remove_pending(member_id)
        self.unsynced.pop(member_id, None)
        member = self.members.pop(member_id, None)
        if member is None:
            return
        self.set_join(member, None)
        self._count(member, -1)
        self._budget.give(member.charged_bytes)
        if member.instance_id is not None:
            self.static_ids.pop(member.instance_id, None)
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)

    def update(
        self,
        member: Member,
        protocols: tuple[Protocol, ...],
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
    ) -> None:
        self._count(member, -1)
        member.protocols = protocols
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms
        self._count(member, 1)
        self._charge(member)

    def set_join(self, member: Member, join: Pending | None) -> None:
        self.joined_count += (join is not None) - (member.join is not None)
        member.join = join

    def assign(self, member: Member, assignment: bytes) -> None:
        member.assignment = assignment
        self._charge(member)

    def _charge(self, member: Member) -> None:
        self._budget.bytes += member.size_bytes - member.charged_bytes
        member.charged_bytes = member.size_bytes

    def rename(self, member: Member, member_id: str) -> None:
        """A static member came back: the same one, under a new id, at the end of the list."""
        old_id = member.id
        del self.members[old_id]
        self.unsynced.pop(old_id, None)
        member.id = member_id
        self.members[member_id] = member
        check(member.instance_id, "only static members are renamed")
        self.static_ids[member.instance_id or ""] = member_id
        if self.leader == old_id:
            self.leader = member_id
        self._charge(member)

    def add_pending(self, member_id: str) -> None:
        self.pending_ids[member_id] = None
        self._budget.take(len(member_id))

    def remove_pending(self, member_id: str) -> None:
        if member_id in self.pending_ids:
            del self.pending_ids[member_id]
            self._budget.give(len(member_id))

    def elect_joined_leader(self) -> bool:
        """See to it that the leader is one who joined; False where nobody did."""
        leader = self.members.get(self.leader or "")
        if leader is not None and leader.join is not None:
            return True
        for member in self.members.values():
            if member.join is not None:
                self.leader = member.id
                return True
        return False

    def forget_members(self) -> None:
        """The group is unloaded or gone."""
        for member_id in [*self.members, *self.pending_ids]:
            self.remove(member_id)

    # -- states and generations

    def become(self, state: GroupState, now_ms: int) -> None:
        check(self.state in BEFORE[state], f"a group cannot be {state.value} after {self.state}")
        self.former_state = self.state
        self.state = state
        self.state_since_ms = now_ms

    def start_generation(self, now_ms: int) -> None:
        """All who will come have come."""
        self.generation += 1
        self.unsynced.clear()
        if self.members:
            self.protocol = self.select_protocol()
            self.become(COMPLETING_REBALANCE, now_ms)
        else:
            self.protocol = None
            self.leader = None
            self.become(EMPTY, now_ms)

    # -- the record

    def record(
        self, assignments: dict[str, bytes] | None = None, since_ms: int | None = None
    ) -> GroupRecord:
        """This generation, with its members' assignments, or with those that make it stable."""
        members = []
        for member in self.members.values():
            assignment = member.assignment
            if assignments is not None:
                assignment = assignments.get(member.id, b"")
            members.append(
                MemberValue(
                    member_id=member.id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    rebalance_timeout=member.rebalance_timeout_ms,
                    session_timeout=member.session_timeout_ms,
                    subscription=member.metadata(self.protocol),
                    assignment=assignment,
                )
            )
        value = GroupValue(
            protocol_type=self.protocol_type or "",
            generation=self.generation,
            protocol=self.protocol,
            leader=self.leader,
            current_state_timestamp=self.state_since_ms if since_ms is None else since_ms,
            members=members,
        )
        return GroupRecord(GroupKey(group=self.id), value)

    def replay(self, value: GroupValue) -> None:
        """Become what the record says. Members that are here stay, with what they wait for."""
        self.is_durable = True
        self.protocol_type = value.protocol_type or None
        self.generation = value.generation
        self.protocol = value.protocol
        self.state_since_ms = value.current_state_timestamp
        named = {each.member_id for each in value.members}
        for member_id in [each for each in self.members if each not in named]:
            self.remove(member_id)
        for each in value.members:
            member = self.members.get(each.member_id)
            if member is None:
                self.add(_member_of(each, value.protocol or ""), value.protocol_type)
            else:
                self._replay_member(member, each, value.protocol or "")
        self.leader = value.leader
        self.former_state = self.state
        self.state = STABLE if self.members else EMPTY

    def _replay_member(self, member: Member, value: MemberValue, protocol: str) -> None:
        """One that is here knows more protocols than its record says, unless it is out of the log
        itself, where an older record said something else."""
        said = Protocol(protocol, value.subscription)
        protocols = member.protocols if said in member.protocols else (said,)
        self.update(member, protocols, _rebalance_timeout_ms(value), value.session_timeout)
        self.assign(member, value.assignment)


def _rebalance_timeout_ms(value: MemberValue) -> int:
    timeout_ms = value.rebalance_timeout
    return value.session_timeout if timeout_ms == -1 else timeout_ms


def _member_of(value: MemberValue, protocol: str) -> Member:
    return Member(
        value.member_id,
        instance_id=value.group_instance_id,
        client_id=value.client_id,
        client_host=value.client_host,
        rebalance_timeout_ms=_rebalance_timeout_ms(value),
        session_timeout_ms=value.session_timeout,
        protocols=(Protocol(protocol, value.subscription),),
        assignment=value.assignment,
    )
