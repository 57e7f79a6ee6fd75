"""A Produce that waits for several partitions, of which some are closed."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from ottla.base.errors import ErrorCode
from ottla.broker.apis.produce import ParkedProduce
from ottla.protocol.messages.produce import PartitionProduceResponse, ProduceResponse


@dataclass
class Place:
    """What a parked Produce sees of a partition."""

    high_watermark: int = 0
    refusal: ErrorCode = ErrorCode.NONE
    waiters: list[Any] = field(default_factory=list)

    def wait_for_offset(self, end_offset: int, waiter: Any) -> None:
        self.waiters.append(waiter)

    def advance(self) -> None:
        self.high_watermark = 5
        while self.waiters:
            self.waiters.pop(0).reached()

    def close(self) -> None:
        self.refusal = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        while self.waiters:
            self.waiters.pop(0).closed()


class Never:
    def add(self, parked: Any, timeout_ms: int) -> None: ...
    def remove(self, parked: Any) -> None: ...


def parked_on(places: list[Place]) -> tuple[ParkedProduce, list[Any], list[Any]]:
    answers = [PartitionProduceResponse(index=n, base_offset=0) for n in range(len(places))]
    parked = ParkedProduce(Never())  # type: ignore[arg-type]
    parked.waits = [  # type: ignore[assignment]
        (place, 5, answer) for place, answer in zip(places, answers, strict=True)
    ]
    told: list[Any] = []
    parked.on_complete = told.append
    return parked, answers, told


@pytest.mark.parametrize("others", [1, 2])
def test_a_closed_partition_that_was_safe_is_counted_once(others: int) -> None:
    """A is safe; then its topic, A and B, is deleted; C is not flushed yet."""
    places = [Place() for _ in range(2 + others)]
    parked, answers, told = parked_on(places)
    parked.park(ProduceResponse(responses=[]), 1_000)
    places[0].advance()
    places[0].close()
    places[1].close()
    assert not told
    for place in places[2:]:
        place.advance()
    assert len(told) == 1
    codes = [answer.error_code for answer in answers]
    assert codes == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, *[0] * others]


def test_what_became_safe_or_was_closed_before_it_was_parked_is_not_waited_for() -> None:
    places = [Place(high_watermark=5), Place(), Place()]
    parked, answers, told = parked_on(places)
    places[1].close()
    parked.settle()
    assert [each[0] for each in parked.waits] == [places[2]]
    parked.park(ProduceResponse(responses=[]), 1_000)
    places[2].advance()
    assert len(told) == 1
    assert [answer.error_code for answer in answers] == [
        0,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        0,
    ]
