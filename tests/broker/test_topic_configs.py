"""Every topic option that works takes effect: set at creation, altered later, or as the default
that a broker has from its file or is given while it runs. DescribeConfigs says which it was."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.options import BROKER_OPTIONS, TOPIC_OPTIONS, ConfigSource
from ottla.metadata.config_ops import ConfigOp, OpType, ResourceType
from ottla.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from ottla.records.batch import HEADER_BYTES, iterate_headers
from ottla.records.builder import build_batch
from ottla.records.compression import CODEC_NUMBERS, compress, decompress
from ottla.records.record import Record, iterate_records

NOW_MS = 1_700_000_000_000
UNPACKED_BYTES = 1 << 24
SOURCES = {
    "created": ConfigSource.DYNAMIC_TOPIC_CONFIG,
    "altered": ConfigSource.DYNAMIC_TOPIC_CONFIG,
    "broker's file": ConfigSource.STATIC_BROKER_CONFIG,
    "broker altered": ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG,
}
LARGE = 600_000
"""Two batches of it do not fit the smallest segment, of 1 MiB."""


SMALLEST = HEADER_BYTES + 10
"""Bytes of a batch around the value of its only record, for values of some hundred bytes."""


def of_broker(configs):
    return {TOPIC_OPTIONS[key].synonyms[0].name: value for key, value in configs.items()}


def ops(configs):
    return [ConfigOp(key, OpType.SET, value) for key, value in configs.items()]


async def described(node, key):
    resource = DescribeConfigsResource(
        resource_type=ResourceType.TOPIC, resource_name="a", configuration_keys=[key]
    )
    answer = await node.ask(DescribeConfigsRequest(resources=[resource]))
    (row,) = answer.results[0].configs
    return row.value, row.config_source


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The node's wall clock, to be set."""

    class Clock:
        now_ms = NOW_MS

    monkeypatch.setattr("ottla.host.clock.SystemClock.time_ms", lambda _: Clock.now_ms)
    return Clock


@pytest.fixture(params=list(SOURCES))
def with_configs(request, on_node):
    """Run a test of a node whose topic `a` has these configs, from each place in turn."""
    way = request.param

    def run(test, **given):
        configs = {name.replace("_", "."): value for name, value in given.items()}

        async def prepared(node):
            alter = node.services.controller.configs.alter
            await node.topic("a", **(configs if way == "created" else {}))
            if way == "altered":
                await alter(ResourceType.TOPIC, "a", ops(configs))
            if way == "broker altered":
                await alter(ResourceType.BROKER, "", ops(of_broker(configs)))
            for key, value in configs.items():
                assert await described(node, key) == (value, SOURCES[way])
            await test(node)

        on_node(prepared, of_broker(configs) if way == "broker's file" else None)

    return run


def batch(count=1, timestamp=NOW_MS, key=b"k", value=b"v", **options):
    records = [Record(n, timestamp, key, value) for n in range(count)]
    return build_batch(records, **options)


async def produced(node, records, acks=-1, timeout_ms=60_000):
    """(error code, log append time) of what a producer sent."""
    data = [PartitionProduceData(index=0, records=records)]
    topics = [TopicProduceData(name="a", partition_data=data)]
    answer = await node.ask(ProduceRequest(acks=acks, timeout_ms=timeout_ms, topic_data=topics), 12)
    row = answer.responses[0].partition_responses[0]
    return row.error_code, row.log_append_time_ms


async def sent(node, *batches, **options):
    for records in batches:
        assert (await produced(node, records, **options))[0] == 0


def partition_of(node):
    return node.services.replicas.leader_of("a", 0)


def log_of(node):
    return partition_of(node).log


def bases(node):
    return [segment.base_offset for segment in log_of(node).segments]


def stored(node):
    """(header, bytes) of every batch that lies in the active segment."""
    file = log_of(node).active.file
    data = file.pread(log_of(node).active.size_bytes, 0)
    return [(header, data[at : at + header.size_bytes]) for at, header in iterate_headers(data)]


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


# -- what is taken


