"""Varints: known bytes, every length, both ways, and nothing past 5 or 10 bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.records.varint import decode_varint, encode_varint

KNOWN = [
    (0, "00"),
    (-1, "01"),
    (1, "02"),
    (63, "7e"),
    (-64, "7f"),
    (64, "8001"),
    (-65, "8101"),
    (8191, "fe7f"),
    (8192, "808001"),
    (2**31 - 1, "feffffff0f"),
    (-(2**31), "ffffffff0f"),
    (2**63 - 1, "feffffffffffffffff01"),
    (-(2**63), "ffffffffffffffffff01"),
]


@pytest.mark.parametrize(("value", "text"), KNOWN)
def test_known_bytes(value: int, text: str) -> None:
    data = bytes.fromhex(text)
    assert encode_varint(value) == data
    assert decode_varint(data, 0, bits=64) == (value, len(data))


@given(st.integers(-(2**31), 2**31 - 1))
def test_varint_round_trip(value: int) -> None:
    data = b"x" + encode_varint(value)
    assert decode_varint(data + b"\xff", 1) == (value, len(data))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varlong_round_trip(value: int) -> None:
    data = encode_varint(value)
    assert decode_varint(data, 0, bits=64) == (value, len(data))


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("", 32),
        ("80", 32),
        ("ffffffff", 32),
        ("808080808000", 32),
        ("ffffffff1f", 32),
        ("8080808080808080808000", 64),
        ("ffffffffffffffffff03", 64),
    ],
)
def test_what_does_not_end_in_time_is_refused(text: str, bits: int) -> None:
    with pytest.raises(KafkaError) as caught:
        decode_varint(bytes.fromhex(text), 0, bits=bits)
    assert caught.value.code is ErrorCode.INVALID_RECORD
