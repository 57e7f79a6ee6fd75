"""`ottla.Broker`: how it starts and stops, what it keeps, and that it leaves nothing behind."""

import ast
import asyncio
import gc
import inspect
import logging
import os
import signal
import socket
import sys
import tempfile
import textwrap
import threading

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

import ottla

pytestmark = [pytest.mark.clients]

WAIT_S = 20
VALUES = [b"v%d" % n for n in range(5)]


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """Where temporary directories are made: nothing of a broker is left there."""
    directory = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


@pytest.fixture(autouse=True)
def nothing_left(tmp_path_factory):
    """Neither a broker's threads nor its descriptors outlive it."""
    base = str(tmp_path_factory.getbasetemp())
    threads, descriptors = of_brokers(), open_descriptors(base)
    yield
    assert of_brokers() == threads
    gc.collect()  # clients of others
    assert open_descriptors(base) <= descriptors


def of_brokers():
    return [each for each in threading.enumerate() if each.name.startswith("ottla")]


def open_descriptors(base):
    """What the process has open below `base`: a broker that a session shares, and librdkafka, open
    and close their own as they like."""
    found = []
    for number in os.listdir("/proc/self/fd") if sys.platform == "linux" else ():
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith(base) and ("ottla" in target or "logs" in target):
            found.append(target)
    return len(found)


def produce(broker, values=VALUES, topic="t"):
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(WAIT_S) == 0


def consumer_of(broker):
    """Without commits: a consumer that is closed would look for its coordinator for long."""
    return Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "unused",
            "enable.auto.commit": False,
        }
    )


def consume(broker, count=5, topic="t"):
    consumer = consumer_of(broker)
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return [record.value() for record in consumer.consume(count, timeout=WAIT_S)]
    finally:
        consumer.close()


def topics(broker):
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    return sorted(admin.list_topics(timeout=WAIT_S).topics)


def is_served(address):
    try:
        socket.create_connection(address, 5).close()
    except ConnectionRefusedError:
        return False
    return True


# -- start and stop


def test_blocking():
    with ottla.Broker() as broker:
        host, port = broker.address
        assert broker.bootstrap_servers == f"{host}:{port}"
        assert host == "127.0.0.1"
        produce(broker)
        assert consume(broker) == VALUES
    assert not is_served((host, port))


def test_the_callers_loop_may_be_blocked_in_a_client():
    async def blocked():
        async with ottla.Broker() as broker:
            produce(broker)
            return consume(broker)

    assert asyncio.run(blocked()) == VALUES


def test_the_callers_loop_goes_on_while_it_starts_and_stops():
    async def count():
        turns = 0

        async def turn():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(turn())
        async with ottla.Broker():
            started = turns
        task.cancel()
        return started, turns

    started, stopped = asyncio.run(count())
    assert 1 < started < stopped - 1


def test_by_hand():
    broker = ottla.Broker()
    for ask in (lambda: broker.address, lambda: broker.bootstrap_servers):
        with pytest.raises(RuntimeError, match="has not started"):
            ask()
    broker.stop()  # of what never started: nothing
    broker.start()
    try:
        with pytest.raises(RuntimeError, match="runs already"):
            broker.start()
        assert is_served(broker.address)
    finally:
        broker.stop()
    broker.stop()
    with pytest.raises(RuntimeError, match="has not started"):
        _ = broker.address


def test_it_may_be_started_again():
    broker = ottla.Broker()
    for _ in range(2):
        with broker:
            assert topics(broker) == []
            produce(broker)


def test_many_at_once():
    brokers = [ottla.Broker() for _ in range(5)]
    for broker in brokers:
        broker.start()
    try:
        for number, broker in enumerate(brokers):
            produce(broker, [b"of %d" % number])
        for number, broker in enumerate(brokers):
            assert consume(broker, 1) == [b"of %d" % number]
        assert len({broker.address for broker in brokers}) == 5
    finally:
        for broker in brokers:
            broker.stop()


def test_many_at_once_on_one_loop():
    async def run():
        async with ottla.Broker() as one, ottla.Broker() as two:
            produce(one)
            assert (topics(one), topics(two)) == (["t"], [])

    asyncio.run(run())


# -- data


def test_a_temporary_directory_is_removed(temporary):
    with ottla.Broker() as broker:
        produce(broker)
        (directory,) = temporary.iterdir()
        assert (directory / "t-0").is_dir()
    assert not directory.exists()


def test_a_given_directory_is_kept(tmp_path, temporary):
    data = tmp_path / "logs"
    with ottla.Broker(data) as broker:
        produce(broker)
        assert list(temporary.iterdir()) == []
    with ottla.Broker(str(data)) as broker:
        assert consume(broker) == VALUES
        produce(broker, [b"more"])
        assert consume(broker, len(VALUES) + 1) == [*VALUES, b"more"]
    assert (data / "t-0").is_dir()


def test_a_clean_stop_leaves_the_marker_of_one(tmp_path):
    with ottla.Broker(tmp_path / "logs") as broker:
        produce(broker)
        assert not (tmp_path / "logs" / ".kafka_cleanshutdown").exists()
    assert (tmp_path / "logs" / ".kafka_cleanshutdown").exists()


