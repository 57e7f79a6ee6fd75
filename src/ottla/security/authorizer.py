"""The decision: may this principal, from this host, do that to this resource?

Rules of Kafka's StandardAuthorizer: a super user may do everything; an entry that denies wins over
all that allow; without one that allows, nothing is allowed, but for resources of which no entry
speaks at all, where `allow.everyone.if.no.acl.found` decides.

Entries are found by the resource: those of its name, those of "*", and those of each prefix of
its name that is as long as some prefixed entry's. A decision is remembered until entries change,
so that a client which asks the same thing again costs one look into a dictionary; not so where the
name is too long for a topic. Denials are logged when they are made, at level INFO; not those of
`quiet` questions, which only leave out what is not to be seen.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ottla.base.limits import (
    AUTHORIZER_DECISIONS_COUNT,
    CLIENT_TEXT_LOG_CHARS,
    TOPIC_NAME_CHARS,
)
from ottla.security.acl import (
    ANONYMOUS,
    EVERYBODY,
    WILDCARD,
    Acl,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)

log = logging.getLogger(__name__)

ANY_NAME: Final = "hardcode"
"""The name that Kafka asks about to learn what stands for names without entries."""


class Requester(NamedTuple):
    """Who sent a request, and from where."""

    principal: str
    host: str


NOBODY: Final = Requester(ANONYMOUS, "")

Question = tuple[Requester, Operation, ResourceType, str]


class Authorizer:
    def __init__(self, *, super_users: Iterable[str], allow_if_no_acl: bool) -> None:
        self._super_users = frozenset(super_users)
        self._allow_if_no_acl = allow_if_no_acl
        self._literal: dict[tuple[ResourceType, str], list[Acl]] = {}
        self._prefixed: dict[tuple[ResourceType, str], list[Acl]] = {}
        self._lengths: list[int] = []
        """Of the prefixes, each once."""
        self._decided: dict[Question, bool] = {}

    def take(self, acls: Iterable[Acl]) -> None:
        """These are the entries from now on."""
        self._literal, self._prefixed = {}, {}
        for acl in acls:
            is_literal = acl.pattern_type is PatternType.LITERAL
            index = self._literal if is_literal else self._prefixed
            index.setdefault((acl.resource_type, acl.name), []).append(acl)
        self._lengths = sorted({len(prefix) for _, prefix in self._prefixed})
        self._decided.clear()

    def allows(
        self,
        who: Requester,
        operation: Operation,
        resource_type: ResourceType,
        name: str,
        *,
        quiet: bool = False,
    ) -> bool:
        question = (who, operation, resource_type, name)
        decided = self._decided.get(question)
        if decided is None:
            decided = self._decide(*question)
            if decided or not quiet:
                self._remember(question, decided)
        return decided

    def allows_some(
        self, who: Requester, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """Whether there may be a resource of that kind that it is allowed on: entries of "*" and
        denials that cover all that is allowed count, implied operations do not (KIP-679)."""
        if self._decide(who, operation, resource_type, ANY_NAME):
            return True
        about = [
            acl
            for index in (self._literal, self._prefixed)
            for (kind, _), acls in index.items()
            for acl in (acls if kind is resource_type else ())
            if acl.principal in (who.principal, EVERYBODY)
            and acl.host in (who.host, WILDCARD)
            and acl.operation in (operation, Operation.ALL)
        ]
        denied = [acl for acl in about if acl.permission is Permission.DENY]
        return not any(_is_of_all(acl) for acl in denied) and any(
            not any(_covers(no, yes) for no in denied)
            for yes in about
            if yes.permission is Permission.ALLOW
        )

    def _decide(
        self, who: Requester, operation: Operation, resource_type: ResourceType, name: str
    ) -> bool:
        if who.principal in self._super_users:
            return True
        is_spoken_of = is_allowed = False
        for acl in self._about(resource_type, name):
            is_spoken_of = True
            if acl.speaks_of(who.principal, who.host, operation):
                if acl.permission is Permission.DENY:
                    return False
                is_allowed = True
        return is_allowed or (self._allow_if_no_acl and not is_spoken_of)

    def _about(self, resource_type: ResourceType, name: str) -> Iterator[Acl]:
        yield from self._literal.get((resource_type, name), ())
        if name != WILDCARD:
            yield from self._literal.get((resource_type, WILDCARD), ())
        for length in self._lengths:
            if length > len(name):
                break
            yield from self._prefixed.get((resource_type, name[:length]), ())

    def _remember(self, question: Question, decided: bool) -> None:
        who, operation, resource_type, name = question
        if len(self._decided) >= AUTHORIZER_DECISIONS_COUNT:
            self._decided.clear()
        if len(name) <= TOPIC_NAME_CHARS:
            self._decided[question] = decided
        if not decided:
            log.info(
                "%s from %s is denied %s on %s %r",
                who.principal,
                who.host,
                operation.name,
                resource_type.name,
                name[:CLIENT_TEXT_LOG_CHARS],
            )


def _is_of_all(acl: Acl) -> bool:
    return acl.pattern_type is PatternType.LITERAL and acl.name == WILDCARD


def _covers(denial: Acl, allowance: Acl) -> bool:
    """Whether the denial is of everything that the other one allows."""
    if _is_of_all(allowance):
        return False
    if denial.pattern_type is PatternType.PREFIXED:
        return allowance.name.startswith(denial.name)
    return allowance.pattern_type is PatternType.LITERAL and denial.name == allowance.name
