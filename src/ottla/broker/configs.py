"""Configs of resources as the three config APIs see them: what each kind has, who may be altered.

    kind              number   describe                              alter
    topic             2        every option, by source               all of them
    broker            4        this node's id: every option;         what is not read-only, of this
                               '': what is set of all brokers        node or of all ('')
    broker logger     8        this node's id: nothing, levels are   no logger is known
                               the process's own
    client metrics    16       nothing: not kept yet                 refused
    group             32       every option, whether it is there     all of them, within bounds
                               or not                               of the broker's settings

A node answers for itself: another node's id is INVALID_REQUEST, clients send to the node they
name. A resource that one request names twice is INVALID_REQUEST in each of its places.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.group_options import check_group_bounds
from ottla.base.limits import CLIENT_TEXT_LOG_CHARS
from ottla.base.options import (
    BrokerSettings,
    ConfigEntry,
    check_topic_bounds,
    describe_broker,
    describe_cluster_default,
    describe_group,
    describe_topic,
)
from ottla.broker.context import RequestContext, Services
from ottla.broker.rows import side_by_side
from ottla.metadata.config_ops import ConfigOp, OpType
from ottla.metadata.config_ops import ResourceType as ConfigOwner
from ottla.metadata.topic_names import check_topic_name
from ottla.security.acl import Operation, ResourceType


class ConfigResourceType(IntEnum):
    """Kafka's kinds of resources that have configs."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


_AUTHORITY: Final = {
    ConfigResourceType.TOPIC: ResourceType.TOPIC,
    ConfigResourceType.GROUP: ResourceType.GROUP,
}


class ConfigChange(NamedTuple):
    """One key of an AlterConfigs or IncrementalAlterConfigs, as it was sent."""

    name: str
    operation: int
    value: str | None


class Alteration(NamedTuple):
    resource_type: int
    resource_name: str
    changes: Sequence[ConfigChange]


class Outcome(NamedTuple):
    resource_type: int
    resource_name: str
    error_code: ErrorCode
    error_message: str | None


def describe(context: RequestContext, resource_type: int, name: str) -> list[ConfigEntry]:
    """The configs of a resource; KafkaError where there is no such resource, or the client may
    not know."""
    services = context.services
    kind = _kind(resource_type)
    _require(context, Operation.DESCRIBE_CONFIGS, kind, name)
    if kind is ConfigResourceType.TOPIC:
        check_topic_name(name)
        topic = services.cluster.image.topics.get(name)
        if topic is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return describe_topic(topic.configs, services.layers)
    if kind is ConfigResourceType.BROKER and not name:
        return describe_cluster_default(services.layers)
    if not name:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"The name of a {_words(kind)} must not be empty."
        )
    if kind is ConfigResourceType.GROUP:
        configs = services.cluster.image.group_configs.get(name, {})
        return describe_group(configs, services.layers)
    if kind in (ConfigResourceType.BROKER, ConfigResourceType.BROKER_LOGGER):
        check_own_id(services, name)
    return describe_broker(services.layers) if kind is ConfigResourceType.BROKER else []


async def alter(
    context: RequestContext,
    alterations: Sequence[Alteration],
    *,
    replace: bool,
    validate_only: bool,
) -> list[Outcome]:
    """Do each as if it were alone; with `replace`, keys that are not named lose their value."""
    services = context.services
    counts = Counter((each.resource_type, each.resource_name) for each in alterations)

    async def outcome(each: Alteration) -> Outcome:
        resource_type, name, _ = each
        try:
            if counts[resource_type, name] > 1:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST, "The request names this resource more than once."
                )
            _require(context, Operation.ALTER_CONFIGS, _kind(resource_type), name)
            resource, ops = _checked(services, each)
            await services.controller.configs.alter(
                resource,
                name,
                ops,
                replace=replace,
                validate_only=validate_only,
                also=_bounds_of(resource, services.settings),
            )
        except KafkaError as error:
            return Outcome(resource_type, name, error.code, error.message)
        return Outcome(resource_type, name, ErrorCode.NONE, None)

    return await side_by_side(outcome(each) for each in alterations)


def _require(
    context: RequestContext, operation: Operation, kind: ConfigResourceType, name: str
) -> None:
    """KafkaError where the client may not; what is no topic's or group's is the cluster's."""
    if kind in _AUTHORITY:
        context.require(operation, _AUTHORITY[kind], name)
    else:
        context.require(operation, ResourceType.CLUSTER)


def _checked(services: Services, alteration: Alteration) -> tuple[ConfigOwner, list[ConfigOp]]:
    ops = [_op(change) for change in alteration.changes]
    kind, name = _kind(alteration.resource_type), alteration.resource_name
    if kind is ConfigResourceType.TOPIC:
        if not name:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, "There are no configs of all topics at once."
            )
        check_topic_name(name)
        return ConfigOwner.TOPIC, ops
    if kind is ConfigResourceType.BROKER:
        if name:
            check_own_id(services, name)
        return ConfigOwner.BROKER, ops
    if kind is ConfigResourceType.GROUP:
        if not name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "The name of a group must not be empty.")
        return ConfigOwner.GROUP, ops
    if kind is ConfigResourceType.BROKER_LOGGER:
        check_own_id(services, name)
        raise KafkaError(ErrorCode.INVALID_CONFIG, "This broker has no loggers to alter.")
    raise KafkaError(ErrorCode.INVALID_REQUEST, f"Configs of a {_words(kind)} cannot be altered.")


def _bounds_of(
    resource: ConfigOwner, settings: BrokerSettings
) -> Callable[[Mapping[str, str]], None] | None:
    """What this broker's settings demand of such a resource's configs."""
    checks = {ConfigOwner.GROUP: check_group_bounds, ConfigOwner.TOPIC: check_topic_bounds}
    check = checks.get(resource)
    return None if check is None else partial(check, broker=settings)


def _op(change: ConfigChange) -> ConfigOp:
    try:
        return ConfigOp(change.name, OpType(change.operation), change.value)
    except ValueError:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"There is no config operation {change.operation}."
        ) from None


def _kind(resource_type: int) -> ConfigResourceType:
    try:
        return ConfigResourceType(resource_type)
    except ValueError:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"There is no resource type {resource_type}."
        ) from None


def _words(kind: ConfigResourceType) -> str:
    return kind.name.lower().replace("_", " ")


def check_own_id(services: Services, name: str) -> None:
    if name != str(services.node_id):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"This is broker {services.node_id}, not {name[:CLIENT_TEXT_LOG_CHARS]!r}.",
        )
