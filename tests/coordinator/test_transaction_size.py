"""A transaction that could be written can be ended: its last record has room too."""

from types import SimpleNamespace

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.options import BrokerSettings
from ottla.coordinator.transaction.machine import END_BYTES, SMALL_COUNT, TransactionMachine
from ottla.coordinator.transaction.records import TransactionRecord
from ottla.coordinator.transaction.state import (
    BUMPING,
    LAST_EPOCH,
    NO_ID,
    Producer,
    State,
    Transaction,
)

PRODUCER = Producer(7, LAST_EPOCH)
"""Its end takes a new producer id, and names it."""
PLACES = [(f"topic-{number % 3}", number) for number in range(SMALL_COUNT + 1)]


def machine_with(record_max_bytes, cluster):
    host = SimpleNamespace(record_max_bytes=record_max_bytes, answer=lambda pending, response: None)
    machine = TransactionMachine(host, BrokerSettings, lambda: cluster[0], None, lambda: 1 << 40)
    value = Transaction("t").value(producer_id=7, producer_epoch=LAST_EPOCH)
    value.previous_producer_id = NO_ID
    machine.replay(TransactionRecord("t", value))
    return machine


def size_of(machine, record):
    key, value = machine.encode(record)
    return len(key) + len(value)


@pytest.mark.parametrize("before", [0, BUMPING])
@pytest.mark.parametrize("commit", [True, False])
def test_what_is_added_leaves_room_for_the_end(before, commit):
    """Also where the cluster comes to the second protocol while the transaction is open."""
    cluster = [before]
    (added,) = machine_with(1 << 20, cluster).add("t", PRODUCER, PLACES, before, 0).records
    accepted = 0
    for room in range(END_BYTES + 8):
        cluster[0] = before
        machine = machine_with(1 << 20, cluster)
        limit = size_of(machine, added) + room
        machine = machine_with(limit, cluster)
        try:
            (record,) = machine.add("t", PRODUCER, PLACES, before, 0).records
        except KafkaError as error:
            assert error.code == ErrorCode.MESSAGE_TOO_LARGE
            continue
        accepted += 1
        machine.replay(record)
        cluster[0] = BUMPING
        outcome = machine.end("t", PRODUCER, commit=commit, version=BUMPING, now_ms=1)
        assert outcome.response == Producer(1 << 40, 0)
        (ended,) = outcome.records
        assert ended.value.transaction_status in (State.PREPARE_COMMIT, State.PREPARE_ABORT)
        assert size_of(machine, ended) <= limit
    assert accepted == 8
