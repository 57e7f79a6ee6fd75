"""The workflow against a real broker in this process."""

import asyncio
import threading

import pytest

import ottla
from ottla.client.errors import ClientError, ConfigError, DeliveryError, ProcessingError
from ottla.client.outlet import Output
from ottla.client.retry import RetryPolicy
from tests.client.test_group import KINDS, SETTINGS

QUICK = RetryPolicy(attempts=3, backoff_ms=1, backoff_max_ms=5)


@pytest.fixture
def broker(start_broker):
    return start_broker(settings={**SETTINGS, "num.partitions": "3"})


def run(script):
    async def whole():
        async with asyncio.timeout(60):
            await script()

    asyncio.run(whole())


async def fill(broker, values, *, partition=0, key=None, topic="t"):
    async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for value in values:
            await producer.send(
                topic,
                b"%d" % value,
                partition=partition,
                key=b"%d" % key(value) if key else None,
                headers={"h": b"x"},
            )


def consumer_of(broker, **options):
    return ottla.Consumer(
        **{
            "bootstrap_servers": broker.bootstrap_servers,
            "group_id": "g",
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": 50,
            "auto_commit_interval_ms": 20,
            **options,
        }
    )


async def read_all(broker, topic, count):
    options = {"bootstrap_servers": broker.bootstrap_servers, "auto_offset_reset": "earliest"}
    async with ottla.Consumer(**options) as consumer:
        consumer.assign([(topic, index) for index in range(3)])
        found = []
        while len(found) < count:
            found += await consumer.poll(5_000)
        return found


async def committed(consumer, partition=0):
    place = (await consumer.committed(("t", partition)))["t", partition]
    return None if place is None else place.offset


class Handler:
    """Counts, and stops the processing after `last` records that went well."""

    def __init__(self, consumer, last, act=lambda record: None):
        self.consumer = consumer
        self.last = last
        self.act = act
        self.begun = []
        self.done = []
        self.at_work = 0
        self.most_at_work = 0

    async def __call__(self, record):
        self.begun.append(int(record.value))
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await asyncio.sleep(0)
            outputs = self.act(record)
            if asyncio.iscoroutine(outputs):
                outputs = await outputs
        finally:
            self.at_work -= 1
        self.done.append(int(record.value))
        if len(self.done) == self.last:
            self.consumer.stop_processing()
        return outputs


def test_each_is_processed_and_the_position_committed(broker):
    async def script():
        await fill(broker, range(300))
        async with consumer_of(broker, enable_auto_commit=False) as consumer:
            consumer.assign([("t", 0)])
            handler = Handler(consumer, 300)
            await consumer.process(handler, concurrency=7, order="none")
            assert sorted(handler.done) == list(range(300)) and handler.most_at_work == 7
            assert await committed(consumer) == 300
            assert await consumer.position(("t", 0)) == 300

    run(script)


@pytest.mark.parametrize("order", ["key", "partition"])
def test_order_is_kept_while_others_go_on(broker, order):
    async def script():
        await fill(broker, range(60), key=lambda n: n % 3)
        await fill(broker, range(60, 90), partition=1)
        held = asyncio.Event()

        async def act(record):
            if int(record.value) == 0:
                await held.wait()
            elif len(handler.done) == (69 if order == "key" else 29):
                held.set()  # all that need not wait for it were processed meanwhile

        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0), ("t", 1)])
            handler = Handler(consumer, 90, act)
            await consumer.process(handler, concurrency=20, order=order)
        of_each = [[n for n in handler.done if n < 60 and n % 3 == k] for k in range(3)]
        assert all(found == sorted(found) for found in of_each)
        if order == "partition":
            assert [n for n in handler.done if n < 60] == list(range(60))

    run(script)


def test_only_what_is_contiguous_is_committed(broker):
    async def script():
        await fill(broker, range(10))
        held, seen = asyncio.Event(), []

        async def act(record):
            if record.offset == 4:
                await held.wait()

        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0)])
            handler = Handler(consumer, 10, act)
            processing = asyncio.create_task(consumer.process(handler, order="none"))
            while len(handler.done) < 9 or await committed(consumer) != 4:
                await asyncio.sleep(0.01)
            seen = await committed(consumer)
            held.set()
            await processing
            assert (seen, await committed(consumer)) == (4, 10)

    run(script)


