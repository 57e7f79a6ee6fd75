"""The clients in the caller's own process: on its loop, with the real world under them.

Each has a world of its own (connections, helper threads when a large batch is compressed), which
is made when the client starts, on the loop that it starts on, and ends with it.
"""

import asyncio

from ottla.base.world import World
from ottla.client import admin, consumer, producer
from ottla.host.reactor import close_world, real_world


class _OnThisMachine:
    _world: World | None

    def _open_world(self) -> World:
        return real_world(asyncio.get_running_loop())

    def _close_world(self) -> None:
        world, self._world = self._world, None
        if world is not None:
            close_world(world)


class Producer(_OnThisMachine, producer.Producer):
    """Sends records to any Kafka broker (2.1 or later).

    Options are Kafka's, as keywords: `bootstrap_servers`, `acks`, `compression_type`,
    `linger_ms`, `batch_size`, `enable_idempotence` ... (docs/client.md has them all).

        async with ottla.Producer(bootstrap_servers="127.0.0.1:9092") as producer:
            delivery = await producer.send("greetings", b"hello", key=b"k")
            print((await delivery).offset)
    """


class Consumer(_OnThisMachine, consumer.Consumer):
    """Reads records from any Kafka broker (2.1 or later).

    Options are Kafka's, as keywords: `bootstrap_servers`, `group_id`, `auto_offset_reset`,
    `isolation_level`, `fetch_max_wait_ms` ... (docs/client.md has them all).

        async with ottla.Consumer(
            bootstrap_servers="127.0.0.1:9092", group_id="readers"
        ) as consumer:
            consumer.subscribe(["greetings"])
            async for record in consumer:
                print(record.offset, record.value)

    `assign` reads certain partitions instead; `process` gives each record to a function.
    """


class Admin(_OnThisMachine, admin.Admin):
    """Changes and describes a cluster of any Kafka brokers (2.1 or later).

    async with ottla.Admin(bootstrap_servers="127.0.0.1:9092") as admin:
        await admin.create_topics(NewTopic("greetings", num_partitions=3))
    """
