"""FindCoordinator: no coordinator yet, said in the form of every version."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest

NOBODY = (ErrorCode.COORDINATOR_NOT_AVAILABLE, -1, "", -1)


def said(answer):
    return (answer.error_code, answer.node_id, answer.host, answer.port)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("version", range(4))
def test_one_key(on_node, version, kind):
    async def test(node):
        key_type = kind if version else 0
        answer = await node.ask(FindCoordinatorRequest(key="g", key_type=key_type), version)
        assert said(answer) == NOBODY
        assert bool(answer.error_message) == (version >= 1)

    on_node(test)


@pytest.mark.parametrize("kind", [0, 1, 2, 77])
@pytest.mark.parametrize("version", range(4, 7))
def test_many_keys(on_node, version, kind):
    async def test(node):
        keys = ["g", "", "h", "g"]
        request = FindCoordinatorRequest(coordinator_keys=keys, key_type=kind)
        answer = await node.ask(request, version)
        assert [row.key for row in answer.coordinators] == keys
        assert [said(row) for row in answer.coordinators] == [NOBODY] * 4
        assert all(row.error_message for row in answer.coordinators)
        assert (await node.ask(FindCoordinatorRequest(), version)).coordinators == []

    on_node(test)
