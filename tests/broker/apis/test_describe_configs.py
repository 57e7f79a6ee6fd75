"""DescribeConfigs: rows, sources, filters, and resources that are not there."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.options import BROKER_OPTIONS, TOPIC_OPTIONS, ConfigSource, OptionType
from ottla.metadata.config_ops import ConfigOp, OpType, ResourceType
from ottla.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32


def describe(*resources, **options):
    return DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
            for kind, name, keys in resources
        ],
        **options,
    )


async def one(node, kind, name, keys=None, **options):
    """(the result, its rows by name)"""
    answer = await node.ask(describe((kind, name, keys), **options))
    (result,) = answer.results
    assert (result.resource_type, result.resource_name) == (kind, name)
    return result, {row.name: row for row in result.configs}


@pytest.mark.parametrize("version", range(1, 5))
def test_all_configs_of_a_topic(on_node, version):
    async def test(node):
        await node.topic("a", retention_ms="5")
        answer = await node.ask(describe((TOPIC, "a", None), include_synonyms=True), version)
        (result,) = answer.results
        assert (result.error_code, result.error_message) == (0, None)
        rows = {row.name: row for row in result.configs}
        assert list(rows) == list(TOPIC_OPTIONS)
        row = rows["retention.ms"]
        assert (row.value, row.config_source) == ("5", ConfigSource.DYNAMIC_TOPIC_CONFIG)
        assert not row.read_only and not row.is_sensitive
        assert row.config_type == (OptionType.LONG if version >= 3 else 0)
        assert row.documentation is None
        assert [(each.name, each.value, each.source) for each in row.synonyms] == [
            ("retention.ms", "5", ConfigSource.DYNAMIC_TOPIC_CONFIG),
            ("log.retention.hours", "9", ConfigSource.STATIC_BROKER_CONFIG),
            ("log.retention.hours", "168", ConfigSource.DEFAULT_CONFIG),
        ]

    on_node(test, {"log.retention.hours": "9"})


def test_synonyms_and_documentation_come_on_demand(on_node):
    async def test(node):
        await node.topic("a")
        _, rows = await one(node, TOPIC, "a")
        assert all(not row.synonyms and row.documentation is None for row in rows.values())
        _, rows = await one(node, TOPIC, "a", include_synonyms=True, include_documentation=True)
        assert all(row.documentation for row in rows.values())
        assert rows["segment.bytes"].synonyms[0].name == "log.segment.bytes"

    on_node(test)


def test_keys_choose_rows(on_node):
    async def test(node):
        await node.topic("a")
        _, rows = await one(node, TOPIC, "a", ["segment.bytes", "no.such.key", "retention.ms"])
        assert sorted(rows) == ["retention.ms", "segment.bytes"]
        _, rows = await one(node, TOPIC, "a", [])
        assert list(rows) == list(TOPIC_OPTIONS)

    on_node(test)


def test_this_broker(on_node):
    async def test(node):
        await node.services.controller.configs.alter(
            ResourceType.BROKER, "1", [ConfigOp("log.retention.ms", OpType.SET, "77")]
        )
        result, rows = await one(node, BROKER, "1", include_synonyms=True)
        assert result.error_code == 0
        assert list(rows) == list(BROKER_OPTIONS)
        row = rows["log.retention.ms"]
        assert (row.value, row.read_only) == ("77", False)
        assert row.config_source == ConfigSource.DYNAMIC_BROKER_CONFIG
        row = rows["num.partitions"]
        assert (row.value, row.read_only) == ("4", True)
        assert row.config_source == ConfigSource.STATIC_BROKER_CONFIG

    on_node(test, {"num.partitions": "4"})


def test_what_is_set_of_all_brokers(on_node):
    async def test(node):
        _, rows = await one(node, BROKER, "")
        assert rows == {}
        await node.services.controller.configs.alter(
            ResourceType.BROKER, "", [ConfigOp("log.retention.ms", OpType.SET, "77")]
        )
        _, rows = await one(node, BROKER, "", include_synonyms=True)
        assert list(rows) == ["log.retention.ms"]
        row = rows["log.retention.ms"]
        assert row.value == "77"
        assert row.config_source == ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG

    on_node(test)


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "a b", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (TOPIC, "", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (BROKER, "2", ErrorCode.INVALID_REQUEST),
        (BROKER, "one", ErrorCode.INVALID_REQUEST),
        (LOGGER, "", ErrorCode.INVALID_REQUEST),
        (LOGGER, "2", ErrorCode.INVALID_REQUEST),
        (METRICS, "", ErrorCode.INVALID_REQUEST),
        (GROUP, "", ErrorCode.INVALID_REQUEST),
        (0, "a", ErrorCode.INVALID_REQUEST),
        (3, "a", ErrorCode.INVALID_REQUEST),
        (-1, "a", ErrorCode.INVALID_REQUEST),
    ],
)
def test_refused(on_node, kind, name, code):
    async def test(node):
        result, rows = await one(node, kind, name)
        assert (result.error_code, rows) == (code, {})
        assert result.error_message

    on_node(test)


@pytest.mark.parametrize(("kind", "name"), [(LOGGER, "1"), (METRICS, "m")])
def test_resources_that_have_no_configs_yet(on_node, kind, name):
    async def test(node):
        result, rows = await one(node, kind, name)
        assert (result.error_code, rows) == (0, {})

    on_node(test)


def test_what_is_asked_for_twice_is_answered_once(on_node):
    async def test(node):
        await node.topic("a")
        asked = [(TOPIC, "a", None), (TOPIC, "a", []), (TOPIC, "a", ["retention.ms"])] * 3
        answer = await node.ask(describe(*asked, (BROKER, "1", None)))
        assert [len(result.configs) for result in answer.results] == [
            len(TOPIC_OPTIONS),
            1,
            len(BROKER_OPTIONS),
        ]

    on_node(test)