def test_a_failure_is_noted_tried_again_and_goes_to_the_dead_letters(broker):
    headers = {}

    def act(record):
        headers.setdefault(int(record.value), []).append(dict(record.headers))
        if int(record.value) in (3, 5):
            raise ValueError("no good")
        if int(record.value) == 7 and len(headers[7]) < 3:
            raise OSError("for now")

    async def script():
        await fill(broker, range(10), key=lambda n: n)
        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0)])
            handler = Handler(consumer, None, act)
            processing = asyncio.create_task(
                consumer.process(handler, retry=QUICK, dead_letter="dead")
            )
            while await committed(consumer) != 10:
                await asyncio.sleep(0.01)
            consumer.stop_processing()
            await processing
        dead = sorted(await read_all(broker, "dead", 2), key=lambda each: int(each.value))
        assert [int(each.value) for each in dead] == [3, 5] and dead[0].key == b"3"
        notes = dict(dead[0].headers)
        assert int(notes.pop("ottla-first-failed-ms")) > 1_600_000_000_000
        assert int(notes.pop("ottla-timestamp-ms")) > 1_600_000_000_000
        assert notes == {
            "h": b"x",
            "ottla-attempts": b"3",
            "ottla-error": b"ValueError: no good",
            "ottla-topic": b"t",
            "ottla-partition": b"0",
            "ottla-offset": b"3",
        }
        assert len(headers[3]) == len(headers[7]) == 3
        assert headers[7][0] == {"h": b"x"} and headers[7][2]["ottla-attempts"] == b"2"

    run(script)


def test_without_dead_letters_it_stops_in_front_of_what_failed(broker):
    async def script():
        await fill(broker, range(10))

        def act(record):
            if record.offset == 6 and len(handler.begun) < 30:
                raise ValueError("no good")

        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0)])
            handler = Handler(consumer, 10, act)
            with pytest.raises(ProcessingError, match="t-0 offset 6: given up after 3") as told:
                await consumer.process(handler, retry=QUICK, order="partition")
            assert isinstance(told.value.__cause__, ValueError)
            assert dict(told.value.record.headers)["ottla-attempts"] == b"3"
            assert await consumer.position(("t", 0)) == 6
            handler.act = lambda record: None
            await consumer.process(handler, order="partition")
            assert sorted(handler.done) == list(range(10)), "each once"
            assert await committed(consumer) == 10

    run(script)


def test_what_is_not_to_be_retried_is_not(broker):
    async def script():
        await fill(broker, range(1))

        def act(record):
            raise ValueError

        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0)])
            handler = Handler(consumer, 1, act)
            with pytest.raises(ProcessingError):
                await consumer.process(handler, retry=RetryPolicy(retry_on=OSError))
            assert handler.begun == [0]

    run(script)


def test_outputs_are_delivered_before_a_record_is_done(broker):
    async def script():
        await fill(broker, range(20), key=lambda n: n % 4)

        def act(record):
            number = int(record.value)
            if number % 2:
                return Output("out", b"%d" % (number * 10), record.key)
            return [Output("out", b"%d" % n, record.key) for n in (number * 10, -number)]

        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0)])
            await consumer.process(Handler(consumer, 20, act))
        out = [int(each.value) for each in await read_all(broker, "out", 30)]
        assert sorted(out) == sorted([n * 10 for n in range(20)] + [-n for n in range(0, 20, 2)])

    run(script)


def test_a_full_partition_is_not_read_on(broker):
    async def script():
        await fill(broker, range(3_000))
        await fill(broker, range(3_000, 3_010), partition=1)
        held = asyncio.Event()

        async def act(record):
            if record.partition == 0:
                await held.wait()

        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0), ("t", 1)])
            handler = Handler(consumer, 3_010, act)
            processing = asyncio.create_task(
                consumer.process(handler, order="partition", max_pending=100)
            )
            while len(handler.done) < 10:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert await consumer.position(("t", 0)) <= 600  # one read more at most
            held.set()
            await processing
            assert len(handler.done) == 3_010

    run(script)


