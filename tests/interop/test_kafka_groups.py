"""Groups go from Apache Kafka to Ottla and back: each goes on where the other's had read to."""

from pathlib import Path

import pytest

import ottla
from tests.interop.group_client import (
    apart,
    commit_in_a_transaction,
    committed,
    consume,
    make_topic,
    produce,
    state_of,
)
from tests.tools.kafka_broker import KafkaBroker, kafka_broker

pytestmark = [
    pytest.mark.long,
    pytest.mark.java,
    pytest.mark.clients,
    pytest.mark.timeout(600),
]


def test_a_group_goes_to_ottla_and_back(tmp_path: Path) -> None:
    home = tmp_path / "kafka"
    with kafka_broker(home) as kafka:
        apart(make_topic, kafka.bootstrap)
        first = apart(produce, kafka.bootstrap, 30, "kafka")
        assert apart(consume, kafka.bootstrap, 30) == first
        apart(commit_in_a_transaction, kafka.bootstrap, 5, is_committed=True)
        apart(commit_in_a_transaction, kafka.bootstrap, 9, is_committed=False)
        before = apart(committed, kafka.bootstrap, "g")
        settings = kafka.settings
    assert before == {"0": 10, "1": 10, "2": 10}

    options = {"group.initial.rebalance.delay.ms": "0"}
    with ottla.Broker(home / "logs", settings=options) as broker:
        bootstrap = broker.bootstrap_servers
        assert apart(committed, bootstrap, "g") == before
        assert apart(committed, bootstrap, "txn") == {"0": 5}
        assert apart(state_of, bootstrap, "g") == "EMPTY"
        second = apart(produce, bootstrap, 30, "ottla")
        # The committed transaction's record is there; isolation is the consumer's own affair.
        seen = apart(consume, bootstrap, 31, isolation_level="read_committed")
        assert sorted({*seen} - {"in a transaction"}) == second
        between = apart(committed, bootstrap, "g")

    again = KafkaBroker(home, settings)
    try:
        again.start()
        assert apart(committed, again.bootstrap, "g") == between
        third = apart(produce, again.bootstrap, 30, "again")
        assert apart(consume, again.bootstrap, 30) == third
    finally:
        again.stop()
