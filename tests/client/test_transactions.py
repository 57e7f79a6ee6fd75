"""What transactions of other clients look like to our consumer."""

import asyncio

import confluent_kafka as rd
import pytest

import ottla
from tests.clients.peers import MARKS

pytestmark = MARKS


def write(broker):
    """Committed 0-9, aborted 10-19, committed 20-29, each in one transaction."""
    producer = rd.Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "x", "linger.ms": 5}
    )
    producer.init_transactions(30)
    for start, is_kept in ((0, True), (10, False), (20, True)):
        producer.begin_transaction()
        for n in range(start, start + 10):
            producer.produce("t", b"%d" % n, partition=0)
        producer.flush(30)
        if is_kept:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)


async def read(broker, isolation):
    async with ottla.Consumer(
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level=isolation,
        fetch_max_wait_ms=50,
    ) as consumer:
        consumer.assign([("t", 0)])
        (end,) = (await consumer.end_offsets()).values()
        found = []
        async with asyncio.timeout(60):
            while await consumer.position(("t", 0)) < end - 1 and len(found) < 30:
                found += [int(record.value) for record in await consumer.poll(200)]
        return found


@pytest.mark.parametrize("is_committed", [True, False])
def test_aborted_records_are_left_out_of_committed_reads(broker, is_committed):
    write(broker)
    found = asyncio.run(read(broker, "read_committed" if is_committed else "read_uncommitted"))
    gap = [] if is_committed else list(range(10, 20))
    assert found == [*range(10), *gap, *range(20, 30)]
