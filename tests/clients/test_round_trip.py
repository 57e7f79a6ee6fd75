"""What one client produces every client consumes: bytes, nulls, headers, timestamps, in order.

A case is a producing client and a codec. It fills one partition for each promise that producers
can ask for (acks, idempotence); then every client consumes all of them, and must see the same.
"""

import time
from collections.abc import Callable

import pytest

from ottla.records.batch import BatchHeader
from ottla.records.compression import CODEC_NAMES
from tests.clients.kcat import Kcat, needs_kcat
from tests.clients.peers import CODECS, MARKS, PEERS
from tests.clients.records import Seen, Sent, telling_records

pytestmark = MARKS

PROMISES = (("0", False), ("1", False), ("all", False), ("all", True))


def by_partition(seen: list[Seen], count: int) -> list[list[Seen]]:
    """In the order of arrival, each partition by itself."""
    return [[one for one in seen if one.partition == index] for index in range(count)]


def without_times(records: list[Sent]) -> list[Sent]:
    return [record._replace(timestamp=0) for record in records]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=needs_kcat if n == "kcat" else ()) for n in PEERS]
)
def test_every_client_consumes_what_one_produced(
    name: str,
    codec: str,
    bootstrap: str,
    make_topic: Callable[..., str],
    batches_of: Callable[..., list[BatchHeader]],
) -> None:
    peer = PEERS[name]
    records = [r for r in telling_records(int(time.time() * 1000)) if peer.can_say(r)]
    topic = make_topic(len(PROMISES))
    for partition, (acks, idempotent) in enumerate(PROMISES):
        peer.produce(
            bootstrap,
            topic,
            records,
            partition=partition,
            codec=codec,
            acks=acks,
            idempotent=idempotent,
        )
    for partition, (_, idempotent) in enumerate(PROMISES):
        written = batches_of(topic, partition)
        # librdkafka leaves a batch as it is where packing would not make it smaller: which
        # records share a batch is a matter of time.
        packed = {CODEC_NAMES[header.codec] for header in written}
        assert codec in packed
        assert packed <= {codec, "none"}
        assert {header.producer_id >= 0 for header in written} == {idempotent}
    everything = len(PROMISES) * len(records)
    starts = dict.fromkeys(range(len(PROMISES)), 0)
    views = {
        reader: PEERS[reader].consume(bootstrap, topic, starts, everything)
        for reader in ("confluent", "kafka-python", "aiokafka")
    }
    for reader, seen in views.items():
        for rows in by_partition(seen, len(PROMISES)):
            assert [row.offset for row in rows] == list(range(len(records))), reader
            found = [row.sent for row in rows]
            if name == "kcat":  # its records are stamped by itself
                assert without_times(found) == without_times(records), reader
            else:
                assert found == records, reader
    assert sorted(views["confluent"]) == sorted(views["aiokafka"]) == sorted(views["kafka-python"])


@needs_kcat
@pytest.mark.parametrize("codec", CODECS)
def test_kcat_consumes_what_others_produced(
    codec: str, bootstrap: str, make_topic: Callable[..., str]
) -> None:
    text = [
        record
        for record in telling_records(int(time.time() * 1000))
        if b"," not in b"".join(value or b"" for _, value in record.headers)
    ]
    names = ("confluent", "kafka-python", "aiokafka")
    topic = make_topic(len(names))
    expected = []
    for partition, name in enumerate(names):
        records = [record for record in text if PEERS[name].can_say(record)]
        PEERS[name].produce(bootstrap, topic, records, partition=partition, codec=codec)
        expected += [
            Seen(partition, offset, record.timestamp, record.key, record.value, record.headers)
            for offset, record in enumerate(records)
        ]
    starts = dict.fromkeys(range(len(names)), 0)
    assert Kcat.consume(bootstrap, topic, starts, len(expected)) == expected
