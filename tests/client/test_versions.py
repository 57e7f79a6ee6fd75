"""Each version of each request that the client sends, against a node that answers them all.

The n-th run uses the n-th version of every request since Kafka 2.1 (the last, where there are
fewer), as a broker would make the client do that knows no later ones. The ends of the span are
Kafka's own: of today in `test_kafka`, of 2.1 in `test_old_kafka`.
"""

import asyncio

import pytest

import ottla
from ottla.client.offsets import GroupMetadata
from ottla.client.rows import NewTopic
from ottla.client.transacting import Transacting
from ottla.protocol.api_key import ApiKey
from ottla.rpc.versions import Versions

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
OF_2_1 = {
    ApiKey.PRODUCE: 7,
    ApiKey.FETCH: 10,
    ApiKey.LIST_OFFSETS: 4,
    ApiKey.METADATA: 7,
    ApiKey.OFFSET_COMMIT: 6,
    ApiKey.OFFSET_FETCH: 5,
    ApiKey.FIND_COORDINATOR: 2,
    ApiKey.JOIN_GROUP: 3,
    ApiKey.HEARTBEAT: 2,
    ApiKey.LEAVE_GROUP: 2,
    ApiKey.SYNC_GROUP: 2,
    ApiKey.CREATE_TOPICS: 3,
    ApiKey.INIT_PRODUCER_ID: 1,
    ApiKey.ADD_PARTITIONS_TO_TXN: 1,
    ApiKey.ADD_OFFSETS_TO_TXN: 1,
    ApiKey.END_TXN: 1,
    ApiKey.TXN_OFFSET_COMMIT: 2,
}
"""The last version of each that Kafka 2.1 knows: the oldest that the client has to use."""
SECOND_PROTOCOL = 12
"""The version of Produce that transactions of the second kind came with (KIP-890)."""
SPAN = 9
"""No request has got more versions since, Fetch the most."""

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("n", range(SPAN))
def test_the_nth_version_of_every_request(start_broker, monkeypatch, n):
    broker = start_broker(settings={"group.initial.rebalance.delay.ms": "0"})
    used = {}
    pick = Versions.pick

    def pinned(self, api_key, last=None):
        highest = pick(self, api_key, last)
        used[api_key] = min(highest, OF_2_1.get(api_key, 0) + n)
        return used[api_key]

    monkeypatch.setattr(Versions, "pick", pinned)
    if OF_2_1[ApiKey.PRODUCE] + n < SECOND_PROTOCOL:
        never = property(lambda _: False, lambda _, value: None)
        monkeypatch.setattr(Transacting, "_has_second_version", never, raising=False)
    asyncio.run(everything(broker.bootstrap_servers, used))
    unused = set(OF_2_1) - set(used)
    assert unused <= (
        {ApiKey.ADD_PARTITIONS_TO_TXN, ApiKey.ADD_OFFSETS_TO_TXN} if n >= 5 else set()
    )


async def everything(servers, used):
    async with ottla.Admin(bootstrap_servers=servers) as admin:
        await admin.create_topics(NewTopic("t", num_partitions=1, replication_factor=1))
    sent = []
    for codec in CODECS:
        async with ottla.Producer(bootstrap_servers=servers, compression_type=codec) as producer:
            await (await producer.send_many("t", [codec.encode() * 9] * 100))
            sent += [codec.encode() * 9] * 100
    options = {"group_id": "g", "auto_offset_reset": "earliest", "heartbeat_interval_ms": 20}
    async with (
        ottla.Producer(bootstrap_servers=servers, transactional_id="x") as producer,
        ottla.Consumer(bootstrap_servers=servers, **options) as consumer,
    ):
        consumer.subscribe(["t"])
        found = []
        async with asyncio.timeout(60):
            while len(found) < len(sent):
                found += [record.value for record in await consumer.poll(1_000)]
        assert found == sent
        await consumer.commit()
        assert (await consumer.committed())["t", 0].offset == len(sent)
        assert (await consumer.offsets_for_times({("t", 0): 0}))["t", 0].offset == 0
        async with producer.transaction():
            await producer.send("t", b"last")
            member = consumer.group_metadata()
            if used[ApiKey.JOIN_GROUP] == OF_2_1[ApiKey.JOIN_GROUP]:
                member = GroupMetadata("g")  # a member's generation goes along since 2.5 (KIP-447)
            await producer.send_offsets({("t", 0): 7}, member)
        assert (await consumer.committed())["t", 0].offset == 7
        async with asyncio.timeout(60):
            assert (await anext(aiter(consumer))).value == b"last"
            while ApiKey.HEARTBEAT not in used:
                await asyncio.sleep(0.01)
