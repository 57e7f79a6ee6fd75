"""IncrementalAlterConfigs: the four operations, on what is there."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)

TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)


def alter(*resources, validate_only=False):
    return IncrementalAlterConfigsRequest(
        resources=[
            AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[
                    AlterableConfig(name=key, config_operation=operation, value=value)
                    for operation, key, value in changes
                ],
            )
            for kind, name, changes in resources
        ],
        validate_only=validate_only,
    )


@pytest.mark.parametrize("version", range(2))
def test_what_is_not_named_stays(on_node, version):
    async def test(node):
        await node.topic("a", retention_ms="5", segment_bytes="2000000")
        changes = [(SET, "retention.bytes", "9"), (DELETE, "segment.bytes", None)]
        answer = await node.ask(alter((TOPIC, "a", changes)), version)
        (row,) = answer.responses
        assert (row.error_code, row.error_message) == (0, None)
        assert (row.resource_type, row.resource_name) == (TOPIC, "a")
        assert node.image.topics["a"].configs == {"retention.ms": "5", "retention.bytes": "9"}

    on_node(test)


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ("compact", [(APPEND, "cleanup.policy", "delete")], "compact,delete"),
        (None, [(APPEND, "cleanup.policy", "compact")], "delete,compact"),
        ("compact,delete", [(SUBTRACT, "cleanup.policy", "delete")], "compact"),
        ("compact", [(APPEND, "cleanup.policy", "compact")], "compact"),
    ],
)
def test_lists_grow_and_shrink(on_node, before, changes, after):
    async def test(node):
        await node.topic("a", **({"cleanup_policy": before} if before else {}))
        answer = await node.ask(alter((TOPIC, "a", changes)))
        assert answer.responses[0].error_code == 0, answer
        assert node.image.topics["a"].configs == {"cleanup.policy": after}

    on_node(test)


@pytest.mark.parametrize(
    ("kind", "name", "changes", "code"),
    [
        (TOPIC, "none", [(SET, "retention.ms", "1")], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "a", [(SET, "retention.ms", "x")], ErrorCode.INVALID_CONFIG),
        (TOPIC, "a", [(SET, "retention.ms", None)], ErrorCode.INVALID_REQUEST),
        (TOPIC, "a", [(APPEND, "retention.ms", "1")], ErrorCode.INVALID_CONFIG),
        (TOPIC, "a", [(APPEND, "cleanup.policy", None)], ErrorCode.INVALID_REQUEST),
        (TOPIC, "a", [(APPEND, "cleanup.policy", "burn")], ErrorCode.INVALID_CONFIG),
        (TOPIC, "a", [(7, "retention.ms", "1")], ErrorCode.INVALID_REQUEST),
        (TOPIC, "a", [(-1, "retention.ms", "1")], ErrorCode.INVALID_REQUEST),
        (
            TOPIC,
            "a",
            [(SET, "retention.ms", "1"), (DELETE, "retention.ms", None)],
            ErrorCode.INVALID_REQUEST,
        ),
        (TOPIC, "a", [(SET, "retention.ms", "1"), (SET, "no.such", "1")], ErrorCode.INVALID_CONFIG),
        (BROKER, "1", [(SET, "broker.rack", "r")], ErrorCode.INVALID_REQUEST),
        (BROKER, "9", [(SET, "log.retention.ms", "1")], ErrorCode.INVALID_REQUEST),
    ],
)
def test_refused_as_a_whole(on_node, kind, name, changes, code):
    async def test(node):
        await node.topic("a", retention_ms="5")
        answer = await node.ask(alter((kind, name, changes)))
        (row,) = answer.responses
        assert row.error_code == code, row
        assert row.error_message
        assert node.image.topics["a"].configs == {"retention.ms": "5"}
        assert not node.image.broker_configs

    on_node(test)


def test_brokers_and_validate_only(on_node):
    async def test(node):
        change = [(SET, "log.retention.ms", "77")]
        await node.ask(alter((BROKER, "", change), (BROKER, "1", change), validate_only=True))
        assert not node.image.broker_configs
        answer = await node.ask(alter((BROKER, "", change), (BROKER, "1", change)))
        assert [row.error_code for row in answer.responses] == [0, 0]
        assert node.image.broker_configs == {
            "": {"log.retention.ms": "77"},
            "1": {"log.retention.ms": "77"},
        }
        assert node.services.settings.log_retention_ms == 77
        unset = [(DELETE, "log.retention.ms", None)]
        await node.ask(alter((BROKER, "", unset), (BROKER, "1", unset)))
        assert node.services.settings.log_retention_ms is None

    on_node(test)
