"""What all clients are configured with: addresses, and contradictions told at once."""

import pytest

from ottla.client.errors import ConfigError
from ottla.client.settings import ClientSettings


@pytest.mark.parametrize(
    "given, found",
    [
        ("a:1", [("a", 1)]),
        ("a:1, b:2,", [("a", 1), ("b", 2)]),
        (["a", "PLAINTEXT://b:2"], [("a", 9092), ("b", 2)]),
        ("[::1]:9", [("::1", 9)]),
        ("[::1]", [("::1", 9092)]),
    ],
)
def test_addresses(given, found):
    assert ClientSettings(bootstrap_servers=given).addresses() == found


@pytest.mark.parametrize(
    "options, told",
    [
        ({"bootstrap_servers": ""}, "names no broker"),
        ({"bootstrap_servers": "a:b"}, "'a:b' is not host:port"),
        ({"bootstrap_servers": ":9"}, "not host:port"),
        ({"bootstrap_servers": "a:70000"}, "not host:port"),
        ({"request_timeout_ms": 0}, "request_timeout_ms is 0"),
        ({"retry_backoff_ms": 5_000}, "retry_backoff_max_ms 1000"),
    ],
)
def test_what_cannot_be_is_told(options, told):
    with pytest.raises(ConfigError, match=told):
        ClientSettings(**options)
