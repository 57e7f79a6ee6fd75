"""What an epoch waits for: a step that the log refused is made again."""

from dataclasses import replace

from ottla.base.errors import ErrorCode
from tests.coordinator.consumers import Consumer, ConsumerPlace
from tests.coordinator.test_consumer_groups import on_place, settle


def test_partitions_that_came_while_the_log_refused_are_shared_out_when_it_does_not() -> None:
    async def test(place: ConsumerPlace) -> None:
        a = place.make("a", 1)
        m = Consumer(place, "m")
        await m.join()
        await settle(m)
        partition, usual = place.place.partition, place.place.partition.settings
        partition.settings = replace(usual, max_message_bytes=100)
        place.make("a", 2)
        refused = (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE)
        assert (await m.beat()).error_code in refused
        partition.settings = usual
        await settle(m)
        assert m.places == {(a, 0), (a, 1)}

    on_place(test)
