"""Transactions of our producer against a node in this process: both versions of the protocol."""

import asyncio

import pytest

import ottla
from ottla.base.errors import ErrorCode
from ottla.client.errors import (
    ClientClosedError,
    ClientError,
    CommitFailedError,
    ConfigError,
    DeliveryError,
    ProducerFencedError,
    TimedOutError,
    TransactionError,
)
from ottla.client.offsets import GroupMetadata
from ottla.client.transacting import Transacting

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["first", "second"])
def version(request, monkeypatch):
    """The protocol of before and of after KIP-890."""
    if request.param == "first":
        monkeypatch.setattr(
            Transacting,
            "_has_second_version",
            property(lambda _: False, lambda _, value: None),
            raising=False,
        )
    return request.param


def producer_of(broker, **options):
    options = {"transactional_id": "x", "linger_ms": 0, **options}
    return ottla.Producer(bootstrap_servers=broker.bootstrap_servers, **options)


async def committed(broker, topic="t"):
    """What read_committed sees, once nothing is open any more."""
    async with ottla.Consumer(
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
    ) as consumer:
        consumer.assign([(topic, 0)])
        async with ottla.Admin(bootstrap_servers=broker.bootstrap_servers) as admin:
            while True:
                (end,) = (await consumer.end_offsets()).values()
                (high,) = (await admin.list_offsets({(topic, 0): -1})).values()
                if end == high.offset:
                    break
                await asyncio.sleep(0.01)
        found = []
        while await consumer.position((topic, 0)) < end:
            found += [record.value for record in await consumer.poll(100)]
        return found


def test_a_block_commits_and_an_error_or_a_cancel_aborts(broker, version):
    async def script():
        async with producer_of(broker) as producer:
            assert producer._transacting._has_second_version == (version == "second")
            async with producer.transaction():
                delivery = await producer.send("t", b"kept")
            assert (await delivery).offset == 0
            with pytest.raises(ZeroDivisionError):
                async with producer.transaction():
                    await producer.send_and_wait("t", b"dropped")
                    unsent = await producer.send_many("t", [b"dropped"] * 100)
                    raise ZeroDivisionError
            with pytest.raises(DeliveryError, match="aborted"):
                await unsent

            async def cancelled():
                async with producer.transaction():
                    await producer.send_and_wait("t", b"dropped")
                    is_sent.set()
                    await asyncio.sleep(3_600)

            is_sent = asyncio.Event()
            task = asyncio.create_task(cancelled())
            await is_sent.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for n in range(20):
                async with producer.transaction():
                    await producer.send_many("t", [b"%d" % n] * 10)
            async with producer.transaction():
                pass
        return await committed(broker)

    values = asyncio.run(script())
    assert values == [b"kept", *(b"%d" % n for n in range(20) for _ in range(10))]


def test_a_transaction_that_is_cancelled_at_any_time_leaves_the_producer_usable(broker, version):
    async def script():
        async def work(n):
            async with producer.transaction():
                await producer.send_and_wait("t", b"maybe %d" % n)
                await producer.send("t", b"too %d" % n)

        async with producer_of(broker) as producer:
            for n in range(40):
                task = asyncio.create_task(work(n))
                await asyncio.sleep(n * 0.0003)
                task.cancel()
                await asyncio.wait([task])
                async with producer.transaction():
                    await producer.send("t", b"after %d" % n)
        found = await committed(broker)
        assert [each for each in found if each.startswith(b"after")] == [
            b"after %d" % n for n in range(40)
        ]
        assert len(set(found)) == len(found), "nothing twice"
        for n in range(40):
            assert (b"maybe %d" % n in found) == (b"too %d" % n in found), "both or neither"

    asyncio.run(script())


def test_a_block_that_is_left_for_good_is_aborted(broker, version):
    """As where an async generator with the block in it is closed half way."""

    async def script():
        async with producer_of(broker) as producer:

            async def values():
                async with producer.transaction():
                    await producer.send_and_wait("t", b"never")
                    yield 1

            left = values()
            assert await anext(left) == 1
            await left.aclose()
            async with producer.transaction():
                await producer.send("t", b"seen")
        assert await committed(broker) == [b"seen"]

    asyncio.run(script())


