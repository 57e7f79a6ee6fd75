"""A member of a group, as a process of its own: `python -m tests.clients.group_member CLIENT …`.

It tells what happens to it, a line each, with the moment of a clock that all processes share:

    assigned 12.5 0 1 2      these partitions are its own from now on
    revoked 13.0 0 1 2       and no more
    read 12.7 1 500          a record: partition, offset
    left 14.0

It commits what it read, and leaves when its standard input ends. A rebalance that comes between
makes a commit fail: then somebody else reads that again.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from typing import Any


def tell(what: str, *rest: object) -> None:
    print(what, time.monotonic(), *rest, flush=True)


def wanted_to_leave() -> threading.Event:
    leave = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        leave.set()

    threading.Thread(target=watch, daemon=True).start()
    return leave


def tell_partitions(what: str, partitions: Iterable[Any]) -> None:
    tell(what, *sorted(each.partition for each in partitions))


def confluent(bootstrap: str, group: str, topic: str, extra: dict[str, Any]) -> None:
    import confluent_kafka as rd

    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 100,
        **extra,
    }
    is_new_protocol = extra.get("group.protocol") == "consumer"
    if not is_new_protocol:  # there the broker says
        settings |= {"session.timeout.ms": 2_000, "heartbeat.interval.ms": 300}
    consumer = rd.Consumer(settings)
    is_incremental = is_new_protocol or "cooperative" in str(extra)

    def revoked(consumer: Any, partitions: Any) -> None:
        tell_partitions("revoked", partitions)
        if is_incremental:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    consumer.subscribe(
        [topic],
        on_assign=lambda _, partitions: tell_partitions("assigned", partitions),
        on_revoke=revoked,
        on_lost=revoked,
    )
    leave = wanted_to_leave()
    while not leave.is_set():
        messages = [each for each in consumer.consume(200, 0.1) if not each.error()]
        for each in messages:
            tell("read", each.partition(), each.offset())
        if messages:
            with contextlib.suppress(rd.KafkaException):
                consumer.commit(asynchronous=False)
    consumer.close()


def kafka_python(bootstrap: str, group: str, topic: str, extra: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import kafka

    class Listener(kafka.ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_revoked(self, revoked: Any) -> None:
            tell_partitions("revoked", revoked)

        def on_partitions_assigned(self, assigned: Any) -> None:
            tell_partitions("assigned", assigned)

    consumer = kafka.KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=2_000,
        heartbeat_interval_ms=300,
        fetch_max_wait_ms=100,
        **extra,
    )
    consumer.subscribe([topic], listener=Listener())
    leave = wanted_to_leave()
    while not leave.is_set():
        # Short polls are not for it: one that ends while SyncGroup is under way leaves its
        # consumer without partitions and without heartbeats for good (3.0.12).
        rows = [each for batch in consumer.poll(timeout_ms=2_000).values() for each in batch]
        for each in rows:
            tell("read", each.partition, each.offset)
        if rows:
            with contextlib.suppress(kafka.errors.KafkaError):
                consumer.commit()
    consumer.close()


def aio(bootstrap: str, group: str, topic: str, extra: dict[str, Any]) -> None:
    import aiokafka

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    class Listener(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_revoked(self, revoked: Any) -> None:
            tell_partitions("revoked", revoked)

        def on_partitions_assigned(self, assigned: Any) -> None:
            tell_partitions("assigned", assigned)

    async def run() -> None:
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=2_000,
            heartbeat_interval_ms=300,
            fetch_max_wait_ms=100,
            **extra,
        )
        consumer.subscribe([topic], listener=Listener())
        await consumer.start()
        leave = wanted_to_leave()
        while not leave.is_set():
            rows = [
                each
                for batch in (await consumer.getmany(timeout_ms=100)).values()
                for each in batch
            ]
            for each in rows:
                tell("read", each.partition, each.offset)
            if rows:
                with contextlib.suppress(aiokafka.errors.KafkaError):
                    await consumer.commit()
        await consumer.stop()

    asyncio.run(run())


CLIENTS = {"confluent": confluent, "kafka-python": kafka_python, "aiokafka": aio}


if __name__ == "__main__":
    client, bootstrap, group, topic, *settings = sys.argv[1:]
    CLIENTS[client](bootstrap, group, topic, dict(each.split("=", 1) for each in settings))
    tell("left")
