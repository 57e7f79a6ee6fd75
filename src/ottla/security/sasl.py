"""The client's side of SASL: what is sent to a broker to prove who one is. No I/O here.

A mechanism gives its first message, then an answer to each challenge, until it is done. Both sides
prove themselves with SCRAM (RFC 5802, RFC 7677): a broker that does not know the password cannot
make the signature that is checked here. PLAIN (RFC 4616) and OAUTHBEARER (RFC 7628) send a secret
as it is, so they are for connections that nobody listens to.

Names and passwords go as they are given. RFC 5802 would have them normalised first (SASLprep);
neither Kafka nor its clients do that, and a password kept by them as it was would be refused.
"""

import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

SCRAM_HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
MECHANISMS: Final = ("PLAIN", *SCRAM_HASHES, "OAUTHBEARER")
NONCE_BYTES: Final = 24
ITERATIONS_MIN: Final = 4_096
ITERATIONS_MAX: Final = 1_000_000
"""A broker that asks for more would have us count for minutes."""


TokenSource = Callable[[], str | Awaitable[str]]


class SaslError(Exception):
    """The other side is not what it says it is, or does not keep to the mechanism."""


class Mechanism(Protocol):
    is_done: bool
    """Whether nothing more is to be said, and the other side has proved what it must."""

    def first(self) -> bytes: ...
    def answer(self, challenge: bytes) -> bytes:
        """SaslError where the challenge is none."""


@dataclass(frozen=True, slots=True)
class Credentials:
    mechanism: str
    username: str = ""
    password: str = field(default="", repr=False)
    token: TokenSource | None = field(default=None, repr=False)
    """Of OAUTHBEARER: called for each login, and each time that one is renewed."""

    def begin(self, nonce: bytes, token: str = "") -> Mechanism:
        """`nonce`: NONCE_BYTES that were never used before; `token`: what `self.token` gave."""
        if self.mechanism == "PLAIN":
            return Plain(self.username, self.password)
        if self.mechanism == "OAUTHBEARER":
            return OAuthBearer(token)
        return Scram(SCRAM_HASHES[self.mechanism], self.username, self.password, nonce)


class Plain:
    is_done = True

    def __init__(self, username: str, password: str) -> None:
        self._message = f"\0{username}\0{password}".encode()

    def first(self) -> bytes:
        return self._message

    def answer(self, challenge: bytes) -> bytes:
        raise SaslError("PLAIN has no challenges")


class OAuthBearer:
    is_done = True

    def __init__(self, token: str) -> None:
        self._token = token

    def first(self) -> bytes:
        return f"n,,\1auth=Bearer {self._token}\1\1".encode()

    def answer(self, challenge: bytes) -> bytes:
        return b"\1"  # the challenge says what is wrong; the broker refuses after this


class Scram:
    def __init__(self, hash_name: str, username: str, password: str, nonce: bytes) -> None:
        self.is_done = False
        self._hash_name = hash_name
        self._password = password.encode()
        self._nonce = b64encode(nonce).decode()
        name = username.replace("=", "=3D").replace(",", "=2C")
        self._first_bare = f"n={name},r={self._nonce}"
        self._signature: bytes | None = None

    def first(self) -> bytes:
        return f"n,,{self._first_bare}".encode()

    def answer(self, challenge: bytes) -> bytes:
        """Slow at the first challenge: it hashes as often as the broker asks for."""
        fields = _fields_of(challenge)
        if "e" in fields:
            raise SaslError(f"the broker says {fields['e']!r}")
        if self._signature is None:
            return self._proof(challenge.decode(), fields)
        if not hmac.compare_digest(_decoded(fields, "v"), self._signature):
            raise SaslError("the broker's signature is wrong: it does not know the password")
        self.is_done = True
        return b""

    def _proof(self, challenge: str, fields: dict[str, str]) -> bytes:
        nonce, count = fields.get("r", ""), fields.get("i", "")
        if "m" in fields:
            raise SaslError("the broker asks for an extension that is not known")
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise SaslError("the broker's nonce does not go on from ours")
        if not (count.isascii() and count.isdecimal() and len(count) < 9):
            raise SaslError(f"{count[:20]!r} is no number of iterations")
        if not ITERATIONS_MIN <= int(count) <= ITERATIONS_MAX:
            raise SaslError(
                f"{count} iterations, and allowed are {ITERATIONS_MIN} to {ITERATIONS_MAX}"
            )
        salted = hashlib.pbkdf2_hmac(
            self._hash_name, self._password, _decoded(fields, "s"), int(count)
        )
        client_key = self._hmac(salted, b"Client Key")
        last = f"c=biws,r={nonce}"
        message = f"{self._first_bare},{challenge},{last}".encode()
        stored_key = hashlib.new(self._hash_name, client_key).digest()
        signature = self._hmac(stored_key, message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._signature = self._hmac(self._hmac(salted, b"Server Key"), message)
        return f"{last},p={b64encode(proof).decode()}".encode()

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._hash_name).digest()


def _fields_of(challenge: bytes) -> dict[str, str]:
    try:
        parts = challenge.decode().split(",")
    except UnicodeDecodeError:
        raise SaslError("a challenge that is no text") from None
    if any(part[1:2] != "=" for part in parts):
        raise SaslError("a challenge that is not of SCRAM")
    return {part[0]: part[2:] for part in parts}


def _decoded(fields: dict[str, str], name: str) -> bytes:
    try:
        found = b64decode(fields.get(name, ""), validate=True)
    except (Base64Error, ValueError):
        found = b""
    if not found:
        raise SaslError(f"a challenge without a valid {name!r}")
    return found