def test_exactly_once_outputs_dead_letters_and_offsets_go_together(broker):
    async def script():
        await fill(broker, range(40), key=lambda n: n % 4)

        def act(record):
            if int(record.value) == 7:
                raise ValueError
            return Output("out", record.value, record.key)

        async with consumer_of(broker) as consumer:
            consumer.subscribe(["t"])
            task = asyncio.create_task(
                consumer.process(
                    Handler(consumer, None, act),
                    retry=QUICK,
                    dead_letter="dead",
                    transactional=True,
                    transaction_interval_ms=5,
                )
            )
            while await committed(consumer) != 40:
                await asyncio.sleep(0.01)
            consumer.stop_processing()
            await task
        out = [int(each.value) for each in await read_all(broker, "out", 39)]
        assert sorted(out) == [n for n in range(40) if n != 7]
        assert [each.value for each in await read_all(broker, "dead", 1)] == [b"7"]

    run(script)


@pytest.mark.parametrize("kind", KINDS)
def test_a_partition_that_goes_is_drained_and_each_record_processed_once(broker, kind):
    async def script():
        for partition in range(3):
            await fill(broker, range(partition * 100, partition * 100 + 100), partition=partition)
        done = []

        async def handle(record):
            await asyncio.sleep(0.005)
            done.append(int(record.value))

        options = {"heartbeat_interval_ms": 50, **KINDS[kind]}
        async with consumer_of(broker, **options) as first:
            first.subscribe(["t"])
            one = asyncio.create_task(first.process(handle, order="partition"))
            while len(done) < 30:
                await asyncio.sleep(0.01)
            async with consumer_of(broker, **options) as second:
                second.subscribe(["t"])
                two = asyncio.create_task(second.process(handle, order="partition"))
                while len(done) < 200:
                    await asyncio.sleep(0.01)
                second.stop_processing()
                await two
            while len(done) < 300:
                await asyncio.sleep(0.01)
            first.stop_processing()
            await one
        assert sorted(done) == list(range(300)), "each once"

    run(script)


def test_a_handler_that_does_not_end_is_given_up_when_its_partition_goes(broker):
    async def script():
        await fill(broker, range(3))
        cancelled = []

        async def hangs(record):
            try:
                await asyncio.sleep(3_600)
            except asyncio.CancelledError:
                cancelled.append(record.offset)
                raise

        options = {"heartbeat_interval_ms": 50}
        async with consumer_of(broker, **options) as first, consumer_of(broker, **options) as other:
            first.subscribe(["t"])
            processing = asyncio.create_task(first.process(hangs, drain_timeout_ms=100))
            while not first.assignment():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            other.subscribe(["t"])
            handler = Handler(other, 3)
            while not cancelled:
                await asyncio.sleep(0.01)
            processing.cancel()
            await asyncio.wait([processing])
            await first.close()
            await other.process(handler)
            assert sorted(handler.done) == [0, 1, 2]

    run(script)


def test_cancelling_leaves_the_consumer_usable(broker):
    async def script():
        await fill(broker, range(10))
        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0)])
            handler = Handler(consumer, 0, lambda _: asyncio.sleep(3_600))
            processing = asyncio.create_task(consumer.process(handler))
            while not handler.begun:
                await asyncio.sleep(0.01)
            with pytest.raises(ClientError, match="processes already"):
                await consumer.process(handler)
            with pytest.raises(ClientError, match="commits by itself"):
                await consumer.commit()
            with pytest.raises(ClientError, match="stop_processing first"):
                await consumer.unsubscribe()
            processing.cancel()
            await asyncio.wait([processing])
            assert [each.offset for each in await consumer.poll(5_000)] == list(range(10))

    run(script)


