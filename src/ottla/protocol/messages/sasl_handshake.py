"""SaslHandshake (key 17): the mechanism that a client wants to authenticate with.

Versions. 0 is followed by the mechanism's bytes without any frame of Kafka's; 1 by
SaslAuthenticate requests (KIP-152). Never flexible.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, field
from ottla.protocol.types import int16


class SaslHandshakeRequest(Request, api=ApiKey.SASL_HANDSHAKE, versions="0-1"):
    mechanism: str = field()


class SaslHandshakeResponse(Response, api=ApiKey.SASL_HANDSHAKE, versions="0-1"):
    error_code: int = field(int16, default=0)
    mechanisms: list[str] = field()
