"""What a history must show, whatever was done to the node: one function for each promise.

The names are Jepsen's where it has one. Records (`records`):

    inconsistent-offsets  one offset of a partition holds one record, in all that was ever seen
    acked-offset          a record is found where its acknowledgement put it
    lost-write            what was acknowledged, or shown to a reader, is there at the end
    unseen                the end reaches behind all that was acknowledged
    duplicate             an idempotent producer's record is there once
    nonmonotonic-send     an idempotent producer's records stand in the order it sent them
    compaction            of each key the last acknowledged record is there, or a later one

Polls (`polls`):

    int-nonmonotonic-poll, int-poll-skip    within one poll offsets rise, and pass over nothing
    nonmonotonic-poll, poll-skip            and so from poll to poll of a reader that follows

Marks (`marks`):

    high-watermark, last-stable   neither goes back
    log-start                     it never goes back in one life of the node, nor behind what
                                  DeleteRecords acknowledged; without retention it is one that
                                  was asked for
    bounds                        log start <= last stable offset <= high watermark
    silence                       nothing is acknowledged by a directory that went offline

Transactions (`transactions`):

    G1a                   nobody sees what was refused, nor by read_committed what was aborted
    precommitted-read     nor by read_committed what nobody has asked to commit
    G1c                   no two transactions have read each other
    torn-txn              of a transaction all is there at the end, or nothing
    copy                  each record of a source stands once in its copy, up to where the group is

Groups (`groups`):

    offset-invented       a group's offset is one that somebody committed, in no aborted transaction
    offset-back           and it never goes back, unless a client did
    two-owners            two members of a group never hold a partition at once

    surprise              no answer that no fault explains

A topic with `flush.on.ack=false` promises what a power cut spares: it is left out of all but
`G1a` and what is within one poll once power was lost. An acknowledgement of acks=1 promises the
same of any topic.
Each check yields what is wrong, with the place; an empty answer is a pass.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from ottla.sim.checkers import groups, marks, polls, records, transactions
from ottla.sim.checkers.sightings import Findings
from ottla.sim.history import History
from ottla.sim.workload import Violation

REPORTED: Final = 3
"""Breaches of one promise that are told."""


def surprise(history: History) -> Findings:
    yield from history.surprises


CHECKS: Final[dict[str, Callable[[History], Findings]]] = {
    "inconsistent-offsets": records.inconsistent_offsets,
    "acked-offset": records.acked_offset,
    "lost-write": records.lost_write,
    "unseen": records.unseen,
    "duplicate": records.duplicate,
    "nonmonotonic-send": records.nonmonotonic_send,
    "compaction": records.compaction,
    "int-nonmonotonic-poll": polls.int_nonmonotonic_poll,
    "int-poll-skip": polls.int_poll_skip,
    "nonmonotonic-poll": polls.nonmonotonic_poll,
    "poll-skip": polls.poll_skip,
    "high-watermark": marks.high_watermark,
    "last-stable": marks.last_stable,
    "log-start": marks.log_start,
    "bounds": marks.bounds,
    "silence": marks.silence,
    "G1a": transactions.g1a,
    "precommitted-read": transactions.precommitted_read,
    "G1c": transactions.g1c,
    "torn-txn": transactions.torn_txn,
    "copy": transactions.copy,
    "offset-invented": groups.offset_invented,
    "offset-back": groups.offset_back,
    "two-owners": groups.two_owners,
    "surprise": surprise,
}


def check_history(history: History) -> list[Violation]:
    """What is wrong with it: of each promise the first few breaches."""
    return [
        Violation(name, where)
        for name, check in CHECKS.items()
        for where in islice(check(history), REPORTED)
    ]
