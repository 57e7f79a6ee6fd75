"""The blocking face: the same clients from threads that have no loop."""

import inspect
import threading

import pytest

import ottla
from ottla.client.errors import ClientClosedError, DeliveryError, NoBrokersError
from ottla.client.rows import NewTopic


def test_out_and_in(broker):
    where = {"bootstrap_servers": broker.bootstrap_servers}
    with ottla.SyncAdmin(**where) as admin:
        admin.create_topics(NewTopic("t", num_partitions=1))
        assert admin.list_topics() == ["t"]
    with ottla.SyncProducer(**where) as producer:
        delivery = producer.send("t", b"0", key=b"k")
        assert delivery.result(30).offset == 0 and delivery.done()
        many = producer.send_many("t", [b"%d" % n for n in range(1, 500)])
        assert many.count == 499 and many.result()[0].first_offset == 1
        assert producer.send_and_wait("t", b"500").offset == 500
        producer.flush()
    with ottla.SyncConsumer(auto_offset_reset="earliest", **where) as consumer:
        consumer.assign([("t", 0)])
        found = []
        for record in consumer:
            found.append(int(record.value))
            if len(found) == 3:
                break
        assert consumer.position(("t", 0)) == 3
        for columns in consumer.batches():
            found += map(int, columns.values)
            if len(found) == 501:
                break
        assert found == list(range(501))
        consumer.seek(("t", 0), 499)
        assert [int(record.value) for record in consumer.poll(30_000)] == [499, 500]
        consumer.pause()
        assert consumer.poll(1) == []


def test_callbacks_of_a_group_may_ask_the_consumer(broker):
    where = {"bootstrap_servers": broker.bootstrap_servers}
    with ottla.SyncProducer(**where) as producer:
        producer.send_many("t", [b"0", b"1"], partition=0).result(30)
    options = {"group_id": "g", "auto_offset_reset": "earliest", "enable_auto_commit": False}
    with ottla.SyncConsumer(**options, **where) as consumer:
        consumer.subscribe(
            ["t"],
            on_assigned=lambda partitions: [consumer.seek(each, 1) for each in partitions],
            on_revoked=lambda partitions: consumer.commit(),
        )
        assert next(iter(consumer)).value == b"1"
        consumer.unsubscribe()
        assert consumer.committed(("t", 0))["t", 0].offset == 2


def test_many_threads_share_a_producer(broker):
    with ottla.SyncProducer(bootstrap_servers=broker.bootstrap_servers) as producer:

        def work():
            for _ in range(50):
                producer.send("t", b"x")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush()
        assert producer.send_and_wait("t", b"last").offset == 200


def test_errors_come_through_and_nothing_is_left_running(start_broker):
    broker = start_broker(settings={"message.max.bytes": "1000"})
    with pytest.raises(NoBrokersError):
        ottla.SyncProducer(bootstrap_servers="127.0.0.1:1").start()
    producer = ottla.SyncProducer(bootstrap_servers=broker.bootstrap_servers)
    with pytest.raises(ClientClosedError):
        producer.send("t", b"x")
    producer.start()
    with pytest.raises(DeliveryError, match="MESSAGE_TOO_LARGE"):
        producer.send("t", bytes(5_000)).result()
    producer.close()
    producer.close()
    with pytest.raises(ClientClosedError):
        producer.flush()
    assert not [each for each in threading.enumerate() if each.name == "ottla-client"]


@pytest.mark.parametrize("name", ["Producer", "Consumer", "Admin"])
def test_every_call_has_its_twin(name):
    calls = {
        each
        for each, found in inspect.getmembers(getattr(ottla, name), callable)
        if not each.startswith("_")
    }
    assert calls <= set(dir(getattr(ottla, f"Sync{name}")))
