"""SASL on a new connection, against a scripted broker."""

import asyncio
import itertools

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateResponse
from ottla.protocol.messages.sasl_handshake import SaslHandshakeResponse
from ottla.rpc.channel import Channel, ChannelSettings
from ottla.rpc.errors import AuthenticationError, ChannelClosedError, ConnectError, RpcError
from ottla.security.sasl import Credentials
from tests.rpc.conftest import PORT, Stage, versions_answer

PLAIN = Credentials("PLAIN", "me", "secret")
SCRAM = Credentials("SCRAM-SHA-256", "me", "secret")


def opening(stage, credentials, *, handshake=0, said=None):
    """Open a channel to a broker that answers each step with what `said` gives."""

    def answer(header, request):
        if header.api_key == 17:
            return SaslHandshakeResponse(error_code=handshake, mechanisms=["GSSAPI"])
        if header.api_key == 36:
            return said(bytes(request.auth_bytes))
        return versions_answer(header, request)

    async def script():
        settings = ChannelSettings(credentials=credentials)
        channel = await Channel.open(stage.world, "broker", PORT, settings)
        channel.close()

    stage.listen(answer)
    stage.play(script)


def test_plain_says_name_and_password_once(stage):
    heard = []

    def said(message):
        heard.append(message)
        return SaslAuthenticateResponse(auth_bytes=b"")

    opening(stage, PLAIN, said=said)
    assert heard == [b"\0me\0secret"]
    assert [header.api_key for header, _ in stage.requests] == [18, 17, 36]


def test_a_refusal_is_told_with_its_reason(stage):
    refused = SaslAuthenticateResponse(error_code=58, error_message="go away", auth_bytes=b"")
    with pytest.raises(AuthenticationError, match="go away") as told:
        opening(stage, PLAIN, said=lambda _: refused)
    assert told.value.code is ErrorCode.SASL_AUTHENTICATION_FAILED


def test_a_mechanism_that_is_not_there(stage):
    with pytest.raises(AuthenticationError, match="it offers GSSAPI") as told:
        opening(stage, PLAIN, handshake=33)
    assert told.value.code is ErrorCode.UNSUPPORTED_SASL_MECHANISM


@pytest.mark.parametrize("challenge", [b"", b"\xff", b"r=x,s=AAAA,i=4096", b"v=AAAA", b"e=no"])
def test_a_broker_that_says_yes_without_a_proof_of_its_own(stage, challenge):
    with pytest.raises(AuthenticationError) as told:
        opening(stage, SCRAM, said=lambda _: SaslAuthenticateResponse(auth_bytes=challenge))
    assert told.value.code is ErrorCode.SASL_AUTHENTICATION_FAILED


# ---- tokens


def told_tokens(stage, token):
    """What a broker hears of a client whose token comes from `token`."""
    heard = []

    def said(message):
        heard.append(message)
        return SaslAuthenticateResponse(auth_bytes=b"")

    opening(stage, Credentials("OAUTHBEARER", token=token), said=said)
    return heard


def test_a_token_of_a_function_a_coroutine_function_and_one_that_looks_like_none():
    async def slow():
        await asyncio.sleep(1)
        return "abc"

    for token in (lambda: "abc", slow, lambda: slow()):
        assert told_tokens(Stage(), token) == [b"n,,\1auth=Bearer abc\1\1"]


def test_no_token_now_is_no_reason_to_give_up():
    def broken():
        raise OSError("the issuer is down")

    async def hanging():
        await asyncio.sleep(1e6)

    for token, cause in (
        (broken, "OSError: the issuer is down"),
        (lambda: "", "a token is a text"),
        (lambda: None, "TypeError"),
        (lambda: "abc\1host=elsewhere", "a token is printable ASCII"),
        (lambda: "abc\ud800", "a token is printable ASCII"),
        (hanging, "TimeoutError"),
    ):
        with pytest.raises(ConnectError, match=cause):
            told_tokens(Stage(), token)


# ---- a login that does not last (KIP-368)

LIFETIME_MS = 10_000