def test_a_handler_that_is_cancelled_by_others_has_failed(broker):
    async def script():
        await fill(broker, range(3))
        begun = []

        async def handle(record):
            begun.append(record.offset)
            if record.offset == 1:
                raise asyncio.CancelledError  # as of a task of its own that was cancelled

        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0)])
            with pytest.raises(ProcessingError, match="t-0 offset 1: given up after 3 tries"):
                await consumer.process(handle, order="partition", retry=QUICK)
            assert begun == [0, 1, 1, 1]

    run(script)


def test_a_seek_in_a_full_partition_is_followed(broker):
    async def script():
        await fill(broker, range(10))
        seen, go_on = [], asyncio.Event()

        async def handle(record):
            seen.append(record.offset)
            await go_on.wait()
            if len(seen) > 2 and record.offset == 9:
                consumer.stop_processing()

        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0)])
            processing = asyncio.create_task(
                consumer.process(handle, order="none", concurrency=2, max_pending=2)
            )
            while len(seen) < 2:
                await asyncio.sleep(0.01)
            consumer.seek(("t", 0), 8)
            go_on.set()
            await processing
            assert seen[-2:] == [8, 9]
            assert await committed(consumer) == 10

    run(script)


def test_after_it_nothing_is_committed_but_by_the_options(broker):
    async def script():
        await fill(broker, range(10))
        async with consumer_of(broker, enable_auto_commit=False, max_poll_records=1) as consumer:
            consumer.assign([("t", 0)])
            with pytest.raises(ProcessingError):
                await consumer.process(
                    lambda record: [][: 1 // (4 - record.offset)], order="partition", retry=QUICK
                )
            assert await committed(consumer) == 4, "what was done"
            for offset in (4, 5, 6):
                assert [each.offset for each in await consumer.poll(5_000)] == [offset]
        async with consumer_of(broker) as consumer:
            assert await committed(consumer) == 4

    run(script)


@pytest.mark.parametrize("output", ["none", Output("out", "no bytes"), Output("out", headers=5)])
def test_exactly_once_what_is_no_output_is_a_failure_of_its_record_alone(broker, output):
    async def script():
        await fill(broker, range(3))
        async with consumer_of(broker) as consumer:
            consumer.subscribe(["t"])
            task = asyncio.create_task(
                consumer.process(
                    lambda record: [output] if record.value == b"1" else None,
                    retry=QUICK,
                    dead_letter="dead",
                    transactional=True,
                    transaction_interval_ms=5,
                )
            )
            while await committed(consumer) != 3 and not task.done():
                await asyncio.sleep(0.01)
            consumer.stop_processing()
            await task
        assert [each.value for each in await read_all(broker, "dead", 1)] == [b"1"]

    run(script)


def test_dead_letters_that_cannot_be_delivered_stop_it(broker):
    async def script():
        await fill(broker, range(1))
        async with consumer_of(broker) as consumer:
            consumer.assign([("t", 0)])
            with pytest.raises((DeliveryError, Exception), match="topic"):
                await consumer.process(
                    lambda record: 1 / 0, retry=QUICK, dead_letter="no/such topic"
                )
            assert await consumer.position(("t", 0)) == 0

    run(script)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"order": "any"}, "not one of key, partition, none"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"max_pending": 0}, "max_pending is 0"),
    ],
)
def test_options_that_cannot_be(broker, options, told):
    async def script():
        async with consumer_of(broker) as consumer:
            with pytest.raises(ConfigError, match=told):
                await consumer.process(print, **options)

    run(script)
    with pytest.raises(ConfigError, match="attempts is 0"):
        RetryPolicy(attempts=0)


def test_without_asyncio_handlers_run_on_threads(broker):
    run(lambda: fill(broker, range(50)))
    threads, done = set(), []
    with ottla.SyncConsumer(
        bootstrap_servers=broker.bootstrap_servers, group_id="g", auto_offset_reset="earliest"
    ) as consumer:
        consumer.subscribe(["t"])

        def handle(record):
            threads.add(threading.current_thread())
            done.append(int(record.value))
            if len(done) == 50:
                consumer.stop_processing()

        consumer.process(handle, concurrency=3, order="none")
    assert sorted(done) == list(range(50)) and threading.main_thread() not in threads
