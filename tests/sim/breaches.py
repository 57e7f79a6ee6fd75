"""Histories in each of which one promise is broken: at least one for each check."""

from collections.abc import Callable

from ottla.sim.history import Claim, Copy, Fate, Offline
from tests.sim.story import COMPACTED, KEY, MIXED, SOFT, TRIMMED, Story


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


def gone_in_the_middle(story: Story) -> None:
    story.send(10, 0, count=2)
    story.close((1, 11))


def seen_and_gone(story: Story) -> None:
    story.poll(0, (0, 10), (1, 11))
    story.close((0, 10))


def committed_and_gone(story: Story) -> None:
    story.send(10, 0, key=MIXED, txn=story.txn())
    story.close(key=MIXED)


def a_key_that_lost_its_last_value(story: Story) -> None:
    story.send(10, 0, key=COMPACTED, keys=("a",))
    story.send(11, 1, key=COMPACTED, keys=("a",))
    story.close((0, 10), key=COMPACTED)


def a_committed_record_passed_over(story: Story) -> None:
    story.send(10, 1, key=MIXED, txn=story.txn())
    story.poll(0, (0, 7), (3, 8), key=MIXED)


def a_record_passed_over_that_another_got(story: Story) -> None:
    story.poll(0, (1, 10), key=MIXED, is_committed=True)
    story.poll(0, (0, 7), (3, 8), key=MIXED, is_committed=True, mark=5)


def a_follower_that_skips_a_committed_record(story: Story) -> None:
    story.send(10, 1, key=MIXED, txn=story.txn())
    story.poll(0, (0, 7), key=MIXED, follows=True)
    story.poll(2, key=MIXED, follows=True)


def a_stable_offset_that_goes_back(story: Story) -> None:
    story.poll(0, mark=5)
    story.poll(0, high_watermark=6, last_stable_offset=4)


def a_record_past_the_stable_offset(story: Story) -> None:
    story.poll(0, (0, 1), (1, 2), mark=5, last_stable_offset=1, is_committed=True)


def aborted_and_seen(story: Story) -> None:
    story.send(10, 0, key=MIXED, txn=story.txn(Fate.FAIL))
    story.poll(0, (0, 10), key=MIXED, is_committed=True)


def aborted_and_there_at_the_end(story: Story) -> None:
    story.send(10, 0, key=MIXED, txn=story.txn(Fate.FAIL))
    story.close((0, 10), key=MIXED)


def seen_before_its_commit(story: Story) -> None:
    txn = story.history_txn()
    story.send(10, 0, key=MIXED, txn=txn.number)
    story.poll(0, (0, 10), key=MIXED, is_committed=True)
    txn.asked_at, txn.fate, txn.ended_at = story.tick(), Fate.OK, story.tick()


def its_own_write_seen(story: Story) -> None:
    txn = story.history_txn()
    story.send(10, 0, key=MIXED, txn=txn.number)
    story.poll(0, (0, 10), key=MIXED, is_committed=True, txn=txn.number)


def two_that_read_each_other(story: Story) -> None:
    one, two = story.txn(), story.txn()
    story.send(10, 0, key=MIXED, txn=one)
    story.send(11, 1, key=MIXED, txn=two)
    story.poll(1, (1, 11), key=MIXED, is_committed=True, txn=one)
    story.poll(0, (0, 10), key=MIXED, is_committed=True, txn=two)


def half_of_a_transaction_is_there(story: Story) -> None:
    txn = story.txn(Fate.INFO)
    story.send(10, 0, key=MIXED, txn=txn)
    story.send(11, 0, txn=txn)
    story.close((0, 10), key=MIXED)
    story.close()


def half_of_a_committed_transaction_is_gone(story: Story) -> None:
    txn = story.txn()
    story.send(10, 0, key=MIXED, txn=txn, count=2)
    story.close((0, 10), key=MIXED)


def told_copy(story: Story, *copies: int, reached: int) -> None:
    story.copies.append(Copy("g", [KEY], [MIXED]))
    story.close((0, 10), (1, 11))
    for offset, origin in enumerate(copies):
        story.send(20 + offset, offset, key=MIXED, origins=(origin,))
    story.close(*((offset, 20 + offset) for offset in range(len(copies))), key=MIXED)
    story.commit(reached)
    story.read_offset(reached)


def copied_twice(story: Story) -> None:
    told_copy(story, 10, 11, 10, reached=2)


def not_copied(story: Story) -> None:
    told_copy(story, 10, reached=2)


def copied_without_its_offset(story: Story) -> None:
    told_copy(story, 10, 11, reached=1)


def an_offset_that_nobody_committed(story: Story) -> None:
    story.commit(4)
    story.read_offset(5)


def an_offset_of_an_aborted_transaction(story: Story) -> None:
    story.commit(5, txn=story.txn(Fate.FAIL))
    story.read_offset(5)


