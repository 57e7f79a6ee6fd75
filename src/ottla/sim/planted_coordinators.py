"""Faults to plant in the coordinators and what they lean on: see `planted`."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from ottla.base.errors import ErrorCode
from ottla.coordinator import commits
from ottla.coordinator.commits import Commits
from ottla.coordinator.group.consumer_membership import ConsumerMembership
from ottla.coordinator.group.consumer_step import Step
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.group.membership import Membership
from ottla.coordinator.group.rebalance import Rebalance
from ottla.coordinator.machine import Outcome
from ottla.coordinator.pending import Pending
from ottla.coordinator.transaction import machine
from ottla.coordinator.transaction.endings import ending_of
from ottla.coordinator.transaction.leaders import LocalLeaders
from ottla.coordinator.transaction.machine import TransactionMachine
from ottla.coordinator.transaction.markers import EndMarker, MarkerJob
from ottla.coordinator.transaction.state import Place
from ottla.replica.partition import OPEN, Partition
from ottla.storage.log import Log

Patch = Callable[[object, str, object], None]
SKIPPED: Final = 9
"""Of so many appends of coordinators one is not made."""


# ---- what coordinators have in common


def an_answer_leaves_before_its_record_is_kept(patch: Patch) -> None:
    def hasty(self: Commits, answers: list[Any]) -> None:
        commits._deliver(answers)

    patch(Commits, "add", hasty)


def some_records_are_not_appended(patch: Patch) -> None:
    append, calls = Partition.append_own, [0]

    def forgetful(self: Partition, batch: bytearray, now_ms: int) -> object:
        calls[0] += 1
        return append(self, batch, now_ms) if calls[0] % SKIPPED else None

    patch(Partition, "append_own", forgetful)


# ---- transactions


def a_transaction_ends_without_a_marker(patch: Patch) -> None:
    write = MarkerJob._write

    def skip(self: MarkerJob, place: Place) -> None:
        if place[1] == 1:
            self._settle(place, ErrorCode.NONE)
        else:
            write(self, place)

    patch(MarkerJob, "_write", skip)


def a_commit_is_an_abort_in_one_partition(patch: Patch) -> None:
    write = LocalLeaders.write

    def turned(self: LocalLeaders, marker: EndMarker, place: Place, done: Any) -> None:
        write(self, marker._replace(committed=marker.committed and place[1] != 1), place, done)

    patch(LocalLeaders, "write", turned)


def a_zombie_is_not_fenced(patch: Patch) -> None:
    known = TransactionMachine._known

    def believing(self: TransactionMachine, transactional_id: str, producer: Any) -> object:
        transaction = self.transactions.get(transactional_id)
        if transaction is not None:
            producer = producer._replace(epoch=transaction.epoch)
        return known(self, transactional_id, producer)

    def ended(transaction: Any, producer: Any, **asked: bool) -> object:
        return ending_of(transaction, producer._replace(epoch=transaction.epoch), **asked)

    patch(TransactionMachine, "_known", believing)
    patch(machine, "ending_of", ended)


def a_start_forgets_what_was_decided(patch: Patch) -> None:
    patch(TransactionMachine, "loaded", lambda self, now_ms: None)


def nobody_is_told_what_was_aborted(patch: Patch) -> None:
    patch(Log, "aborted_transactions", lambda self, start, end: [])


def the_last_stable_offset_is_the_high_watermark(patch: Patch) -> None:
    patch(Partition, "last_stable_offset", property(lambda self: self.high_watermark))


def a_write_is_not_verified(patch: Patch) -> None:
    patch(Partition, "begin_verification", lambda self, producer_id, epoch: OPEN)
    patch(Partition, "check_verified", lambda self, producer_id, epoch, token: None)


def offsets_of_a_transaction_count_at_once(patch: Patch) -> None:
    patch(GroupMachine, "replay_pending", lambda self, record, producer_id: self.replay(record))


def offsets_of_an_aborted_transaction_count(patch: Patch) -> None:
    end = GroupMachine.end_transaction

    def committed(self: GroupMachine, producer_id: int, *, committed: bool) -> None:
        end(self, producer_id, committed=True)

    patch(GroupMachine, "end_transaction", committed)


# ---- groups


def offsets_of_a_former_member_are_taken(patch: Patch) -> None:
    def anybody(self: Membership, *known: object, **others: object) -> None:
        return

    patch(Membership, "check_commit", anybody)


def a_partition_is_given_away_before_it_is_free(patch: Patch) -> None:
    patch(Step, "is_free", lambda self, topic, index: True)


def a_rebalance_does_not_wait_for_members(patch: Patch) -> None:
    def hasty(self: Rebalance, group: Any, now_ms: int) -> Sequence[Any]:
        return self.complete(group, now_ms) if group.joined_count else []

    patch(Rebalance, "maybe_complete", hasty)


def a_member_that_is_gone_stays(patch: Patch) -> None:
    patch(ConsumerMembership, "_expire_session", lambda self, *known: Outcome())


def what_was_forgotten_comes_back(patch: Patch) -> None:
    decode = GroupMachine.decode

    def keep(self: GroupMachine, key: bytes, value: bytes | None) -> object:
        return None if value is None else decode(self, key, value)

    patch(GroupMachine, "decode", keep)


def a_kept_answer_is_lost(patch: Patch) -> None:
    complete = Pending.complete

    def silent(self: Pending, response: Any) -> None:
        if type(response).__name__ != "SyncGroupResponse" or response.error_code:
            complete(self, response)

    patch(Pending, "complete", silent)


TRANSACTIONS: Final = (
    an_answer_leaves_before_its_record_is_kept,
    some_records_are_not_appended,
    a_transaction_ends_without_a_marker,
    a_commit_is_an_abort_in_one_partition,
    a_zombie_is_not_fenced,
    a_start_forgets_what_was_decided,
    nobody_is_told_what_was_aborted,
    the_last_stable_offset_is_the_high_watermark,
    a_write_is_not_verified,
    offsets_of_a_transaction_count_at_once,
    offsets_of_an_aborted_transaction_count,
)
GROUPS: Final = (
    offsets_of_a_former_member_are_taken,
    a_partition_is_given_away_before_it_is_free,
    a_rebalance_does_not_wait_for_members,
    a_member_that_is_gone_stays,
    what_was_forgotten_comes_back,
    a_kept_answer_is_lost,
)
