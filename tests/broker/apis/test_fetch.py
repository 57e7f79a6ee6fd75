"""Fetch: what it answers and how much, when it parks, and its sessions (KIP-227)."""

import asyncio
import errno

import pytest

from ottla.base.errors import CorruptionError, ErrorCode
from ottla.protocol.messages.fetch import (
    EpochEndOffset,
    FetchPartition,
    FetchRequest,
    FetchTopic,
    ForgottenTopic,
    ReplicaState,
)
from ottla.records.batch import iterate_headers
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.replica.fetch_session import EVICTION_MS, MAX_EPOCH
from ottla.storage.sound import RangeCheck

VERSIONS = range(4, 19)
BY_NAME = range(4, 13)
BY_ID = range(13, 19)
WITH_SESSIONS = range(7, 19)
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
LARGE = 50 << 20
FOR_EVER_MS = 3_600_000
NOWHERE = bytes(range(16))
BATCH_BYTES = len(build_batch([Record(0, 0, None, b"v0")]))


def part(index=0, offset=0, max_bytes=LARGE, epoch=-1, last_epoch=-1):
    return FetchPartition(
        partition=index,
        current_leader_epoch=epoch,
        fetch_offset=offset,
        last_fetched_epoch=last_epoch,
        partition_max_bytes=max_bytes,
    )


def id_of(node, name):
    topic = node.image.topics.get(name)
    return topic.id if topic else NOWHERE


def fetch(node, *rows, wait_ms=0, min_bytes=1, max_bytes=LARGE, forget=(), **options):
    """`rows` are (topic, partition); topics go by name and by id, as the version has it."""
    return FetchRequest(
        max_wait_ms=wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        topics=[
            FetchTopic(topic=name, topic_id=id_of(node, name), partitions=[row])
            for name, row in rows
        ],
        forgotten_topics_data=[
            ForgottenTopic(topic=name, topic_id=id_of(node, name), partitions=[index])
            for name, index in forget
        ],
        **options,
    )


def answered(response):
    return [row for topic in response.responses for row in topic.partitions]


async def one(node, row, version=18, **options):
    (answer,) = answered(await node.ask(fetch(node, ("a", row), **options), version))
    return answer


def offsets(answer):
    """Base offsets of the batches that were answered, which must be whole."""
    headers = list(iterate_headers(answer.records))
    assert sum(header.size_bytes for _, header in headers) == len(answer.records)
    return [header.base_offset for _, header in headers]


async def append(node, count=1, topic="a", index=0):
    """Batches of one record each."""
    for _ in range(count):
        partition = await node.produce(topic, 1, index)
    return partition


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("isolation", [0, 1])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_each_version_answers(on_node, version, isolation):
    async def test(node):
        await node.topic("a")
        partition = await append(node, 3)
        partition.log.advance_start(1)
        response = await node.ask(
            fetch(node, ("a", part(offset=1)), isolation_level=isolation), version
        )
        assert (response.error_code, response.session_id) == (0, 0)
        (topic,) = response.responses
        if version >= 13:
            assert (topic.topic, topic.topic_id) == ("", id_of(node, "a"))
        else:
            assert topic.topic == "a"
        (row,) = topic.partitions
        assert (row.partition_index, row.error_code) == (0, 0)
        assert (row.high_watermark, row.last_stable_offset) == (3, 3)
        assert row.log_start_offset == (1 if version >= 5 else -1)
        assert not row.aborted_transactions
        assert row.preferred_read_replica == -1
        assert row.diverging_epoch is None
        assert offsets(row) == [1, 2]

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_new(on_node, version):
    async def test(node):
        await node.topic("a")
        await append(node, 3)
        row = await one(node, part(offset=3), version)
        assert (row.error_code, row.high_watermark, bytes(row.records or b"")) == (0, 3, b"")

    on_node(test)


