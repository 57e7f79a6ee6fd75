"""Clients that believe they talk to an older broker, and so send older versions of requests."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.peers import MARKS, PEERS
from tests.clients.records import Sent

pytestmark = MARKS

RECORDS = [Sent(b"k%d" % n, b"v%d" % n, (("h", b"x"),), 1_000 + n) for n in range(20)]
BROKERS = ((0, 11), (1, 0), (1, 1), (2, 0), (2, 1), (2, 3), (2, 4), (2, 6), (2, 8), (3, 0), (3, 9))


@pytest.mark.parametrize("version", BROKERS, ids=lambda version: "{}.{}".format(*version))
@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
def test_kafka_python_as_if_the_broker_were_old(
    version: tuple[int, int], idempotent: bool, bootstrap: str, make_topic: Callable[..., Any]
) -> None:
    topic = make_topic()
    peer = PEERS["kafka-python"]
    old = {"api_version": version}
    codec = "zstd" if version >= (2, 1) else "lz4"
    peer.produce(bootstrap, topic, RECORDS, codec=codec, idempotent=idempotent, **old)
    seen = peer.consume(bootstrap, topic, {0: 0}, len(RECORDS), **old)
    assert [row.sent for row in seen] == RECORDS
