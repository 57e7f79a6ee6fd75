"""The client against Apache Kafka itself: every request of it, both ways, each codec."""

import asyncio

import pytest

import ottla
from ottla.client.rows import NewTopic, Resource
from tests.tools.kafka_broker import kafka_broker

pytestmark = [pytest.mark.java]
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.mark.timeout(300)
def test_apache_kafka(tmp_path):
    with kafka_broker(tmp_path) as kafka:
        asyncio.run(everything(kafka.bootstrap))


async def everything(bootstrap):
    async with ottla.Admin(bootstrap_servers=bootstrap) as admin:
        (made,) = await admin.create_topics(NewTopic("t", num_partitions=2))
        assert made.num_partitions == 2
        await admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": "7777777"})
        while True:  # Kafka answers before its brokers know
            configs = await admin.describe_configs(Resource.TOPIC, "t")
            if configs["retention.ms"].value == "7777777":
                break
            await asyncio.sleep(0.05)
        for codec in CODECS:
            await produce(bootstrap, codec)
        assert await consume(bootstrap) == list(range(1_000)) * len(CODECS)
        places = await admin.group_offsets("g", [("t", 0)])
        assert [place.offset for place in places.values()] == [5_000]
        assert [row.group_id for row in await admin.list_groups()] == ["g"]
        assert (await admin.describe_log_dirs())[0].partition_bytes["t", 0] > 1_000
        await admin.delete_records({("t", 0): 10})
        assert (await admin.list_offsets({("t", 0): -2}))["t", 0].offset == 10
        await admin.delete_group("g")
        await admin.delete_topics("t")


async def produce(bootstrap, codec):
    async with ottla.Producer(bootstrap_servers=bootstrap, compression_type=codec) as producer:
        sent = await producer.send_many("t", [b"%d" % n for n in range(1_000)], partition=0)
        assert sum(run.record_count for run in await sent) == 1_000


async def consume(bootstrap):
    async with ottla.Consumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id="g"
    ) as consumer:
        consumer.assign([("t", 0), ("t", 1)])
        found = []
        async with asyncio.timeout(60):
            async for record in consumer:
                found.append(int(record.value))
                if len(found) == 1_000 * len(CODECS):
                    break
        await consumer.commit()
        return found