def test_an_offset_inside_a_batch_gives_the_whole_batch(on_node):
    async def test(node):
        await node.topic("a")
        await node.produce("a", 5)
        await node.produce("a", 5)
        for offset in range(10):
            expected = [0, 5] if offset < 5 else [5]
            assert offsets(await one(node, part(offset=offset))) == expected

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("offset", [0, 4, -1, -2, 2**63 - 1])
def test_an_offset_that_is_not_there(on_node, version, offset):
    async def test(node):
        await node.topic("a")
        partition = await append(node, 3)
        partition.log.advance_start(1)
        answer = node.begin(fetch(node, ("a", part(offset=offset)), wait_ms=FOR_EVER_MS), version)
        (row,) = answered(answer.result())
        assert (row.error_code, row.high_watermark) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
        assert not row.records

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_does_not_keep_others_from_their_answer(on_node, version):
    async def test(node):
        await node.topic("a")
        await append(node)
        rows = [("none", part()), ("a", part(7)), ("a", part())]
        answer = node.begin(fetch(node, *rows, wait_ms=FOR_EVER_MS, min_bytes=9999), version)
        unknown_topic = ErrorCode.UNKNOWN_TOPIC_ID if version >= 13 else UNKNOWN
        rows = answered(answer.result())
        assert [row.error_code for row in rows] == [unknown_topic, UNKNOWN, 0]
        assert offsets(rows[2]) == [0]

    on_node(test)


def test_a_directory_that_went_offline(on_node):
    async def test(node):
        await node.topic("a")
        await append(node)
        (directory,) = node.services.replicas.directories
        answer = node.begin(fetch(node, ("a", part(offset=1)), wait_ms=FOR_EVER_MS))
        assert not answer.done()
        directory.go_offline(OSError(5, "Input/output error"))
        (row,) = answered(answer.result())
        assert row.error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert (await one(node, part())).error_code == ErrorCode.KAFKA_STORAGE_ERROR

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_does_not_pass_for_a_replica(on_node, version):
    """CVE-2018-1288"""

    async def test(node):
        await node.topic("a")
        await append(node)
        claim = (
            {"replica_state": ReplicaState(replica_id=2, replica_epoch=1)}
            if version >= 15
            else {"replica_id": 2}
        )
        response = await node.ask(fetch(node, ("a", part()), **claim), version)
        refused = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
        if version >= 7:
            assert response.error_code == refused
        assert [row.error_code for row in answered(response)] == [refused]
        assert not answered(response)[0].records

    on_node(test)


# -- epochs


@pytest.mark.parametrize("version", range(9, 19))
def test_the_leader_epoch_that_a_client_knows(on_node, version):
    async def test(node):
        await node.topic("a")
        partition = await append(node)
        partition.leader_epoch = 4
        for epoch, code in (
            (4, 0),
            (-1, 0),
            (3, ErrorCode.FENCED_LEADER_EPOCH),
            (5, ErrorCode.UNKNOWN_LEADER_EPOCH),
        ):
            row = await one(node, part(epoch=epoch), version, wait_ms=FOR_EVER_MS)
            assert row.error_code == code
            assert bool(row.records) == (code == 0)

    on_node(test)


@pytest.mark.parametrize("version", range(12, 19))
def test_a_log_that_diverged_is_told_of_at_once(on_node, version):
    async def test(node):
        await node.topic("a")
        partition = await append(node, 3)
        partition.leader_epoch = 5
        await append(node, 2)
        ends = {(0, 3): None, (0, 4): (0, 3), (3, 2): (0, 3), (5, 5): None, (5, 3): None}
        for (last_epoch, offset), end in ends.items():
            asked = part(offset=offset, last_epoch=last_epoch)
            row = await one(node, asked, version, wait_ms=FOR_EVER_MS if offset < 5 else 0)
            if end is None:
                assert row.diverging_epoch is None
            else:
                assert row.diverging_epoch == EpochEndOffset(epoch=end[0], end_offset=end[1])
                assert not row.records
            assert (row.error_code, row.high_watermark) == (0, 5)

    on_node(test)


