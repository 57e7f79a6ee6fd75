"""Varints at their bounds, tags, and the parts that records leave as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.protocol.wire import Malformed, put_records, put_uvarint, read_uvarint, skip_tags
from tests.protocol.values import joined

BOUNDS = [(1 << shift) + more for shift in (0, 7, 14, 21, 28) for more in (-1, 0, 1)]


@given(st.one_of(st.sampled_from(BOUNDS), st.integers(0, 2**32 - 1)))
def test_a_varint_comes_back_in_as_few_bytes_as_can_be(value: int) -> None:
    sent = put_uvarint(value)
    assert len(sent) == max(1, -(-value.bit_length() // 7))
    assert read_uvarint(memoryview(b"??" + sent + b"??"), 2) == (value, 2 + len(sent))
    for end in range(len(sent)):
        with pytest.raises(IndexError):
            read_uvarint(memoryview(sent[:end]), 0)


def test_zeros_that_pad_a_varint_are_read_up_to_five_bytes() -> None:
    assert read_uvarint(memoryview(b"\x81\x80\x80\x80\x00"), 0) == (1, 5)


@pytest.mark.parametrize("last", [0x10, 0x1F, 0x7F, 0x80, 0xFF])
def test_a_varint_of_more_than_32_bits_is_refused(last: int) -> None:
    with pytest.raises(Malformed):
        read_uvarint(memoryview(bytes([0xFF, 0xFF, 0xFF, 0xFF, last, 1])), 0)


def test_a_count_of_tags_that_is_a_lie_runs_into_the_end() -> None:
    with pytest.raises(IndexError):
        skip_tags(memoryview(b"\xff\xff\xff\x0f"), 0, 0xFF)


@given(
    pieces=st.lists(st.sampled_from([b"", b"a", b"b" * 512, b"c" * 513, b"d" * 20_000])),
    is_flexible=st.booleans(),
)
def test_records_in_pieces_are_their_bytes_in_order(pieces: list[bytes], is_flexible: bool) -> None:
    parts: list[bytes | bytearray] = [bytearray(b"head")]
    out = put_records(parts, parts[0], list(pieces), is_flexible)  # type: ignore[arg-type]
    assert out is parts[-1]
    out += b"tail"
    whole = b"".join(pieces)
    length = put_uvarint(len(whole) + 1) if is_flexible else len(whole).to_bytes(4, "big")
    assert joined(parts) == b"head" + length + whole + b"tail"
    assert all(parts)
    assert all(any(part is piece for part in parts) for piece in pieces if len(piece) > 512)
