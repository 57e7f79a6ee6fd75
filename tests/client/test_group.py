"""Members of a group against a real broker in this process, with both protocols."""

import asyncio
import contextlib

import pytest

import ottla
from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.errors import ClientError, CommitFailedError, ConfigError
from ottla.client.offsets import OffsetAndMetadata, commit
from ottla.client.rows import NewTopic

PARTITIONS = 6
KINDS = {
    **{
        name: {"partition_assignment_strategy": [name]}
        for name in ("range", "roundrobin", "sticky", "cooperative-sticky")
    },
    "consumer": {"group_protocol": "consumer"},
}
SETTINGS = {
    "num.partitions": str(PARTITIONS),
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "group.consumer.heartbeat.interval.ms": "50",
    "group.consumer.min.heartbeat.interval.ms": "50",
    "group.consumer.assignment.interval.ms": "0",
}
CLASSIC_AND_NEW = pytest.mark.parametrize("kind", ["range", "consumer"])
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def broker(start_broker):
    return start_broker(settings=SETTINGS)


class Member:
    """A consumer, with what its callbacks were told."""

    def __init__(self, broker, kind, **options):
        self.told = []
        self.lost = []
        self.kind = kind
        self.changed = asyncio.Event()
        self.consumer = ottla.Consumer(
            **{
                "bootstrap_servers": broker.bootstrap_servers,
                "group_id": "g",
                "auto_offset_reset": "earliest",
                "fetch_max_wait_ms": 50,
                "heartbeat_interval_ms": 50,
                "session_timeout_ms": 30_000,
                **KINDS[kind],
                **options,
            }
        )

    def subscribe(self, topics=("t",), **options):
        self.consumer.subscribe(
            topics,
            on_assigned=lambda keys: self._told("+", keys),
            on_revoked=lambda keys: self._told("-", keys),
            on_lost=self.lost.extend,
            **options,
        )
        return self

    def _told(self, what, keys):
        self.told += [(what, key) for key in keys]
        self.changed.set()

    @property
    def indexes(self):
        return {key.partition for key in self.consumer.assignment()}

    async def __aenter__(self):
        await self.consumer.start()
        return self

    async def __aexit__(self, *error):
        await self.consumer.__aexit__(*error)


def run(script, broker, **options):
    async def whole():
        async with asyncio.timeout(60):
            async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as producer:
                await script(producer, **options)

    asyncio.run(whole())


async def fill(producer, count, topic="t"):
    for n in range(count):
        await producer.send(topic, b"%d" % n, partition=n % PARTITIONS)
    await producer.flush()


async def commit_as_before(consumer):
    """A commit that another generation of the group has overtaken."""
    now = consumer.group_metadata()
    before = now._replace(generation_id=now.generation_id - 1)
    offsets = {TopicPartition("t", 0): OffsetAndMetadata(1)}
    await commit(consumer._cluster, offsets, lambda: before, 5_000)


async def until(condition, *members):
    """Members read, and so let go of what they must, until the condition holds. What they read."""
    found = []
    while not condition():
        for member in members:
            found += [int(record.value) for record in await member.consumer.poll(10)]
        await asyncio.sleep(0.01)
    return found


