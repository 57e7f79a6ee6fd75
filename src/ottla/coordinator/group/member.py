"""One member of a classic group, what the members of a node may take of its memory, and who sent a
request to a group of either kind."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ottla.base.limits import CLIENT_TEXT_LOG_CHARS, GROUP_MEMBERS_COUNT, GROUP_SOFT_BYTES
from ottla.coordinator.pending import Pending

MEMBER_BYTES: Final = 1_000
"""What a member takes beside its texts and its protocols."""
PROTOCOL_BYTES: Final = 200
TEXT_BYTES: Final = 60
"""What one of many small things takes beside its bytes."""


class Protocol(NamedTuple):
    """A way to share partitions that a member knows, and what it has to say for it."""

    name: str
    metadata: bytes


def everything(topic: str) -> bool:
    return True


class Sender(NamedTuple):
    """Who sent a request, as the group remembers it."""

    client_id: str
    host: str
    may_see: Callable[[str], bool] = everything
    """Whether the sender may know of a topic, by its name. Not remembered."""


class Budget:
    """Members of all groups of a node, and the bytes that they make it keep."""

    __slots__ = ("bytes", "members")

    def __init__(self) -> None:
        self.members = 0
        self.bytes = 0

    def has_room(self, size_bytes: int) -> bool:
        """For one more member, with so much to keep."""
        return self.members < GROUP_MEMBERS_COUNT and self.may_grow(MEMBER_BYTES + size_bytes)

    def may_grow(self, size_bytes: int) -> bool:
        """Whether one that is counted already may have so much more to keep."""
        return size_bytes <= 0 or self.bytes + size_bytes <= GROUP_SOFT_BYTES

    def take(self, size_bytes: int) -> None:
        self.members += 1
        self.bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        self.members -= 1
        self.bytes -= size_bytes


class Member:
    """`join` and `sync` are its requests that wait for the others."""

    __slots__ = (
        "assignment",
        "charged_bytes",
        "client_host",
        "client_id",
        "id",
        "instance_id",
        "is_new",
        "join",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "sync",
    )

    def __init__(
        self,
        member_id: str,
        *,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: tuple[Protocol, ...],
        assignment: bytes = b"",
    ) -> None:
        self.id = member_id
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        """In the order of its preference."""
        self.assignment = assignment
        self.is_new = False
        """It never got an answer to a JoinGroup, so it cannot send heartbeats."""
        self.join: Pending | None = None
        self.sync: Pending | None = None
        self.charged_bytes = 0

    @property
    def size_bytes(self) -> int:
        texts = len(self.id) + len(self.instance_id or "") + len(self.client_id)
        return MEMBER_BYTES + texts + len(self.assignment) + size_of(self.protocols)

    @property
    def may_be_silent(self) -> bool:
        """It waits for an answer of ours: no heartbeat is to be expected."""
        return not self.is_new and (self.join is not None or self.sync is not None)

    def metadata(self, protocol: str | None) -> bytes:
        for each in self.protocols:
            if each.name == protocol:
                return each.metadata
        return b""


def shown(text: str) -> str:
    """A client's text as a log line shows it: cut, and on one line."""
    return repr(text[:CLIENT_TEXT_LOG_CHARS])


def size_of(protocols: tuple[Protocol, ...]) -> int:
    return sum(PROTOCOL_BYTES + len(each.name) + len(each.metadata) for each in protocols)


def size_of_texts(texts: Iterable[str]) -> int:
    return sum(TEXT_BYTES + len(each) for each in texts)