# -- how much


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_batch_comes_however_large(on_node, version):
    """KIP-74"""

    async def test(node):
        await node.topic("a", 2)
        await append(node, 2)
        await append(node, 2, index=1)
        rows = [("a", part(max_bytes=1)), ("a", part(1, max_bytes=1))]
        first, second = answered(await node.ask(fetch(node, *rows), version))
        assert (offsets(first), offsets(second)) == ([0], [])
        rows = [("a", part()), ("a", part(1))]
        first, second = answered(await node.ask(fetch(node, *rows, max_bytes=1), version))
        assert (offsets(first), offsets(second)) == ([0], [])
        rows = [("a", part(offset=2)), ("a", part(1))]
        first, second = answered(await node.ask(fetch(node, *rows, max_bytes=1), version))
        assert (offsets(first), offsets(second)) == ([], [0])

    on_node(test)


def test_byte_limits_cut_at_whole_batches(on_node):
    async def test(node):
        await node.topic("a", 2)
        await append(node, 5)
        await append(node, 5, index=1)
        for count in range(1, 5):
            row = await one(node, part(max_bytes=count * BATCH_BYTES))
            assert len(offsets(row)) == count
            row = await one(node, part(max_bytes=(count + 1) * BATCH_BYTES - 1))
            assert len(offsets(row)) == count
        rows = [("a", part()), ("a", part(1))]
        response = await node.ask(fetch(node, *rows, max_bytes=7 * BATCH_BYTES + 1))
        assert [len(offsets(row)) for row in answered(response)] == [5, 2]

    on_node(test)


@pytest.mark.parametrize("max_bytes", [0, -1, -(2**31)])
def test_limits_of_nothing(on_node, max_bytes):
    async def test(node):
        await node.topic("a")
        await append(node, 2)
        assert offsets(await one(node, part(max_bytes=max_bytes))) == [0]
        assert offsets(await one(node, part(), max_bytes=max_bytes)) == [0]

    on_node(test)


def test_the_brokers_own_limit(on_node):
    async def test(node):
        await node.topic("a")
        await append(node, 20)
        assert len(offsets(await one(node, part()))) == 1024 // BATCH_BYTES

    on_node(test, {"fetch.max.bytes": "1024"})


def test_what_is_not_flushed_is_not_fetched(on_node, flushes):
    async def test(node):
        await node.topic("a")
        partition = await append(node)
        with flushes.held():
            batch = memoryview(build_batch([Record(0, 0, None, b"v0")]))
            partition.append(batch, acks_all=False, now_ms=0, version=9)
            row = await one(node, part())
            assert (row.high_watermark, offsets(row)) == (1, [0])
            row = await one(node, part(offset=2))
            assert (row.error_code, offsets(row)) == (0, [])
        await node.flushed(partition)
        assert offsets(await one(node, part())) == [0, 1]

    on_node(test)


# -- when


@pytest.mark.parametrize("version", VERSIONS)
def test_a_parked_fetch_is_answered_when_there_is_enough(on_node, version):
    async def test(node):
        await node.topic("a", 2)
        rows = [("a", part()), ("a", part(1))]
        request = fetch(node, *rows, wait_ms=FOR_EVER_MS, min_bytes=3 * BATCH_BYTES)
        answer = node.begin(request, version)
        await append(node)
        await append(node, index=1)
        await turns()
        assert not answer.done()
        await append(node, index=1)
        assert [offsets(row) for row in answered(await answer)] == [[0], [0, 1]]

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_parked_fetch_answers_what_there_is_when_its_time_is_over(on_node, version):
    async def test(node):
        await node.topic("a")
        await append(node)
        row = await one(node, part(), version, wait_ms=1, min_bytes=9999)
        assert offsets(row) == [0]
        row = await one(node, part(offset=1), version, wait_ms=1)
        assert (row.error_code, offsets(row)) == (0, [])

    on_node(test)