def test_nothing_is_taken_outside_of_a_transaction(broker):
    async def script():
        async with producer_of(broker) as producer:
            with pytest.raises(ClientError, match="is ready: begin one first"):
                await producer.send("t", b"x")
            with pytest.raises(ClientError, match="cannot commit"):
                await producer.commit_transaction()
            with pytest.raises(ClientError, match="begin one first"):
                await producer.send_offsets({("t", 0): 1}, GroupMetadata("g"))
            await producer.begin_transaction()
            with pytest.raises(ClientError, match="is open: it cannot begin"):
                await producer.begin_transaction()
            await producer.send("t", b"never seen")  # and closed while it is open
        with pytest.raises(ClientClosedError):
            await producer.begin_transaction()
        async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as plain:
            with pytest.raises(ClientError, match="needs a transactional_id"):
                await plain.begin_transaction()
            await plain.send_and_wait("t", b"seen")
        assert await committed(broker) == [b"seen"]

    asyncio.run(script())
    for contradiction in ({"acks": 1}, {"enable_idempotence": False}, {"retries": 0}):
        with pytest.raises(ConfigError):
            producer_of(broker, **contradiction)


def test_a_later_producer_fences_the_earlier_for_good(broker, version):
    async def script():
        async with producer_of(broker) as earlier:
            await earlier.begin_transaction()
            await earlier.send_and_wait("t", b"zombie")
            async with producer_of(broker) as later:
                async with later.transaction():
                    await later.send("t", b"later")
                with pytest.raises(ProducerFencedError):
                    await earlier.commit_transaction()
                with pytest.raises(ProducerFencedError):
                    await earlier.begin_transaction()
                async with later.transaction():
                    await later.send("t", b"later")
        assert await committed(broker) == [b"later", b"later"]

    asyncio.run(script())


def test_a_fenced_block_raises_that_it_was_fenced(broker, version):
    async def script():
        async with producer_of(broker) as earlier:
            with pytest.raises(ProducerFencedError):
                async with earlier.transaction():
                    await earlier.send_and_wait("t", b"zombie")
                    async with producer_of(broker):
                        pass
                    with pytest.raises(DeliveryError):
                        await earlier.send_and_wait("t", b"zombie")
        assert await committed(broker) == []

    asyncio.run(script())


def test_a_record_that_is_refused_breaks_the_transaction_alone(start_broker, version):
    broker = start_broker(settings={"message.max.bytes": "2000"})

    async def script():
        async with producer_of(broker, compression_type="none") as producer:
            with pytest.raises(TransactionError) as broken:
                async with producer.transaction():
                    await producer.send_and_wait("t", b"first")
                    await producer.send("t", bytes(5_000))
                    await producer.flush()
            assert broken.value.code is ErrorCode.MESSAGE_TOO_LARGE
            with pytest.raises(TransactionError):
                async with producer.transaction():
                    await producer.send("t", bytes(5_000))
            for n in range(3):  # and it goes on
                async with producer.transaction():
                    await producer.send("t", b"%d" % n)
        assert await committed(broker) == [b"0", b"1", b"2"]

    asyncio.run(script())


def test_what_waits_behind_a_refused_record_is_told(start_broker, version):
    broker = start_broker(settings={"message.max.bytes": "2000"})

    async def script():
        async with producer_of(broker, linger_ms=20) as producer:
            with pytest.raises(DeliveryError):
                async with producer.transaction():
                    large = await producer.send("t", bytes(5_000))
                    behind = await producer.send("t", b"behind")
                    with pytest.raises(DeliveryError):
                        await large
                    await behind
        assert await committed(broker) == []

    asyncio.run(script())


def test_a_commit_that_failed_when_nobody_waited_is_told_by_the_next_block(start_broker, version):
    broker = start_broker(settings={"message.max.bytes": "1000"})

    async def script():
        async with producer_of(broker) as producer:
            await producer.begin_transaction()
            await producer.send("t", bytes(5_000))
            committing = asyncio.create_task(producer.commit_transaction())
            await asyncio.sleep(0)
            committing.cancel()
            await asyncio.wait([committing])
            with pytest.raises(TransactionError, match="MESSAGE_TOO_LARGE"):
                async with producer.transaction():
                    pytest.fail("the one before is to be aborted first")
            async with producer.transaction():
                await producer.send("t", b"after")
        assert await committed(broker) == [b"after"]

    asyncio.run(script())


