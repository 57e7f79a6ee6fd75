"""Access control entries: what they speak of, and filters that find them.

An entry (ACL) allows or denies one principal, from one host, one operation on the resources that
a pattern names. Numbers and rules are Kafka's:

    pattern     LITERAL: the name itself, or every name where it is "*"; PREFIXED: what begins so
    principal   TYPE:NAME; "User:*" is everybody
    host        an address as text; "*" is every host
    operation   ALL stands for each of them. Who is allowed to READ, WRITE, DELETE or ALTER may
                DESCRIBE, who is allowed ALTER_CONFIGS may DESCRIBE_CONFIGS; denials imply nothing

A filter holds what must be equal, ANY or None where it does not matter. The pattern type MATCH
finds every entry that speaks of the resource of that name.
Source: KIP-11, KIP-290.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

from ottla.base.errors import ErrorCode, KafkaError

WILDCARD: Final = "*"
EVERYBODY: Final = "User:*"
ANONYMOUS: Final = "User:ANONYMOUS"
"""Who has not said who it is."""
CLUSTER_NAME: Final = "kafka-cluster"
"""The one resource of the kind CLUSTER."""


class ResourceType(IntEnum):
    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class PatternType(IntEnum):
    UNKNOWN = 0
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class Operation(IntEnum):
    UNKNOWN = 0
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class Permission(IntEnum):
    UNKNOWN = 0
    ANY = 1
    DENY = 2
    ALLOW = 3


E = TypeVar("E", ResourceType, PatternType, Operation, Permission)


def known(kind: type[E], number: int) -> E:
    """The member of that number; UNKNOWN where there is none."""
    try:
        return kind(number)
    except ValueError:
        return kind.UNKNOWN


OPERATIONS: Final[Mapping[ResourceType, tuple[Operation, ...]]] = {
    ResourceType.TOPIC: (
        Operation.READ,
        Operation.WRITE,
        Operation.CREATE,
        Operation.DELETE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.GROUP: (
        Operation.READ,
        Operation.DELETE,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.CLUSTER: (
        Operation.CREATE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.CLUSTER_ACTION,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
        Operation.IDEMPOTENT_WRITE,
    ),
}
"""What can be done with a resource whose authorized operations are told (KIP-430)."""

REFUSALS: Final[Mapping[ResourceType, ErrorCode]] = {
    ResourceType.TOPIC: ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ResourceType.GROUP: ErrorCode.GROUP_AUTHORIZATION_FAILED,
    ResourceType.CLUSTER: ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ResourceType.TRANSACTIONAL_ID: ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}

_IMPLIED: Final[Mapping[Operation, tuple[Operation, ...]]] = {
    Operation.DESCRIBE: (Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER),
    Operation.DESCRIBE_CONFIGS: (Operation.ALTER_CONFIGS,),
}
"""Operations whose permission is also a permission of the key."""


class Acl(NamedTuple):
    resource_type: ResourceType
    pattern_type: PatternType
    name: str
    principal: str
    host: str
    operation: Operation
    permission: Permission

    def check(self) -> None:
        """KafkaError INVALID_REQUEST where it cannot be kept."""
        if self.resource_type in (ResourceType.UNKNOWN, ResourceType.ANY):
            raise _invalid("resourceType", self.resource_type)
        if self.pattern_type not in (PatternType.LITERAL, PatternType.PREFIXED):
            raise _invalid("patternType", self.pattern_type)
        if self.operation in (Operation.UNKNOWN, Operation.ANY):
            raise _invalid("operation", self.operation)
        if self.permission not in (Permission.ALLOW, Permission.DENY):
            raise _invalid("permissionType", self.permission)
        if not self.name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Resource name should not be empty")
        if self.resource_type is ResourceType.CLUSTER and self.name != CLUSTER_NAME:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"The only valid name for the CLUSTER resource is {CLUSTER_NAME}",
            )
        if not all(self.principal.partition(":")):
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, "A principal is TYPE:NAME, as in User:alice."
            )

    def speaks_of(self, principal: str, host: str, operation: Operation) -> bool:
        """Whether it allows or denies that, on the resources it is about."""
        if self.principal not in (principal, EVERYBODY) or self.host not in (host, WILDCARD):
            return False
        if self.operation in (operation, Operation.ALL):
            return True
        return self.permission is Permission.ALLOW and self.operation in _IMPLIED.get(operation, ())


class AclFilter(NamedTuple):
    """Without arguments it finds every entry."""

    resource_type: ResourceType = ResourceType.ANY
    pattern_type: PatternType = PatternType.ANY
    name: str | None = None
    principal: str | None = None
    host: str | None = None
    operation: Operation = Operation.ANY
    permission: Permission = Permission.ANY

    def check(self) -> None:
        """KafkaError INVALID_REQUEST where a part of it is not known."""
        for part in (self.resource_type, self.pattern_type, self.operation, self.permission):
            if not part:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "A part of the filter is UNKNOWN.")

    def matches(self, acl: Acl) -> bool:
        return (
            self.resource_type in (acl.resource_type, ResourceType.ANY)
            and self.operation in (acl.operation, Operation.ANY)
            and self.permission in (acl.permission, Permission.ANY)
            and self.principal in (acl.principal, None)
            and self.host in (acl.host, None)
            and self._finds(acl)
        )

    def _finds(self, acl: Acl) -> bool:
        if self.pattern_type is PatternType.MATCH:
            if self.name is None:
                return True
            if acl.pattern_type is PatternType.PREFIXED:
                return self.name.startswith(acl.name)
            return acl.name in (self.name, WILDCARD)
        is_of_type = self.pattern_type in (acl.pattern_type, PatternType.ANY)
        return is_of_type and self.name in (acl.name, None)


def _invalid(what: str, value: IntEnum) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, f"Invalid {what} {value.name}")