@pytest.mark.parametrize(("wait_ms", "min_bytes"), [(FOR_EVER_MS, 0), (FOR_EVER_MS, -1), (-1, 1)])
def test_fetches_that_do_not_wait(on_node, wait_ms, min_bytes):
    async def test(node):
        await node.topic("a")
        answer = node.begin(fetch(node, ("a", part()), wait_ms=wait_ms, min_bytes=min_bytes))
        assert [offsets(row) for row in answered(answer.result())] == [[]]

    on_node(test)


def test_a_fetch_of_nothing_does_not_wait(on_node):
    async def test(node):
        answer = node.begin(fetch(node, wait_ms=FOR_EVER_MS))
        assert answer.result().responses == []

    on_node(test)


def test_more_than_may_be_answered_is_not_waited_for(on_node):
    async def test(node):
        await node.topic("a")
        await append(node, 2)
        options = {"wait_ms": FOR_EVER_MS, "min_bytes": 2**31 - 1, "max_bytes": 2 * BATCH_BYTES}
        answer = node.begin(fetch(node, ("a", part()), **options))
        assert [offsets(row) for row in answered(answer.result())] == [[0, 1]]

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_topic_is_deleted_under_a_parked_fetch(on_node, version):
    async def test(node):
        await node.topic("a")
        await node.topic("b")
        await append(node, topic="b")
        rows = [("a", part()), ("b", part(offset=1))]
        answer = node.begin(fetch(node, *rows, wait_ms=FOR_EVER_MS), version)
        assert not answer.done()
        await node.services.controller.delete_topic(id_of(node, "a"))
        first, second = answered(await answer)
        assert first.error_code == (ErrorCode.UNKNOWN_TOPIC_ID if version >= 13 else UNKNOWN)
        assert (second.error_code, second.high_watermark) == (0, 1)

    on_node(test)


def test_a_connection_that_is_gone_is_waited_for_by_nobody(on_node):
    async def test(node):
        await node.topic("a")
        answer = node.begin(fetch(node, ("a", part()), wait_ms=FOR_EVER_MS))
        node.parked.abandon()
        await append(node)
        await turns()
        assert not answer.done()

    on_node(test)


def test_one_append_answers_all_that_wait(on_node):
    async def test(node):
        await node.topic("a")
        request = fetch(node, ("a", part()), wait_ms=FOR_EVER_MS)
        answers = [node.begin(request, version) for version in VERSIONS]
        await append(node)
        for answer in answers:
            assert [offsets(row) for row in answered(await answer)] == [[0]]

    on_node(test)


def test_what_is_cold_is_read_ahead_first(on_node, monkeypatch):
    async def test(node):
        await node.topic("a")
        partition = await append(node)
        file = partition.log.active.file
        read = []
        monkeypatch.setattr(type(file), "is_resident", lambda *_: False)
        monkeypatch.setattr(type(file), "read_ahead", lambda _, *piece: read.append(piece))
        answer = node.begin(fetch(node, ("a", part())))
        assert not answer.done()
        assert [offsets(row) for row in answered(await answer)] == [[0]]
        answer = node.begin(fetch(node, ("a", part(offset=1)), wait_ms=FOR_EVER_MS))
        await append(node)
        assert [offsets(row) for row in answered(await answer)] == [[1]]
        assert [position for _, position in read] == [0, BATCH_BYTES] or read == [
            (0, BATCH_BYTES),
            (BATCH_BYTES, BATCH_BYTES),
        ]

    on_node(test)


