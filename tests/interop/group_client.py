"""Clients of a group for `test_kafka_groups`, each call in a process of its own.

librdkafka has ended the process of a test here, under xdist and not always: the transactional
producer or what it leaves behind. A call that dies here says how, and takes nothing with it.

    python -m tests.interop.group_client NAME '[arguments]' '{"option": "value"}'
"""

import faulthandler
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka as rd
from confluent_kafka.admin import AdminClient, NewTopic

WAIT_S = 60.0


def apart(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What one of the functions here returns, as JSON has it."""
    command = [sys.executable, "-m", "tests.interop.group_client", call.__name__]
    command += [json.dumps(arguments), json.dumps(options)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return json.loads(done.stdout)


def make_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic("t", 3, 1)])["t"].result(WAIT_S)


def produce(bootstrap: str, count: int, mark: str) -> list[str]:
    producer = rd.Producer({"bootstrap.servers": bootstrap})
    values = [f"{mark}-{number}" for number in range(count)]
    for number, value in enumerate(values):
        producer.produce("t", value, partition=number % 3)
    assert producer.flush(WAIT_S) == 0
    return sorted(values)


def consume(bootstrap: str, count: int, **options: Any) -> list[str]:
    """What a member of the group reads; it leaves without a word when it is dynamic."""
    consumer = rd.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "g",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **{key.replace("_", "."): value for key, value in options.items()},
        }
    )
    consumer.subscribe(["t"])
    seen = []
    try:
        while len(seen) < count:
            (message,) = consumer.consume(1, WAIT_S)
            assert message.error() is None
            seen.append(message.value().decode())
        consumer.commit(asynchronous=False)
        assert consumer.poll(0.5) is None
    finally:
        consumer.close()
    return sorted(seen)


def commit_in_a_transaction(bootstrap: str, offset: int, *, is_committed: bool) -> None:
    """The group `txn`, whose offsets a producer commits."""
    consumer = rd.Consumer({"bootstrap.servers": bootstrap, "group.id": "txn"})
    producer = rd.Producer({"bootstrap.servers": bootstrap, "transactional.id": "p"})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce("t", b"in a transaction", partition=2)
    offsets = [rd.TopicPartition("t", 0, offset)]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), WAIT_S)
    if is_committed:
        producer.commit_transaction(WAIT_S)
    else:
        producer.abort_transaction(WAIT_S)
    consumer.close()


def committed(bootstrap: str, group: str) -> dict[int, int]:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    while True:
        asked = [rd.ConsumerGroupTopicPartitions(group)]
        try:
            found = admin.list_consumer_group_offsets(asked)[group].result(WAIT_S)
        except rd.KafkaException as error:  # of either broker, just after its start
            assert error.args[0].code() == rd.KafkaError.COORDINATOR_LOAD_IN_PROGRESS
            continue
        return {each.partition: each.offset for each in found.topic_partitions}


def state_of(bootstrap: str, group: str) -> str:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    return str(admin.describe_consumer_groups([group])[group].result(WAIT_S).state.name)


if __name__ == "__main__":
    faulthandler.enable()
    name, arguments, options = sys.argv[1:]
    print(json.dumps(globals()[name](*json.loads(arguments), **json.loads(options))))
