"""Ids and units: the distinct kinds of numbers and names that must not be mixed up.

NewTypes cost nothing at run time; mypy keeps an offset from being used as a file position.
A topic id or directory id stays the 16 bytes it is on the wire: `id_text` is Kafka's way to
print one (22 characters of unpadded base64url).
"""

import base64
import binascii
from typing import NamedTuple, NewType

Offset = NewType("Offset", int)
"""Number of a record in its partition, from 0."""
LeaderEpoch = NewType("LeaderEpoch", int)
PartitionIndex = NewType("PartitionIndex", int)
NodeId = NewType("NodeId", int)
ProducerId = NewType("ProducerId", int)
Uuid = NewType("Uuid", bytes)
"""Sixteen bytes: a topic id, a directory id, a cluster id before it is printed."""

NO_LEADER_EPOCH = LeaderEpoch(-1)
ZERO_UUID = Uuid(bytes(16))


class TopicPartition(NamedTuple):
    topic: str
    partition: PartitionIndex

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def id_text(uuid: Uuid) -> str:
    """Kafka's text of an id: base64url without padding, 22 characters."""
    return base64.urlsafe_b64encode(uuid).rstrip(b"=").decode()


def id_of_text(text: str) -> Uuid:
    """The id behind `id_text`; ValueError if `text` is not one."""
    try:
        uuid = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"not an id: {text!r}") from error
    if len(uuid) != 16:
        raise ValueError(f"not an id of 16 bytes: {text!r}")
    return Uuid(uuid)


def is_reserved_directory_id(uuid: Uuid) -> bool:
    """Whether it can be no directory's: Kafka keeps those of which the first half is zero and the
    second, a signed number, below 100. It has given three a meaning: MIGRATING, UNASSIGNED, LOST
    (KIP-858)."""
    return not any(uuid[:8]) and int.from_bytes(uuid[8:], signed=True) < 100
