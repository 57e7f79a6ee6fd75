"""SASL on a connection: the mechanism's messages in SaslAuthenticate requests (KIP-152).

It comes after ApiVersions, which everybody may ask, and before all else; and again before the
broker's session is over, where it says how long that is (KIP-368). Between the handshake and the
last answer a broker takes nothing else on that connection, so what can wait outside comes first:
`prepared` gets the token and draws the nonce, `authenticate` talks.

What a step computes may take long (SCRAM hashes thousands of times), so it runs on a helper
thread; so does the call for a token that is not a coroutine function.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Protocol, TypeVar, cast

from ottla.base.errors import ErrorCode
from ottla.base.world import Offload, World
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.sasl_authenticate import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
)
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from ottla.rpc.errors import AuthenticationError, ConnectError, code_of
from ottla.security.sasl import NONCE_BYTES, Credentials, Mechanism, SaslError, TokenSource

R = TypeVar("R", bound=Response)
T = TypeVar("T")

STEPS_MAX = 4
"""More than any mechanism has: a broker does not keep us going."""


class Ask(Protocol):
    """How a channel is asked."""

    async def __call__(self, request: Request, expected: type[R]) -> R: ...


async def prepared(world: World, credentials: Credentials, timeout_ms: int) -> Mechanism:
    """What to say. ConnectError where there is no token now: there may be one later."""
    token = ""
    if credentials.token is not None:
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                token = await _token_of(world.offload, credentials.token)
        except Exception as failure:
            cause = f"{type(failure).__name__}: {failure}"
            raise ConnectError(f"sasl_oauthbearer_token gave none: {cause}") from failure
    return credentials.begin(world.rng.randbytes(NONCE_BYTES), token)


async def _token_of(offload: Offload, source: TokenSource) -> str:
    found = source() if iscoroutinefunction(source) else await _on_thread(offload, source)
    token = await found if isawaitable(found) else found
    if not isinstance(token, str) or not token:
        raise TypeError(f"a token is a text, not {type(token).__name__}")
    if not (token.isascii() and token.isprintable()):  # what is said of it ends at a \1
        raise ValueError("a token is printable ASCII")
    return token


async def authenticate(
    ask: Ask, peer: str, offload: Offload, name: str, mechanism: Mechanism
) -> int:
    """Milliseconds until it has to be done again; 0: never. AuthenticationError with the code
    SASL_AUTHENTICATION_FAILED or UNSUPPORTED_SASL_MECHANISM, and the reason."""
    handshake = await ask(SaslHandshakeRequest(mechanism=name), SaslHandshakeResponse)
    if handshake.error_code:
        offered = ", ".join(handshake.mechanisms[:10]) or "none"
        raise AuthenticationError(
            code_of(handshake.error_code), f"{peer}: {name} was refused; it offers {offered}"
        )
    message = mechanism.first()
    try:
        for _ in range(STEPS_MAX):
            response = await _say(ask, peer, message)
            challenge = bytes(response.auth_bytes)
            is_over = mechanism.is_done and not challenge
            answer = partial(mechanism.answer, challenge)
            message = b"" if is_over else await _on_thread(offload, answer)
            if mechanism.is_done and not message:
                return max(0, response.session_lifetime_ms)
        raise SaslError("it asks on and on")
    except SaslError as failure:
        raise AuthenticationError(
            ErrorCode.SASL_AUTHENTICATION_FAILED, f"{peer}: {failure}"
        ) from failure


async def _say(ask: Ask, peer: str, message: bytes) -> SaslAuthenticateResponse:
    response = await ask(SaslAuthenticateRequest(auth_bytes=message), SaslAuthenticateResponse)
    if response.error_code:
        code = code_of(response.error_code)
        raise AuthenticationError(code, f"{peer}: {response.error_message or code.name}")
    return response


async def _on_thread(offload: Offload, call: Callable[[], T]) -> T:
    outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(result: T | None, error: BaseException | None) -> None:
        if outcome.done():  # cancelled meanwhile
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(cast(T, result))

    offload.submit(call, done)
    return await outcome
