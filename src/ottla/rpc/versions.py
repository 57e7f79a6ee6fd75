"""Which version of each request to send: the highest that both sides have.

A broker tells its ranges by ApiVersions, each connection's first request. One that does not know
the version asked with answers in version 0 and (since KIP-511) names the range of ApiVersions
itself: then the highest of that is asked with, or 0 where it names none.
"""

from collections.abc import Iterable
from typing import Final

from ottla.protocol.api_key import ApiKey
from ottla.protocol.messages.api_versions import ApiVersion
from ottla.protocol.registry import APIS
from ottla.rpc.errors import VersionMismatchError

FIRST_TRY: Final = 4
"""Of ApiVersions. Version 5 tells which node one believes to talk to, which nobody needs yet."""


class Versions:
    """The ranges of one broker, as it told them."""

    def __init__(self, rows: Iterable[ApiVersion]) -> None:
        self._ranges = {row.api_key: (row.min_version, row.max_version) for row in rows}

    def pick(self, api_key: int, last: int | None = None) -> int:
        """The highest common version of an API, at most `last`; VersionMismatchError if none."""
        ours = APIS[api_key]
        theirs = self._ranges.get(api_key)
        name = ApiKey(api_key).name
        if theirs is None:
            raise VersionMismatchError(f"the broker does not serve {name}")
        version = min(ours.last, theirs[1], ours.last if last is None else last)
        if version < max(ours.first, theirs[0]):
            raise VersionMismatchError(
                f"{name}: the broker serves versions {theirs[0]} to {theirs[1]}, "
                f"needed are {ours.first} to {ours.last if last is None else last}"
            )
        return version

    def has(self, api_key: int) -> bool:
        return api_key in self._ranges


def second_try(rows: Iterable[ApiVersion]) -> int:
    """The version of ApiVersions to ask with after the first was unknown to the broker."""
    for row in rows:
        if row.api_key == ApiKey.API_VERSIONS:
            return max(0, min(row.max_version, FIRST_TRY))
    return 0