def test_max_message_bytes(with_configs):
    async def test(node):
        assert (await produced(node, batch(value=b"x" * 300)))[0] == ErrorCode.MESSAGE_TOO_LARGE
        assert log_of(node).log_end_offset == 0
        await sent(node, batch(value=b"x" * 10))

    with_configs(test, max_message_bytes="200")


def test_message_timestamp_type(with_configs, clock):
    async def test(node):
        clock.now_ms = NOW_MS + 5
        assert await produced(node, batch(2, timestamp=77)) == (0, NOW_MS + 5)
        ((header, data),) = stored(node)
        assert header.is_log_append_time
        times = [record.timestamp for record in iterate_records(data, UNPACKED_BYTES)]
        assert times == [NOW_MS + 5] * 2

    with_configs(test, message_timestamp_type="LogAppendTime")


@pytest.mark.parametrize(
    ("key", "allowed", "refused"),
    [
        ("message_timestamp_before_max_ms", NOW_MS - 1000, NOW_MS - 1001),
        ("message_timestamp_after_max_ms", NOW_MS + 1000, NOW_MS + 1001),
    ],
)
def test_bounds_of_timestamps(with_configs, key, allowed, refused):
    async def test(node):
        code, _ = await produced(node, batch(timestamp=refused))
        assert code == ErrorCode.INVALID_TIMESTAMP
        await sent(node, batch(timestamp=allowed))
        assert log_of(node).log_end_offset == 1

    with_configs(test, **{key: "1000"})


def test_record_validation(with_configs):
    """Offsets 0, 2, 2: of this a header says nothing."""

    async def test(node):
        wrong = build_batch([Record(n, NOW_MS, b"k", b"v") for n in (0, 2, 2)])
        assert (await produced(node, wrong))[0] == ErrorCode.INVALID_RECORD
        await sent(node, batch(3))
        assert log_of(node).log_end_offset == 3

    with_configs(test, record_validation="deep")


def test_a_compacted_topic_wants_keys_and_keeps_everything(with_configs):
    async def test(node):
        assert (await produced(node, batch(key=None)))[0] == ErrorCode.INVALID_RECORD
        await sent(node, batch(timestamp=NOW_MS - 10_000))
        node.services.replicas.clean_up()
        assert log_of(node).log_start_offset == 0

    with_configs(test, cleanup_policy="compact", retention_ms="1000")


def test_min_insync_replicas(with_configs):
    async def test(node):
        assert (await produced(node, batch()))[0] == ErrorCode.NOT_ENOUGH_REPLICAS
        assert log_of(node).log_end_offset == 0
        await sent(node, batch(), acks=1)

    with_configs(test, min_insync_replicas="2")


# -- how it is stored


@pytest.mark.parametrize("sent_as", ["none", "gzip"])
@pytest.mark.parametrize("codec", ["uncompressed", "gzip", "snappy", "lz4", "zstd"])
def test_compression_type(with_configs, codec, sent_as):
    async def test(node):
        await sent(node, batch(5, value=b"value" * 20, codec=CODEC_NUMBERS[sent_as]))
        ((header, data),) = stored(node)
        assert header.codec == (0 if codec == "uncompressed" else CODEC_NUMBERS[codec])
        values = [record.value for record in iterate_records(data, UNPACKED_BYTES)]
        assert values == [b"value" * 20] * 5

    with_configs(test, compression_type=codec)


@pytest.mark.parametrize(
    ("codec", "level"), [("gzip", 1), ("gzip", 9), ("lz4", 17), ("zstd", -50), ("zstd", 19)]
)
def test_levels_of_compression(with_configs, codec, level):
    async def test(node):
        value = b"".join(b"%d %d " % (n, n * n) for n in range(2000))
        await sent(node, batch(5, value=value))
        ((_, data),) = stored(node)
        packed, number = data[HEADER_BYTES:], CODEC_NUMBERS[codec]
        body = decompress(number, memoryview(packed), UNPACKED_BYTES)
        assert packed == compress(number, body, level)
        assert packed != compress(number, body, None)

    with_configs(test, compression_type=codec, **{f"compression_{codec}_level": str(level)})


