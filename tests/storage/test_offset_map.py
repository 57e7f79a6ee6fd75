"""The offset map against a dict, and its bound."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.storage import offset_map
from ottla.storage.offset_map import SLOT_BYTES, OffsetMap


@given(st.lists(st.tuples(st.binary(max_size=3), st.integers(0, (1 << 63) - 1))))
def test_it_is_a_dict(puts: list[tuple[bytes, int]]) -> None:
    map_, model = OffsetMap(1 << 16, 0.9, len(puts)), dict[bytes, int]()
    for key, offset in puts:
        assert map_.put(key, offset)
        model[key] = offset
    assert map_.count == len(model)
    assert {key: map_.get(key) for key in model} == model
    assert map_.get(b"none of these") == -1


def test_it_takes_as_many_keys_as_its_memory_holds() -> None:
    map_ = OffsetMap(1_000 * SLOT_BYTES, 0.9, 1 << 40)
    assert map_.capacity == int(997 * 0.9), "997 is the largest prime below 1000"
    for number in range(map_.capacity):
        assert not map_.is_full
        assert map_.put(b"%d" % number, number)
    assert map_.is_full
    assert not map_.put(b"one more", 5)
    assert map_.get(b"one more") == -1
    assert map_.put(b"0", 4_711), "a key that is there finds its place"
    assert map_.get(b"0") == 4_711
    assert all(map_.get(b"%d" % number) == number for number in range(1, map_.capacity))


def test_it_is_no_larger_than_what_could_come() -> None:
    map_ = OffsetMap(1 << 27, 0.9, 10)
    assert map_.capacity >= 10
    assert len(map_._table) == 19 * SLOT_BYTES, "19 is the largest prime below 2 * 10 + 2"
    assert map_.latest_offset == -1, "it speaks of none yet"


@pytest.mark.parametrize("load_factor", [0.0, 0.9, 1.0, 7.0])
@pytest.mark.parametrize("max_bytes", [0, 1, SLOT_BYTES * 5])
def test_the_smallest_holds_a_key_and_leaves_a_slot_free(
    max_bytes: int, load_factor: float
) -> None:
    map_ = OffsetMap(max_bytes, load_factor, 100)
    taken = sum(map_.put(b"%d" % number, number) for number in range(100))
    slots = len(map_._table) // SLOT_BYTES
    assert taken == map_.capacity == max(1, min(int(slots * load_factor), slots - 1))
    assert map_.get(b"never") == -1, "a search ends"


def test_primes() -> None:
    for number in range(3, 2_000):
        prime = offset_map._prime_at_most(number)
        assert prime <= number
        assert all(prime % divisor for divisor in range(2, prime))
        assert number - prime < 40


def test_a_full_map_is_still_searched_quickly() -> None:
    """Nine of ten slots taken: a key is found after some two probes, not a hundred."""
    map_ = OffsetMap(20_011 * SLOT_BYTES, 0.9, 1 << 40)
    rng = random.Random(1)
    keys = [rng.randbytes(8) for _ in range(map_.capacity)]
    for offset, key in enumerate(keys):
        map_.put(key, offset)
    first_places = 0
    for key in keys:
        digest = offset_map.digest_of(key)
        slot = int.from_bytes(digest[:8]) % map_._slot_count
        first_places += map_._find(digest)[0] == slot * SLOT_BYTES
    assert first_places > len(keys) // 2


def test_keys_that_meet_part() -> None:
    """The second half of the digest takes each key to another slot, never to its first."""
    map_ = OffsetMap(7 * SLOT_BYTES, 1.0, 1 << 40)
    assert map_._slot_count == 7
    offset_map._SLOT.pack_into(map_._table, 0, bytes(16), 1)
    found = [map_._find(offset_map._HASH.pack(7, second)) for second in range(1, 13)]
    assert all(is_free for _, is_free in found)
    places = [at // SLOT_BYTES for at, _ in found]
    assert sorted(places[:6]) == sorted(places[6:]) == [1, 2, 3, 4, 5, 6]


def test_a_table_has_slots() -> None:
    assert offset_map._prime_at_most(3) == 3
    with pytest.raises(AssertionError):
        offset_map._prime_at_most(2)
