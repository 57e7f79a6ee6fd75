"""A producer when something fails around it, in the simulated world: a broker that does not answer,
does not read, or finds batches too large; a full buffer; tasks that are cancelled at any step."""

import asyncio

import pytest

from ottla.client.delivery import Run
from ottla.client.errors import BufferFullError, ClientClosedError, DeliveryError
from ottla.client.producer import Producer
from tests.client.partitions import Partitions, played
from tests.rpc.conftest import PORT


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


def test_bytes_of_a_request_that_still_leaves_are_nobody_elses(stage):
    """Records that failed while the broker does not read free their memory for others; what is on
    its way meanwhile arrives as it was (the wires look at each part again, the broker at CRCs)."""
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"first")
        stage.accepted[-1].connection.pause()
        late = [await producer.send("t", b"late" + bytes(30_000)) for _ in range(9)]
        for each in late:
            with pytest.raises(DeliveryError):
                await each
        assert producer._accumulator.used_bytes == 0
        others = [await producer.send("t", b"other" + bytes(30_000)) for _ in range(9)]
        stage.accepted[-1].connection.resume()
        for each in others:
            await each

    played(
        stage,
        script,
        request_timeout_ms=60_000,
        delivery_timeout_ms=60_005,
        buffer_memory=300_000,
        batch_size=31_000,
    )
    assert broker.logs[0][-9:] == [b"other" + bytes(30_000)] * 9


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


NEVER_ANSWERED = {
    "acks": 0,
    "max_request_size": 50_000,
    "buffer_memory": 100_000,
    "max_block_ms": 2_000,
}


@pytest.mark.parametrize("is_flushed", [True, False])
def test_what_is_never_answered_is_written_before_the_producer_is_closed(stage, is_flushed):
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"first")
        await asyncio.sleep(1)
        connection = stage.accepted[-1].connection
        connection.pause()
        taken_count = 1
        (channel,) = (peer.channel for peer in producer._cluster._peers.values())
        while channel.unsent_bytes < 20_000:
            await producer.send_and_wait("t", bytes(1_000))
            taken_count += 1
        started = now()
        asyncio.get_running_loop().call_later(3, connection.resume)
        if is_flushed:
            await producer.flush()
            assert now() - started > 2.9
        await producer.close()
        await asyncio.sleep(1)
        assert len(broker.logs[0]) == taken_count

    played(stage, script, **NEVER_ANSWERED)


def test_closing_does_not_wait_for_ever_for_a_broker_that_does_not_read(stage, caplog):
    Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"first")
        await asyncio.sleep(1)
        stage.accepted[-1].connection.pause()
        with pytest.raises(BufferFullError):
            while True:
                await producer.send("t", bytes(1_000))
        started = now()
        with pytest.raises(DeliveryError):
            await producer.close()
        assert now() - started < 21
        assert "did not take all records in 10000 ms" in caplog.text

    played(stage, script, delivery_timeout_ms=10_000, **NEVER_ANSWERED)


def test_a_connection_that_breaks_while_a_broker_does_not_read_is_made_anew_at_once(stage):
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"first")
        await asyncio.sleep(1)
        connection = stage.accepted[-1].connection
        connection.pause()
        with pytest.raises(BufferFullError):
            while True:
                await producer.send("t", bytes(1_000))
        asyncio.get_running_loop().call_later(0.5, connection.close)
        started = now()
        await producer.send_and_wait("t", b"last")
        assert now() - started < 1.5
        await asyncio.sleep(1)
        assert broker.logs[0][-1] == b"last"

    played(stage, script, **NEVER_ANSWERED)


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


def test_who_waits_for_room_or_for_a_topic_is_told_when_the_producer_closes(stage):
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"x")
        broker.is_dumb = True
        taken = await producer.send("t", bytes(700))
        waiting = [
            asyncio.create_task(producer.send(topic, bytes(700))) for topic in ("t", "t", "u")
        ]
        await asyncio.sleep(0.1)
        with pytest.raises(DeliveryError, match="closed"):
            await producer.close(timeout_ms=100)
        for each in waiting:
            with pytest.raises(ClientClosedError):
                await each
        assert taken.done() and producer._accumulator.used_bytes == 0

    played(stage, script, buffer_memory=1_000)


# ---- cancelling


@pytest.mark.parametrize("call", ["send", "send_many", "flush", "partitions_for", "delivery"])
def test_a_task_that_is_cancelled_at_any_step_leaves_the_producer_usable(stage, call):
    broker = Partitions(stage)

    async def script(producer):
        async def work(n):
            if call == "partitions_for":
                await producer.partitions_for("t")
            elif call == "send_many":
                await (await producer.send_many("t", [b"%d" % n + bytes(900)] * 30))
            else:
                delivery = await producer.send("t", b"%d" % n + bytes(900))
                if call == "flush":
                    await producer.flush()
                elif call == "delivery":
                    await delivery

        for steps in range(40):
            task = asyncio.create_task(work(steps))
            for _ in range(steps):
                await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.wait([task])
            assert (await producer.send_and_wait("t", b"after %d" % steps)).offset >= 0
            await producer.flush()
            assert producer._accumulator.used_bytes == 0 and not producer._accumulator._queue
            assert producer._sender.hurries_count == 0

    played(stage, script, buffer_memory=5_000, batch_size=1_000)
    after = [value for value in broker.logs[0] if value.startswith(b"after")]
    assert after == [b"after %d" % n for n in range(40)]
    if call != "send_many":
        assert len(set(broker.logs[0])) == len(broker.logs[0]), "nothing twice"
