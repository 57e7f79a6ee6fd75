"""Bytes that nobody should send: every one ends in a value or a DecodeError, in little memory."""

import tracemalloc
from random import Random

import pytest

from ottla.protocol.compiler import decode, encode
from ottla.protocol.framing import decode_request, encode_request
from ottla.protocol.message import Request, Struct
from ottla.protocol.registry import ApiKey, request_class
from ottla.protocol.wire import DecodeError
from tests.protocol.values import CLASSES, REQUESTS, VERSIONS, joined, label, message

SHORT = 600
"""Longest frame that is cut and changed at every byte."""
HUGE = (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x07", b"\xfe\xff\xff\xff\x0f", b"\xff\xff\xff\xff")


def short_bytes(cls: type[Struct], version: int, draw: Random) -> bytes:
    """A valid message of a size that can be tried at every byte, as full as that allows."""
    found = [joined(encode(message(cls, version, draw), version)) for _ in range(12)]
    return max((each for each in found if len(each) <= SHORT), key=len, default=min(found))[:SHORT]


@pytest.mark.parametrize(("cls", "version"), VERSIONS, ids=label)
def test_every_prefix_is_an_error(cls: type[Struct], version: int) -> None:
    whole = short_bytes(cls, version, Random(f"prefix {cls.__name__} {version}"))
    for end in range(len(whole)):
        with pytest.raises(DecodeError):
            decode(cls, version, memoryview(whole[:end]))


@pytest.mark.parametrize(("key", "version"), REQUESTS, ids=label)
def test_every_prefix_of_a_framed_request_is_an_error(key: ApiKey, version: int) -> None:
    draw = Random(f"frame {key} {version}")
    request = message(request_class(key), version, draw)
    assert isinstance(request, Request)
    frame = memoryview(joined(encode_request(7, "client", version, request)))[4:]
    for end in range(min(len(frame), SHORT)):
        with pytest.raises(DecodeError):
            decode_request(frame[:end])


@pytest.mark.parametrize(("cls", "version"), VERSIONS, ids=label)
def test_a_changed_byte_gives_a_value_or_an_error(cls: type[Struct], version: int) -> None:
    draw = Random(f"change {cls.__name__} {version}")
    whole = short_bytes(cls, version, draw)
    for at in range(len(whole)):
        old = whole[at]
        for new in {0, 1, 0x7F, 0x80, 0xFF, old ^ 1, old ^ 0x80, draw.randrange(256)}:
            changed = bytearray(whole)
            changed[at] = new
            try:
                value = decode(cls, version, memoryview(changed))
            except DecodeError:
                continue
            assert value.__class__ is cls


@pytest.mark.parametrize(("cls", "version"), VERSIONS, ids=label)
def test_a_huge_number_anywhere_costs_no_memory(cls: type[Struct], version: int) -> None:
    whole = short_bytes(cls, version, Random(f"huge {cls.__name__} {version}"))
    hostile = [whole[:at] + huge + whole[at:] for at in range(0, len(whole), 3) for huge in HUGE]
    decode_or_not(cls, version, whole)
    tracemalloc.start()
    try:
        for each in hostile:
            decode_or_not(cls, version, each)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def decode_or_not(cls: type[Struct], version: int, frame: bytes) -> None:
    try:
        decode(cls, version, memoryview(frame))
    except DecodeError:
        return


@pytest.mark.parametrize("cls", CLASSES, ids=label)
def test_random_bytes(cls: type[Struct]) -> None:
    draw = Random(cls.__name__)
    for version in cls.__versions__:
        for _ in range(200):
            decode_or_not(cls, version, draw.randbytes(draw.randrange(64)))
