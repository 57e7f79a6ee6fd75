"""What can go wrong between two nodes, apart from what a response itself says.

One question decides what a caller may do next: may the request have been carried out?
`is_uncertain` answers it. A request that never left may be sent again by anyone; one that left
and was not answered may be sent again only where a second time does no harm.
"""

from typing import ClassVar

from ottla.base.errors import ErrorCode, KafkaError


class RpcError(Exception):
    """A request that got no answer: why, and of whom."""

    is_uncertain: ClassVar[bool] = False
    """Whether the request may have been carried out."""


class ConnectError(RpcError):
    """No connection could be made: the request never left."""


class ChannelClosedError(RpcError):
    """The channel was closed on this side before the request left."""


class DisconnectedError(RpcError):
    """The connection broke while the answer was awaited."""

    is_uncertain = True


class RequestTimedOutError(RpcError):
    """No answer in time. The connection is closed: its next answer would be the late one."""

    is_uncertain = True


class BadResponseError(RpcError):
    """The other side sent what cannot be an answer. The connection is closed."""

    is_uncertain = True


class VersionMismatchError(RpcError):
    """The two sides have no version of this request in common."""


class AuthenticationError(KafkaError):
    """One side does not believe the other: a login was refused (the code says how), a certificate
    is not good, or there is no TLS in common (then the code is UNKNOWN_SERVER_ERROR, as in Java's
    client). Nothing was asked, and to ask again does not help before somebody mends it."""


def code_of(number: int) -> ErrorCode:
    """The code of that number; UNKNOWN_SERVER_ERROR for one that a newer broker made up."""
    try:
        return ErrorCode(number)
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR
