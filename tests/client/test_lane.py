"""A lane against a model of a broker's partition that loses answers, restarts and forgets.

The model checks sequences as Kafka does: the last five batches of a producer are remembered, the
last one alone after a restart; any sequence is taken of a producer that is not known; some batches
are too large. Whatever happens: what was acknowledged is there, in order, once; what failed for
certain is not there.
"""

import random

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid
from ottla.client.batch import Batch
from ottla.client.lane import EPOCH_MAX, SEQUENCE_MASK, Lane
from ottla.records.batch import read_header
from ottla.records.record import iterate_body

OOS = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


class Model:
    """A partition of a broker."""

    def __init__(self, most=100):
        self.log = []
        self.known = []
        self.state = None
        self.most = most

    def append(self, batch):
        if batch.count > self.most:
            return ErrorCode.MESSAGE_TOO_LARGE
        producer, first = (batch.producer_id, batch.epoch), batch.base_sequence
        last = first + batch.count - 1
        if self.state is not None:
            known_producer, last_sequence = self.state
            if producer == known_producer:
                if (first, last) in self.known:
                    return ErrorCode.NONE
                if first != last_sequence + 1:
                    return OOS
            elif producer[1] < known_producer[1]:
                return ErrorCode.INVALID_PRODUCER_EPOCH
            elif first != 0:
                return OOS
            else:
                self.known = []
        self.state = producer, last
        self.known = [*self.known, (first, last)][-5:]
        self.log += values_of(batch)
        return ErrorCode.NONE

    def restart(self):
        self.known = self.known[-1:]


def values_of(batch):
    header = read_header(batch.sealed())
    return [int(record.value) for record in iterate_body(header, bytes(batch.body))]


def ready_batch(lane, records=1, deadline=1e9, first=0):
    batch = Batch("t", 0, lane.next_number(), 0.0, deadline)
    for n in range(records):
        batch.append(0, None, b"%d" % (first + n), ())
    batch.payload = batch.body
    lane.ready.append(batch)
    return batch


def make_lane(settled=lambda batch: None, **options):
    lane = Lane("t", 0, is_idempotent=True, settled=settled, **options)
    lane.take_producer_id(7, 0)
    return lane


@pytest.mark.parametrize("seed", range(300))
def test_whatever_happens_nothing_is_there_twice_or_out_of_order(seed):
    rng = random.Random(seed)
    settled, model, flying = [], Model(rng.choice([1, 2, 100])), []
    lane = make_lane(settled.append)
    made = []
    for n in range(40):
        made.append(ready_batch(lane, rng.randint(1, 5), rng.choice([1e9, 40.0]), first=10 * n))
    fault_rate = rng.choice([0.0, 0.1, 0.4])
    now = 0.0
    while not lane.is_idle and now < 10_000:
        now += 1
        lane.expire(now)
        while (batch := lane.next_batch(now)) is not None:
            # What it does to the log happens in the order sent; the answer comes later.
            fate = rng.random()
            if fate < fault_rate / 2:
                flying.append((batch, "lost before"))
                continue
            if fate < fault_rate:
                code = rng.choice([6, 7, 19])
                flying.append((batch, ErrorCode(code)))
                if code == 7:
                    model.append(batch)
                continue
            code = model.append(batch)
            flying.append((batch, "lost after" if rng.random() < fault_rate / 2 else code))
        for batch, answer in flying[: rng.randint(0, 5)]:
            flying.remove((batch, answer))
            if batch.is_settled:
                continue
            if isinstance(answer, str):
                # A connection is lost as a whole: so is every answer behind it.
                for other, _ in [(batch, answer), *flying]:
                    if not other.is_settled:
                        lane.unanswered(other, answer, now, now + rng.randint(0, 2))
                flying.clear()
                if rng.random() < 0.5:
                    model.restart()
                break
            if answer is ErrorCode.MESSAGE_TOO_LARGE and (halves := lane.halved(batch)):
                for half in halves:
                    half.payload = half.body
            elif answer:
                lane.refused(batch, answer, None, now, now + rng.randint(0, 2))
            else:
                lane.acknowledged(batch, 0)
    ends = [place for batch in made for place, _, _ in batch.places(0, batch.count)]
    assert lane.is_idle and sorted(settled, key=lambda batch: batch.number) == ends
    assert model.log == sorted(set(model.log)), "in order, and nothing twice"
    there = set(model.log)
    for batch in ends:
        if batch.error is None:
            assert there.issuperset(values_of(batch)), "acknowledged and not there"
        elif not batch.error.is_uncertain:
            assert there.isdisjoint(values_of(batch)), "said to have failed and is there"
    if fault_rate == 0:
        assert all(batch.error is None for batch in ends if batch.deadline > 1e3)


