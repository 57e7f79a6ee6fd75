"""ListConfigResources: names by type."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.list_config_resources import ListConfigResourcesRequest

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32


@pytest.mark.parametrize(
    ("types", "listed"),
    [
        ([TOPIC], [("a", TOPIC), ("b", TOPIC)]),
        ([BROKER, BROKER], [("1", BROKER)]),
        ([LOGGER], [("1", LOGGER)]),
        ([METRICS, GROUP], []),
        ([], [("a", TOPIC), ("b", TOPIC), ("1", BROKER), ("1", LOGGER)]),
    ],
)
def test_by_type(on_node, types, listed):
    async def test(node):
        await node.topic("a")
        await node.topic("b", retention_ms="5")
        answer = await node.ask(ListConfigResourcesRequest(resource_types=types))
        assert answer.error_code == 0
        found = [(each.resource_name, each.resource_type) for each in answer.config_resources]
        assert found == listed

    on_node(test)


def test_version_0_lists_client_metrics(on_node):
    async def test(node):
        await node.topic("a")
        answer = await node.ask(ListConfigResourcesRequest(), 0)
        assert (answer.error_code, answer.config_resources) == (0, [])

    on_node(test)


@pytest.mark.parametrize("types", [[0], [TOPIC, 3], [-1]])
def test_a_type_that_does_not_exist(on_node, types):
    async def test(node):
        await node.topic("a")
        answer = await node.ask(ListConfigResourcesRequest(resource_types=types))
        assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
        assert answer.config_resources == []

    on_node(test)
