"""TLS and logins as a user of the clients meets them: what goes through, and what is refused."""

import asyncio
import contextlib
import logging
import ssl

import pytest

import ottla
from ottla.base.errors import ErrorCode
from ottla.client.admin import Admin
from ottla.client.consumer import Consumer
from ottla.client.errors import AuthenticationError, DeliveryError, NoBrokersError
from ottla.client.producer import Producer
from ottla.client.rows import NewTopic
from ottla.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.metadata import MetadataResponse
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateResponse
from ottla.protocol.messages.sasl_handshake import SaslHandshakeResponse
from tests.client.test_cluster import broker_row, topic_row
from tests.rpc.conftest import PORT, versions_answer
from tests.tools.certificates import Certificates

SECRET = "open-sesame"
LOGIN = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_username": "me",
    "sasl_password": SECRET,
}
HERE = {"bootstrap_servers": f"broker:{PORT}", "reconnect_backoff_ms": 1}


# ---- a login that is refused


class Refusing:
    """A broker with one topic that takes logins as long as `is_open`, and answers no Fetch."""

    def __init__(self, stage, *, is_open=True):
        self.stage = stage
        self.is_open = is_open
        self.logins_count = 0
        stage.listen(self.answer)

    def shut(self):
        """Refuse from now on, and break off what stands."""
        self.is_open = False
        for each in self.stage.accepted:
            each.connection.close()

    def answer(self, header, request):
        if header.api_key == 17:
            return SaslHandshakeResponse(error_code=0, mechanisms=["PLAIN"])
        if header.api_key == 36:
            self.logins_count += 1
            if self.is_open:
                return SaslAuthenticateResponse(auth_bytes=b"")
            return SaslAuthenticateResponse(
                error_code=58, error_message="wrong password", auth_bytes=b""
            )
        if header.api_key == 3:
            return MetadataResponse(
                brokers=[broker_row()], controller_id=1, topics=[topic_row("t", 1)]
            )
        if header.api_key == 10:
            rows = [Coordinator(key="g", node_id=1, host="broker", port=PORT)]
            return FindCoordinatorResponse(coordinators=rows)
        if header.api_key == 22:
            return InitProducerIdResponse(producer_id=77, producer_epoch=0)
        return versions_answer(header, request)


@pytest.mark.parametrize("kind", [Producer, Consumer, Admin])
def test_it_is_told_at_the_start(stage, kind, caplog):
    broker = Refusing(stage, is_open=False)

    async def script():
        caplog.set_level(logging.DEBUG)
        client = kind(world=stage.world, **HERE, **LOGIN)
        with pytest.raises(AuthenticationError, match="broker:9092: wrong password") as told:
            await client.start()
        assert told.value.code is ErrorCode.SASL_AUTHENTICATION_FAILED
        assert broker.logins_count == 1
        assert SECRET not in caplog.text + repr(client.settings) + repr(told.value)

    stage.play(script)


def test_a_producer_tells_it_of_each_record(stage):
    broker = Refusing(stage)

    async def script():
        producer = Producer(world=stage.world, **HERE, **LOGIN, delivery_timeout_ms=10**6)
        await producer.start()
        waiting = await producer.send("t", b"1")
        await asyncio.sleep(1)  # it is under way, and not answered
        broker.shut()
        for delivery in (waiting, await producer.send("t", b"2")):
            async with asyncio.timeout(10):
                with pytest.raises(DeliveryError, match="wrong password") as told:
                    await delivery
            assert told.value.code is ErrorCode.SASL_AUTHENTICATION_FAILED
        async with asyncio.timeout(10):
            with pytest.raises(AuthenticationError):
                await producer.send("another", b"3")
        await producer.close()

    stage.play(script)


def test_a_consumer_tells_it_at_the_next_read_and_goes_on_when_it_is_mended(stage):
    broker = Refusing(stage)

    async def script():
        consumer = Consumer(world=stage.world, **HERE, **LOGIN)
        await consumer.start()
        consumer.assign([("t", 0)])
        consumer.seek(("t", 0), 5)
        assert await consumer.poll(1_000) == []
        broker.shut()
        async with asyncio.timeout(10):
            with pytest.raises(AuthenticationError, match="wrong password"):
                await consumer.poll(60_000)
        broker.is_open = True
        asked = len(stage.requests)
        assert await consumer.poll(5_000) == []
        assert 1 in [header.api_key for header, _ in stage.requests[asked:]]
        await consumer.close()

    stage.play(script)


