"""SIGKILL under load, in its short form; and SIGTERM, and SIGKILL while topics come and go."""

import itertools
import random
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.crash import kill
from tests.tools.serving import Serving, serving

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

SEED = 1
ROUNDS = 5
RECORDS = 2_000


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    figures = kill.run(tmp_path, ROUNDS, SEED, RECORDS)
    assert figures.kills >= ROUNDS
    assert figures.acked >= ROUNDS * RECORDS


@pytest.mark.long
def test_what_was_acknowledged_survives_fifty_sigkills(tmp_path: Path) -> None:
    kill.run(tmp_path, 50, SEED + 1, RECORDS)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda log: log.pop(), "there is 'nothing'"),
        (lambda log: log.insert(1, log[0]), "gaps"),
        (lambda log: log.__setitem__(2, (2, b"0.1.")), "was told 2"),
        (lambda log: log.append((4, b"0.3.")), r"\[3, 3\] at 4"),
        (lambda log: log.append((4, b"0.5.")), r"\[3, 5\] at 4"),
    ],
)
def test_the_check_sees(change: Any, complaint: str) -> None:
    where = kill.PARTITIONS[0]
    log = [(offset, b"0.%d." % offset) for offset in range(4)]
    writer = kill.Writer.__new__(kill.Writer)
    writer.number, writer.failed = 0, []
    writer.acked = defaultdict(dict, {where: dict(log)})
    kill.check({where: log}, [writer])
    change(log)
    with pytest.raises(kill.Broken, match=complaint):
        kill.check({where: log}, [writer])


# -- SIGTERM


def test_sigterm_under_load(tmp_path: Path) -> None:
    """What was begun is answered, the mark is left, and the next start takes it at its word."""
    server = Serving(tmp_path / "data", kill.SETTINGS).start()
    try:
        kill.make_topics(server)
        once = {**kill.writer_options(False, 0), "retries": 0, "message.timeout.ms": 2_000}
        writer = kill.Writer(2, server.bootstrap, SEED, once)
        kill.load([writer], RECORDS)
        assert server.stop() == 0
        writer.end()
        assert (server.data / ".kafka_cleanshutdown").exists()
        server.start()
        assert not (server.data / ".kafka_cleanshutdown").exists()
        logs = kill.read_all(server.bootstrap)
        kill.check(logs, [writer])
        appended = {where: dict(log) for where, log in logs.items()}
        assert appended == {where: writer.acked[where] for where in logs}, "appended, not answered"
        assert "WARNING" not in server.log.read_text()
    finally:
        server.stop()


def test_a_clean_start_scans_nothing(tmp_path: Path) -> None:
    """A byte that only a scan would read is wrong, and the start passes over it; after SIGKILL
    it does not: what was flushed is damaged then, and not served."""
    with serving(tmp_path / "data") as server:
        producer = rd.Producer({"bootstrap.servers": server.bootstrap})
        for number in range(2):
            producer.produce("t", b"value %d" % number)
            assert producer.flush(30) == 0
        server.stop()
        log = server.data / "t-0" / "00000000000000000000.log"
        data = bytearray(log.read_bytes())
        data[data.index(b"value 0")] ^= 1
        log.write_bytes(data)
        server.start()
        assert "t-0" not in server.log.read_text()
        server.kill()
        server.start()
        assert "t-0 is not served" in server.log.read_text()
        assert "CRC, below offset 2 that was flushed" in server.log.read_text()
        assert log.read_bytes() == data
        # And it stays so: the checkpoint goes on telling what was flushed.
        server.stop()
        server.start()
        server.kill()
        server.start()
        assert not (server.data / ".kafka_cleanshutdown").exists()
        assert server.log.read_text().count("group_opening: t-0 is not served") == 3
        assert log.read_bytes() == data


# -- topics that come and go


class Churn:
    """Makes and deletes topics all the time, and remembers what it was told."""

    def __init__(self, bootstrap: str, seed: int) -> None:
        self.there: set[str] = set()
        self.gone: set[str] = set()
        self.unknown: set[str] = set()
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._rng = random.Random(seed)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for number in itertools.count():
            if self._ending.is_set():
                return
            name = f"topic-{number}"
            more = [NewTopic(name, self._rng.randrange(1, 5), 1)]
            if self._told(self._admin.create_topics(more, request_timeout=0.5), self.there):
                again = self._rng.choice(sorted(self.there))
                if self._rng.random() < 0.6:
                    self.there.discard(again)
                    self._told(self._admin.delete_topics([again], request_timeout=0.5), self.gone)

    def _told(self, futures: dict[str, Any], known: set[str]) -> bool:
        ((name, future),) = futures.items()
        try:
            future.result(5)
        except rd.KafkaException:
            self.unknown.add(name)
            return False
        known.add(name)
        return True

    def end(self) -> None:
        self._ending.set()
        self._thread.join(30)


def test_sigkill_while_topics_come_and_go(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    server = Serving(tmp_path / "data").start()
    try:
        for number in range(4):
            churn = Churn(server.bootstrap, number)
            deadline = time.monotonic() + 30
            while len(churn.gone) < 5 and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.random() / 10)
            server.kill()
            churn.end()
            server.start()
            settle(server.bootstrap, churn)
    finally:
        server.stop()


def settle(bootstrap: str, churn: Churn) -> None:
    """All that was made is there and works, what was deleted is not; every name can be made
    anew, and is empty then."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = {name for name in admin.list_topics(timeout=30).topics if name.startswith("topic-")}
    assert churn.there - churn.unknown <= found
    assert not churn.gone & found
    assert found <= churn.there | churn.unknown
    write_one(bootstrap, found)
    for future in (admin.delete_topics(sorted(found)) if found else {}).values():
        future.result(30)
    names = sorted(churn.there | churn.gone | churn.unknown)
    for future in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        future.result(30)
    write_one(bootstrap, set(names))
    for future in admin.delete_topics(names).values():
        future.result(30)


def write_one(bootstrap: str, names: set[str]) -> None:
    """A record into each topic, which is the first in it."""
    producer = rd.Producer({"bootstrap.servers": bootstrap, "message.timeout.ms": 20_000})
    offsets: dict[str, int] = {}

    def told(error: Any, message: Any) -> None:
        offsets[message.topic()] = -1 if error else message.offset()

    for name in names:
        producer.produce(name, b"v", partition=0, on_delivery=told)
    assert producer.flush(30) == 0
    assert offsets == dict.fromkeys(names, 0)
