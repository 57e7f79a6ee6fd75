"""Elections and reassignments on a cluster of several brokers, on both twins of the store."""

from dataclasses import replace

import pytest

from ottla.base.errors import ErrorCode
from ottla.metadata import keys
from ottla.metadata.replica_control import Election
from ottla.metadata.store import Put
from tests.metadata.test_controller import on_cluster


async def given(controller, metadata, **state):
    """Partition 0 of "t" on brokers 1, 2 and 3, in that state."""
    topic = await controller.create_topic("t", assignments={0: [1, 2, 3]})
    old = metadata.image.topics["t"].partitions[0]
    new = replace(old, **state)
    key = keys.partition_key(topic.id, 0)
    result = await metadata.store.txn([], [Put(key, new.value())])
    await metadata.wait_revision(result.revision)
    return new


def now(metadata):
    return metadata.image.topics["t"].partitions[0]


def code_of(outcomes):
    (outcome,) = outcomes.values()
    return 0 if outcome is None else outcome.code


PREFERRED, UNCLEAN = Election.PREFERRED, Election.UNCLEAN


@pytest.mark.parametrize(
    ("kind_of_election", "state", "code", "leader", "isr"),
    [
        (PREFERRED, {}, ErrorCode.ELECTION_NOT_NEEDED, 1, (1, 2, 3)),
        (PREFERRED, {"leader": 2}, 0, 1, (1, 2, 3)),
        (PREFERRED, {"leader": -1}, 0, 1, (1, 2, 3)),
        (
            PREFERRED,
            {"leader": 2, "isr": (2, 3)},
            ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
            2,
            (2, 3),
        ),
        (
            PREFERRED,
            {"leader": 2, "replicas": (9, 2), "isr": (9, 2)},
            ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
            2,
            (9, 2),
        ),
        (UNCLEAN, {"leader": 2}, ErrorCode.ELECTION_NOT_NEEDED, 2, (1, 2, 3)),
        (UNCLEAN, {"leader": -1, "isr": (3,)}, 0, 3, (3,)),
        (UNCLEAN, {"leader": 9, "replicas": (9, 2, 3), "isr": (9,)}, 0, 2, (2,)),
        (UNCLEAN, {"leader": -1, "replicas": (9, 2, 3), "isr": (9,), "elr": (3,)}, 0, 3, (3,)),
        (
            UNCLEAN,
            {"leader": -1, "replicas": (8, 9), "isr": (8,)},
            ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
            -1,
            (8,),
        ),
    ],
)
def test_elections(kind, kind_of_election, state, code, leader, isr):
    async def test(controller, metadata):
        old = await given(controller, metadata, **state)
        outcomes = await controller.replicas.elect(kind_of_election, [("t", 0)])
        new = now(metadata)
        assert code_of(outcomes) == code
        assert (new.leader, new.isr) == (leader, isr)
        step = 1 if not code else 0
        assert new.leader_epoch == old.leader_epoch + step
        assert new.partition_epoch == old.partition_epoch + step
        assert not set(new.elr) & set(new.isr)

    on_cluster(kind, test)


@pytest.mark.parametrize(
    ("state", "wanted", "may_resize", "code", "leader"),
    [
        ({}, [1, 2, 3], True, 0, 1),
        ({}, [3, 2, 1], True, 0, 1),
        ({}, [1, 2], True, 0, 1),
        ({}, [2, 3], True, 0, 2),
        ({}, [2, 3], False, ErrorCode.INVALID_REPLICATION_FACTOR, 1),
        ({}, [2, 3, 1], False, 0, 1),
        ({"isr": (1, 2)}, [3, 1], True, ErrorCode.INVALID_REPLICA_ASSIGNMENT, 1),
        ({}, [1, 2, 3, 9], True, ErrorCode.INVALID_REPLICA_ASSIGNMENT, 1),
        ({}, [1, 1], True, ErrorCode.INVALID_REPLICA_ASSIGNMENT, 1),
        ({}, [], True, ErrorCode.INVALID_REPLICA_ASSIGNMENT, 1),
        ({}, None, True, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, 1),
    ],
)
def test_reassignments(kind, state, wanted, may_resize, code, leader):
    async def test(controller, metadata):
        old = await given(controller, metadata, **state)
        outcomes = await controller.replicas.reassign({("t", 0): wanted}, may_resize=may_resize)
        new = now(metadata)
        assert code_of(outcomes) == code
        assert new.leader == leader
        assert new.replicas == (old.replicas if code else tuple(wanted))
        assert set(new.isr) <= set(new.replicas)
        assert new.leader_epoch == old.leader_epoch + (leader != old.leader)

    on_cluster(kind, test)


def test_what_is_as_it_is_wanted_writes_nothing(kind):
    async def test(controller, metadata):
        await given(controller, metadata)
        revision = metadata.image.revision
        await controller.replicas.reassign({("t", 0): [1, 2, 3]}, may_resize=True)
        await controller.replicas.elect(PREFERRED, [("t", 0), ("nope", 0)])
        assert metadata.image.revision == revision

    on_cluster(kind, test)
