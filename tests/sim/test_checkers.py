"""Each checker passes a history in which nothing is wrong, and finds what it is for."""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.sim.checkers import CHECKS, REPORTED, check_history
from ottla.sim.history import (
    Bound,
    Fate,
    Found,
    History,
    Poll,
    Send,
    Span,
    Topic,
    id_of,
    value_of,
)

KEY = (b"t" * 16, 0)
SOFT = (b"s" * 16, 0)
TRIMMED = (b"d" * 16, 0)


class Story(History):
    """A history told line by line; each line takes a second."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.add_topic(Topic("firm", KEY[0], 1))
        self.add_topic(Topic("soft", SOFT[0], 1, is_soft=True))
        self.add_topic(Topic("trimmed", TRIMMED[0], 1, is_trimmed=True))

    def tick(self) -> float:
        self.now += 1
        return self.now

    def send(self, first_id: int, offset: int = -1, fate: Fate = Fate.OK, **known: Any) -> Send:
        given: dict[str, Any] = {
            "key": KEY,
            "producer": "p/1",
            "is_idempotent": True,
            "acks": -1,
            "count": 1,
            "tries": 1,
            **known,
        }
        now = self.tick()
        send = Send(first_id=first_id, sent_at=now, tried_at=now, **given)
        self.sends.append(send)
        self.end(send, fate, self.tick(), offset)
        return send

    def poll(self, position: int, *records: Found, mark: int | None = None, **known: Any) -> None:
        end = records[-1][0] + 1 if records else position
        given: dict[str, Any] = {
            "key": KEY,
            "reader": "r",
            "follows": False,
            "high_watermark": end if mark is None else mark,
            "last_stable_offset": end if mark is None else mark,
            "log_start_offset": 0,
            "boots": (1, 1),
            **known,
        }
        span = Span(self.tick(), self.tick(), given.pop("boots"))
        self.polled(Poll(span=span, position=position, records=list(records), **given))

    def bound(self, boot: int = 1, **known: Any) -> None:
        span = Span(self.tick(), self.tick(), (boot, boot))
        self.bounded(Bound(**{"key": KEY, "span": span, **known}))

    def close(self, *records: Found, key: tuple[bytes, int] = KEY, start: int = 0) -> None:
        self.final[key], self.final_start[key] = list(records), start


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


def two_values_at_one_offset(story: Story) -> None:
    story.poll(0, (0, 10))
    story.poll(0, (0, 11))


def another_value_at_the_end(story: Story) -> None:
    story.poll(0, (0, 10))
    story.close((0, 11))


def acknowledged_elsewhere(story: Story) -> None:
    story.send(10, 7)
    story.poll(0, (0, 10))


def acknowledged_elsewhere_in_its_batch(story: Story) -> None:
    story.send(10, 0, count=2)
    story.poll(0, (0, 10), (1, 12), (2, 11))


def gone_at_the_end(story: Story) -> None:
    story.send(10, 0)
    story.send(11, 1)
    story.close((0, 10))


def gone_though_a_power_cut_came_before(story: Story) -> None:
    story.power_losses.append(story.tick())
    story.send(10, 0, acks=1)
    story.close()


def gone_from_a_soft_topic_without_a_power_cut(story: Story) -> None:
    story.send(10, 0, key=SOFT)
    story.close(key=SOFT)


def shown_and_gone(story: Story) -> None:
    story.poll(0, mark=5)
    story.close((0, 10))


def promised_by_list_offsets_and_gone(story: Story) -> None:
    story.bound(high_watermark=2)
    story.close((0, 10))


def twice_in_the_log(story: Story) -> None:
    story.send(10, 0)
    story.close((0, 10), (1, 10))


def out_of_order(story: Story) -> None:
    story.send(10, fate=Fate.INFO)
    story.send(11, 0)
    story.close((0, 11), (1, 10))


def out_of_order_within_a_batch(story: Story) -> None:
    story.send(10, fate=Fate.INFO, count=2)
    story.close((0, 11), (1, 10))


def refused_and_seen(story: Story) -> None:
    story.send(10, fate=Fate.FAIL)
    story.poll(0, (0, 10))


def refused_and_there_at_the_end(story: Story) -> None:
    story.send(10, fate=Fate.FAIL, count=2)
    story.close((0, 11))


def begins_behind_what_was_asked(story: Story) -> None:
    story.poll(3, (4, 10))


def a_hole_in_a_poll(story: Story) -> None:
    story.poll(0, (0, 10), (2, 12))


def a_hole_at_the_end(story: Story) -> None:
    story.close((0, 10), (2, 12))


def going_back_in_a_poll(story: Story) -> None:
    story.poll(0, (0, 10), (0, 10))


def a_follower_that_skips(story: Story) -> None:
    story.poll(0, (0, 10), follows=True)
    story.poll(2, follows=True)


def a_follower_that_goes_back(story: Story) -> None:
    story.poll(0, (0, 10), (1, 11), follows=True, key=TRIMMED)
    story.poll(1, (1, 11), follows=True, key=TRIMMED)


def a_high_watermark_that_goes_back(story: Story) -> None:
    story.poll(0, mark=5)
    story.poll(0, mark=4, boots=(2, 2))


def a_high_watermark_below_list_offsets(story: Story) -> None:
    story.bound(high_watermark=5)
    story.poll(0, mark=4)


def a_log_start_that_goes_back(story: Story) -> None:
    story.poll(0, log_start_offset=0, mark=9, key=TRIMMED)
    story.poll(0, log_start_offset=5, mark=9, key=TRIMMED)
    story.poll(0, log_start_offset=4, mark=9, key=TRIMMED)


def deleted_records_that_come_back(story: Story) -> None:
    story.bound(log_start_offset=5, is_lasting=True, boot=1)
    story.bound(log_start_offset=0, boot=2)


def a_log_start_that_nobody_asked_for(story: Story) -> None:
    story.deleting(KEY, 3)
    story.bound(log_start_offset=4)


def a_log_start_past_the_high_watermark(story: Story) -> None:
    story.poll(0, log_start_offset=3, mark=2)


def a_stable_offset_past_the_high_watermark(story: Story) -> None:
    story.poll(0, high_watermark=2, last_stable_offset=3)


def a_record_past_the_high_watermark(story: Story) -> None:
    story.poll(0, (0, 10), (1, 11), mark=1)


def a_high_watermark_past_the_flushed_end(story: Story) -> None:
    story.inside.append("t-0 at 1.0, inside the node: 0 5 4 5")


def acknowledged_by_a_failed_disk(story: Story) -> None:
    story.offline.append((0.5, 9.0))
    story.send(10, 0)


def an_answer_out_of_the_blue(story: Story) -> None:
    story.surprises.append("Fetch: UNKNOWN_SERVER_ERROR")


BREACHES: list[tuple[str, Callable[[Story], None]]] = [
    ("inconsistent-offset", two_values_at_one_offset),
    ("inconsistent-offset", another_value_at_the_end),
    ("acked-offset", acknowledged_elsewhere),
    ("acked-offset", acknowledged_elsewhere_in_its_batch),
    ("lost-write", gone_at_the_end),
    ("lost-write", gone_though_a_power_cut_came_before),
    ("lost-write", gone_from_a_soft_topic_without_a_power_cut),
    ("lost-write", shown_and_gone),
    ("lost-write", promised_by_list_offsets_and_gone),
    ("duplicate", twice_in_the_log),
    ("order", out_of_order),
    ("order", out_of_order_within_a_batch),
    ("refused-read", refused_and_seen),
    ("refused-read", refused_and_there_at_the_end),
    ("poll-skip", begins_behind_what_was_asked),
    ("poll-skip", a_hole_in_a_poll),
    ("poll-skip", a_hole_at_the_end),
    ("poll-skip", going_back_in_a_poll),
    ("follower", a_follower_that_skips),
    ("follower", a_follower_that_goes_back),
    ("high-watermark", a_high_watermark_that_goes_back),
    ("high-watermark", a_high_watermark_below_list_offsets),
    ("log-start", a_log_start_that_goes_back),
    ("log-start", deleted_records_that_come_back),
    ("log-start", a_log_start_that_nobody_asked_for),
    ("bounds", a_log_start_past_the_high_watermark),
    ("bounds", a_stable_offset_past_the_high_watermark),
    ("bounds", a_record_past_the_high_watermark),
    ("bounds", a_high_watermark_past_the_flushed_end),
    ("silence", acknowledged_by_a_failed_disk),
    ("surprise", an_answer_out_of_the_blue),
]


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
    assert [violation.check for violation in check_history(story)] == ["lost-write"] * REPORTED


def test_values_tell_their_id() -> None:
    for record_id in (0, 1, 77, 3 << 32 | 5):
        value = value_of(record_id)
        assert id_of(value) == record_id
        assert id_of(value + b"x") is None
        assert id_of(value[:-1] + bytes([value[-1] ^ 1])) is None
    assert id_of(None) is None
    assert len({len(value_of(record_id)) for record_id in range(200)}) > 50
