"""A producer against a real broker in this process: what arrives, and what is told of the rest."""

import asyncio
import contextlib

import pytest

import ottla
from ottla.base.errors import ErrorCode, KafkaError
from ottla.client.delivery import Run
from ottla.client.errors import (
    ClientClosedError,
    ClientError,
    ConfigError,
    DeliveryError,
    NoBrokersError,
    RecordTooLargeError,
)
from ottla.client.partitioners import RoundRobin
from tests.client.reading import read_all


def producing(broker, script, **options):
    async def whole():
        async with ottla.Producer(
            bootstrap_servers=broker.bootstrap_servers, **options
        ) as producer:
            await script(producer)

    asyncio.run(whole())


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_is_sent_is_there_once_and_in_order(broker, codec):
    async def script(producer):
        deliveries = [
            await producer.send(
                "t", b"%d" % n, key=b"k", headers={"h": b"x", "none": None}, timestamp_ms=n
            )
            for n in range(2_000)
        ]
        placed = [await each for each in deliveries]
        assert [each.offset for each in placed] == list(range(2_000))
        assert placed[7].timestamp_ms == 7 and placed[7].topic == "t"

    producing(broker, script, compression_type=codec)
    seen = read_all(broker, "t")
    assert [record.value for record in seen] == [b"%d" % n for n in range(2_000)]
    assert seen[5].headers == (("h", b"x"), ("none", None)) and seen[5].key == b"k"


@pytest.mark.parametrize("acks", ["all", -1, 1, 0])
def test_acks(broker, acks):
    async def script(producer):
        placed = await producer.send_and_wait("t", b"x")
        assert placed.offset == (-1 if acks == 0 else 0)

    producing(broker, script, acks=acks)
    assert [record.value for record in read_all(broker, "t")] == [b"x"]


def test_many_at_once_keep_their_order_within_a_partition(start_broker):
    broker = start_broker(settings={"num.partitions": "3"})

    async def script(producer):
        deliveries = await producer.send_many("t", (b"%06d" % n for n in range(20_000)))
        runs = await deliveries
        assert sum(run.record_count for run in runs) == deliveries.count == 20_000
        assert {run.partition for run in runs} == {0, 1, 2}
        mixed = [b"v", (b"k", b"v"), (None, b"v", {"h": b"1"}), (b"k", None), bytearray(b"w")]
        assert await (await producer.send_many("t", mixed, partition=1)) == [
            Run("t", 1, runs_end(runs, 1), 5)
        ]

    producing(broker, script)
    for partition in range(3):
        values = [record.value for record in read_all(broker, "t", partition)][:-5]
        assert values == sorted(values)
    assert sum(len(read_all(broker, "t", each)) for each in range(3)) == 20_005


def runs_end(runs, partition):
    return sum(run.record_count for run in runs if run.partition == partition)


def test_a_partitioner_is_any_function_and_is_held_to_the_topic(start_broker):
    broker = start_broker(settings={"num.partitions": "4"})

    async def by_function(producer):
        assert (await producer.send_and_wait("t", b"3")).partition == 3
        with pytest.raises(ClientError, match="no partition 9: it has 4"):
            await producer.send("t", b"9")
        with pytest.raises(ClientError, match="no partition -1"):
            await producer.send("t", b"1", partition=-1)
        assert len(await producer.partitions_for("t")) == 4

    async def in_turn(producer):
        runs = await (await producer.send_many("t", [b"x"] * 8))
        assert [(run.partition, run.record_count) for run in runs] == [(n, 2) for n in range(4)]

    producing(broker, by_function, partitioner=lambda choice, key, value: int(value))
    producing(broker, in_turn, partitioner=RoundRobin())


def test_memory_is_bounded_and_senders_wait_for_room(broker):
    async def script(producer):
        most = 0
        values = (bytes(100) for _ in range(30_000))

        async def watch():
            nonlocal most
            while True:
                most = max(most, producer._accumulator.used_bytes)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        await (await producer.send_many("t", values))
        await asyncio.gather(*(producer.send("t", bytes(1_000)) for _ in range(500)))
        watching.cancel()
        await producer.flush()
        assert 0 < most <= 100_000 and producer._accumulator.used_bytes == 0

    producing(broker, script, buffer_memory=100_000)


