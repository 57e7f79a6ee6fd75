"""SaslAuthenticate (key 36): one step of a mechanism, its bytes as they are (KIP-152).

Versions. 1 tells how long the session lasts (KIP-368), 2 is flexible.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, field
from ottla.protocol.types import int16, int64


class SaslAuthenticateRequest(Request, api=ApiKey.SASL_AUTHENTICATE, versions="0-2", flexible="2+"):
    auth_bytes: bytes = field()


class SaslAuthenticateResponse(
    Response, api=ApiKey.SASL_AUTHENTICATE, versions="0-2", flexible="2+"
):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    auth_bytes: bytes = field()
    session_lifetime_ms: int = field(int64, versions="1+", default=0, ignorable=True)