def test_one_is_in_flight_until_an_epoch_is_known_and_five_afterwards():
    lane = make_lane()
    batches = [ready_batch(lane) for _ in range(9)]
    assert lane.next_batch(0) is batches[0] and lane.next_batch(0) is None
    lane.acknowledged(batches[0], 100)
    assert [lane.next_batch(0) for _ in range(6)] == [*batches[1:6], None]
    assert [batch.base_sequence for batch in batches[:6]] == [0, 1, 2, 3, 4, 5]


def test_without_idempotence_one_is_in_flight_and_retried_before_the_next():
    lane = Lane("t", 0, is_idempotent=False)
    first, second = ready_batch(lane), ready_batch(lane)
    assert lane.next_batch(0) is first and lane.next_batch(0) is None
    lane.unanswered(first, "gone", 0.0, 5.0)
    assert lane.next_batch(4.0) is None and lane.next_batch(5.0) is first
    assert first.base_sequence == -1
    lane.acknowledged(first, 0)
    assert lane.next_batch(5.0) is second


def test_a_duplicate_is_a_success_at_an_unknown_offset():
    lane = make_lane()
    batch = ready_batch(lane)
    lane.next_batch(0)
    lane.refused(batch, ErrorCode.DUPLICATE_SEQUENCE_NUMBER, None, 0, 0)
    assert batch.error is None and batch.base_offset == -1


def test_a_later_success_proves_what_came_before():
    lane = make_lane()
    batches = [ready_batch(lane) for _ in range(4)]
    lane.acknowledged(lane.next_batch(0), 0)
    for _ in range(3):
        lane.next_batch(0)
    for batch in batches[1:]:
        lane.unanswered(batch, "gone", 0, 0)
    # The broker has all, and was started again: it knows the last one alone.
    assert lane.next_batch(0) is batches[1]
    lane.refused(batches[1], OOS, None, 0, 0)
    assert lane.next_batch(0) is batches[2]
    lane.refused(batches[2], OOS, None, 0, 0)
    assert not batches[1].is_settled
    lane.acknowledged(lane.next_batch(0), 30)
    assert [(batch.base_offset, batch.error) for batch in batches] == [
        (0, None),
        (-1, None),
        (-1, None),
        (30, None),
    ]
    assert lane.is_idle and lane.epoch == 0


def test_what_cannot_be_known_fails_as_uncertain_and_the_next_epoch_begins():
    lane = make_lane()
    first, second = ready_batch(lane), ready_batch(lane)
    lane.next_batch(0)
    lane.unanswered(first, "gone", 0, 0)
    lane.next_batch(0)
    lane.refused(first, OOS, None, 0, 0)
    assert lane.next_batch(0) is second and lane.epoch == 1 and second.base_sequence == 0
    assert first.error.is_uncertain and "may have been written" in str(first.error)


def test_what_is_certain_not_to_be_there_is_sent_again_in_the_next_epoch():
    lane = make_lane()
    first, second = ready_batch(lane, 3), ready_batch(lane)
    lane.next_batch(0)
    lane.refused(first, ErrorCode.UNKNOWN_PRODUCER_ID, None, 0, 0)
    assert lane.next_batch(0) is first
    assert (first.epoch, first.base_sequence) == (1, 0)
    lane.acknowledged(first, 0)
    assert lane.next_batch(0) is second and second.base_sequence == 3


