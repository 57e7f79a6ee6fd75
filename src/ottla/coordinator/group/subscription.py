"""The topics in what a consumer says when it joins: the front of Kafka's ConsumerProtocol.

    i16 version | array of topics (i32 count, then i16 length and UTF-8 each) | what later
    versions and the consumer itself add

Every version starts alike, so nothing behind the topics is looked at. The bytes are a client's:
every length is held to what is there.
"""

from collections.abc import Iterable
from struct import Struct, error
from typing import Final

_HEAD: Final = Struct(">hi")
_LENGTH: Final = Struct(">h")


def topics_of(subscriptions: Iterable[bytes]) -> set[str] | None:
    """The topics of all of them; None where one does not parse."""
    topics: set[str] = set()
    try:
        for each in subscriptions:
            topics.update(_topics(each))
    except (error, ValueError):
        return None
    return topics


def _topics(subscription: bytes) -> list[str]:
    version, count = _HEAD.unpack_from(subscription)
    at = _HEAD.size
    if version < 0 or not 0 <= count <= (len(subscription) - at) // _LENGTH.size:
        raise ValueError("a count that does not fit")
    topics = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(subscription, at)
        at += _LENGTH.size
        if not 0 <= length <= len(subscription) - at:
            raise ValueError("a length that does not fit")
        topics.append(subscription[at : at + length].decode())
        at += length
    return topics