def test_what_cannot_be_read_ahead_is_a_storage_error(on_node, monkeypatch, caplog):
    """EIO on the helper thread: the directory goes offline, and no byte of it is sent."""

    async def test(node):
        await node.topic("a")
        partition = await append(node)
        file = partition.log.active.reader()

        def refuse(self, *piece):
            raise OSError(errno.EIO, "Input/output error", self.path)

        monkeypatch.setattr(type(file), "is_resident", lambda *_: False)
        monkeypatch.setattr(type(file), "read_ahead", refuse)
        (row,) = answered(await node.ask(fetch(node, ("a", part()))))
        assert row.error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert not row.records
        assert file.path in caplog.text
        monkeypatch.undo()
        (row,) = answered(await node.ask(fetch(node, ("a", part()))))
        assert row.error_code == ErrorCode.KAFKA_STORAGE_ERROR, "until the next start"

    on_node(test)


@pytest.mark.parametrize("is_sound", [True, False])
def test_what_was_replaced_while_it_was_checked_is_not_sent(on_node, monkeypatch, is_sound):
    """Compaction put another segment there: the check may have read that one, or found a fault in
    the one before. The client asks again, and is answered from what is there then."""

    async def test(node):
        await node.topic("a")
        log = (await append(node)).log
        log.active.unread_bytes = log.active.size_bytes

        def check_late(self):
            log._segments.forget_places()
            if not is_sound:
                raise CorruptionError("CRC", path=self.path)

        monkeypatch.setattr(RangeCheck, "run", check_late)
        (row,) = answered(await node.ask(fetch(node, ("a", part()))))
        assert (row.error_code, row.high_watermark, bytes(row.records)) == (0, 1, b"")
        monkeypatch.undo()
        assert offsets(await one(node, part())) == [0]

    on_node(test)


# -- sessions


async def opened(node, *rows, version=18, **options):
    response = await node.ask(fetch(node, *rows, session_epoch=0, **options), version)
    assert response.error_code == 0
    return response


async def next_of(node, session_id, epoch, *rows, version=18, **options):
    ids = {"session_id": session_id, "session_epoch": epoch}
    return await node.ask(fetch(node, *rows, **ids, **options), version)


def by_index(response):
    return {row.partition_index: offsets(row) for row in answered(response)}


@pytest.mark.parametrize("version", WITH_SESSIONS)
def test_a_session_answers_what_changed(on_node, version):
    async def test(node):
        await node.topic("a", 3)
        await append(node)
        full = await opened(node, *[("a", part(n)) for n in range(3)], version=version)
        session = full.session_id
        assert session > 0
        assert by_index(full) == {0: [0], 1: [], 2: []}
        # Fetched on: nothing is left, and nothing changed.
        answer = await next_of(node, session, 1, ("a", part(0, 1)), version=version)
        assert (answer.error_code, answer.session_id, answer.responses) == (0, session, [])
        await append(node, index=2)
        answer = await next_of(node, session, 2, version=version)
        assert by_index(answer) == {2: [0]}
        # The offset that the client named last is asked again until it names another.
        assert by_index(await next_of(node, session, 3, version=version)) == {2: [0]}
        answer = await next_of(node, session, 4, ("a", part(2, 1)), version=version)
        assert by_index(answer) == {}

    on_node(test)


@pytest.mark.parametrize("version", WITH_SESSIONS)
def test_offsets_that_moved_and_errors_are_changes(on_node, version):
    async def test(node):
        await node.topic("a", 2)
        partition = await append(node)
        rows = [("a", part(0, 1)), ("a", part(1)), ("none", part(7))]
        session = (await opened(node, *rows, version=version)).session_id
        partition.log.advance_start(1)
        moved, failed = answered(await next_of(node, session, 1, version=version))
        assert (moved.partition_index, moved.error_code, moved.log_start_offset) == (0, 0, 1)
        code = ErrorCode.UNKNOWN_TOPIC_ID if version >= 13 else UNKNOWN
        assert (failed.partition_index, failed.error_code) == (7, code)

    on_node(test)


