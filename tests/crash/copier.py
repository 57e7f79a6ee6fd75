"""A worker that copies records between topics with clients of ours, until it is killed.

    python -m tests.crash.copier BOOTSTRAP NAME KIND

What fails is begun anew with new clients, as a supervisor would do. KIND:

    process      Consumer.process: at least once
    exactly      Consumer.process(transactional=True)
    transaction  poll, and Producer.transaction with the offsets
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import ottla
from ottla.base.errors import KafkaError
from ottla.client.errors import ClientError
from ottla.client.records import ConsumerRecord

PIECE: Final = 20
WORK_S: Final = 0.004
LONGEST_WAIT_MS: Final = 10_000


def consumer_of(bootstrap: str, *, commits: bool) -> ottla.Consumer:
    return ottla.Consumer(
        bootstrap_servers=bootstrap,
        group_id="copy",
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=1_500,
        heartbeat_interval_ms=200,
        enable_auto_commit=commits,
        auto_commit_interval_ms=50,
        fetch_max_wait_ms=50,
        request_timeout_ms=LONGEST_WAIT_MS,
    )


async def copied(record: ConsumerRecord) -> ottla.Output:
    await asyncio.sleep(random.random() * WORK_S)
    return ottla.Output("target", record.value, record.key)


async def by_process(bootstrap: str, name: str, *, is_exact: bool) -> None:
    async with consumer_of(bootstrap, commits=not is_exact) as consumer:
        consumer.subscribe(["source"])
        await consumer.process(
            copied,
            transactional=is_exact,
            transactional_id=name,
            transaction_interval_ms=20,
        )


async def by_transaction(bootstrap: str, name: str) -> None:
    producer = ottla.Producer(
        bootstrap_servers=bootstrap, transactional_id=name, max_block_ms=LONGEST_WAIT_MS
    )
    async with producer, consumer_of(bootstrap, commits=False) as consumer:
        consumer.subscribe(["source"])
        while True:
            if records := await consumer.poll(1_000, PIECE):
                await copy_piece(producer, consumer, records)


async def copy_piece(
    producer: ottla.Producer, consumer: ottla.Consumer, records: list[ConsumerRecord]
) -> None:
    member = consumer.group_metadata()
    async with producer.transaction():
        for record in records:
            await producer.send("target", record.value, key=record.key)
        await asyncio.sleep(random.random() * WORK_S * PIECE)
        places = {(each.topic, each.partition): each.offset + 1 for each in records}
        await producer.send_offsets(places, member)


LIVES: Final[dict[str, Callable[[str, str], Awaitable[None]]]] = {
    "process": partial(by_process, is_exact=False),
    "exactly": partial(by_process, is_exact=True),
    "transaction": by_transaction,
}


async def main(bootstrap: str, name: str, kind: str) -> None:
    while True:
        try:
            await LIVES[kind](bootstrap, name)
        except (ClientError, KafkaError) as error:
            print(f"{name}: a life ends: {error!r}", file=sys.stderr, flush=True)
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