def even(*members):
    def holds():
        shares = [member.indexes for member in members]
        sizes = {len(share) for share in shares}
        is_whole = set().union(*shares) == set(range(PARTITIONS))
        return is_whole and sizes == {PARTITIONS // len(members)}

    return holds


@EACH_KIND
def test_members_come_and_go_and_each_record_is_read_once(broker, kind):
    async def script(producer):
        await fill(producer, 60)
        read = []
        first, second, third = (Member(broker, kind) for _ in range(3))
        async with first, second:
            first.subscribe()
            read += await until(even(first), first)
            second.subscribe()
            read += await until(even(first, second), first, second)
            await fill(producer, 60)
            async with third:
                third.subscribe()
                read += await until(even(first, second, third), first, second, third)
                await fill(producer, 60)
                read += [int(each.value) for each in await third.consumer.poll(1_000)]
            read += await until(even(first, second), first, second)
            await fill(producer, 60)
            read += await until(lambda: not behind(first, second), first, second)
            while more := await rest(first, second):
                read += more
        assert sorted(read) == sorted([*range(60)] * 4)
        for member in (first, second, third):
            assert not member.lost
            owned = set()
            for what, key in member.told:
                assert (key in owned) == (what == "-"), "taken twice, or given up what was not had"
                owned ^= {key}
            assert not owned, "closing tells what goes"

    def behind(*members):
        return not all(member.consumer.assignment() for member in members)

    async def rest(*members):
        return [int(each.value) for m in members for each in await m.consumer.poll(300)]

    run(script, broker)


@EACH_KIND
def test_what_is_in_hand_is_waited_for(broker, kind):
    async def script(producer):
        await fill(producer, 12)
        first, second = Member(broker, kind), Member(broker, kind)
        async with first, second:
            first.subscribe()
            in_hand = []
            while len({record.partition for record in in_hand}) < PARTITIONS:
                in_hand += await first.consumer.poll(1_000, 100)
            second.subscribe()
            held = asyncio.create_task(until(lambda: second.indexes, second))
            await asyncio.sleep(0.3)  # rebalances, and may not get on
            assert not second.indexes and not [told for told in first.told if told[0] == "-"]
            await first.consumer.poll(0)
            moving = asyncio.create_task(until(even(first, second), first))
            assert await held == [], "all was done and committed before it moved"
            await moving

    run(script, broker)


@CLASSIC_AND_NEW
def test_who_stalls_is_put_out_and_comes_back(broker, kind):
    async def script(producer):
        await fill(producer, 12)
        first, second = Member(broker, kind, max_poll_interval_ms=400), Member(broker, kind)
        async with first, second:
            first.subscribe()
            seen = await first.consumer.poll(10_000, 1)
            second.subscribe()
            read = await until(even(second), second)
            with pytest.raises(CommitFailedError):
                await first.consumer.commit({("t", seen[0].partition): 1})
            assert seen[0].partition in {key.partition for key in first.lost}
            read += await until(even(first, second), first, second)
            while int(seen[0].value) not in read:  # it was never committed
                read += [int(r.value) for m in (first, second) for r in await m.consumer.poll(10)]

    run(script, broker)


@CLASSIC_AND_NEW
def test_a_commit_of_an_old_generation_is_refused_with_its_own_error(broker, kind):
    async def script(producer):
        await fill(producer, 12)
        member = Member(broker, kind, enable_auto_commit=False)
        async with member:
            member.subscribe()
            await until(even(member), member)
            metadata = member.consumer.group_metadata()
            assert metadata.generation_id > 0 and metadata.member_id
            await member.consumer.commit()
            with pytest.raises(CommitFailedError) as refused:
                await commit_as_before(member.consumer)
            stale = {ErrorCode.ILLEGAL_GENERATION, ErrorCode.FENCED_MEMBER_EPOCH}
            assert refused.value.code in stale | {ErrorCode.STALE_MEMBER_EPOCH}
            # So is a heartbeat: what it had is lost, and it joins anew.
            core = member.consumer._membership._member
            while not member.lost:
                if kind == "consumer":
                    core.epoch = 77
                else:
                    core.generation = 77
                await until(lambda: True, member)
                await asyncio.sleep(0.02)
            await until(even(member), member)
            await member.consumer.commit()

    run(script, broker)


@CLASSIC_AND_NEW
def test_leaving_is_told_to_the_group(broker, kind):
    async def script(producer):
        await fill(producer, 6)
        async with Member(broker, kind) as other, Member(broker, kind) as member:
            member.subscribe()
            await until(even(member), member)
            await member.consumer.unsubscribe()
            assert member.consumer.assignment() == []
            assert member.told[-1][0] == "-"
            # Its session would have lasted for long.
            other.subscribe()
            await until(even(other), other)
            member.consumer.assign([("t", 0)])
            member.consumer.seek_to_beginning()
            assert len(await member.consumer.poll(5_000)) == 1

    run(script, broker)


@CLASSIC_AND_NEW
def test_a_pattern_finds_topics_that_come_later(broker, kind):
    async def script(producer):
        async with ottla.Admin(bootstrap_servers=broker.bootstrap_servers) as admin:
            await admin.create_topics(NewTopic("a-1"), NewTopic("b-1"))
            member = Member(broker, kind, metadata_max_age_ms=100)
            async with member:
                member.subscribe((), pattern="a-.*")
                await until(lambda: topics(member) == {"a-1"}, member)
                await admin.create_topics(NewTopic("a-2"))
                await until(lambda: topics(member) == {"a-1", "a-2"}, member)
                await admin.delete_topics("a-1")
                await until(lambda: topics(member) == {"a-2"}, member)
                member.subscribe(["b-1"])
                await until(lambda: topics(member) == {"b-1"}, member)

    def topics(member):
        return {key.topic for key in member.consumer.assignment()}

    run(script, broker)


@CLASSIC_AND_NEW
def test_more_partitions_and_topics_that_are_made_later_are_read_too(broker, kind):
    async def script(producer):
        async with ottla.Admin(bootstrap_servers=broker.bootstrap_servers) as admin:
            member = Member(broker, kind, metadata_max_age_ms=100)
            async with member:
                member.subscribe(["later"])
                await asyncio.sleep(0.1)
                assert member.indexes == set()
                await admin.create_topics(NewTopic("later", num_partitions=1))
                await until(lambda: member.indexes == {0}, member)
                await admin.create_partitions({"later": 3})
                await until(lambda: member.indexes == {0, 1, 2}, member)

    run(script, broker)


@CLASSIC_AND_NEW
def test_a_topic_that_is_deleted_and_made_anew_is_read_from_its_beginning(broker, kind):
    async def script(producer):
        await fill(producer, 40)
        reader = Member(broker, kind, metadata_max_age_ms=200)
        async with reader, ottla.Admin(bootstrap_servers=broker.bootstrap_servers) as admin:
            reader.subscribe()
            found = []
            while len(found) < 40:
                found += await reader.consumer.poll(100)
            await admin.delete_topics("t")
            await admin.create_topics(NewTopic("t", PARTITIONS))
            async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as anew:
                await fill(anew, 80)
            found = []
            while len(found) < 80:
                found += await reader.consumer.poll(100)
            assert sorted(int(each.value) for each in found) == list(range(80))

    run(script, broker)


@CLASSIC_AND_NEW
def test_a_static_member_comes_back_to_what_it_had(broker, kind):
    async def script(producer):
        await fill(producer, 6)
        async with Member(broker, kind) as other:
            async with Member(broker, kind, group_instance_id="one") as member:
                member.subscribe()
                other.subscribe()
                await until(even(member, other), member, other)
                had = member.indexes
            told = list(other.told)
            async with Member(broker, kind, group_instance_id="one") as member:
                member.subscribe()
                await until(lambda: member.indexes == had, member, other)
                assert other.told == told, "the other was not disturbed"

    run(script, broker)


def test_a_static_member_of_the_same_name_puts_the_first_out(broker):
    async def script(producer):
        await fill(producer, 6)
        async with contextlib.AsyncExitStack() as stack:
            members = [Member(broker, "range", group_instance_id="one") for _ in range(2)]
            for member in members:
                await stack.enter_async_context(member)
                member.subscribe()
                await until(even(member), member)
            with pytest.raises(KafkaError) as fenced:
                await until(lambda: False, members[0])
            assert fenced.value.code is ErrorCode.FENCED_INSTANCE_ID
            assert members[0].lost
            with pytest.raises(KafkaError):  # every read says so
                await members[0].consumer.poll()
            await members[0].consumer.unsubscribe()
            assert await members[0].consumer.poll() == []

    run(script, broker)


def test_who_knows_no_assignor_of_the_others_is_told(broker):
    async def script(producer):
        await fill(producer, 6)
        async with Member(broker, "range") as first, Member(broker, "sticky") as second:
            first.subscribe()
            await until(even(first), first)
            second.subscribe()
            with pytest.raises(KafkaError) as told:
                await until(lambda: False, second)
            assert told.value.code is ErrorCode.INCONSISTENT_GROUP_PROTOCOL

    run(script, broker)


@CLASSIC_AND_NEW
def test_callbacks_may_wait_seek_and_commit_and_their_errors_are_raised(broker, kind):
    async def script(producer):
        await fill(producer, 60)
        async with Member(broker, kind, enable_auto_commit=False) as member:
            consumer = member.consumer

            async def came(keys):
                for key in keys:
                    consumer.seek(key, 9)
                    assert await consumer.position(key) == 9

            async def goes(keys):
                await consumer.commit()
                raise ZeroDivisionError

            consumer.subscribe(["t"], on_assigned=came, on_revoked=goes)
            read = []
            while len(read) < PARTITIONS:
                read += await consumer.poll(5_000)
            assert {record.offset for record in read} == {9}
            await consumer.unsubscribe()
            assert {each.offset for each in (await committed(consumer)).values()} == {10}
            with pytest.raises(ZeroDivisionError):
                await consumer.poll()
            assert await consumer.poll() == []

    async def committed(consumer):
        return await consumer.committed(*(("t", index) for index in range(PARTITIONS)))

    run(script, broker)


@CLASSIC_AND_NEW
def test_cancelled_calls_leave_the_consumer_usable(broker, kind):
    async def script(producer):
        await fill(producer, 12)
        async with Member(broker, kind) as member:
            member.subscribe()
            for call in (member.consumer.poll(60_000), member.consumer.commit()):
                task = asyncio.create_task(call)
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            read = []
            while len(read) < 12:
                read += await member.consumer.poll(5_000)
            await member.consumer.commit()
            kept = await member.consumer.committed()
            assert {each.offset for each in kept.values()} == {2}

    run(script, broker)


def test_a_coordinator_that_goes_and_comes_back(start_broker, tmp_path):
    settings = {**SETTINGS, "offsets.topic.num.partitions": "1"}
    broker = start_broker(data=tmp_path / "d", settings=settings)
    port = broker.address[1]

    async def script(producer):
        await fill(producer, 12)
        async with Member(broker, "range") as member:
            member.subscribe()
            read = []
            while len(read) < 12:
                read += await member.consumer.poll(5_000)
            await asyncio.to_thread(broker.stop)
            committing = asyncio.create_task(member.consumer.commit())
            await asyncio.to_thread(start_broker, data=tmp_path / "d", port=port, settings=settings)
            await committing
            await fill(producer, 12)
            while len(read) < 24:
                read += await member.consumer.poll(5_000)
            assert not member.lost

    run(script, broker)


def test_what_cannot_be_asked_is_told(broker):
    async def script(producer):
        async with Member(broker, "range") as member:
            consumer = member.consumer
            for options in ({"topics": []}, {"topics": ["t"], "pattern": "t"}):
                with pytest.raises(ClientError, match="topics or a pattern"):
                    consumer.subscribe(**options)
            with pytest.raises(ConfigError, match="pattern"):
                consumer.subscribe(pattern="(")
            consumer.assign([("t", 0)])
            with pytest.raises(ClientError, match="was assigned partitions"):
                consumer.subscribe(["t"])
            consumer.assign([])
            consumer.subscribe("t")
            with pytest.raises(ClientError, match="is subscribed"):
                consumer.assign([TopicPartition("t", 0)])
        async with ottla.Consumer(bootstrap_servers=broker.bootstrap_servers) as consumer:
            with pytest.raises(ClientError, match="group_id is not set"):
                consumer.subscribe(["t"])

    run(script, broker)


def test_without_asyncio(broker):
    run(lambda producer: fill(producer, 12), broker)
    with ottla.SyncConsumer(
        bootstrap_servers=broker.bootstrap_servers, group_id="g", auto_offset_reset="earliest"
    ) as consumer:
        consumer.subscribe(["t"])
        found = []
        for record in consumer:
            found.append(int(record.value))
            if len(found) == 12:
                break
        assert sorted(found) == list(range(12))
        consumer.unsubscribe()
        assert consumer.assignment() == []