def test_what_moved_without_data_keeps_its_turn(on_node):
    """High watermarks that move all the time must not keep a session's order as it is."""

    async def test(node):
        await node.topic("a", 2)
        await append(node)
        await append(node, index=1)
        limit = {"max_bytes": BATCH_BYTES}
        full = await opened(node, ("a", part()), ("a", part(1)), **limit)
        assert by_index(full) == {0: [0], 1: []}
        for epoch, turn in ((1, 1), (2, 0), (3, 1)):
            await append(node)
            await append(node, index=1)
            answer = await next_of(node, full.session_id, epoch, **limit)
            assert by_index(answer) == {turn: [0], 1 - turn: []}

    on_node(test)


@pytest.mark.parametrize("version", WITH_SESSIONS)
def test_partitions_join_and_leave_a_session(on_node, version):
    async def test(node):
        await node.topic("a", 3)
        session = (await opened(node, ("a", part(0)), ("a", part(1)), version=version)).session_id
        await append(node)
        await append(node, index=2)
        options = {"forget": [("a", 0)], "version": version}
        answer = await next_of(node, session, 1, ("a", part(2)), **options)
        assert by_index(answer) == {2: [0]}
        options = {"forget": [("a", 2), ("a", 77), ("none", 0)], "version": version}
        assert by_index(await next_of(node, session, 2, **options)) == {}
        await append(node, index=1)
        assert by_index(await next_of(node, session, 3, version=version)) == {1: [0]}

    on_node(test)


@pytest.mark.parametrize("version", WITH_SESSIONS)
def test_a_session_parks_as_a_whole(on_node, version):
    async def test(node):
        await node.topic("a", 2)
        session = (await opened(node, ("a", part(0)), ("a", part(1)), version=version)).session_id
        ids = {"session_id": session, "session_epoch": 1}
        answer = node.begin(fetch(node, wait_ms=FOR_EVER_MS, **ids), version)
        assert not answer.done()
        await append(node, index=1)
        assert by_index(await answer) == {1: [0]}

    on_node(test)


@pytest.mark.parametrize("version", WITH_SESSIONS)
def test_epochs_of_a_session(on_node, version):
    wrong = ErrorCode.INVALID_FETCH_SESSION_EPOCH

    async def test(node):
        await node.topic("a")
        await append(node)
        session = (await opened(node, ("a", part()), version=version)).session_id
        for epoch in (2, MAX_EPOCH, -2):
            answer = await next_of(node, session, epoch, version=version)
            assert (answer.error_code, answer.session_id, answer.responses) == (wrong, 0, [])
        assert (await next_of(node, session, 1, version=version)).error_code == 0
        assert (await next_of(node, session, 1, version=version)).error_code == wrong
        assert (await next_of(node, session, 2, version=version)).error_code == 0

    on_node(test)


def test_the_epoch_wraps_to_1(on_node):
    async def test(node):
        await node.topic("a")
        session = (await opened(node, ("a", part()))).session_id
        node.services.fetch_sessions._sessions[session].epoch = MAX_EPOCH
        assert (await next_of(node, session, MAX_EPOCH)).error_code == 0
        assert (await next_of(node, session, 1)).error_code == 0

    on_node(test)


@pytest.mark.parametrize("version", WITH_SESSIONS)
def test_a_session_that_is_not_there(on_node, version):
    async def test(node):
        await node.topic("a")
        answer = await next_of(node, 77, 1, ("a", part()), version=version)
        assert answer.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        assert (answer.session_id, answer.responses) == (0, [])

    on_node(test)


@pytest.mark.parametrize("version", WITH_SESSIONS)
def test_the_final_epoch_ends_a_session(on_node, version):
    async def test(node):
        await node.topic("a")
        await append(node)
        session = (await opened(node, ("a", part()), version=version)).session_id
        answer = await next_of(node, session, -1, ("a", part()), version=version)
        assert (answer.session_id, by_index(answer)) == (0, {0: [0]})
        answer = await next_of(node, session, 1, version=version)
        assert answer.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND

    on_node(test)


