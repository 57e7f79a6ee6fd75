"""AlterConfigs: what is not named again loses its value."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.alter_configs import (
    AlterableConfig,
    AlterConfigsRequest,
    AlterConfigsResource,
)

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32


def alter(*resources, validate_only=False):
    return AlterConfigsRequest(
        resources=[
            AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[AlterableConfig(name=key, value=value) for key, value in configs],
            )
            for kind, name, configs in resources
        ],
        validate_only=validate_only,
    )


def codes(answer):
    return [row.error_code for row in answer.responses]


@pytest.mark.parametrize("version", range(3))
def test_all_configs_of_a_topic_are_replaced(on_node, version):
    async def test(node):
        await node.topic("a", retention_ms="5", segment_bytes="2000000")
        answer = await node.ask(alter((TOPIC, "a", [("retention.bytes", "9")])), version)
        (row,) = answer.responses
        assert (row.error_code, row.error_message) == (0, None)
        assert (row.resource_type, row.resource_name) == (TOPIC, "a")
        assert node.image.topics["a"].configs == {"retention.bytes": "9"}

    on_node(test)


def test_what_is_altered_takes_effect(on_node):
    async def test(node):
        await node.topic("a")
        await node.ask(alter((TOPIC, "a", [("max.message.bytes", "123")])))
        assert node.services.replicas.leader_of("a", 0).settings.max_message_bytes == 123
        await node.ask(alter((BROKER, "", [("log.retention.ms", "77")])))
        assert node.services.settings.log_retention_ms == 77
        assert node.services.replicas.leader_of("a", 0).settings.retention_ms == 77
        await node.ask(alter((BROKER, "1", [("log.retention.ms", "78")])))
        assert node.services.settings.log_retention_ms == 78
        await node.ask(alter((BROKER, "1", [])))
        assert node.services.settings.log_retention_ms == 77

    on_node(test)


def test_validate_only_changes_nothing(on_node):
    async def test(node):
        await node.topic("a", retention_ms="5")
        answer = await node.ask(
            alter(
                (TOPIC, "a", [("retention.bytes", "9")]),
                (BROKER, "", [("log.retention.ms", "x")]),
                validate_only=True,
            )
        )
        assert codes(answer) == [0, ErrorCode.INVALID_CONFIG]
        assert node.image.topics["a"].configs == {"retention.ms": "5"}

    on_node(test)


def test_a_topic_does_not_contradict_what_this_broker_says_of_all(on_node):
    async def test(node):
        await node.topic("a")
        for lag, code in (("6", ErrorCode.INVALID_CONFIG), ("5", ErrorCode.NONE)):
            answer = await node.ask(alter((TOPIC, "a", [("min.compaction.lag.ms", lag)])))
            assert answer.responses[0].error_code == code

    on_node(test, {"log.cleaner.max.compaction.lag.ms": "5"})


@pytest.mark.parametrize(
    ("kind", "name", "configs", "code"),
    [
        (TOPIC, "none", [], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "", [], ErrorCode.INVALID_REQUEST),
        (TOPIC, "a b", [], ErrorCode.INVALID_TOPIC_EXCEPTION),
        (TOPIC, "a", [("retention.ms", "x")], ErrorCode.INVALID_CONFIG),
        (TOPIC, "a", [("no.such.key", "1")], ErrorCode.INVALID_CONFIG),
        (
            TOPIC,
            "a",
            [("min.compaction.lag.ms", "6"), ("max.compaction.lag.ms", "5")],
            ErrorCode.INVALID_CONFIG,
        ),
        (TOPIC, "a", [("retention.ms", None)], ErrorCode.INVALID_REQUEST),
        (TOPIC, "a", [("retention.ms", "1"), ("retention.ms", "2")], ErrorCode.INVALID_REQUEST),
        (BROKER, "2", [], ErrorCode.INVALID_REQUEST),
        (BROKER, "one", [], ErrorCode.INVALID_REQUEST),
        (BROKER, "1", [("node.id", "7")], ErrorCode.INVALID_REQUEST),
        (BROKER, "", [("log.dirs", "/x")], ErrorCode.INVALID_REQUEST),
        (BROKER, "1", [("no.such.key", "1")], ErrorCode.INVALID_CONFIG),
        (BROKER, "1", [("log.retention.ms", "x")], ErrorCode.INVALID_CONFIG),
        (LOGGER, "1", [("root", "DEBUG")], ErrorCode.INVALID_CONFIG),
        (LOGGER, "2", [("root", "DEBUG")], ErrorCode.INVALID_REQUEST),
        (METRICS, "m", [("interval.ms", "1")], ErrorCode.INVALID_REQUEST),
        (GROUP, "", [], ErrorCode.INVALID_REQUEST),
        (GROUP, "g", [("no.such.key", "1")], ErrorCode.INVALID_CONFIG),
        (GROUP, "g", [("consumer.session.timeout.ms", "x")], ErrorCode.INVALID_CONFIG),
        (GROUP, "g", [("consumer.session.timeout.ms", "100")], ErrorCode.INVALID_CONFIG),
        (GROUP, "g", [("consumer.heartbeat.interval.ms", "60000")], ErrorCode.INVALID_CONFIG),
        (0, "a", [], ErrorCode.INVALID_REQUEST),
        (99, "a", [], ErrorCode.INVALID_REQUEST),
    ],
)
def test_refused(on_node, kind, name, configs, code):
    async def test(node):
        await node.topic("a", retention_ms="5")
        answer = await node.ask(alter((kind, name, configs)))
        (row,) = answer.responses
        assert row.error_code == code, row
        assert row.error_message
        assert node.image.topics["a"].configs == {"retention.ms": "5"}
        assert not node.image.broker_configs

    on_node(test)


def test_each_resource_once_and_each_on_its_own(on_node):
    async def test(node):
        await node.topic("a")
        await node.topic("b")
        answer = await node.ask(
            alter(
                (TOPIC, "a", [("retention.ms", "1")]),
                (TOPIC, "b", [("retention.ms", "2")]),
                (TOPIC, "a", [("retention.ms", "3")]),
            )
        )
        assert codes(answer) == [ErrorCode.INVALID_REQUEST, 0, ErrorCode.INVALID_REQUEST]
        assert node.image.topics["a"].configs == {}
        assert node.image.topics["b"].configs == {"retention.ms": "2"}

    on_node(test)