def an_offset_before_its_transaction_commits(story: Story) -> None:
    txn = story.history_txn()
    story.commit(5, txn=txn.number)
    story.read_offset(5)
    txn.asked_at, txn.fate, txn.ended_at = story.tick(), Fate.OK, story.tick()


def an_offset_that_goes_back(story: Story) -> None:
    story.commit(4)
    story.commit(5)
    story.read_offset(4)


def an_offset_of_a_former_owner(story: Story) -> None:
    story.commit(5)
    story.commit(4)
    story.read_offset(4)


def an_offset_that_vanishes(story: Story) -> None:
    story.commit(4)
    story.read_offset(-1)


def an_offset_that_was_read_and_goes_back(story: Story) -> None:
    story.commit(4)
    story.commit(5, Fate.INFO)
    story.read_offset(5)
    story.read_offset(4)


def an_offset_of_a_committed_transaction_is_missing(story: Story) -> None:
    story.commit(4)
    txn = story.history_txn()
    story.commit(5, txn=txn.number)
    txn.asked_at, txn.fate, txn.ended_at = story.tick(), Fate.OK, story.tick()
    story.read_offset(4)


def two_owners_at_a_time(story: Story) -> None:
    story.claims.append(Claim("g", KEY, "one", 1, 1.0, 5.0))
    story.claims.append(Claim("g", KEY, "two", 2, 4.0))


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
    story.offline.append(Offline(0.5, 9.0, (KEY,)))
    story.send(10, 0)


def an_answer_out_of_the_blue(story: Story) -> None:
    story.surprises.append("Fetch: UNKNOWN_SERVER_ERROR")


BREACHES: list[tuple[str, Callable[[Story], None]]] = [
    ("inconsistent-offsets", two_values_at_one_offset),
    ("inconsistent-offsets", another_value_at_the_end),
    ("acked-offset", acknowledged_elsewhere),
    ("acked-offset", acknowledged_elsewhere_in_its_batch),
    ("lost-write", gone_in_the_middle),
    ("lost-write", seen_and_gone),
    ("unseen", gone_at_the_end),
    ("unseen", gone_though_a_power_cut_came_before),
    ("unseen", gone_from_a_soft_topic_without_a_power_cut),
    ("unseen", shown_and_gone),
    ("unseen", promised_by_list_offsets_and_gone),
    ("unseen", committed_and_gone),
    ("duplicate", twice_in_the_log),
    ("nonmonotonic-send", out_of_order),
    ("nonmonotonic-send", out_of_order_within_a_batch),
    ("compaction", a_key_that_lost_its_last_value),
    ("int-nonmonotonic-poll", going_back_in_a_poll),
    ("int-poll-skip", begins_behind_what_was_asked),
    ("int-poll-skip", a_hole_in_a_poll),
    ("int-poll-skip", a_hole_at_the_end),
    ("int-poll-skip", a_committed_record_passed_over),
    ("int-poll-skip", a_record_passed_over_that_another_got),
    ("nonmonotonic-poll", a_follower_that_goes_back),
    ("poll-skip", a_follower_that_skips),
    ("poll-skip", a_follower_that_skips_a_committed_record),
    ("high-watermark", a_high_watermark_that_goes_back),
    ("high-watermark", a_high_watermark_below_list_offsets),
    ("last-stable", a_stable_offset_that_goes_back),
    ("log-start", a_log_start_that_goes_back),
    ("log-start", deleted_records_that_come_back),
    ("log-start", a_log_start_that_nobody_asked_for),
    ("bounds", a_log_start_past_the_high_watermark),
    ("bounds", a_stable_offset_past_the_high_watermark),
    ("bounds", a_record_past_the_high_watermark),
    ("bounds", a_record_past_the_stable_offset),
    ("bounds", a_high_watermark_past_the_flushed_end),
    ("silence", acknowledged_by_a_failed_disk),
    ("G1a", refused_and_seen),
    ("G1a", refused_and_there_at_the_end),
    ("G1a", aborted_and_seen),
    ("G1a", aborted_and_there_at_the_end),
    ("precommitted-read", seen_before_its_commit),
    ("precommitted-read", its_own_write_seen),
    ("G1c", two_that_read_each_other),
    ("torn-txn", half_of_a_transaction_is_there),
    ("torn-txn", half_of_a_committed_transaction_is_gone),
    ("copy", copied_twice),
    ("copy", not_copied),
    ("copy", copied_without_its_offset),
    ("offset-invented", an_offset_that_nobody_committed),
    ("offset-invented", an_offset_of_an_aborted_transaction),
    ("offset-invented", an_offset_before_its_transaction_commits),
    ("offset-back", an_offset_that_goes_back),
    ("offset-back", an_offset_of_a_former_owner),
    ("offset-back", an_offset_that_vanishes),
    ("offset-back", an_offset_that_was_read_and_goes_back),
    ("offset-back", an_offset_of_a_committed_transaction_is_missing),
    ("two-owners", two_owners_at_a_time),
    ("surprise", an_answer_out_of_the_blue),
]