def test_what_the_broker_refuses_is_told_to_who_awaits_it(start_broker):
    broker = start_broker(settings={"message.max.bytes": "1000"})

    async def script(producer):
        small = await producer.send("t", b"small")
        await small
        large = await producer.send("t", bytes(5_000))
        for _ in range(2):
            with pytest.raises(DeliveryError, match="MESSAGE_TOO_LARGE") as told:
                await large
            assert told.value.code is ErrorCode.MESSAGE_TOO_LARGE
            assert not told.value.is_uncertain
        after = await producer.send("t", b"after")
        assert (await after).offset == 1
        many = await producer.send_many("t", [b"x", bytes(5_000), b"y"])
        with pytest.raises(DeliveryError, match="of 3 records were not delivered"):
            await many
        await producer.flush()

    producing(broker, script, batch_size=100)


def test_what_nobody_awaits_is_told_by_flush_and_by_close(start_broker, caplog):
    broker = start_broker(settings={"message.max.bytes": "1000"})

    async def script(producer):
        await producer.send("t", bytes(5_000))
        await producer.send("t", bytes(5_001))
        with pytest.raises(DeliveryError, match="2 batches were not delivered"):
            await producer.flush()
        await producer.flush()
        await producer.send("t", bytes(5_002))

    with pytest.raises(DeliveryError, match="MESSAGE_TOO_LARGE"):
        producing(broker, script, batch_size=100)
    assert caplog.text.count("not delivered:") == 3


def test_a_topic_that_does_not_exist(start_broker):
    broker = start_broker(settings={"auto.create.topics.enable": "false"})

    async def script(producer):
        with pytest.raises(KafkaError) as told:
            await producer.send("nowhere", b"x")
        assert told.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        with pytest.raises(KafkaError) as told:
            await producer.send("no topic!", b"x")
        assert told.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION

    producing(broker, script, max_block_ms=300)


def test_what_is_no_record_is_refused_and_the_next_one_goes(broker):
    async def script(producer):
        for wrong in ({"value": "text"}, {"key": 5}, {"headers": {"h": "text"}}, {"headers": 7}):
            with pytest.raises(TypeError, match="bytes"):
                await producer.send("t", **wrong)
        with pytest.raises(TypeError, match="a tuple of 1"):
            await producer.send_many("t", [b"before", (b"x",)])
        with pytest.raises(RecordTooLargeError, match="max_request_size is 10000"):
            await producer.send("t", bytes(10_001))
        with pytest.raises(RecordTooLargeError):
            await producer.send_many("t", [bytes(10_001)])
        assert (await producer.send_and_wait("t", None)).offset == 1

    producing(broker, script, max_request_size=10_000)
    assert [record.value for record in read_all(broker, "t")] == [b"before", None]


@pytest.mark.parametrize("timestamp_ms", [-1, 1 << 63])
def test_a_timestamp_that_is_none_is_refused_and_harms_no_other_record(broker, timestamp_ms):
    async def script(producer):
        waiting = await producer.send("t", b"before")
        with pytest.raises(ValueError, match="no timestamp"):
            await producer.send("t", b"x", timestamp_ms=timestamp_ms)
        assert (await waiting).offset == 0

    producing(broker, script, linger_ms=50)


def test_a_client_that_is_not_open_says_so(broker):
    async def script():
        producer = ottla.Producer(bootstrap_servers=broker.bootstrap_servers)
        with pytest.raises(ClientClosedError, match="not started"):
            await producer.send("t", b"x")
        await producer.start()
        with pytest.raises(ClientError, match="starts once"):
            await producer.start()
        await producer.close()
        await producer.close()
        for call in (producer.send("t", b"x"), producer.flush(), producer.send_many("t", [])):
            with pytest.raises(ClientClosedError, match="closed"):
                await call
        with pytest.raises(ClientError, match="starts once"):
            await producer.start()
        await ottla.Producer().close()

    asyncio.run(script())