def test_a_new_session_takes_the_place_of_the_one_it_names(on_node):
    async def test(node):
        await node.topic("a")
        first = (await opened(node, ("a", part()))).session_id
        second = (await next_of(node, first, 0, ("a", part()))).session_id
        assert second not in (0, first)
        assert len(node.services.fetch_sessions) == 1
        answer = await next_of(node, first, 1)
        assert answer.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND

    on_node(test)


def test_a_session_goes_by_names_or_by_ids(on_node):
    async def test(node):
        await node.topic("a")
        by_id = (await opened(node, ("a", part()))).session_id
        by_name = (await opened(node, ("a", part()), version=12)).session_id
        refused = ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
        assert (await next_of(node, by_id, 1, version=12)).error_code == refused
        assert (await next_of(node, by_name, 1, version=13)).error_code == refused
        assert (await next_of(node, by_id, 1, version=13)).error_code == 0
        assert (await next_of(node, by_name, 1, version=7)).error_code == 0

    on_node(test)


def test_without_a_free_slot_there_is_no_session(on_node, monkeypatch):
    async def test(node):
        await node.topic("a")
        await append(node)
        sessions = [await opened(node, ("a", part())) for _ in range(3)]
        assert [each.session_id > 0 for each in sessions] == [True, True, False]
        assert [by_index(each) for each in sessions] == [{0: [0]}] * 3
        first, second, _ = (each.session_id for each in sessions)
        await next_of(node, first, 1)
        # The one that was idle for long, and longest, makes room.
        now = node.services.world.clock.monotonic() + EVICTION_MS / 1000
        clock = type(node.services.world.clock)
        monkeypatch.setattr(clock, "monotonic", staticmethod(lambda: now))
        assert (await opened(node, ("a", part()))).session_id > 0
        gone = await next_of(node, second, 1)
        assert gone.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        assert (await next_of(node, first, 2)).error_code == 0

    on_node(test, {"max.incremental.fetch.session.cache.slots": "2"})


def test_no_slots_no_sessions(on_node):
    async def test(node):
        await node.topic("a")
        assert (await opened(node, ("a", part()))).session_id == 0

    on_node(test, {"max.incremental.fetch.session.cache.slots": "0"})


@pytest.mark.parametrize("version", range(4, 7))
def test_before_version_7_there_are_no_sessions(on_node, version):
    async def test(node):
        await node.topic("a")
        await node.ask(fetch(node, ("a", part())), version)
        assert len(node.services.fetch_sessions) == 0

    on_node(test)


def test_a_byte_limit_starves_no_partition_of_a_session(on_node):
    async def test(node):
        await node.topic("a", 3)
        for index in range(3):
            await append(node, 3, index=index)
        limit = {"max_bytes": BATCH_BYTES}
        first = await opened(node, *[("a", part(n)) for n in range(3)], **limit)
        seen = [index for index, found in by_index(first).items() if found]
        for epoch in (1, 2):
            answer = await next_of(node, first.session_id, epoch, **limit)
            seen += [index for index, found in by_index(answer).items() if found]
        assert sorted(seen) == [0, 1, 2]

    on_node(test)


def test_a_deleted_topic_in_a_session(on_node):
    async def test(node):
        await node.topic("a")
        await node.topic("b")
        session = (await opened(node, ("a", part()), ("b", part()))).session_id
        await node.services.controller.delete_topic(id_of(node, "a"))
        answer = await next_of(node, session, 1)
        assert [row.error_code for row in answered(answer)] == [ErrorCode.UNKNOWN_TOPIC_ID]
        await append(node, topic="b")
        answer = await next_of(node, session, 2)
        assert sorted(row.error_code for row in answered(answer)) == [
            0,
            ErrorCode.UNKNOWN_TOPIC_ID,
        ]

    on_node(test)
