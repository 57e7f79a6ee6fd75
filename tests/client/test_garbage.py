"""A broker that answers Produce with garbage, errors, or for the wrong partition."""

import pytest

from ottla.client.errors import DeliveryError
from ottla.client.producer import Producer
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.metadata import MetadataResponse
from ottla.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.records.batch import read_header
from tests.client.test_cluster import TOPIC_ID, broker_row, topic_row
from tests.rpc.conftest import PORT, versions_answer


def answer(index=0, code=0, offset=5, topic_id=TOPIC_ID, **more):
    row = PartitionProduceResponse(index=index, error_code=code, base_offset=offset, **more)
    return ProduceResponse(
        responses=[TopicProduceResponse(name="t", topic_id=topic_id, partition_responses=[row])]
    )


def serve(stage, *produced):
    """The answers to Produce, one after another; what was produced comes out."""
    left, seen = list(produced), []

    def reply(header, request):
        if header.api_key == 3:
            return MetadataResponse(
                brokers=[broker_row()], controller_id=1, topics=[topic_row("t", 1)]
            )
        if header.api_key == 22:
            return InitProducerIdResponse(producer_id=77, producer_epoch=0)
        if header.api_key == 0:
            seen.append(bytes(request.topic_data[0].partition_data[0].records))
            return left.pop(0)
        return versions_answer(header, request)

    stage.listen(reply)
    return seen


def played(stage, script, **options):
    async def whole():
        producer = Producer(
            world=stage.world,
            bootstrap_servers=f"broker:{PORT}",
            request_timeout_ms=1_000,
            **options,
        )
        await producer.start()
        await script(producer)
        await producer.close()

    stage.play(whole)


@pytest.mark.parametrize(
    "bad",
    [
        b"\x7f\xff\xff\xff",
        b"\0\0\0\x09garbage!!",
        None,
        answer(index=9),
        answer(topic_id=bytes(16)),
        answer(code=7),
        answer(code=6),
        answer(code=3),
        ProduceResponse(responses=[]),
    ],
)
def test_the_same_bytes_are_sent_again_until_they_are_acknowledged(stage, bad):
    seen = serve(stage, bad, answer())

    async def script(producer):
        assert (await producer.send_and_wait("t", b"x")).offset == 5

    played(stage, script)
    assert len(seen) == 2 and seen[0] == seen[1]
    assert read_header(seen[0]).producer_id == 77


def test_an_error_that_nobody_knows_and_one_that_is_final_are_told(stage):
    serve(stage, answer(code=999), answer(code=10, error_message="too large"), answer())

    async def script(producer):
        with pytest.raises(DeliveryError, match="UNKNOWN_SERVER_ERROR") as told:
            await producer.send_and_wait("t", b"x")
        assert told.value.is_uncertain
        with pytest.raises(DeliveryError, match="MESSAGE_TOO_LARGE: too large") as told:
            await producer.send_and_wait("t", b"x")
        assert not told.value.is_uncertain
        await producer.send_and_wait("t", b"x")

    played(stage, script)


def test_what_is_never_answered_is_told_in_time_and_is_uncertain(stage):
    serve(stage, *[None] * 20)

    async def script(producer):
        with pytest.raises(DeliveryError, match="delivery_timeout_ms") as told:
            await producer.send_and_wait("t", b"x")
        assert told.value.is_uncertain

    played(stage, script, delivery_timeout_ms=3_000)


def test_a_node_that_asks_for_a_pause_gets_one(stage):
    first = answer()
    first.throttle_time_ms = 5_000
    serve(stage, first, answer())
    times = []

    async def script(producer):
        for _ in range(2):
            await producer.send_and_wait("t", b"x")
            times.append(stage.sim.loop.time())

    played(stage, script)
    assert times[1] - times[0] >= 5
