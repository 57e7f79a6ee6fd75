"""Each checker passes a history in which nothing is wrong, and finds what it is for."""

from collections.abc import Callable

import pytest

from ottla.sim.checkers import CHECKS, REPORTED, check_history
from ottla.sim.history import Claim, Fate, Offline, Span, id_of, value_of
from tests.sim.breaches import BREACHES, told_copy
from tests.sim.story import COMPACTED, KEY, MIXED, SOFT, Story


def broken(story: Story) -> list[str]:
    return list(dict.fromkeys(violation.check for violation in check_history(story)))


def test_nothing_is_wrong() -> None:
    story = Story()
    story.send(10, 0, count=2)
    story.send(20, fate=Fate.INFO)
    story.send(30, fate=Fate.FAIL)
    story.send(40, 3, acks=1, producer="q/1", is_idempotent=False, tries=4)
    story.poll(0, (0, 10), (1, 11), follows=True)
    story.poll(2, follows=True, mark=2)
    story.poll(2, (2, 20), (3, 40), follows=True, mark=4)
    story.poll(1, (1, 11), mark=4, reader="other", log_start_offset=None)
    story.send(50, 4, is_idempotent=False, producer="q/1", tries=2)
    story.bound(high_watermark=6)
    story.bound(log_start_offset=0)
    story.deleting(KEY, 1)
    story.bound(log_start_offset=1, is_lasting=True)
    story.close((1, 11), (2, 20), (3, 40), (4, 50), (5, 50), start=1)
    assert check_history(story) == []


@pytest.mark.parametrize(("check", "tell"), BREACHES, ids=[tell.__name__ for _, tell in BREACHES])
def test_a_breach_is_found(check: str, tell: Callable[[Story], None]) -> None:
    story = Story()
    tell(story)
    assert check in broken(story)


def test_every_checker_has_its_breach() -> None:
    assert list(dict.fromkeys(check for check, _ in BREACHES)) == list(CHECKS)


def test_what_a_power_cut_may_take() -> None:
    story = Story()
    story.send(10, 0, acks=1)
    story.send(11, 0, key=SOFT)
    story.poll(0, (0, 11), key=SOFT)
    story.power_losses.append(story.tick())
    story.send(12, 0)
    story.poll(0, (0, 12))
    story.close((0, 12))
    story.close((0, 13), key=SOFT)
    assert check_history(story) == []


def test_another_directory_goes_on_when_one_is_offline() -> None:
    story = Story()
    story.offline.append(Offline(0.5, 9.0, (MIXED,)))
    story.send(10, 0)
    assert check_history(story) == []


def test_answers_that_crossed_are_not_compared() -> None:
    story = Story()
    story.bound(high_watermark=5)
    late = story.bounds[-1]
    story.bound(high_watermark=3)
    early = story.bounds[-1]
    early.span = Span(late.span.asked_at, late.span.told_at + 1, (1, 1))
    assert check_history(story) == []


def test_a_few_breaches_of_each_are_told() -> None:
    story = Story()
    for offset in range(REPORTED + 5):
        story.send(offset, offset)
    story.close()
    assert [violation.check for violation in check_history(story)] == ["unseen"] * REPORTED


def test_transactions_with_which_nothing_is_wrong() -> None:
    story = Story()
    one, two = story.txn(), story.txn(Fate.INFO)
    aborted = story.txn(Fate.FAIL)
    story.send(10, 0, key=MIXED, txn=one, count=2)
    story.send(20, 2, key=MIXED, txn=aborted)
    story.send(30, 5, key=MIXED, txn=two)
    story.send(40, 7, key=MIXED, txn=story.txn(Fate.INFO))
    story.poll(0, (0, 10), (1, 11), key=MIXED, is_committed=True, follows=True, mark=9)
    story.poll(4, (5, 30), key=MIXED, is_committed=True, follows=True, mark=9, txn=one)
    story.poll(0, (0, 10), (1, 11), (2, 20), key=MIXED, mark=9)
    story.close((0, 10), (1, 11), (5, 30), key=MIXED)
    assert check_history(story) == []


def test_groups_with_which_nothing_is_wrong() -> None:
    story = Story()
    story.read_offset(-1)
    story.commit(2)
    story.commit(3, Fate.INFO)
    story.commit(4, Fate.FAIL)
    story.read_offset(2)
    story.read_offset(3)
    story.commit(5, txn=story.txn(Fate.FAIL))
    story.commit(6, txn=story.txn(Fate.INFO))
    story.read_offset(3)
    story.read_offset(6)
    story.commit(7, txn=story.txn())
    story.read_offset(7)
    story.commit(1)
    story.commits[-1].is_rewind = True
    story.read_offset(1)
    story.claims.append(Claim("g", KEY, "one", 1, 1.0, 5.0))
    story.claims.append(Claim("g", KEY, "two", 2, 5.0))
    story.claims.append(Claim("h", KEY, "three", 2, 5.0))
    assert check_history(story) == []


def test_a_copy_with_which_nothing_is_wrong() -> None:
    story = Story()
    told_copy(story, 11, 10, reached=2)
    other = Story()
    told_copy(other, 10, reached=1)
    assert check_history(story) == check_history(other) == []


def test_a_compacted_topic_with_which_nothing_is_wrong() -> None:
    story = Story()
    story.send(10, 0, key=COMPACTED, keys=("a", "b"), count=2)
    story.send(12, 2, key=COMPACTED, keys=("a",))
    story.poll(0, (1, 11), key=COMPACTED)
    story.close((1, 11), (2, 12), key=COMPACTED)
    assert check_history(story) == []


def test_values_tell_their_id() -> None:
    for record_id in (0, 1, 77, 3 << 32 | 5):
        value = value_of(record_id)
        assert id_of(value) == record_id
        assert id_of(value + b"x") is None
        assert id_of(value[:-1] + bytes([value[-1] ^ 1])) is None
    assert id_of(None) is None
    assert len({len(value_of(record_id)) for record_id in range(200)}) > 50
