"""A sync that does not come back holds up those who wait for it, and nobody else."""

from pathlib import Path
from typing import Any

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.crash.failpoints import FAILPOINT
from tests.tools.serving import Serving

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

HANGS = "log.sync:1+:delay:600000,file-system.sync:1+:delay:600000"
WAIT_S = 60


def producer_of(server: Serving, acks: str) -> rd.Producer:
    return rd.Producer(
        {"bootstrap.servers": server.bootstrap, "acks": acks, "linger.ms": 0, "log_level": 0}
    )


def test_a_sync_that_hangs_does_not_stop_the_node(tmp_path: Path) -> None:
    server = Serving(tmp_path / "data")
    server.environment = {FAILPOINT: HANGS}
    server.start()
    try:
        admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
        topics = [NewTopic(name, 1, 1) for name in ("waits", "goes-on")]
        for future in admin.create_topics(topics).values():
            future.result(WAIT_S)
        told: list[Any] = []
        waiting = producer_of(server, "all")
        waiting.produce("waits", b"v", partition=0, on_delivery=lambda *known: told.append(known))
        waiting.poll(0.2)
        going_on = producer_of(server, "1")
        offsets: list[int] = []
        for number in range(20):
            going_on.produce(
                "goes-on",
                b"%d" % number,
                partition=0,
                on_delivery=lambda error, message: offsets.append(message.offset()),
            )
            assert going_on.flush(WAIT_S) == 0
        assert offsets == list(range(20))
        assert "waits" in admin.list_topics(timeout=WAIT_S).topics
        waiting.poll(0)
        assert told == [], "acknowledged, and nothing was synced"
        assert "goes offline" not in server.log.read_text()
    finally:
        server.kill()
    # What was acknowledged with acks=1 survives the death of the process.
    server.environment = {}
    server.start()
    try:
        consumer = rd.Consumer(
            {"bootstrap.servers": server.bootstrap, "group.id": "g", "log_level": 0}
        )
        _, end = consumer.get_watermark_offsets(rd.TopicPartition("goes-on", 0), WAIT_S)
        consumer.close()
        assert end == 20
    finally:
        server.kill()
