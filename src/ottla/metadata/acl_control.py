"""Access control entries come and go; they never change.

An entry's key is made of what it says, so that making one that is there already changes nothing,
whoever else makes it at the same time.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import ACLS_COUNT
from ottla.metadata import keys
from ottla.metadata.cluster import Metadata
from ottla.metadata.store import NO_REVISION, Commit, Compare, Delete, Put
from ottla.security.acl import Acl, AclFilter

PER_REQUEST: Final = 10_000
"""Entries that one request may make or remove, as in Kafka."""


class AclControl:
    """The part of the controller that makes and removes entries."""

    def __init__(self, metadata: Metadata, commit: Commit) -> None:
        self._metadata = metadata
        self._commit = commit

    async def create(self, acls: Sequence[Acl]) -> list[KafkaError | None]:
        """Make those that can be, in one transaction; of each what is wrong with it. KafkaError
        POLICY_VIOLATION where they are too many, and then none is made."""
        _check_count(len(acls))
        faults = [_fault_of(acl) for acl in acls]
        values = [
            keys.acl_value(acl) for acl, fault in zip(acls, faults, strict=True) if fault is None
        ]
        wanted = {keys.acl_key(value): value for value in values}
        while True:
            known = self._metadata.image.acls
            new = {key: value for key, value in wanted.items() if key not in known}
            if len(new) + len(known) > ACLS_COUNT:
                raise KafkaError(
                    ErrorCode.POLICY_VIOLATION,
                    f"The cluster has {len(known)} access control entries already.",
                )
            compares = [Compare(key, NO_REVISION) for key in new]
            writes = [Put(key, value) for key, value in new.items()]
            if not new or await self._commit(compares, writes):
                return faults

    async def delete(self, filters: Sequence[AclFilter]) -> list[list[Acl] | KafkaError]:
        """Remove what is found, in one transaction; of each filter what it found, or what is wrong
        with it. KafkaError POLICY_VIOLATION where too much is found, and then nothing goes."""
        known = self._metadata.image.acls
        results: list[list[Acl] | KafkaError] = []
        doomed: dict[str, None] = {}
        count = 0
        for each in filters:
            try:
                each.check()
            except KafkaError as error:
                results.append(error)
                continue
            found = [key for key, acl in known.items() if each.matches(acl)]
            results.append([known[key] for key in found])
            doomed.update(dict.fromkeys(found))
            count += len(found)
            _check_count(count)
            await asyncio.sleep(0)  # others get their turn: a filter may look at every entry
        writes = [Delete(key) for key in doomed]
        while writes and not await self._commit([], writes):
            pass  # nothing is compared but who the controller is: another turn says that
        return results


def _fault_of(acl: Acl) -> KafkaError | None:
    try:
        acl.check()
    except KafkaError as error:
        return error
    return None


def _check_count(count: int) -> None:
    if count > PER_REQUEST:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION, f"More than {PER_REQUEST} access control entries at once."
        )