def test_a_doubtful_batch_with_nothing_behind_it_is_not_left_alone():
    lane = make_lane()
    first, second, last = (ready_batch(lane) for _ in range(3))
    lane.acknowledged(lane.next_batch(0), 0)
    lane.next_batch(0)
    lane.next_batch(0)
    lane.refused(second, ErrorCode.MESSAGE_TOO_LARGE, "too large", 0, 0)
    lane.mend()
    assert lane.in_flight == [last]
    lane.refused(last, OOS, None, 0, 0)
    assert lane.head is None and first.is_settled
    lane.mend()
    assert lane.head is last and lane.epoch == 1


def test_a_batch_that_is_refused_for_good_leaves_a_gap_that_is_mended():
    lane = make_lane()
    batches = [ready_batch(lane) for _ in range(3)]
    lane.acknowledged(lane.next_batch(0), 0)
    lane.next_batch(0)
    lane.next_batch(0)
    lane.refused(batches[1], ErrorCode.MESSAGE_TOO_LARGE, "too large", 0, 0)
    assert batches[1].error.code is ErrorCode.MESSAGE_TOO_LARGE
    assert not batches[1].error.is_uncertain and "too large" in str(batches[1].error)
    lane.refused(batches[2], OOS, None, 0, 0)
    assert lane.next_batch(0) is batches[2] and batches[2].epoch == 1


def test_a_used_up_epoch_asks_for_another_producer_id():
    lane = make_lane()
    lane.take_producer_id(7, EPOCH_MAX)
    batch = ready_batch(lane)
    lane.next_batch(0)
    lane.refused(batch, OOS, None, 0, 0)
    assert lane.next_batch(0) is None and lane.needs_producer_id and lane.used_up_id == 7
    lane.take_producer_id(8, 0)
    assert lane.next_batch(0) is batch and batch.producer_id == 8


def test_deadlines_and_retries_come_to_an_end():
    lane = make_lane(retries=2)
    late, tried = ready_batch(lane, deadline=5.0), ready_batch(lane)
    lane.expire(5.0)
    assert "before it was sent" in str(late.error) and not late.error.is_uncertain
    for _ in range(3):
        assert lane.next_batch(9.0) is tried
        lane.refused(tried, ErrorCode.NOT_ENOUGH_REPLICAS, None, 9.0, 9.0)
    assert "after 2 retries" in str(tried.error) and not tried.error.is_uncertain


def test_sequences_wrap():
    lane = make_lane()
    lane._next_sequence = 0x7FFF_FFFF
    first, second = ready_batch(lane, 2), ready_batch(lane)
    lane.acknowledged(lane.next_batch(0), 0)
    lane.next_batch(0)
    assert (first.base_sequence, second.base_sequence) == (0x7FFF_FFFF, 1)


def test_giving_up_fails_everything():
    lane = make_lane()
    batches = [ready_batch(lane) for _ in range(3)]
    lane.next_batch(0)
    lane.fail_all("closed")
    assert [batch.error.is_uncertain for batch in batches] == [True, False, False]
    assert lane.is_idle


def test_another_producer_id_is_asked_for_when_the_last_epoch_has_a_gap():
    lane = make_lane()
    lane.take_producer_id(7, EPOCH_MAX)
    ready_batch(lane)
    last = ready_batch(lane)
    lane.refused(lane.next_batch(0), ErrorCode.INVALID_RECORD, None, 0, 0)
    for _ in range(3):
        lane.mend()
        assert lane.next_batch(0) is None and lane.needs_producer_id and lane.used_up_id == 7
    lane.take_producer_id(8, 0)
    assert lane.next_batch(0) is last and (last.producer_id, last.base_sequence) == (8, 0)