def test_segment_bytes(with_configs):
    async def test(node):
        await sent(node, *[batch(value=b"x" * LARGE) for _ in range(3)])
        assert bases(node) == [0, 1, 2]

    with_configs(test, segment_bytes=str(1 << 20))


def test_segment_ms(with_configs):
    async def test(node):
        times = (NOW_MS, NOW_MS + 1000, NOW_MS + 1001, NOW_MS + 2001, NOW_MS + 2003)
        await sent(node, *[batch(timestamp=each) for each in times])
        assert bases(node) == [0, 2, 4]

    with_configs(test, segment_ms="1000")


def test_index_interval_bytes(with_configs):
    """As in Kafka, a segment keeps what it began with."""

    async def test(node):
        await sent(node, batch())
        log_of(node).roll(NOW_MS)
        await sent(node, *[batch() for _ in range(6)])
        size = stored(node)[0][0].size_bytes
        assert 100 < 2 * size < 150 < 3 * size
        index = log_of(node).active.index
        assert [index.floor(offset) // size for offset in range(1, 7)] == [0, 0, 0, 3, 3, 3]

    with_configs(test, index_interval_bytes="150")


def test_segment_index_bytes(with_configs):
    async def test(node):
        await sent(node, batch())
        log_of(node).roll(NOW_MS)
        await sent(node, *[batch(timestamp=NOW_MS + n) for n in range(9)])
        assert len(bases(node)) > 3

    with_configs(test, segment_index_bytes="40", index_interval_bytes="0")


# -- how long it is kept


def test_retention_ms(with_configs):
    async def test(node):
        await sent(node, batch(timestamp=NOW_MS - 1000))
        node.services.replicas.clean_up()
        assert log_of(node).log_start_offset == 0
        log_of(node).roll(NOW_MS)
        await sent(node, batch(timestamp=NOW_MS - 1001))
        node.services.replicas.clean_up()
        assert log_of(node).log_start_offset == 0, "the oldest segment is young enough"

    with_configs(test, retention_ms="1000")


def test_retention_ms_of_old_segments(with_configs, clock):
    async def test(node):
        await sent(node, batch())
        log_of(node).roll(NOW_MS)
        await sent(node, batch(timestamp=NOW_MS + 500))
        clock.now_ms = NOW_MS + 1001
        node.services.replicas.clean_up()
        await until(lambda: bases(node) == [1])
        assert log_of(node).log_start_offset == 1
        clock.now_ms = NOW_MS + 1501
        node.services.replicas.clean_up()
        await until(lambda: bases(node) == [2])
        assert log_of(node).log_start_offset == 2

    with_configs(test, retention_ms="1000")


def test_retention_bytes(with_configs):
    async def test(node):
        await sent(node, *[batch(value=b"x" * LARGE) for _ in range(4)])
        node.services.replicas.clean_up()
        await until(lambda: bases(node) == [2, 3])
        assert log_of(node).log_start_offset == 2

    with_configs(test, retention_bytes=str(2 * LARGE), segment_bytes=str(1 << 20))


def test_file_delete_delay_ms(with_configs, clock, tmp_path):
    def leaving():
        return [path.name for path in tmp_path.rglob("*.deleted")]

    async def test(node):
        await sent(node, batch(timestamp=NOW_MS - 10_000))
        node.services.replicas.clean_up()
        await until(leaving)
        clock.now_ms += 299
        node.services.replicas.clean_up()
        await turns()
        assert leaving()
        clock.now_ms += 1
        await until(lambda: not log_of(node).is_flushing)
        node.services.replicas.clean_up()
        await until(lambda: leaving() == [])
        topic_id = node.image.topics["a"].id
        await node.services.controller.delete_topic(topic_id)
        assert list(tmp_path.glob("*/a-0.*-delete"))
        clock.now_ms += 300
        await turns()
        node.services.replicas.clean_up()
        await until(lambda: not list(tmp_path.glob("*/a-0*")))

    with_configs(test, file_delete_delay_ms="300", retention_ms="1000")


# -- when it is flushed


def test_flush_on_ack(with_configs, flushes):
    async def test(node):
        with flushes.held():
            await sent(node, batch())
            assert partition_of(node).high_watermark == 1
            assert log_of(node).flushed_end_offset == 0

    with_configs(test, flush_on_ack="false")


def test_a_topic_that_flushes_where_its_broker_does_not(on_node, flushes):
    async def test(node):
        await node.topic("a", flush_on_ack="true")
        with flushes.held():
            code, _ = await produced(node, batch(), timeout_ms=1)
            assert code == ErrorCode.REQUEST_TIMED_OUT
        await sent(node, batch())
        assert log_of(node).flushed_end_offset == 2

    on_node(test, {"flush.on.ack": "false"})


def test_flush_messages(with_configs):
    async def test(node):
        await sent(node, batch(), batch())
        await turns()
        assert log_of(node).flushed_end_offset == 0
        await sent(node, batch())
        await until(lambda: log_of(node).flushed_end_offset == 3)

    with_configs(test, flush_on_ack="false", flush_messages="3")


def test_flush_ms(with_configs):
    async def test(node):
        await sent(node, batch())
        await until(lambda: log_of(node).flushed_end_offset == 1)

    with_configs(test, flush_on_ack="false", flush_ms="10")


# -- of a broker alone


@pytest.mark.parametrize("is_altered", [False, True])
def test_producer_id_expiration_ms(on_node, clock, is_altered):
    key = "producer.id.expiration.ms"
    configs = {key: "1000"}

    async def test(node):
        await node.topic("a")
        if is_altered:
            await node.services.controller.configs.alter(ResourceType.BROKER, "", ops(configs))
        await sent(node, batch(producer_id=7, producer_epoch=0, base_sequence=0))
        for now_ms, known in ((NOW_MS + 999, [7]), (NOW_MS + 1001, [])):
            clock.now_ms = now_ms
            node.services.replicas.clean_up()
            assert [each.producer_id for each in log_of(node).producers()] == known

    assert key in BROKER_OPTIONS
    on_node(test, {} if is_altered else configs)


# -- where values come from


def test_what_is_unset_falls_back(on_node):
    """Topic, then this broker, all brokers, the file, the table."""

    async def test(node):
        await node.topic("a", max_message_bytes="100")
        alter = node.services.controller.configs.alter
        await alter(ResourceType.BROKER, "1", ops({"message.max.bytes": "200"}))
        await alter(ResourceType.BROKER, "", ops({"message.max.bytes": "300"}))
        layers = [
            (ResourceType.TOPIC, "a", "max.message.bytes", ConfigSource.DYNAMIC_TOPIC_CONFIG),
            (ResourceType.BROKER, "1", "message.max.bytes", ConfigSource.DYNAMIC_BROKER_CONFIG),
            (
                ResourceType.BROKER,
                "",
                "message.max.bytes",
                ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG,
            ),
        ]
        for limit, (kind, name, key, source) in zip((100, 200, 300), layers, strict=True):
            assert await described(node, "max.message.bytes") == (str(limit), source)
            await limited_to(node, limit)
            await alter(kind, name, [ConfigOp(key, OpType.DELETE, None)])
        static = ("400", ConfigSource.STATIC_BROKER_CONFIG)
        assert await described(node, "max.message.bytes") == static
        await limited_to(node, 400)

    async def limited_to(node, limit):
        exact = batch(value=b"x" * (limit - SMALLEST))
        assert limit - 3 < len(exact) <= limit
        await sent(node, exact)
        code, _ = await produced(node, batch(value=b"x" * (limit - SMALLEST + 3)))
        assert code == ErrorCode.MESSAGE_TOO_LARGE

    on_node(test, {"message.max.bytes": "400"})


def test_a_topics_own_value_wins_over_a_broker_that_is_altered(on_node):
    async def test(node):
        await node.topic("a", max_message_bytes="1000")
        alter = node.services.controller.configs.alter
        await alter(ResourceType.BROKER, "", ops({"message.max.bytes": "10"}))
        await sent(node, batch(value=b"x" * 500))

    on_node(test)