def test_an_abort_that_was_not_answered_is_asked_for_again_before_the_next_block(broker, version):
    async def script():
        async with producer_of(broker) as producer:
            end, calls = producer._transacting._end_at_coordinator, []

            async def late(**how):
                calls.append(how)
                if len(calls) == 1:
                    raise TimedOutError("no answer")
                await end(**how)

            producer._transacting._end_at_coordinator = late
            await producer.begin_transaction()
            await producer.send_and_wait("t", b"never")
            with pytest.raises(TimedOutError):
                await producer.abort_transaction()
            async with producer.transaction():
                await producer.send("t", b"seen")
            assert [how["is_commit"] for how in calls] == [False, False, True]
        assert await committed(broker) == [b"seen"]

    asyncio.run(script())


def test_offsets_are_committed_with_the_records_or_not(broker, version):
    async def script():
        group = GroupMetadata("g")
        async with (
            producer_of(broker) as producer,
            ottla.Admin(bootstrap_servers=broker.bootstrap_servers) as admin,
        ):
            async with producer.transaction():
                await producer.send("t", b"1")
                await producer.send_offsets({("t", 0): 7}, group)
            with pytest.raises(ZeroDivisionError):
                async with producer.transaction():
                    await producer.send_offsets({("t", 0): 9}, group)
                    raise ZeroDivisionError
            places = await admin.group_offsets("g", [("t", 0)], require_stable=True)
            assert places["t", 0].offset == 7
            async with producer.transaction():
                await producer.send_offsets({("t", 0): 8}, group)
            assert (await admin.group_offsets("g", [("t", 0)], require_stable=True))[
                "t", 0
            ].offset == 8
        assert await committed(broker) == [b"1"]

    asyncio.run(script())


def test_a_member_of_an_older_generation_cannot_commit(broker, version):
    async def script():
        async with (
            producer_of(broker) as producer,
            ottla.Consumer(
                bootstrap_servers=broker.bootstrap_servers, group_id="g", fetch_max_wait_ms=50
            ) as consumer,
        ):
            async with producer.transaction():
                await producer.send("t", b"1")
            consumer.subscribe(["t"])
            while not consumer.assignment():
                await consumer.poll(50)
            group = consumer.group_metadata()
            assert group.member_id
            with pytest.raises(CommitFailedError):
                async with producer.transaction():
                    await producer.send("t", b"dropped")
                    older = group._replace(generation_id=group.generation_id + 1)
                    await producer.send_offsets({("t", 0): 1}, older)
            async with producer.transaction():
                await producer.send("t", b"2")
                await producer.send_offsets({("t", 0): 1}, consumer.group_metadata())
        assert await committed(broker) == [b"1", b"2"]

    asyncio.run(script())


def test_a_transaction_that_takes_too_long_is_aborted_by_its_coordinator(start_broker, version):
    often = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "50"}
    broker = start_broker(settings=often)

    async def script():
        async with producer_of(broker, transaction_timeout_ms=100) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait("t", b"slow")
            assert await committed(broker) == []  # waits until it is over
            with pytest.raises(TransactionError):
                await producer.commit_transaction()

    asyncio.run(script())


def test_without_await(broker):
    with ottla.SyncProducer(
        bootstrap_servers=broker.bootstrap_servers, transactional_id="x"
    ) as producer:
        with producer.transaction():
            producer.send("t", b"1")
        with pytest.raises(ZeroDivisionError), producer.transaction():
            producer.send("t", b"2")
            raise ZeroDivisionError
        producer.begin_transaction()
        producer.send("t", b"3")
        producer.send_offsets({("t", 0): 1}, GroupMetadata("g"))
        producer.commit_transaction()
    assert asyncio.run(committed(broker)) == [b"1", b"3"]
