"""A consumer against a real broker in this process."""

import asyncio
import functools

import pytest

import ottla
from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.errors import ClientClosedError, ClientError, ConfigError, NoOffsetError
from ottla.client.offsets import OffsetAndMetadata

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def two(start_broker):
    """A broker with a topic of two partitions: 1,000 records and 500."""
    broker = start_broker(settings={"num.partitions": "2"})
    fill(broker, 0, range(1_000))
    fill(broker, 1, range(500))
    return broker


def fill(broker, partition, numbers, topic="t", **options):
    async def script():
        async with ottla.Producer(
            bootstrap_servers=broker.bootstrap_servers, batch_size=1_000, **options
        ) as producer:
            for n in numbers:
                await producer.send(topic, b"%d" % n, partition=partition, timestamp_ms=1_000 + n)

    asyncio.run(script())


def consuming(broker, script, **options):
    async def whole():
        settings = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 50, **options}
        async with ottla.Consumer(
            bootstrap_servers=broker.bootstrap_servers, **settings
        ) as consumer:
            async with asyncio.timeout(60):
                await script(consumer)

    asyncio.run(whole())


async def take(consumer, count):
    found = []
    async for record in consumer:
        found.append(record)
        if len(found) == count:
            return found
    return found


def numbers(records, partition=0):
    return [int(record.value) for record in records if record.partition == partition]


def test_record_by_record_each_partition_in_order(two):
    async def script(consumer):
        consumer.assign([T0, ("t", 1)])
        records = await take(consumer, 1_500)
        assert numbers(records, 0) == list(range(1_000))
        assert numbers(records, 1) == list(range(500))
        first = next(each for each in records if each.partition == 0)
        assert (first.topic, first.offset, first.timestamp_ms) == ("t", 0, 1_000)
        assert await consumer.position(T0) == 1_000
        assert await consumer.poll(100) == []

    consuming(two, script)


def test_leaving_the_loop_loses_nothing_and_ways_of_reading_mix(two):
    async def script(consumer):
        consumer.assign([T0])
        found = numbers(await take(consumer, 7))
        assert await consumer.position(T0) == 7
        found += numbers(await consumer.poll(5_000, max_records=5))
        assert await consumer.position(T0) == 12
        columns = await consumer.poll_batch(5_000)
        found += [int(value) for value in columns.values]
        assert columns.offsets[0] == 12 and len(columns.keys) == len(columns) == len(found) - 12
        async for columns in consumer.batches():
            found += [int(value) for value in columns.values]
            if len(found) == 1_000:
                break
        assert found == list(range(1_000))

    consuming(two, script)


def test_poll_gives_at_most_what_was_asked_for(two):
    async def script(consumer):
        consumer.assign([T0, T1])
        found = []
        while len(found) < 1_500:
            records = await consumer.poll(5_000)
            assert 0 < len(records) <= 50
            found += records
        assert numbers(found, 0) == list(range(1_000)) and numbers(found, 1) == list(range(500))

    consuming(two, script, max_poll_records=50)


def test_the_next_fetch_is_under_way_before_its_reader_gets_to_work(two):
    async def script(consumer):
        consumer.assign([T0])
        assert await consumer.poll(10_000)
        assert consumer._fetcher._in_flight, "broker and reader would wait for each other"

    consuming(two, script)


def test_seeking(two):
    async def script(consumer):
        consumer.assign([T0, T1])
        consumer.pause(T1)
        consumer.seek(T0, 990)
        assert numbers(await take(consumer, 10)) == list(range(990, 1_000))
        consumer.seek_to_beginning()
        assert numbers(await take(consumer, 2)) == [0, 1]
        consumer.seek_to_end(T0)
        assert await consumer.position(T0) == 1_000
        await consumer.seek_to_time(1_000 + 321, T0)
        assert numbers(await take(consumer, 1)) == [321]
        await consumer.seek_to_time(99_999, T0)
        assert await consumer.position(T0) == 1_000
        async for record in consumer_from(consumer, T0, 5):
            assert int(record.value) == 5
            break

    async def consumer_from(consumer, key, offset):
        consumer.seek(key, offset)
        async for record in consumer:
            yield record

    consuming(two, script)


