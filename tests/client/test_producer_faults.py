"""A producer when something fails around it, in the simulated world: a broker that does not answer,
refuses, or finds batches too large; a full buffer; tasks that are cancelled."""

import asyncio

import pytest

from ottla.client.delivery import Run
from ottla.client.errors import BufferFullError, DeliveryError
from ottla.client.producer import Producer
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.metadata import MetadataResponse
from ottla.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.records.batch import read_header
from ottla.records.record import iterate_records
from tests.client.test_cluster import TOPIC_ID, broker_row, topic_row
from tests.rpc.conftest import PORT, versions_answer


class Partitions:
    """A broker of topic "t": what it took, by partition. It knows twins, as a broker does."""

    def __init__(self, stage, count=1, most=1 << 20):
        self.logs = {index: [] for index in range(count)}
        self.most = most
        self.taken = {}
        self.is_dumb = False
        """It does not answer, and takes nothing."""
        self.produced = []
        """(partition, bytes) of each batch that came."""
        self.topics = [topic_row("t", *[1] * count)]
        self.wanted = []
        """Topics of each request for metadata."""
        stage.listen(self.reply)

    def reply(self, header, request):
        if header.api_key == 3:
            self.wanted.append([row.name for row in request.topics])
            return MetadataResponse(brokers=[broker_row()], controller_id=1, topics=self.topics)
        if header.api_key == 22:
            return InitProducerIdResponse(producer_id=77, producer_epoch=0)
        if header.api_key == 0:
            return self.produce(request)
        return versions_answer(header, request)

    def produce(self, request):
        rows = []
        for row in request.topic_data[0].partition_data:
            records = bytes(row.records)
            self.produced.append((row.index, len(records)))
            if not self.is_dumb:
                rows.append(self.take(row.index, records))
        topic = TopicProduceResponse(name="t", topic_id=TOPIC_ID, partition_responses=rows)
        is_silent = self.is_dumb or not request.acks
        return None if is_silent else ProduceResponse(responses=[topic])

    def take(self, index, records):
        log = self.logs[index]
        if len(records) > self.most:
            return PartitionProduceResponse(index=index, error_code=10, base_offset=-1)
        header = read_header(records)
        twin = index, header.producer_id, header.producer_epoch, header.base_sequence
        base_offset = len(log)
        if header.producer_id >= 0:
            base_offset = self.taken.setdefault(twin, len(log))
        if base_offset == len(log):
            log += [record.value for record in iterate_records(records, 1 << 30)]
        return PartitionProduceResponse(index=index, base_offset=base_offset)


def played(stage, script, **options):
    async def whole():
        producer = Producer(
            world=stage.world,
            bootstrap_servers=f"broker:{PORT}",
            **{"request_timeout_ms": 1_000, **options},
        )
        await producer.start()
        await script(producer)
        await producer.close()

    stage.play(whole)


def now():
    return asyncio.get_running_loop().time()


# ---- time


def test_a_delivery_is_told_within_its_time_even_while_its_request_is_under_way(stage):
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"first")
        broker.is_dumb = True
        started = now()
        with pytest.raises(DeliveryError, match="delivery_timeout_ms") as told:
            await producer.send_and_wait("t", b"x")
        assert told.value.is_uncertain and now() - started < 31.1, "not a second time-out later"
        broker.is_dumb = False
        await producer.send_and_wait("t", b"after")

    played(stage, script, request_timeout_ms=30_000, delivery_timeout_ms=30_100, linger_ms=0)
    assert broker.logs[0] in ([b"first", b"after"], [b"first", b"x", b"after"])


# ---- memory


