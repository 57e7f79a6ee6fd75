"""Transactional ids go from Apache Kafka to Ottla and back, with a transaction open each time: the
next broker's coordinator knows of it, and a new instance of the producer fences and aborts it."""

from pathlib import Path

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import ottla
from tests.tools.kafka_broker import KafkaBroker, kafka_broker

# `-m long -n0`, as `test_kafka_groups`.
pytestmark = [
    pytest.mark.long,
    pytest.mark.java,
    pytest.mark.clients,
    pytest.mark.timeout(600),
]
WAIT_S = 60.0


def transact(bootstrap: str, mark: str) -> rd.Producer:
    """A new instance commits one transaction, aborts one, and leaves one open."""
    producer = rd.Producer({"bootstrap.servers": bootstrap, "transactional.id": "p"})
    producer.init_transactions(WAIT_S)
    for ending in ("committed", "aborted", "open"):
        producer.begin_transaction()
        producer.produce("t", f"{ending} by {mark}".encode())
        assert producer.flush(WAIT_S) == 0
        if ending == "committed":
            producer.commit_transaction(WAIT_S)
        elif ending == "aborted":
            producer.abort_transaction(WAIT_S)
    return producer


def committed(bootstrap: str) -> list[str]:
    """What a read_committed consumer sees until nothing more comes."""
    consumer = rd.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([rd.TopicPartition("t", 0, 0)])
    seen = []
    try:
        while True:
            message = consumer.poll(WAIT_S)
            assert message is not None
            if message.error() is None:
                seen.append(message.value().decode())
            elif message.error().code() == rd.KafkaError._PARTITION_EOF:
                return seen
    finally:
        consumer.close()


def test_transactions_go_to_ottla_and_back(tmp_path: Path) -> None:
    home = tmp_path / "kafka"
    kept = []  # nobody's destructor may end what is to stay open
    with kafka_broker(home) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_topics([NewTopic("t", 1, 1)])["t"].result(WAIT_S)
        kept.append(transact(kafka.bootstrap, "kafka"))
        assert committed(kafka.bootstrap) == ["committed by kafka"]
        settings = kafka.settings

    with ottla.Broker(home / "logs") as broker:
        assert committed(broker.bootstrap_servers) == ["committed by kafka"]
        kept.append(transact(broker.bootstrap_servers, "ottla"))
        seen = committed(broker.bootstrap_servers)
        assert seen == ["committed by kafka", "committed by ottla"]

    again = KafkaBroker(home, settings)
    try:
        again.start()
        assert committed(again.bootstrap) == seen
        kept.append(transact(again.bootstrap, "kafka again"))
        seen = committed(again.bootstrap)
        assert seen[-1] == "committed by kafka again"
        assert len(seen) == 3
        complaints = ("ERROR", "IllegalState", "Invalid coordinator epoch")
        assert not [
            line for line in again.said().splitlines() if any(c in line for c in complaints)
        ]
    finally:
        again.stop()
