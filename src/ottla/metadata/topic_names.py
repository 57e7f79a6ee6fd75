"""Which names a topic may have, and which two names may not stand beside each other.

A name is 1 to 249 of [a-zA-Z0-9._-], and neither `.` nor `..` (it becomes a directory). Metrics
turn `.` into `_`, so names that differ in these alone collide.
"""

import re
from collections.abc import Iterable
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import CLIENT_TEXT_LOG_CHARS, TOPIC_NAME_CHARS

CONSUMER_OFFSETS: Final = "__consumer_offsets"
TRANSACTION_STATE: Final = "__transaction_state"
INTERNAL_TOPICS: Final = (CONSUMER_OFFSETS, TRANSACTION_STATE, "__share_group_state")
"""The logs of coordinators: clients read them, and do not write to them."""

_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]+")


def check_topic_name(name: str) -> None:
    """KafkaError INVALID_TOPIC_EXCEPTION where no topic may be called that."""
    fault = None
    if not name:
        fault = "it is empty"
    elif name in (".", ".."):
        fault = "it cannot be '.' or '..'"
    elif len(name) > TOPIC_NAME_CHARS:
        fault = f"it is longer than {TOPIC_NAME_CHARS} characters"
    elif not _LEGAL.fullmatch(name):
        fault = "it has characters other than ASCII letters and digits, '.', '_' and '-'"
    if fault:
        shown = name[:CLIENT_TEXT_LOG_CHARS]
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION, f"The topic name {shown!r} is invalid: {fault}."
        )


def check_no_collision(name: str, others: Iterable[str]) -> None:
    """KafkaError INVALID_TOPIC_EXCEPTION where one of `others` is too like `name`."""
    if "." not in name and "_" not in name:
        return
    plain = name.replace(".", "_")
    for other in others:
        if other != name and other.replace(".", "_") == plain:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"The topic name '{name}' collides with that of an existing topic: '{other}'.",
            )
