"""Faults planted one at a time: the simulation must find every one within a few seeds.

Where it does not, it has stopped being able to find what it is for. `./dev sim planted` prints
the same as a table.
"""

import logging

import pytest

from ottla.sim.planted import PLANTED, Patches, Planted, search
from ottla.sim.workload import Violation


@pytest.mark.parametrize("planted", PLANTED, ids=[each.name for each in PLANTED])
def test_a_planted_fault_is_found(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.disable(logging.ERROR)
    try:
        planted.plant(monkeypatch.setattr)
        found = search(planted.finder)
    finally:
        logging.disable(logging.NOTSET)
    assert found is not None, "no seed found it"
    assert isinstance(found.error, Violation)


def test_what_is_patched_is_there_again_afterwards() -> None:
    class Owner:
        value = 1

    with Patches() as patch:
        patch(Owner, "value", 2)
        patch(Owner, "value", 3)
        assert Owner.value == 3
    assert Owner.value == 1


def test_no_fault_stands_there_twice() -> None:
    assert len(dict.fromkeys(each.name for each in PLANTED)) == len(PLANTED) >= 25