def test_a_seek_in_the_middle_of_a_loop_is_followed(two):
    async def script(consumer):
        consumer.assign([T0])
        found = []
        async for record in consumer:
            found.append(int(record.value))
            if found == [0, 1, 2]:
                consumer.seek(T0, 500)
            if len(found) == 6:
                break
        assert found == [0, 1, 2, 500, 501, 502]

    consuming(two, script)


def test_pausing_and_resuming(two):
    async def script(consumer):
        consumer.assign([T0, T1])
        await take(consumer, 10)
        consumer.pause(T0)
        assert consumer.paused() == [T0]
        rest = []
        while records := await consumer.poll(300):
            rest += records
        assert {record.partition for record in rest} == {1}
        consumer.resume()
        consumer.pause(T1)
        assert numbers(await take(consumer, 5))

    consuming(two, script)


def test_offsets_of_partitions(two):
    async def script(consumer):
        consumer.assign([T0, T1])
        assert await consumer.beginning_offsets() == {T0: 0, T1: 0}
        assert await consumer.end_offsets(T0, T1) == {T0: 1_000, T1: 500}
        found = await consumer.offsets_for_times({T0: 1_007, T1: 99_999})
        assert found[T0].offset == 7 and found[T0].timestamp_ms == 1_007 and found[T1] is None

    consuming(two, script)


def test_assigning_others_keeps_those_that_stay(two):
    async def script(consumer):
        consumer.assign([T0])
        await take(consumer, 3)
        consumer.assign([T0, T1])
        assert consumer.assignment() == [T0, T1] and await consumer.position(T0) == 3
        consumer.assign([T1])
        assert numbers(await take(consumer, 3), 1) == [0, 1, 2]
        with pytest.raises(ClientError, match="t-0 is not assigned"):
            consumer.seek(T0, 5)

    consuming(two, script)


def test_an_offset_that_is_not_there(two):
    async def reset(consumer):
        consumer.assign([T0])
        consumer.seek(T0, 5_000)
        assert numbers(await take(consumer, 1)) == [0]

    async def told(consumer):
        consumer.assign([T0, T1])
        consumer.seek(T0, 5_000)
        consumer.seek(T1, 490)
        read = []
        with pytest.raises(NoOffsetError, match="t-0: offset 5000 is not there"):
            while True:
                read += await consumer.poll(5_000)
        assert len(read) in (0, 10)
        consumer.seek(T0, 999)
        rest = []
        while len(read) + len(rest) < 11:
            rest += await consumer.poll(5_000)
        assert numbers(rest, 0) == [999]

    async def never_set(consumer):
        consumer.assign([T0])
        with pytest.raises(NoOffsetError):
            await consumer.position(T0)

    consuming(two, reset)
    consuming(two, told, auto_offset_reset="none")
    consuming(two, never_set, auto_offset_reset="none")


def test_latest_is_what_comes_after(two):
    async def script(consumer):
        consumer.assign([T0])
        assert await consumer.position(T0) == 1_000
        waiting = asyncio.create_task(take(consumer, 2))
        await asyncio.to_thread(fill, two, 0, [7, 8])
        assert numbers(await waiting) == [7, 8]

    consuming(two, script, auto_offset_reset="latest")


def test_a_topic_that_does_not_exist_and_a_partition_that_does_not(two):
    async def script(consumer):
        consumer.assign([("nowhere", 0)])
        with pytest.raises(KafkaError) as told:
            await consumer.position(("nowhere", 0))
        assert told.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        consumer.assign([("t", 9)])
        with pytest.raises(ClientError, match="t-9 does not exist"):
            await consumer.position(("t", 9))

    consuming(two, script, default_api_timeout_ms=500)


