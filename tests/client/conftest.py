"""The simulated stage of tests/rpc, for what of the client needs a broker that misbehaves."""

import pytest

from tests.rpc.conftest import Stage


@pytest.fixture
def stage() -> Stage:
    return Stage()
