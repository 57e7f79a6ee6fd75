"""SASL on a new connection: the mechanism's messages in SaslAuthenticate requests (KIP-152).

It comes after ApiVersions, which everybody may ask, and before all else. What a step computes may
take long (SCRAM hashes thousands of times), so it runs on a helper thread.
"""

import asyncio
from typing import Protocol, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.world import Offload, World
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.sasl_authenticate import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
)
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from ottla.rpc.errors import code_of
from ottla.security.sasl import NONCE_BYTES, Credentials, Mechanism, SaslError

R = TypeVar("R", bound=Response)

STEPS_MAX = 4
"""More than any mechanism has: a broker does not keep us going."""


class Asker(Protocol):
    """What is used of a channel."""

    @property
    def peer(self) -> str: ...
    async def ask(self, request: Request, expected: type[R]) -> R: ...


async def authenticate(channel: Asker, world: World, credentials: Credentials) -> None:
    """KafkaError SASL_AUTHENTICATION_FAILED or UNSUPPORTED_SASL_MECHANISM, with the reason."""
    handshake = await channel.ask(
        SaslHandshakeRequest(mechanism=credentials.mechanism), SaslHandshakeResponse
    )
    if handshake.error_code:
        offered = ", ".join(handshake.mechanisms[:10]) or "none"
        raise KafkaError(
            code_of(handshake.error_code),
            f"{channel.peer}: {credentials.mechanism} was refused; it offers {offered}",
        )
    mechanism = credentials.begin(world.rng.randbytes(NONCE_BYTES))
    message = mechanism.first()
    try:
        for _ in range(STEPS_MAX):
            challenge = await _say(channel, message)
            if not challenge and mechanism.is_done:
                return
            message = await _answer(world.offload, mechanism, challenge)
            if mechanism.is_done and not message:
                return
        raise SaslError("it asks on and on")
    except SaslError as failure:
        raise KafkaError(
            ErrorCode.SASL_AUTHENTICATION_FAILED, f"{channel.peer}: {failure}"
        ) from failure


async def _say(channel: Asker, message: bytes) -> bytes:
    response = await channel.ask(
        SaslAuthenticateRequest(auth_bytes=message), SaslAuthenticateResponse
    )
    if response.error_code:
        code = code_of(response.error_code)
        raise KafkaError(code, f"{channel.peer}: {response.error_message or code.name}")
    return bytes(response.auth_bytes)


async def _answer(offload: Offload, mechanism: Mechanism, challenge: bytes) -> bytes:
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def done(answer: bytes | None, error: BaseException | None) -> None:
        if answered.done():  # cancelled meanwhile
            return
        if answer is None:
            answered.set_exception(error or SaslError("no answer"))
        else:
            answered.set_result(answer)

    offload.submit(lambda: mechanism.answer(challenge), done)
    return await answered
