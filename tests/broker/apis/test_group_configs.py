"""Configs of a group, by the config APIs: set, described, listed, unset; the broker's bounds."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.group_options import GROUP_OPTIONS, consumer_group_settings
from ottla.base.options import BrokerSettings
from ottla.broker.settings import StartError, node_settings
from ottla.protocol.messages import describe_configs as describing
from ottla.protocol.messages import incremental_alter_configs as altering
from ottla.protocol.messages.list_config_resources import ListConfigResourcesRequest

GROUP = 32
SET, DELETE = 0, 1
SESSION = "consumer.session.timeout.ms"


async def alter(node, *changes, name="g"):
    answer = await node.ask(
        altering.IncrementalAlterConfigsRequest(
            resources=[
                altering.AlterConfigsResource(
                    resource_type=GROUP,
                    resource_name=name,
                    configs=[
                        altering.AlterableConfig(name=key, config_operation=operation, value=value)
                        for operation, key, value in changes
                    ],
                )
            ],
            validate_only=False,
        )
    )
    (row,) = answer.responses
    return row.error_code


async def described(node, name="g"):
    resource = describing.DescribeConfigsResource(
        resource_type=GROUP, resource_name=name, configuration_keys=None
    )
    answer = await node.ask(
        describing.DescribeConfigsRequest(resources=[resource], include_synonyms=True)
    )
    (result,) = answer.results
    assert result.error_code == 0
    return {row.name: row for row in result.configs}


def test_set_described_listed_and_unset(on_node):
    async def test(node):
        rows = await described(node)
        assert rows.keys() == GROUP_OPTIONS.keys()
        assert (rows[SESSION].value, rows[SESSION].config_source) == ("45000", 5)
        assert await alter(node, (SET, SESSION, "50000")) == 0
        rows = await described(node)
        assert (rows[SESSION].value, rows[SESSION].config_source) == ("50000", 8)
        assert [each.value for each in rows[SESSION].synonyms] == ["50000", "45000"]
        listed = await node.ask(ListConfigResourcesRequest(resource_types=[GROUP]))
        assert [each.resource_name for each in listed.config_resources] == ["g"]
        assert await alter(node, (DELETE, SESSION, None)) == 0
        assert node.image.group_configs == {}

    on_node(test)


def test_an_odd_name_is_kept_as_it_is(on_node):
    async def test(node):
        for name in ("a/b c", "default", "ü" * 50):
            assert await alter(node, (SET, SESSION, "46000"), name=name) == 0
            assert node.image.group_configs[name] == {SESSION: "46000"}

    on_node(test)


def test_the_session_is_longer_than_the_heartbeat(on_node):
    async def test(node):
        code = await alter(
            node, (SET, SESSION, "45000"), (SET, "consumer.heartbeat.interval.ms", "15000")
        )
        assert code == 0
        assert await alter(node, (SET, SESSION, "44999")) == ErrorCode.INVALID_CONFIG

    on_node(test)


def test_a_groups_value_is_cut_to_the_bounds_of_the_broker():
    broker = BrokerSettings(
        group_consumer_min_session_timeout_ms=10, group_consumer_max_session_timeout_ms=100
    )
    assert consumer_group_settings({SESSION: "5000"}, broker).session_timeout_ms == 100
    assert consumer_group_settings({SESSION: "5"}, broker).session_timeout_ms == 10
    assert consumer_group_settings(None, broker).session_timeout_ms == 45_000


def test_a_node_whose_bounds_contradict_each_other_does_not_start() -> None:
    with pytest.raises(StartError, match=r"min\.session\.timeout\.ms: 46000 is more than"):
        node_settings({"group.consumer.min.session.timeout.ms": "46000"})