def test_commits_are_kept_and_the_next_consumer_goes_on_there(two):
    async def first(consumer):
        consumer.assign([T0, T1])
        assert await consumer.committed() == {T0: None, T1: None}
        consumer.pause(T1)
        await take(consumer, 10)
        await consumer.commit()
        assert (await consumer.committed(T0))[T0] == OffsetAndMetadata(10, "", 0)
        await consumer.commit({T1: 77})
        await take(consumer, 5)

    async def second(consumer):
        consumer.assign([T0, T1])
        assert (await consumer.position(T0), await consumer.position(T1)) == (10, 77)

    options = {"group_id": "g", "enable_auto_commit": False}
    consuming(two, first, **options)
    consuming(two, second, **options)


def test_auto_commit_keeps_what_is_done_and_no_more(two):
    async def broken_off(consumer):
        consumer.assign([T0])
        async for record in consumer:
            if record.offset == 5:
                raise ZeroDivisionError

    async def goes_on(consumer):
        consumer.assign([T0])
        assert await consumer.position(T0) == 5
        await take(consumer, 10)

    async def after_a_good_end(consumer):
        consumer.assign([T0])
        assert await consumer.position(T0) == 15
        await consumer.poll(5_000, max_records=10)
        await consumer.poll(5_000, max_records=10)
        while (await consumer.committed(T0))[T0].offset < 25:
            await asyncio.sleep(0.01)

    with pytest.raises(ZeroDivisionError):
        consuming(two, broken_off, group_id="g")
    consuming(two, goes_on, group_id="g")
    consuming(two, after_a_good_end, group_id="g", auto_commit_interval_ms=20)


def test_a_consumer_without_a_group_or_that_is_not_open(two):
    async def script():
        consumer = ottla.Consumer(bootstrap_servers=two.bootstrap_servers)
        with pytest.raises(ClientClosedError, match="not started"):
            consumer.assign([T0])
        async with consumer:
            for call in (consumer.commit(), consumer.committed(T0)):
                with pytest.raises(ClientError, match="group_id is not set"):
                    await call
            consumer.assign([T0])
            consumer.pause()
            waiting = asyncio.create_task(consumer.poll(60_000))
            await asyncio.sleep(0)
        for call in (waiting, consumer.poll(), consumer.poll_batch(), consumer.end_offsets(T0)):
            with pytest.raises(ClientClosedError, match="closed"):
                await call
        with pytest.raises(ClientError, match="starts once"):
            await consumer.start()

    asyncio.run(script())


def test_a_broker_that_goes_and_comes_back(start_broker, tmp_path):
    broker = start_broker(data=tmp_path / "d")
    port = broker.address[1]
    fill(broker, 0, range(500))

    async def script(consumer):
        consumer.assign([T0])
        found = numbers(await take(consumer, 100))
        await asyncio.to_thread(broker.stop)
        found += numbers(await consumer.poll(100, max_records=10))
        start = functools.partial(start_broker, data=tmp_path / "d", port=port)
        again = await asyncio.to_thread(start)
        await asyncio.to_thread(fill, again, 0, range(500, 600))
        found += numbers(await take(consumer, 600 - len(found)))
        assert found == list(range(600))

    consuming(broker, script)


def test_a_bug_of_ours_leaves_nobody_waiting(two, monkeypatch):
    async def script(consumer):
        monkeypatch.setattr(consumer._fetcher, "_fetch", lambda *_: 1 / 0)
        consumer.assign([T0])
        with pytest.raises(ZeroDivisionError):
            await consumer.poll(30_000)

    consuming(two, script)


def test_a_cancelled_poll_leaves_the_consumer_usable(two):
    async def script(consumer):
        consumer.assign([T0])
        waiting = asyncio.create_task(consumer.poll(60_000))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert numbers(await take(consumer, 3)) == [0, 1, 2]

    consuming(two, script)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"auto_offset_reset": "first"}, "not one of earliest, latest, none"),
        ({"isolation_level": "serial"}, "not one of read_uncommitted"),
        ({"group_id": ""}, "group_id is empty"),
        ({"max_poll_records": 0}, "max_poll_records is 0"),
        ({"heartbeat_interval_ms": 90_000}, "below session_timeout_ms"),
        ({"fetch_max_wait_ms": 90_000}, "below request_timeout_ms"),
    ],
)
def test_options_that_contradict_each_other(options, told):
    with pytest.raises(ConfigError, match=told):
        ottla.Consumer(**options)
