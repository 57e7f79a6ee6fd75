"""DescribeUserScramCredentials (key 50): which users may log in by SCRAM, and how (KIP-554).

Null or no users asks for all. Mechanisms: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512. One version.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class UserName(Struct):
    name: str = field()


class DescribeUserScramCredentialsRequest(
    Request, api=ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, versions="0", flexible="0+"
):
    users: list[UserName] | None = field(nullable="0+")


class CredentialInfo(Struct):
    mechanism: int = field(int8)
    iterations: int = field(int32)


class DescribeUserScramCredentialsResult(Struct):
    user: str = field()
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    credential_infos: list[CredentialInfo] = field()


class DescribeUserScramCredentialsResponse(
    Response, api=ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, versions="0", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    results: list[DescribeUserScramCredentialsResult] = field()
