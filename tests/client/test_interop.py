"""Records both ways with clients of others: each codec, and what a record may hold."""

import asyncio

import pytest

import ottla
from tests.clients.peers import CODECS, MARKS, AioKafka, Confluent, KafkaPython
from tests.clients.records import Seen, Sent

pytestmark = MARKS

RECORDS = [
    Sent(
        key=b"k%d" % n if n % 3 else None,
        value=bytes(n % 50) if n % 7 else b"v",
        headers=(("h", b"x" * (n % 5)),) if n % 4 else (),
        timestamp=1_000_000 + n,
    )
    for n in range(300)
]
PEERS = [Confluent, AioKafka, KafkaPython]


def seen_of(record, offset):
    return Seen(0, offset, record.timestamp, record.key, record.value, tuple(record.headers))


def written_by_ours(servers, topic, codec):
    async def script():
        async with ottla.Producer(bootstrap_servers=servers, compression_type=codec) as producer:
            for record in RECORDS:
                await producer.send(
                    topic,
                    record.value,
                    key=record.key,
                    headers=record.headers,
                    timestamp_ms=record.timestamp,
                    partition=0,
                )

    asyncio.run(script())


def read_by_ours(servers, topic, count=None):
    async def script():
        async with ottla.Consumer(
            bootstrap_servers=servers, auto_offset_reset="earliest"
        ) as consumer:
            consumer.assign([(topic, 0)])
            found = []
            async with asyncio.timeout(60):
                async for each in consumer:
                    row = (each.timestamp_ms, each.key, each.value, each.headers)
                    found.append(Seen(each.partition, each.offset, *row))
                    if len(found) == (count or len(RECORDS)):
                        break
            return found

    return asyncio.run(script())


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_what_ours_writes_theirs_read(broker, peer, codec):
    written_by_ours(broker.bootstrap_servers, "t", codec)
    seen = peer.consume(broker.bootstrap_servers, "t", {0: 0}, len(RECORDS))
    assert seen == [seen_of(record, offset) for offset, record in enumerate(RECORDS)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_what_theirs_write_ours_reads(broker, peer, codec):
    peer.produce(broker.bootstrap_servers, "t", RECORDS, codec=codec, idempotent=True)
    wanted = [seen_of(record, offset) for offset, record in enumerate(RECORDS)]
    assert read_by_ours(broker.bootstrap_servers, "t") == wanted
