"""What memory and log of a coordinator are held to: everything that is durable."""

from collections.abc import Callable

import pytest

from ottla.coordinator.group import consumer_records
from ottla.coordinator.group.records import GroupLogRecord, OffsetKey, OffsetRecord, OffsetValue
from ottla.sim.loop import SimLoop
from ottla.sim.replayed import durable_of
from tests.coordinator.places import GroupPlace, on_loop

EPOCH = consumer_records.group_epoch("g", 1, 0)


def offset(number: int) -> GroupLogRecord:
    value = OffsetValue(offset=number, metadata="", commit_timestamp=1)
    return OffsetRecord(OffsetKey(group="g", topic="t", partition=0), value)


def expression(number: int) -> GroupLogRecord:
    return consumer_records.expression_record("g", "t.*", [f"t{number}"], 1, 1)


@pytest.mark.parametrize(
    ("make", "is_pending"), [(offset, False), (offset, True), (expression, False)]
)
def test_another_value_is_another_state(
    make: Callable[[int], GroupLogRecord], is_pending: bool
) -> None:
    async def script(loop: SimLoop) -> None:
        states = []
        for known in (1, 1, 2):
            machine = GroupPlace(loop).machine
            machine.replay(EPOCH)
            record = make(known)
            if is_pending:
                machine.replay_pending(record, 7)
            else:
                machine.replay(record)
            states.append(durable_of(machine))
        assert states[0] == states[1] != states[2]

    on_loop(script)