def test_what_is_in_flight_fails_at_its_deadline_and_a_late_answer_changes_nothing():
    lane = make_lane()
    late, after = ready_batch(lane, deadline=5.0), ready_batch(lane, deadline=9.0)
    assert lane.next_batch(0) is late and lane.next_deadline == 5.0
    lane.expire(4.9)
    assert not late.is_settled
    lane.expire(5.0)
    assert late.error.is_uncertain and "delivery_timeout_ms is over" in str(late.error)
    assert lane.next_deadline == 9.0
    assert lane.next_batch(5.0) is after and (after.epoch, after.base_sequence) == (1, 0)


def test_a_later_success_is_no_proof_of_what_the_broker_refused_to_append():
    """A broker that forgot the producer takes the second of two: the first is sent once more."""
    lane = make_lane()
    ready_batch(lane)
    first, second, third = (ready_batch(lane) for _ in range(3))
    lane.acknowledged(lane.next_batch(0), 0)
    for _ in range(3):
        lane.next_batch(0)
    lane.refused(first, ErrorCode.NOT_ENOUGH_REPLICAS, None, 0, 0)
    lane.acknowledged(second, 1)
    assert not first.is_settled and lane.next_batch(0) is None
    lane.refused(third, ErrorCode.NOT_ENOUGH_REPLICAS, None, 0, 0)
    assert lane.next_batch(0) is third
    lane.acknowledged(third, 2)
    assert lane.next_batch(0) is first and (first.epoch, first.base_sequence) == (1, 0)
    lane.acknowledged(first, 3)
    assert first.error is None and first.base_offset == 3


def test_one_is_in_flight_until_a_topic_that_was_made_anew_has_acknowledged():
    lane = make_lane()
    batches = [ready_batch(lane) for _ in range(6)]
    lane.meet(Uuid(bytes(range(16))))
    lane.acknowledged(lane.next_batch(0), 0)
    lane.meet(Uuid(bytes(range(16))))
    lane.acknowledged(lane.next_batch(0), 1)
    lane.meet(Uuid(bytes(range(1, 17))))
    assert lane.next_batch(0) is batches[2] and lane.next_batch(0) is None
    lane.refused(batches[2], ErrorCode.UNKNOWN_TOPIC_ID, None, 0, 0)
    assert lane.next_batch(0) is batches[2] and lane.next_batch(0) is None
    lane.acknowledged(batches[2], 0)
    assert [lane.next_batch(0), lane.next_batch(0)] == batches[3:5]


def test_halves_stand_where_the_batch_stood_and_wait_for_their_payload():
    lane = make_lane()
    lane._next_sequence = SEQUENCE_MASK - 1
    large, after = ready_batch(lane, 5, first=10), ready_batch(lane)
    large.reserved_bytes = 101
    lane.next_batch(0)
    low, high = lane.halved(large)
    assert (values_of(low), values_of(high)) == ([10, 11], [12, 13, 14])
    assert (low.base_sequence, high.base_sequence) == (SEQUENCE_MASK - 1, 0)
    assert (low.reserved_bytes, high.reserved_bytes, large.reserved_bytes) == (50, 51, 0)
    assert list(large.places(1, 3)) == [(low, 1, 1), (high, 0, 2)]
    assert lane.next_batch(0) is None, "they are not packed yet"
    low.payload, high.payload = low.body, high.body
    for expected in (low, high, after):
        assert lane.next_batch(0) is expected
        lane.acknowledged(expected, 0)
    assert lane.is_idle and (after.base_sequence, after.epoch) == (3, 0)


def test_what_may_have_been_written_and_what_is_one_record_is_not_halved():
    lane = make_lane()
    one, doubtful = ready_batch(lane), ready_batch(lane, 2)
    assert lane.halved(lane.next_batch(0)) == ()
    lane.acknowledged(one, 0)
    lane.next_batch(0)
    lane.unanswered(doubtful, "gone", 0, 0)
    assert lane.halved(lane.next_batch(0)) == ()


def test_what_did_not_leave_was_not_tried():
    lane = make_lane(retries=1)
    batch = ready_batch(lane)
    for _ in range(5):
        lane.not_sent(lane.next_batch(0))
    assert batch.tries == 0
