"""A consumer's side of a fetch session: what is named, what is forgotten, when it begins anew."""

from ottla.base.ids import ZERO_UUID, TopicPartition
from ottla.client.fetch_session import FetchSession, Wanted

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def want(offset):
    return Wanted(offset, 0, 0)


def test_only_what_changed_is_named():
    session = FetchSession()
    plan = session.plan({A: want(0), B: want(0)}, uses_ids=True)
    assert (plan.session_id, plan.epoch, list(plan.named), plan.forgotten) == (0, 0, [A, B], [])
    session.answered(7)
    plan = session.plan({A: want(5), B: want(0)}, uses_ids=True)
    assert (plan.session_id, plan.epoch, list(plan.named), plan.forgotten) == (7, 1, [A], [])
    session.answered(7)
    plan = session.plan({B: want(0)}, uses_ids=True)
    assert (plan.session_id, plan.epoch, list(plan.named), plan.forgotten) == (
        7,
        2,
        [],
        [(A, ZERO_UUID)],
    )
    session.answered(7)
    assert list(session.plan({A: want(5), B: want(0)}, uses_ids=True).named) == [A]


def test_without_a_session_everything_is_named_each_time():
    session = FetchSession()
    for _ in range(3):
        plan = session.plan({A: want(0), B: want(0)}, uses_ids=True)
        assert (plan.epoch, len(plan.named)) == (0, 2)
        session.answered(0)


def test_what_goes_wrong_or_names_otherwise_begins_anew():
    session = FetchSession()
    session.plan({A: want(0)}, uses_ids=True)
    session.answered(7)
    session.lost()
    assert session.plan({A: want(0)}, uses_ids=True).epoch == 0
    session.answered(8)
    plan = session.plan({A: want(0)}, uses_ids=False)
    assert (plan.session_id, plan.epoch, len(plan.named)) == (0, 0, 1)


def test_epochs_wrap_to_one():
    session = FetchSession()
    session.plan({A: want(0)}, uses_ids=True)
    session.answered(7)
    session._epoch = 0x7FFF_FFFF
    session.answered(7)
    assert session.plan({A: want(0)}, uses_ids=True).epoch == 1