@pytest.mark.parametrize("server, told", [("127.0.0.1:1", r"127\.0\.0\.1:1"), ("a..b:1", "a..b")])
def test_no_broker_at_all(server, told):
    async def script():
        producer = ottla.Producer(bootstrap_servers=server)
        with pytest.raises(NoBrokersError, match=told):
            await producer.start()
        with pytest.raises(ClientClosedError):
            await producer.send("t", b"x")

    asyncio.run(script())


def test_closing_within_a_time_fails_what_is_left(start_broker):
    broker = start_broker()

    async def script():
        producer = ottla.Producer(bootstrap_servers=broker.bootstrap_servers)
        await producer.start()
        await producer.send_and_wait("t", b"x")
        await asyncio.to_thread(broker.stop)
        delivery = await producer.send("t", b"y")
        with pytest.raises(DeliveryError, match="closed"):
            await producer.close(timeout_ms=50)
        with pytest.raises(DeliveryError):
            await delivery

    asyncio.run(script())


def test_a_broker_that_goes_and_comes_back(start_broker, tmp_path):
    """All that is sent meanwhile arrives, once and in order."""
    broker = start_broker(data=tmp_path / "d")
    host, port = broker.address

    async def script():
        async with ottla.Producer(bootstrap_servers=f"{host}:{port}", linger_ms=0) as producer:
            deliveries = []
            for n in range(3_000):
                deliveries.append(await producer.send("t", b"%d" % n))
                if n == 1_500:
                    await asyncio.to_thread(broker.stop)
                    again.append(
                        await asyncio.to_thread(start_broker, data=tmp_path / "d", port=port)
                    )
                elif n % 100 == 0:
                    await asyncio.sleep(0)
            for each in deliveries:
                await each

    again = []
    asyncio.run(script())
    assert [record.value for record in read_all(again[0], "t")] == [b"%d" % n for n in range(3_000)]


@pytest.mark.parametrize(
    "options, told",
    [
        ({"acks": 2}, "acks is 2"),
        ({"acks": 1, "enable_idempotence": True}, "needs acks"),
        ({"retries": 0, "enable_idempotence": True}, "needs retries"),
        (
            {"max_in_flight_requests_per_connection": 6, "enable_idempotence": True},
            "of at most 5",
        ),
        ({"compression_type": "brotli"}, "not one of none, gzip"),
        ({"delivery_timeout_ms": 1_000}, "linger_ms \\+ request_timeout_ms"),
        ({"compression_type": "gzip", "compression_gzip_level": 99}, "from -1 to 9"),
        ({"buffer_memory": 0}, "buffer_memory is 0"),
        ({"linger_ms": -1}, "linger_ms is -1"),
    ],
)
def test_options_that_contradict_each_other(options, told):
    with pytest.raises(ConfigError, match=told):
        ottla.Producer(**options)


def test_a_bug_of_ours_leaves_nobody_waiting(broker, monkeypatch):
    async def script(producer):
        await producer.send_and_wait("t", b"x")
        monkeypatch.setattr(producer._sender, "_serve", lambda *_: 1 / 0)
        with pytest.raises(DeliveryError, match="ZeroDivisionError"):
            await producer.send_and_wait("t", b"x")

    producing(broker, script)


def test_an_unknown_option_is_told():
    with pytest.raises(TypeError, match="ling"):
        ottla.Producer(ling_ms=5)


def test_idempotence_gives_way_where_it_was_not_asked_for():
    assert ottla.Producer().settings.is_idempotent
    for options in ({"acks": 1}, {"retries": 0}, {"max_in_flight_requests_per_connection": 9}):
        assert not ottla.Producer(**options).settings.is_idempotent


def test_cancelling_who_waits_takes_nothing_back(broker):
    async def script(producer):
        delivery = await producer.send("t", b"x")
        tasks = [asyncio.ensure_future(delivery_of(delivery)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert (await tasks[1]).offset == (await tasks[2]).offset == 0
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[0]
        assert delivery.done()

    producing(broker, script)


async def delivery_of(delivery):
    return await delivery
