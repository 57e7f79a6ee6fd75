"""A sample of damage: bits, and coarse ones. All of them:
`python -m tests.storage.bit_flips --all`."""

import pytest

from ottla.records.batch import iterate_headers

from . import bit_flips
from .bit_flips import Damage, Truth, kind_of, make_truth, meet, sample

HARMLESS = (
    ".kafka_cleanshutdown",  # that it is there is what it says
    ".index",  # what is missing costs a longer scan; after an unclean stop it is built anew
    ".timeindex",
    "meta.properties",  # no second source for an id that became another one: the start compares it
    "replication-offset-checkpoint",  # served is what was flushed, whatever it says
    "recovery-point-offset-checkpoint",  # a lower one costs a scan
    "cleaner-offset-checkpoint",  # empty of lines: the last byte
    "leader-epoch-checkpoint",  # an epoch past the recovery point is read off the log
)
"""Where `verify` may be silent on damage that a start mends, does not need, or refuses."""


@pytest.fixture(scope="module")
def truth() -> Truth:
    return make_truth()


def test_no_damage_is_served_as_good_and_verify_tells_of_what_matters(truth: Truth) -> None:
    seen = set()
    for damage in sample(truth, 80, 120, seed=1):
        for result in meet(truth, damage):
            assert result.verdict not in ("BAD", "crc"), result
            seen.add(result.verdict)
            kind = kind_of(damage.path)
            assert result.is_seen or kind in HARMLESS, result
            if not result.is_seen:
                assert result.verdict in ("right", "refused", "reported"), result
    assert seen >= {"right", "refused", "offline", "reported", "told"}


def test_the_harness_sees_what_is_served_wrongly(
    truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bit_flips, "check_of", lambda log, found: None)
    path = "data/orders-0/00000000000000000000.log"
    *_, (at, _) = iterate_headers(truth.images["clean"][path])
    epoch = Damage("bit", path, at + 15, 0)
    payload = Damage("bit", path, at + 70, 3)
    verdicts = {each: {result.verdict for result in meet(truth, each)} for each in (epoch, payload)}
    assert "BAD" in verdicts[epoch]
    assert "crc" in verdicts[payload]
