"""Log directories, as kafka-python's admin client sees and moves them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ottla
from tests.clients.peers import MARKS, PEERS, kafka
from tests.clients.records import WAIT_S, Sent

pytestmark = MARKS


def described(admin: Any, topic: str) -> dict[str, dict[str, Any]]:
    """By directory: its size, and the row of partition 0 where it is there."""
    [broker] = admin.describe_log_dirs()
    return {
        each["log_dir"]: {
            "total": each["total_bytes"],
            "usable": each["usable_bytes"],
            "row": next(
                (row for t in each["topics"] if t["name"] == topic for row in t["partitions"]), None
            ),
        }
        for each in broker["log_dirs"]
    }


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_partition_moves_while_it_is_written_and_read(tmp_path: Path) -> None:
    dirs = [str(tmp_path / name) for name in ("one", "two")]
    with ottla.Broker(tmp_path / "one", settings={"log.dirs": ",".join(dirs)}) as broker:
        admin = kafka.KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        try:
            move(admin, broker, dirs)
        finally:
            admin.close()


def move(admin: Any, broker: ottla.Broker, dirs: list[str]) -> None:
    bootstrap = broker.bootstrap_servers
    records = [Sent(b"k%d" % number, bytes(10_000)) for number in range(2_000)]
    PEERS["confluent"].produce(bootstrap, "t", records)
    places = described(admin, "t")
    [here] = [each for each in dirs if places[each]["row"] is not None]
    [there] = [each for each in dirs if each != here]
    is_over = threading.Event()
    more: list[Sent] = []
    failures: list[BaseException] = []

    def produce() -> None:
        try:
            while not is_over.is_set():
                sent = [Sent(b"more", b"%d" % len(more))]
                PEERS["confluent"].produce(bootstrap, "t", sent)
                more.extend(sent)
        except BaseException as error:
            failures.append(error)

    producing = threading.Thread(target=produce)
    producing.start()
    try:
        with pytest.raises(kafka.errors.LogDirNotFoundError):
            raise one(admin.alter_replica_log_dirs({("t", 0, 1): "/nowhere"}))
        assert one(admin.alter_replica_log_dirs({("t", 0, 1): there})).errno == 0
        until(lambda: described(admin, "t")[here]["row"] is None)
        count = len(more)
        until(lambda: len(more) > count + 3 or bool(failures))
    finally:
        is_over.set()
        producing.join()
    assert not failures
    row = described(admin, "t")[there]["row"]
    assert row["partition_size"] == (Path(there) / "t-0" / f"{0:020}.log").stat().st_size
    assert not row["is_future_key"]
    seen = PEERS["confluent"].consume(bootstrap, "t", {0: 0}, len(records) + len(more))
    assert [each.sent.value for each in seen] == [each.value for each in records + more]


def one(outcome: dict[Any, Any]) -> Any:
    [error] = outcome.values()
    return error