def test_settings_host_and_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with ottla.Broker(host="localhost", port=port, settings={"num.partitions": "3"}) as broker:
        assert broker.address[1] == port
        produce(broker)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        assert len(admin.list_topics("t", timeout=WAIT_S).topics["t"].partitions) == 3


# -- what goes wrong


def test_a_setting_that_is_wrong():
    with pytest.raises(ottla.StartError, match=r"num\.partitions"):
        ottla.Broker(settings={"num.partitions": "none"}).start()
    with pytest.raises(ottla.StartError, match=r"no\.such\.key"):
        ottla.Broker(settings={"no.such.key": "1"}).start()


def test_a_port_that_is_taken():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ottla.StartError, match="cannot listen") as raised,
    ):
        ottla.Broker(port=taken.getsockname()[1]).start()
    assert "\n" not in str(raised.value)


def test_a_directory_that_another_broker_has(tmp_path):
    with ottla.Broker(tmp_path / "logs"), pytest.raises(ottla.StartError):
        ottla.Broker(tmp_path / "logs").start()


def test_a_start_that_fails_on_a_loop():
    async def run():
        async with ottla.Broker(settings={"num.partitions": "0"}):
            raise AssertionError("it does not start")

    with pytest.raises(ottla.StartError, match=r"num\.partitions"):
        asyncio.run(run())


def test_after_a_start_that_failed_it_may_be_started():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broker = ottla.Broker(port=taken.getsockname()[1])
        with pytest.raises(ottla.StartError):
            broker.start()
    with broker:
        assert is_served(broker.address)


def test_a_start_that_is_cancelled():
    async def run():
        starting = asyncio.create_task(ottla.Broker().__aenter__())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(run())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_body_goes_on(error):
    broker = ottla.Broker()
    with pytest.raises(error), broker:
        address = broker.address
        raise error
    assert not is_served(address)

    async def run():
        async with ottla.Broker():
            raise error

    with pytest.raises(error):
        asyncio.run(run())


def test_clients_that_stay_do_not_keep_it_from_stopping():
    broker = ottla.Broker()
    broker.start()
    with socket.create_connection(broker.address) as idle:
        idle.sendall(b"\0\0\0\x20\0")  # a part of a frame
        consumer = consumer_of(broker)
        produce(broker)
        consumer.assign([TopicPartition("t", 0, len(VALUES))])
        assert consumer.poll(0.2) is None  # a long poll is under way
        broker.stop()
        idle.settimeout(WAIT_S)
        assert idle.recv(1) == b""
        consumer.close()


# -- what belongs to the process


def of_the_process():
    root = logging.getLogger()
    return (
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        (list(root.handlers), root.level, logging.getLogger("ottla").handlers),
        logging.getLogger("ottla").level,
        sys.getswitchinterval(),
        (threading.excepthook, sys.excepthook),
        os.getcwd(),
    )


def test_nothing_of_the_process_is_touched():
    before = of_the_process()
    with ottla.Broker() as broker:
        produce(broker)
        assert of_the_process() == before
    assert of_the_process() == before


# -- the examples of the documents


def examples(text):
    """The indented pieces of a docstring or page, each as it would be typed."""
    pieces, piece = [], []
    for line in [*text.splitlines(), "end"]:
        if line.startswith("    ") or (piece and not line.strip()):
            piece.append(line)
        elif piece:
            pieces += textwrap.dedent("\n".join(piece)).strip().split("\n\n")
            piece = []
    return pieces


NAMES = {"ottla": ottla, "AIOKafkaProducer": AIOKafkaProducer, "Producer": Producer}


@pytest.mark.parametrize("source", examples(inspect.getdoc(ottla.Broker)))
def test_the_examples_of_the_docstring_run(source):
    code = compile(source, "<example>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, {**NAMES})
    if inspect.iscoroutine(result):
        asyncio.run(result)


def test_there_are_examples():
    assert len(examples(inspect.getdoc(ottla.Broker))) == 2


# -- its groups


def test_groups_by_state_and_how_far_each_is_behind():
    settings = {"num.partitions": "2", "group.initial.rebalance.delay.ms": "0"}
    with ottla.Broker(settings=settings) as broker:
        assert (broker.group_counts(), broker.consumer_lag()) == ({}, {})
        produce(broker)
        readers = [
            Consumer(
                {
                    "bootstrap.servers": broker.bootstrap_servers,
                    "group.id": protocol,
                    "group.protocol": protocol,
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                }
            )
            for protocol in ("classic", "consumer")
        ]
        for reader in readers:
            reader.subscribe(["t"])
            assert len(reader.consume(5, timeout=WAIT_S)) == 5
            reader.commit(offsets=[TopicPartition("t", 0, 0)], asynchronous=False)
        assert broker.group_counts() == {("classic", "Stable"): 1, ("consumer", "Stable"): 1}
        lag = broker.consumer_lag()
        ends = readers[0].get_watermark_offsets(TopicPartition("t", 0), timeout=WAIT_S)
        assert lag == {each: {("t", 0): ends[1]} for each in ("classic", "consumer")}
        for reader in readers:
            reader.close()
        assert broker.group_counts() == {("classic", "Empty"): 1, ("consumer", "Empty"): 1}
    with pytest.raises(RuntimeError):
        broker.group_counts()
