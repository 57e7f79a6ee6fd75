"""What real clients see of a real broker under SIGKILL, held against what the checkers promise.

For minutes: `python -m tests.crash.test_real_history SECONDS`.
"""

import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.sim import journal
from ottla.sim.checkers import check_history
from ottla.sim.history import Copy, Fate, History, Topic, value_of
from tests.crash.recorded import (
    Recorder,
    copy,
    follow,
    read_to_the_end,
    transactional,
    write,
    write_with_aiokafka,
)
from tests.tools.serving import Serving, serving

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

WAIT_S: Final = 30
SETTINGS: Final = {
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
PARTITIONS: Final = {"source": 1, "mixed": 2, "target": 2}
IDS: Final = {name: name.encode().ljust(16) for name in PARTITIONS}
GROUP: Final = "copy"
SOURCE_ID: Final = 1 << 40
"""The id of the first record of the source."""
BETWEEN_KILLS_S: Final = (0.5, 3.0)


def make(server: Serving, recorder: Recorder, source_count: int) -> None:
    """The topics, and a source that is full."""
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    topics = [NewTopic(name, width, 1) for name, width in PARTITIONS.items()]
    for future in admin.create_topics(topics).values():
        future.result(WAIT_S)
    for name, width in PARTITIONS.items():
        topic = Topic(name, IDS[name], width, is_transactional=name != "source")
        recorder.history.add_topic(topic)
    source, target = recorder.history.topics[0], recorder.history.topics[2]
    recorder.history.copies.append(Copy(GROUP, source.partitions, target.partitions))
    producer = rd.Producer({"bootstrap.servers": server.bootstrap, "enable.idempotence": True})
    for number in range(source_count):
        producer.produce("source", value_of(SOURCE_ID + number))
        producer.poll(0)
    assert producer.flush(WAIT_S) == 0


def record(server: Serving, kills: int, seed: int) -> History:
    recorder = Recorder(server.bootstrap, IDS)
    make(server, recorder, source_count=600 * (kills + 1))
    rngs = [random.Random(f"{seed} {number}") for number in range(5)]
    clients = [
        threading.Thread(target=write, args=(recorder, "writer-0", rngs[0])),
        threading.Thread(target=write, args=(recorder, "writer-1", rngs[1])),
        threading.Thread(target=write_with_aiokafka, args=(recorder, "writer-2", rngs[2])),
        threading.Thread(target=copy, args=(recorder, GROUP, rngs[3])),
        threading.Thread(target=follow, args=(recorder, "follower-0", "mixed")),
        threading.Thread(target=follow, args=(recorder, "follower-1", "target")),
    ]
    for client in clients:
        client.start()
    try:
        for _ in range(kills):
            time.sleep(rngs[4].uniform(*BETWEEN_KILLS_S))
            server.kill()
            server.start()
        time.sleep(2)
    finally:
        recorder.is_over.set()
        for client in clients:
            client.join()
    finish(recorder)
    return recorder.history


def finish(recorder: Recorder) -> None:
    """Whatever was left open is ended, and all is read."""
    for transactional_id in ("writer-0", "writer-1", "writer-2", GROUP):
        transactional(recorder, transactional_id)
    consumer = rd.Consumer({"bootstrap.servers": recorder.bootstrap, "group.id": GROUP})
    asked_at = recorder.now()
    (place,) = consumer.committed([rd.TopicPartition("source", 0)], WAIT_S)
    recorder.read_offset(GROUP, recorder.key("source", 0), place.offset, asked_at)
    consumer.close()
    for topic in recorder.history.topics:
        for key in topic.partitions:
            recorder.history.final[key] = read_to_the_end(recorder, topic.name, key[1])
            recorder.history.final_start[key] = 0


def check(history: History, path: Path) -> str:
    """What was recorded, in a line; it is checked as it was written to `path`."""
    path.write_text("\n".join(journal.write(history)))
    again = journal.read(path.read_text().splitlines())
    assert check_history(again) == []
    fates = [txn.fate for txn in again.txns]
    told = ", ".join(f"{fates.count(fate)} {fate.value}" for fate in Fate)
    seen = sum(len(poll.records) for poll in again.polls)
    return f"{len(fates)} transactions ({told}), {len(again.sends)} sends, {seen} records seen"


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.long)])
def test_what_clients_saw_breaks_no_promise(tmp_path: Path, kills: int) -> None:
    with serving(tmp_path / "data", SETTINGS) as server:
        history = record(server, kills, seed=kills)
    told = check(history, tmp_path / "history.jsonl")
    fates = [txn.fate for txn in history.txns]
    assert fates.count(Fate.OK) > 20, told
    assert fates.count(Fate.FAIL) > 5, told
    assert any(poll.key[0] == IDS["target"] for poll in history.polls), told


def main(seconds: float) -> None:
    deadline, seed = time.monotonic() + seconds, 100
    while time.monotonic() < deadline:
        with tempfile.TemporaryDirectory() as folder:
            with serving(Path(folder) / "data", SETTINGS) as server:
                history = record(server, 10, seed)
            told = check(history, Path(folder) / "history.jsonl")
        print(f"seed {seed}: {told}", flush=True)
        seed += 1


if __name__ == "__main__":
    main(float(sys.argv[1]))
