"""SASL on a new connection, against a scripted broker."""

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateResponse
from ottla.protocol.messages.sasl_handshake import SaslHandshakeResponse
from ottla.rpc.channel import Channel, ChannelSettings
from ottla.security.sasl import Credentials
from tests.rpc.conftest import PORT, versions_answer

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
    with pytest.raises(KafkaError, match="go away") as told:
        opening(stage, PLAIN, said=lambda _: refused)
    assert told.value.code is ErrorCode.SASL_AUTHENTICATION_FAILED


def test_a_mechanism_that_is_not_there(stage):
    with pytest.raises(KafkaError, match="it offers GSSAPI") as told:
        opening(stage, PLAIN, handshake=33)
    assert told.value.code is ErrorCode.UNSUPPORTED_SASL_MECHANISM


@pytest.mark.parametrize("challenge", [b"", b"\xff", b"r=x,s=AAAA,i=4096", b"v=AAAA", b"e=no"])
def test_a_broker_that_says_yes_without_a_proof_of_its_own(stage, challenge):
    with pytest.raises(KafkaError) as told:
        opening(stage, SCRAM, said=lambda _: SaslAuthenticateResponse(auth_bytes=challenge))
    assert told.value.code is ErrorCode.SASL_AUTHENTICATION_FAILED