def test_a_full_buffer_is_told_after_max_block_and_nothing_that_was_taken_is_lost(stage):
    broker = Partitions(stage)

    async def script(producer):
        broker.is_dumb = True
        taken = 0
        started = now()
        with pytest.raises(BufferFullError, match="5000"):
            while True:
                await producer.send("t", b"%d" % taken + bytes(500))
                taken += 1
        assert 2 <= now() - started < 2.1 and 0 < taken < 10
        with pytest.raises(BufferFullError, match="at once"):
            await producer.send("t", bytes(6_000))
        waiting = asyncio.create_task(producer.send("t", bytes(500)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        broker.is_dumb = False
        await producer.flush()
        await producer.send_and_wait("t", b"last")
        assert broker.logs[0] == [*(b"%d" % n + bytes(500) for n in range(taken)), b"last"]
        assert producer._accumulator.used_bytes == 0

    played(stage, script, buffer_memory=5_000, max_block_ms=2_000)


def test_a_full_buffer_ends_many_at_once(stage):
    broker = Partitions(stage)

    async def script(producer):
        broker.is_dumb = True
        rows = [(b"%d" % n, bytes(300)) for n in range(1_000)]
        started = now()
        with pytest.raises(BufferFullError, match="no room for"):
            await producer.send_many("t", rows)
        assert now() - started < 2.1
        broker.is_dumb = False

    played(stage, script, buffer_memory=10_000, max_block_ms=2_000, batch_size=100_000)


def test_nothing_lingers_while_somebody_waits_for_room(stage):
    broker = Partitions(stage)

    async def script(producer):
        started = now()
        for _ in range(100):
            await producer.send("t", bytes(500))
        await producer.send_many("t", [bytes(500)] * 100)
        await producer.flush()
        assert now() - started < 20
        assert len(broker.logs[0]) == 200

    played(stage, script, buffer_memory=5_000, linger_ms=30_000, delivery_timeout_ms=60_000)


# ---- too large


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
def test_a_batch_that_is_too_large_is_halved_until_it_is_taken(stage, codec):
    broker = Partitions(stage, most=300)
    values = [b"%03d" % n + bytes(n % 50) for n in range(200)]

    async def script(producer):
        deliveries = [await producer.send("t", value) for value in values]
        many = await producer.send_many("t", values)
        assert [(await each).offset for each in deliveries] == list(range(200))
        runs = await many
        assert sum(run.record_count for run in runs) == 200
        assert runs[0].first_offset == 200
        assert producer._accumulator.used_bytes == 0

    played(stage, script, compression_type=codec)
    assert broker.logs[0] == values * 2
    assert {size > 300 for _, size in broker.produced} == {True, False}


def test_only_the_record_that_is_too_large_fails(stage):
    broker = Partitions(stage, most=300)

    async def script(producer):
        deliveries = [await producer.send("t", value) for value in (b"a", b"b", bytes(400), b"c")]
        assert not deliveries[2].done()
        with pytest.raises(DeliveryError, match="MESSAGE_TOO_LARGE") as told:
            await deliveries[2]
        assert not told.value.is_uncertain
        assert [(await deliveries[each]).offset for each in (0, 1, 3)] == [0, 1, 2]
        many = await producer.send_many("t", [b"d", bytes(500), b"e"])
        with pytest.raises(DeliveryError, match="1 of 3 records were not delivered"):
            await many
        await producer.flush()
        assert await (await producer.send_many("t", [b"f"])) == [Run("t", 0, 5, 1)]

    played(stage, script)
    assert broker.logs[0] == [b"a", b"b", b"c", b"d", b"e", b"f"]


# ---- fairness


def test_no_partition_starves_behind_others_that_fill_every_request(stage):
    broker = Partitions(stage, count=8)

    async def script(producer):
        broker.is_dumb = True
        for n in range(40):
            for partition in range(8):
                await producer.send("t", b"%d" % n + bytes(900), partition=partition)
        broker.is_dumb = False
        await producer.flush()

    played(
        stage,
        script,
        batch_size=1_000,
        max_request_size=3_000,
        linger_ms=0,
        max_in_flight_requests_per_connection=1,
    )
    order = [index for index, _ in broker.produced]
    for start in range(9, 300, 50):
        turns = [order[start : start + 30].count(index) for index in range(8)]
        assert min(turns) >= 3, turns


def test_what_is_never_answered_waits_for_a_broker_that_does_not_read(stage):
    """acks=0: what was told to be gone is not kept beside `buffer_memory` without a bound."""
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"first")
        await asyncio.sleep(1)
        stage.accepted[-1].connection.pause()
        with pytest.raises(BufferFullError, match="no room"):
            while True:
                await producer.send("t", bytes(1_000))
        (channel,) = (peer.channel for peer in producer._cluster._peers.values())
        assert 50_000 < channel.unsent_bytes < 100_000
        stage.accepted[-1].connection.resume()
        await producer.flush()
        await producer.send_and_wait("t", b"last")
        await asyncio.sleep(1)
        assert broker.logs[0][0] == b"first" and broker.logs[0][-1] == b"last"
        assert len(broker.logs[0]) > 200

    played(
        stage,
        script,
        acks=0,
        max_request_size=50_000,
        buffer_memory=100_000,
        max_block_ms=2_000,
    )


# ---- ending


def test_what_the_block_raised_goes_before_what_was_not_delivered(stage, caplog):
    broker = Partitions(stage)
    broker.is_dumb = True

    async def whole():
        with pytest.raises(asyncio.CancelledError):
            async with Producer(
                world=stage.world,
                bootstrap_servers=f"broker:{PORT}",
                request_timeout_ms=1_000,
                delivery_timeout_ms=2_000,
            ) as producer:
                await producer.send("t", b"x")
                raise asyncio.CancelledError

    stage.play(whole)
    assert "not delivered: t-0" in caplog.text


def test_closing_that_is_cancelled_twice_leaves_nobody_waiting(stage):
    broker = Partitions(stage)
    broker.is_dumb = True

    async def whole():
        producer = Producer(world=stage.world, bootstrap_servers=f"broker:{PORT}")
        await producer.start()
        delivery = await producer.send("t", b"x")
        await asyncio.sleep(1)
        closing = asyncio.create_task(producer.close())
        for _ in range(2):
            await asyncio.sleep(0)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(DeliveryError, match="closed") as told:
            await delivery
        assert told.value.is_uncertain and producer._accumulator.used_bytes == 0

    stage.play(whole)