class Lasting:
    """A broker whose logins last for 10 seconds. It notes when a login began, and whatever it is
    asked while none stands, or while one is talked about: Kafka would close the connection."""

    def __init__(self, stage, *, logins_most=1_000):
        self.login_times = []
        self.wrongly_asked = []
        self.is_mute = False
        self._logins_most = logins_most
        self._is_talking = False
        self._expires_at = 0.0
        stage.listen(self.answer)

    def answer(self, header, request):
        now = asyncio.get_running_loop().time()
        if header.api_key == 18:
            return versions_answer(header, request)
        if header.api_key == 17:
            self._is_talking = True
            self.login_times.append(now)
            return SaslHandshakeResponse(error_code=0, mechanisms=["OAUTHBEARER"])
        if header.api_key == 36:
            if len(self.login_times) > self._logins_most:
                return SaslAuthenticateResponse(error_code=58, error_message="no", auth_bytes=b"")
            self._is_talking = False
            self._expires_at = now + LIFETIME_MS / 1_000
            return SaslAuthenticateResponse(auth_bytes=b"", session_lifetime_ms=LIFETIME_MS)
        if self._is_talking or now >= self._expires_at:
            self.wrongly_asked.append((now, request))
        if self.is_mute:
            return None
        return MetadataResponse(brokers=[], topics=[], cluster_id=request.topics[0].name)


def lasting_channel(stage, timeout_ms=30_000):
    async def token():
        await asyncio.sleep(0.2)
        return "abc"

    settings = ChannelSettings(
        credentials=Credentials("OAUTHBEARER", token=token), request_timeout_ms=timeout_ms
    )
    return Channel.open(stage.world, "broker", PORT, settings)


def numbered(number):
    return MetadataRequest(topics=[MetadataRequestTopic(name=str(number))])


@pytest.mark.parametrize("seed", range(5))
def test_a_login_is_renewed_in_time_with_requests_before_and_behind_it(seed):
    stage = Stage(seed)
    broker = Lasting(stage)

    async def script():
        channel = await lasting_channel(stage)
        waiting = []
        for number in range(60_000):
            waiting.append(channel.send(numbered(number)))
            await asyncio.sleep(0.001)
        for number, each in enumerate(waiting):
            answer = await channel.answer_of(each, MetadataResponse)
            assert answer.cluster_id == str(number)
        assert channel.in_flight_count == 0
        channel.close()

    stage.play(script)
    assert broker.wrongly_asked == [] and len(stage.accepted) == 1
    times = broker.login_times
    assert len(times) >= 6
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(8.5 <= gap < 10 for gap in gaps) and len(set(gaps)) > 1


def test_an_idle_connection_keeps_its_login(stage):
    broker = Lasting(stage)

    async def script():
        channel = await lasting_channel(stage)
        await asyncio.sleep(100)
        assert (await channel.ask(numbered(7), MetadataResponse)).cluster_id == "7"
        channel.close()
        await asyncio.sleep(100)

    stage.play(script)
    assert broker.wrongly_asked == [] and 10 <= len(broker.login_times) <= 12


def test_a_login_that_is_not_renewed_ends_the_connection(stage):
    broker = Lasting(stage, logins_most=1)

    async def script():
        channel = await lasting_channel(stage)
        outcomes = []
        with pytest.raises(RpcError):
            while True:
                outcomes.append(channel.send(numbered(0)))
                await asyncio.sleep(0.000_1)
        lost = [each.result() for each in outcomes if isinstance(each.result(), RpcError)]
        # The last ones were held back: they never left.
        assert lost and all(type(each) is ChannelClosedError for each in lost)
        assert "could not be renewed" in str(lost[0]) and ": no" in str(lost[0])
        with pytest.raises(AuthenticationError, match="no"):
            await lasting_channel(stage)

    stage.play(script)
    assert broker.wrongly_asked == []


def test_a_channel_that_ends_while_its_login_is_renewed(stage):
    broker = Lasting(stage)

    async def script():
        channel = await lasting_channel(stage, timeout_ms=1_000)
        await channel.ask(numbered(0), MetadataResponse)
        while len(broker.login_times) == 1:
            await asyncio.sleep(0.000_1)
        held = channel.send(numbered(1))
        channel.post(numbered(2))
        assert channel.in_flight_count == 2 and channel.unsent_bytes > 20
        channel.close()
        assert channel.unsent_bytes == 0 and type(held.result()) is ChannelClosedError
        await asyncio.sleep(20)

    stage.play(script)
    assert len(broker.login_times) == 2
