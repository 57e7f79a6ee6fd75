"""Sessions by the table of KIP-227, and their bounds."""

from random import Random

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.replica import fetch_session
from ottla.replica.fetch_session import (
    EVICTION_MS,
    INITIAL_EPOCH,
    MAX_EPOCH,
    FetchSession,
    FetchSessions,
    Wanted,
)
from tests.replica.conftest import HandClock, HandLoop

SLOTS = 3


@pytest.fixture
def sessions(clock: HandClock, rng: Random) -> FetchSessions:
    return FetchSessions(SLOTS, clock, rng)


def wanted(*indexes: int, topic: str = "t") -> list[Wanted]:
    return [Wanted(topic, index, 0, 1_000, -1, -1) for index in indexes]


def opened(sessions: FetchSessions, *indexes: int) -> FetchSession:
    session = sessions.open(False)
    assert session is not None
    session.update(wanted(*indexes), ())
    return session


def refused(sessions: FetchSessions, session_id: int, epoch: int, uses_ids: bool = False) -> int:
    with pytest.raises(KafkaError) as caught:
        sessions.next(session_id, epoch, uses_ids)
    return caught.value.code


def test_epochs_count_up_from_one_and_wrap_to_one(sessions: FetchSessions) -> None:
    session = opened(sessions, 0)
    assert session.id > 0
    for epoch in (1, 2, 3):
        assert sessions.next(session.id, epoch, False) is session
    session.epoch = MAX_EPOCH
    sessions.next(session.id, MAX_EPOCH, False)
    assert session.epoch == 1


def test_what_does_not_go_on_is_refused(sessions: FetchSessions) -> None:
    session = opened(sessions, 0)
    assert refused(sessions, session.id, 2) == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert refused(sessions, session.id, INITIAL_EPOCH) == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert refused(sessions, session.id + 1, 1) == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert refused(sessions, session.id, 1, True) == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
    sessions.close(session.id)
    sessions.close(session.id)
    assert refused(sessions, session.id, 1) == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_an_update_adds_changes_and_forgets(sessions: FetchSessions) -> None:
    session = opened(sessions, 0, 1, 2)
    session.partitions["t", 1].high_watermark = 77
    session.update(wanted(1, 3), [("t", 0), ("t", 9)])
    assert [index for _, index in session.partitions] == [1, 2, 3]
    assert session.partitions["t", 1].high_watermark == 77
    assert sessions.partition_count == 3


def test_who_had_data_goes_to_the_end(sessions: FetchSessions) -> None:
    session = opened(sessions, 0, 1, 2)
    first = session.partitions["t", 0]
    session.answered(first, 5, 1, has_data=True)
    assert [index for _, index in session.partitions] == [1, 2, 0]
    assert (first.high_watermark, first.log_start_offset) == (5, 1)
    session.answered(session.partitions["t", 1], 5, 1, has_data=False)
    assert [index for _, index in session.partitions] == [1, 2, 0]
    session.update((), [("t", 0)])
    session.answered(first, 6, 1, has_data=True)
    assert ("t", 0) not in session.partitions


def test_slots_are_for_who_uses_them(sessions: FetchSessions, loop: HandLoop) -> None:
    first, second, third = (opened(sessions, 0) for _ in range(SLOTS))
    assert sessions.open(False) is None
    loop.pass_time(EVICTION_MS / 1000 - 1)
    sessions.next(first.id, 1, False)
    assert sessions.open(False) is None
    loop.pass_time(1)
    assert sessions.open(False) is not None
    assert len(sessions) == SLOTS
    assert refused(sessions, second.id, 1) == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    sessions.next(first.id, 2, False)
    sessions.next(third.id, 1, False)


def test_no_slots_no_sessions(clock: HandClock, rng: Random) -> None:
    assert FetchSessions(0, clock, rng).open(False) is None


def test_partitions_of_one_are_bounded(
    sessions: FetchSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_session, "PARTITIONS_PER_SESSION", 5)
    session = opened(sessions, *range(5))
    session.update(wanted(4), ())
    with pytest.raises(KafkaError):
        session.update(wanted(5), ())
    assert sessions.partition_count == 5


def test_partitions_of_all_are_bounded(
    sessions: FetchSessions, loop: HandLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_session, "PARTITIONS_OF_ALL", 10)
    first = opened(sessions, *range(6))
    second = opened(sessions, *range(4))
    assert sessions.open(False) is None, "the partitions of all sessions are too many"
    monkeypatch.setattr(fetch_session, "PARTITIONS_OF_ALL", 9)
    sessions.next(first.id, 1, False).update(wanted(0, 1), ())  # changes, does not grow
    sessions.next(second.id, 1, False)
    with pytest.raises(KafkaError) as caught:
        second.update(wanted(4), ())
    assert caught.value.code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert refused(sessions, second.id, 2) == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert sessions.partition_count == 6
    assert sessions.open(False) is not None


def test_partitions_of_the_idle_make_room(
    sessions: FetchSessions, loop: HandLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_session, "PARTITIONS_OF_ALL", 10)
    opened(sessions, *range(10))
    loop.pass_time(EVICTION_MS / 1000)
    opened(sessions, *range(10))
    assert sessions.partition_count == 10
    assert len(sessions) == 1