def test_a_member_of_a_group_tells_it_at_each_read(stage):
    broker = Refusing(stage)

    async def script():
        consumer = Consumer(world=stage.world, **HERE, **LOGIN, group_id="g")
        await consumer.start()
        broker.shut()
        consumer.subscribe(["t"])
        for _ in range(2):
            async with asyncio.timeout(10):
                with pytest.raises(AuthenticationError, match="wrong password"):
                    await consumer.poll(60_000)
        await consumer.close()

    stage.play(script)


def test_what_an_admin_asks_is_refused_at_once(stage):
    broker = Refusing(stage)

    async def script():
        admin = Admin(world=stage.world, **HERE, **LOGIN)
        await admin.start()
        broker.shut()
        async with asyncio.timeout(10):
            with pytest.raises(AuthenticationError, match="wrong password"):
                await admin.create_topics(NewTopic("t"))
        await admin.close()

    stage.play(script)


# ---- TLS, before a broker that has none itself


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.asynccontextmanager
async def tls_before_a_broker(context):
    """An Ottla broker that is reached over TLS; gives its bootstrap servers."""
    target = []
    tasks = set()

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def served(reader, writer):
        tasks.add(asyncio.current_task())
        inner_reader, inner_writer = await asyncio.open_connection(*target[0])
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    proxy = await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)
    reached_at = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    settings = {"advertised.listeners": f"PLAINTEXT://{reached_at}"}
    try:
        async with ottla.Broker(settings=settings) as broker:
            target.append(broker.address)
            yield reached_at
    finally:
        proxy.close()
        await asyncio.gather(*tasks)


async def produce_and_consume(**options):
    value = bytes(range(250)) * 400
    async with ottla.Producer(**options, linger_ms=0) as producer:
        runs = await (await producer.send_many("t", [value] * 100, partition=0))
        assert sum(run.record_count for run in runs) == 100
    async with ottla.Consumer(**options, auto_offset_reset="earliest") as consumer:
        consumer.assign([("t", 0)])
        found = []
        while len(found) < 100:
            found += await consumer.poll(60_000)
        assert all(record.value == value for record in found)


@pytest.mark.parametrize("own_context", [False, True])
def test_ten_megabytes_over_tls(certificates, own_context):
    async def script():
        context = certificates.server(certificates.issue("server", "127.0.0.1"), asks=True)
        me = certificates.issue("me", "someone")
        options = {"ssl_cafile": certificates.ca, "ssl_certfile": me}
        if own_context:
            mine = ssl.create_default_context(cafile=certificates.ca)
            mine.load_cert_chain(me)
            options = {"ssl_context": mine}
        async with tls_before_a_broker(context) as bootstrap:
            await produce_and_consume(
                bootstrap_servers=bootstrap, security_protocol="SSL", **options
            )

    asyncio.run(script())


KINDS = (ottla.Producer, ottla.Consumer, ottla.Admin)
SYNC_KINDS = (ottla.SyncProducer, ottla.SyncConsumer, ottla.SyncAdmin)


def test_a_certificate_that_is_not_believed_is_told_at_the_start(certificates):
    async def script():
        context = certificates.server(certificates.issue("elsewhere", "kafka.example.org"))
        async with tls_before_a_broker(context) as bootstrap:
            options = {
                "bootstrap_servers": bootstrap,
                "security_protocol": "SSL",
                "ssl_cafile": certificates.ca,
            }
            for kind in KINDS:
                with pytest.raises(ottla.AuthenticationError, match="IP address mismatch") as told:
                    await kind(**options).start()
                assert bootstrap in str(told.value)
            for kind in SYNC_KINDS:
                with pytest.raises(ottla.AuthenticationError, match="IP address mismatch"):
                    await asyncio.to_thread(kind(**options).start)
            async with ottla.Admin(**options, ssl_check_hostname=False) as admin:
                await admin.list_topics()
            with pytest.raises(ottla.AuthenticationError, match="No such file"):
                await ottla.Admin(**{**options, "ssl_cafile": "nowhere.pem"}).start()

    asyncio.run(script())


def test_tls_where_there_is_none_and_none_where_there_is(certificates):
    async def script():
        async with ottla.Broker() as broker:
            with pytest.raises(NoBrokersError, match="is it a plaintext listener"):
                await ottla.Admin(
                    bootstrap_servers=broker.bootstrap_servers,
                    security_protocol="SSL",
                    ssl_cafile=certificates.ca,
                ).start()
        context = certificates.server(certificates.issue("server", "127.0.0.1"))
        async with tls_before_a_broker(context) as bootstrap:
            with pytest.raises(NoBrokersError, match=r"wants? TLS"):
                await ottla.Admin(bootstrap_servers=bootstrap).start()

    asyncio.run(script())
