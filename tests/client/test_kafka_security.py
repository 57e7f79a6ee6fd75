"""TLS and logins against Apache Kafka itself: one broker with a listener of each kind."""

import asyncio
import base64
import json
import time

import confluent_kafka.admin as rd
import pytest

import ottla
from ottla.base.errors import ErrorCode
from ottla.client.errors import NoBrokersError
from tests.client.test_security import produce_and_consume
from tests.tools.certificates import Certificates
from tests.tools.kafka_broker import KafkaBroker, kafka_broker

pytestmark = [pytest.mark.java]

LISTENERS = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
SCRAMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")
LOGIN_MS = 3_000
"""Of OAUTHBEARER on SASL_PLAINTEXT: so long a login lasts."""
ODD_NAME, ODD_PASSWORD = "a,b=c", "\u00aa\u00ad ①"
"""SASLprep (RFC 4013) would make another password of it."""


def settings_of(certificates: Certificates) -> dict[str, str]:
    found = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": certificates.issue("kafka", "127.0.0.1"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certificates.ca,
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": ",".join(["PLAIN", *SCRAMS, "OAUTHBEARER"]),
        "listener.name.sasl_plaintext.oauthbearer.connections.max.reauth.ms": str(LOGIN_MS),
    }
    security = "org.apache.kafka.common.security"
    modules = {
        "plain": f'{security}.plain.PlainLoginModule required user_me="secret";',
        "oauthbearer": f"{security}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker";',
    }
    for scram in SCRAMS:
        modules[scram.lower()] = f"{security}.scram.ScramLoginModule required;"
    for listener in ("sasl_plaintext", "sasl_ssl"):
        for name, module in modules.items():
            found[f"listener.name.{listener}.{name}.sasl.jaas.config"] = module
    return found


def token(lasts_s: int = 3_600) -> str:
    """An unsecured JWS, as OAuthBearerUnsecuredValidatorCallbackHandler takes it."""
    now = int(time.time())
    parts = {"alg": "none"}, {"sub": "me", "iat": now - 60, "exp": now + lasts_s}
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*texts, b""]).decode()


def login(kafka: KafkaBroker, certificates: Certificates, protocol: str, mechanism: str, **more):
    options = {
        "bootstrap_servers": kafka.bootstraps[protocol],
        "security_protocol": protocol,
        "sasl_mechanism": mechanism,
    }
    if protocol == "SASL_SSL":
        options["ssl_cafile"] = certificates.ca
    if mechanism == "OAUTHBEARER":
        options["sasl_oauthbearer_token"] = token
    else:
        options |= {"sasl_username": "me", "sasl_password": "secret"}
    return {**options, **more}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def kafka(tmp_path_factory, certificates):
    users = [
        word for scram in SCRAMS for word in ("--add-scram", f"{scram}=[name=me,password=secret]")
    ]
    with kafka_broker(
        tmp_path_factory.mktemp("kafka"),
        settings_of(certificates),
        listeners=LISTENERS,
        format_words=users,
    ) as broker:
        yield broker


async def refused(cause: str, **options) -> ottla.AuthenticationError:
    with pytest.raises(ottla.AuthenticationError, match=cause) as told:
        await ottla.Admin(**options).start()
    return told.value


@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", *SCRAMS, "OAUTHBEARER"])
def test_each_mechanism(kafka, certificates, protocol, mechanism):
    async def script():
        options = login(kafka, certificates, protocol, mechanism)
        async with ottla.Producer(**options) as producer:
            sent = await producer.send_and_wait(f"{protocol}.{mechanism}", b"hello")
        async with ottla.Consumer(**options, auto_offset_reset="earliest") as consumer:
            consumer.assign([(sent.topic, 0)])
            (record,) = await consumer.poll(60_000)
            assert record.value == b"hello"
        if mechanism == "OAUTHBEARER":
            expired = {**options, "sasl_oauthbearer_token": lambda: token(-30)}
            failure = await refused("invalid_token|expired", **expired)
        else:
            failure = await refused("[Aa]uthentication failed", **{**options, "sasl_password": "x"})
            failure = await refused("[Aa]uthentication failed", **{**options, "sasl_username": "x"})
        assert failure.code is ErrorCode.SASL_AUTHENTICATION_FAILED

    asyncio.run(script())


@pytest.mark.timeout(300)
def test_a_password_goes_as_it_is(kafka, certificates):
    """SASLprep would make another one of it; Kafka and its clients do not do that."""
    admin = rd.AdminClient({"bootstrap.servers": kafka.bootstrap})
    kept = rd.ScramCredentialInfo(rd.ScramMechanism.SCRAM_SHA_256, 4_096)
    user = rd.UserScramCredentialUpsertion(ODD_NAME, kept, ODD_PASSWORD.encode())
    for done in admin.alter_user_scram_credentials([user]).values():
        done.result()

    async def script():
        names = {"sasl_username": ODD_NAME, "sasl_password": ODD_PASSWORD}
        options = login(kafka, certificates, "SASL_SSL", "SCRAM-SHA-256", **names)
        async with asyncio.timeout(30):
            while True:
                try:
                    async with ottla.Admin(**options) as admin:
                        return await admin.list_topics()
                except ottla.AuthenticationError:  # the broker has not heard of the user yet
                    await asyncio.sleep(0.1)

    asyncio.run(script())


@pytest.mark.timeout(300)
def test_tls_with_a_certificate_of_ones_own(kafka, certificates):
    async def script():
        options = {
            "bootstrap_servers": kafka.bootstraps["SSL"],
            "security_protocol": "SSL",
            "ssl_cafile": certificates.ca,
        }
        me = certificates.issue("me", "someone")
        await produce_and_consume(**options, ssl_certfile=me)
        failure = await refused("refused by the other side's TLS", **options)
        assert failure.code is ErrorCode.UNKNOWN_SERVER_ERROR
        await refused("is not believed", **{**options, "ssl_cafile": None})

    asyncio.run(script())


@pytest.mark.timeout(300)
def test_the_wrong_protocol_is_hinted_at(kafka, certificates):
    async def hint(listener: str, text: str, **options) -> None:
        with pytest.raises(NoBrokersError, match=text):
            await ottla.Admin(
                bootstrap_servers=kafka.bootstraps.get(listener, kafka.bootstrap), **options
            ).start()

    async def script():
        await hint("SSL", "wants? TLS")
        tls = {"security_protocol": "SSL", "ssl_cafile": certificates.ca}
        await hint("PLAINTEXT", "is it a plaintext listener", **tls)
        await hint("SASL_PLAINTEXT", "want a login")
        options = login(kafka, certificates, "SASL_PLAINTEXT", "PLAIN")
        await refused("offers", **{**options, "bootstrap_servers": kafka.bootstrap})

    asyncio.run(script())


@pytest.mark.timeout(300)
def test_a_login_is_renewed(kafka, certificates):
    """Kafka closes a connection that asks for something when its login is over."""
    asked = []

    async def fresh():
        asked.append(1)
        return token()

    async def script():
        options = login(kafka, certificates, "SASL_PLAINTEXT", "OAUTHBEARER")
        options["sasl_oauthbearer_token"] = fresh
        async with ottla.Producer(**options) as producer:
            await producer.send_and_wait("renewed", b"first")
            ((node, peer),) = producer._cluster._peers.items()
            channel, logins = peer.channel, len(asked)
            stop_at = time.monotonic() + 3 * LOGIN_MS / 1_000
            while time.monotonic() < stop_at:
                await producer.send_and_wait("renewed", b"more")
            assert producer._cluster.peer(node).channel is channel
            assert len(asked) >= logins + 3

    asyncio.run(script())
