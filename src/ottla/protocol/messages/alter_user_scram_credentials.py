"""AlterUserScramCredentials (key 51): make, change or delete what users log in with (KIP-554).

Passwords do not travel: the client salts and hashes them. Mechanisms: 1 SCRAM-SHA-256, 2
SCRAM-SHA-512. One version.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class ScramCredentialDeletion(Struct):
    name: str = field()
    mechanism: int = field(int8)


class ScramCredentialUpsertion(Struct):
    name: str = field()
    mechanism: int = field(int8)
    iterations: int = field(int32)
    salt: bytes = field()
    salted_password: bytes = field()


class AlterUserScramCredentialsRequest(
    Request, api=ApiKey.ALTER_USER_SCRAM_CREDENTIALS, versions="0", flexible="0+"
):
    deletions: list[ScramCredentialDeletion] = field()
    upsertions: list[ScramCredentialUpsertion] = field()


class AlterUserScramCredentialsResult(Struct):
    user: str = field()
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)


class AlterUserScramCredentialsResponse(
    Response, api=ApiKey.ALTER_USER_SCRAM_CREDENTIALS, versions="0", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    results: list[AlterUserScramCredentialsResult] = field()
