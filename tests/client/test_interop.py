"""Records both ways with clients of others: each codec, and what a record may hold."""

import asyncio

import pytest

import ottla
from tests.clients.peers import CODECS, MARKS, AioKafka, Confluent
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
PEERS = [Confluent, AioKafka]


def seen_of(record, offset):
    return Seen(0, offset, record.timestamp, record.key, record.value, tuple(record.headers))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_what_ours_writes_theirs_read(broker, peer, codec):
    async def script():
        async with ottla.Producer(
            bootstrap_servers=broker.bootstrap_servers, compression_type=codec
        ) as producer:
            for record in RECORDS:
                await producer.send(
                    "t",
                    record.value,
                    key=record.key,
                    headers=record.headers,
                    timestamp_ms=record.timestamp,
                    partition=0,
                )

    asyncio.run(script())
    seen = peer.consume(broker.bootstrap_servers, "t", {0: 0}, len(RECORDS))
    assert seen == [seen_of(record, offset) for offset, record in enumerate(RECORDS)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_what_theirs_write_ours_reads(broker, peer, codec):
    peer.produce(broker.bootstrap_servers, "t", RECORDS, codec=codec, idempotent=True)

    async def script():
        async with ottla.Consumer(
            bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest"
        ) as consumer:
            consumer.assign([("t", 0)])
            found = []
            async with asyncio.timeout(60):
                async for each in consumer:
                    found.append(
                        Seen(
                            each.partition,
                            each.offset,
                            each.timestamp_ms,
                            each.key,
                            each.value,
                            each.headers,
                        )
                    )
                    if len(found) == len(RECORDS):
                        break
            return found

    wanted = [seen_of(record, offset) for offset, record in enumerate(RECORDS)]
    assert asyncio.run(script()) == wanted
