"""What all clients are configured with: addresses, and contradictions told at once."""

from typing import get_type_hints

import pytest

from ottla.client.asking import AdminSettings
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import ConfigError
from ottla.client.options import AdminOptions, ClientOptions, ConsumerOptions, ProducerOptions
from ottla.client.producer_settings import ProducerSettings
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


@pytest.mark.parametrize(
    "options, settings",
    [
        (ClientOptions, ClientSettings),
        (AdminOptions, AdminSettings),
        (ProducerOptions, ProducerSettings),
        (ConsumerOptions, ConsumerSettings),
    ],
)
def test_the_keywords_are_those_of_the_settings(options, settings):
    assert get_type_hints(options) == get_type_hints(settings)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"security_protocol": "TLS"}, "not one of PLAINTEXT, SSL"),
        ({"security_protocol": "SASL_SSL"}, "not one of PLAIN"),
        ({"ssl_cafile": "ca.pem"}, "ssl_cafile needs security_protocol SSL"),
        ({"ssl_context": object()}, "ssl_context needs security_protocol SSL"),
        (
            {"security_protocol": "SSL", "ssl_context": object(), "ssl_cafile": "ca.pem"},
            "ssl_cafile belongs into it",
        ),
        ({"security_protocol": "SSL", "ssl_keyfile": "key.pem"}, "needs ssl_certfile"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "not one of PLAIN"),
        ({"sasl_mechanism": "PLAIN"}, "needs security_protocol"),
        ({"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "GSSAPI"}, "not one of"),
        ({"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}, "needs sasl_username"),
        (
            {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER"},
            "needs sasl_oauthbearer_token",
        ),
    ],
)
def test_security_that_contradicts_itself(options, cause):
    with pytest.raises(ConfigError, match=cause):
        ClientSettings(**options)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800"])
def test_a_name_that_cannot_be_sent(name):
    with pytest.raises(ConfigError, match="without NUL"):
        ClientSettings(
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_username=name,
            sasl_password="x",
        )


def test_no_secret_is_shown():
    settings = ClientSettings(
        security_protocol="SASL_SSL",
        ssl_certfile="me.pem",
        ssl_password="hush-1",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password="hush-2",
        sasl_oauthbearer_token=lambda: "hush-3",
    )
    shown = f"{settings!r} {settings.channel!r}"
    assert "me.pem" in shown and "hush" not in shown and "lambda" not in shown
