"""Fetch (key 1): batches from an offset on, as ranges of segment files that leave by sendfile.

Behaviour. Whole batches below the high watermark, starting with the one that holds the offset;
the first partition with data gives at least one batch, however large (KIP-74), and the sum
otherwise stays within `max_bytes`. What finds less than `min_bytes` parks until the high
watermark of one of its partitions moves or `max_wait_ms` is over; an error answers at once.
A range that is not in the page cache is read ahead on a helper thread first, so that no disk
stalls the reactor; one that an earlier life wrote and nobody has read since is checked there, and
answered with CORRUPT_MESSAGE where it is not what was written. For read_committed a range ends at
the last stable offset, and the aborted transactions that a reader meets in it are listed. Sessions
(KIP-227) answer only partitions that changed.
Authorised by: Read on each topic.
Versions. 4 is the floor, 7 sessions, 9 and 12 leader epochs (KIP-320), 11 the client's rack,
12 is flexible, 13 topic ids (KIP-516), 15 moved the replica id, 17 and 18 are for replicas.
"""

import logging
from collections.abc import Iterable

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError, check
from ottla.base.ids import Uuid
from ottla.base.world import FileRange
from ottla.broker.context import RequestContext
from ottla.broker.doubts import Doubt, doubts_of, reading
from ottla.protocol.messages.fetch import (
    AbortedTransaction,
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from ottla.replica.fetch_session import FINAL_EPOCH, INITIAL_EPOCH, FetchSession, Key, Wanted
from ottla.replica.partition import Partition
from ottla.replica.purgatory import Parked
from ottla.security.acl import Operation

log = logging.getLogger(__name__)

READ_COMMITTED = 1
FEW_PARTITIONS = 4
"""Up to so many are looked at again for each that got more."""
Row = tuple[Wanted, PartitionData]


# hot: fetch
def fetch(context: RequestContext, request: FetchRequest) -> FetchResponse | Parked:
    replica = request.replica_state
    if request.replica_id >= 0 or (replica is not None and replica.replica_id >= 0):
        return _refused_replica(context, request)
    try:
        attempt = FetchAttempt(context, request)
    except KafkaError as error:
        return FetchResponse(error_code=error.code, responses=[])
    response = attempt.run()
    if response is None:
        attempt.park()
        return attempt
    doubts = attempt.doubts()
    if not doubts:
        return response
    attempt.read_ahead(doubts, response)
    return attempt


def _refused_replica(context: RequestContext, request: FetchRequest) -> FetchResponse:
    """CVE-2018-1288: a client must not pass for a replica. Before version 7 only the rows can
    say so."""
    code = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
    rows = [(one, _error(one, code)) for one in wanted_of(request, context.api_version >= 13)]
    return FetchResponse(error_code=code, responses=_topics(rows))


def _error(one: Wanted, code: ErrorCode) -> PartitionData:
    return PartitionData(partition_index=one.index, error_code=code, high_watermark=-1, records=b"")


def _topics(rows: list[Row]) -> list[FetchableTopicResponse]:
    """Rows as a response has them: neighbours of one topic together."""
    topics: list[FetchableTopicResponse] = []
    last: str | bytes | None = None
    for one, data in rows:
        if one.topic != last:
            last = one.topic
            topic = FetchableTopicResponse(partitions=[])
            if isinstance(last, str):
                topic.topic = last
            else:
                topic.topic_id = Uuid(last)
            topics.append(topic)
        topics[-1].partitions.append(data)
    return topics


class FetchAttempt(Parked):
    """One Fetch: tried at once, and again whenever one of its partitions got more."""

    __slots__ = (
        "_api_version",
        "_context",
        "_full",
        "_is_committed",
        "_is_run_due",
        "_max_bytes",
        "_max_wait_ms",
        "_min_bytes",
        "_ranges",
        "_services",
        "_session",
        "_waited_on",
        "_wanted",
    )
    is_patient = True

    def __init__(self, context: RequestContext, request: FetchRequest) -> None:
        super().__init__()
        services = context.services
        self._context = context
        self._services = services
        self._api_version = context.api_version
        self._max_bytes = min(request.max_bytes, services.settings.fetch_max_bytes)
        self._min_bytes = min(request.min_bytes, self._max_bytes)
        self._max_wait_ms = request.max_wait_ms
        self._is_committed = request.isolation_level == READ_COMMITTED
        self._ranges: list[tuple[Partition, PartitionData]] = []
        self._waited_on: list[Partition] = []
        self._is_run_due = False
        self._session: FetchSession | None = None
        self._full = True
        self._open_session(request)

    def _open_session(self, request: FetchRequest) -> None:
        by_id = self._api_version >= 13
        wanted = wanted_of(request, by_id)
        sessions = self._services.fetch_sessions
        epoch = request.session_epoch
        if epoch in (FINAL_EPOCH, INITIAL_EPOCH):
            if request.session_id:
                sessions.close(request.session_id)
            if epoch == INITIAL_EPOCH and self._api_version >= 7 and wanted:
                self._session = sessions.open(by_id)
            if self._session is not None:
                self._session.update(wanted, ())
            self._wanted: Iterable[Wanted] = wanted
        else:
            session = sessions.next(request.session_id, epoch, by_id)
            session.update(wanted, forgotten_of(request, by_id))
            self._session, self._full = session, False
            self._wanted = session.partitions.values()

    def run(self, *, final: bool = False) -> FetchResponse | None:
        """The response, or None while there is too little and time is left."""
        rows: list[Row] = []
        self._ranges = []
        size = 0
        urgent = final or self._max_wait_ms <= 0
        for one in self._wanted:
            data = self._read(one, self._max_bytes - size, at_least_one=size == 0)
            if isinstance(data.records, FileRange):
                size += data.records.length
            elif data.error_code or data.diverging_epoch is not None:
                urgent = True
            rows.append((one, data))
        if urgent or size >= self._min_bytes or not rows:
            return self._response(rows)
        return None

    def _read(self, one: Wanted, room: int, *, at_least_one: bool) -> PartitionData:
        try:
            if self._services.authorizer is not None:
                self._context.require_topic(Operation.READ, one.topic)
            partition = self._services.replicas.leader_of(one.topic, one.index)
            partition.check_leader_epoch(one.current_leader_epoch)
            diverging = None
            if one.last_fetched_epoch >= 0:
                diverging = divergence(partition, one.last_fetched_epoch, one.fetch_offset)
            records, aborted = None, None
            if diverging is None and self._is_committed:
                records, found = partition.read_committed(
                    one.fetch_offset, min(one.max_bytes, room), at_least_one=at_least_one
                )
                aborted = [
                    AbortedTransaction(producer_id=each.producer_id, first_offset=each.first_offset)
                    for each in found
                ]
            elif diverging is None:
                records = partition.read(
                    one.fetch_offset, min(one.max_bytes, room), at_least_one=at_least_one
                )
        except KafkaError as error:
            return _error(one, error.code)
        except CorruptionError as error:
            log.error("Fetch of partition %d at %d: %s", one.index, one.fetch_offset, error)
            return _error(one, ErrorCode.CORRUPT_MESSAGE)
        except OSError as error:
            log.error("Fetch of partition %d at %d: %s", one.index, one.fetch_offset, error)
            return _error(one, ErrorCode.KAFKA_STORAGE_ERROR)
        data = PartitionData(
            partition_index=one.index,
            high_watermark=partition.high_watermark,
            last_stable_offset=partition.last_stable_offset,
            log_start_offset=partition.log.log_start_offset,
            diverging_epoch=diverging,
            aborted_transactions=aborted,
            records=b"" if records is None else records,
        )
        if records is not None:
            self._ranges.append((partition, data))
        return data

    def _response(self, rows: list[Row]) -> FetchResponse:
        session = self._session
        if session is not None:
            rows = self._changed(session, rows)
        return FetchResponse(session_id=session.id if session else 0, responses=_topics(rows))

    def _changed(self, session: FetchSession, rows: list[Row]) -> list[Row]:
        """What a session answers: data, errors, and offsets that moved; all in a full fetch."""
        changed = []
        for one, data in rows:
            high_watermark, log_start_offset = data.high_watermark, data.log_start_offset
            if (
                self._full
                or data.records
                or data.error_code
                or data.diverging_epoch is not None
                or high_watermark != one.high_watermark
                or log_start_offset != one.log_start_offset
            ):
                changed.append((one, data))
        for one, data in changed:
            session.answered(
                one, data.high_watermark, data.log_start_offset, has_data=bool(data.records)
            )
        return changed

    def park(self) -> None:
        """Wait for the first of the partitions to get more, or for the time to be over."""
        replicas = self._services.replicas
        for one in self._wanted:
            partition = replicas.leader_of(one.topic, one.index)
            partition.wait_for_data(self)
            self._waited_on.append(partition)
        self._services.deadlines.add(self, self._max_wait_ms)

    def data_arrived(self) -> None:
        """A flush round tells of each of its partitions: many are looked at once for all."""
        if len(self._waited_on) <= FEW_PARTITIONS:
            self._run_again()
        elif not self._is_run_due:
            self._is_run_due = True
            self._services.loop.call_soon(self._run_again)

    def _run_again(self) -> None:
        self._is_run_due = False
        if not self._waited_on:  # it was completed meanwhile
            return
        response = self.run()
        if response is not None:
            self._finish(response)

    def expire(self) -> None:
        response = self.run(final=True)
        check(response is not None, "a final attempt has a response")
        self._finish(response)

    def abandon(self) -> None:
        self.on_complete = None
        self._stop_waiting()

    def doubts(self) -> list[Doubt]:
        """What is to be read on a helper thread before it is sent."""
        return doubts_of(self._ranges)

    def read_ahead(self, doubts: list[Doubt], response: FetchResponse) -> None:
        """Bring what is cold into the page cache on a helper thread, and check what was not read
        since it was written; then answer."""
        replicas = self._services.replicas

        def done(faults: list[CorruptionError | None] | None, error: BaseException | None) -> None:
            if isinstance(error, OSError):
                replicas.read_failed(str(error.filename), error)
                again = self.run(final=True) or response
                for doubt in self.doubts():
                    doubt.refuse()
                self._complete(again)
                return
            for doubt, fault in zip(doubts, faults or (), strict=False):
                doubt.settle(fault)
            self._complete(response)

        self._services.world.offload.submit(reading(doubts), done)

    def _finish(self, response: FetchResponse | None) -> None:
        self._stop_waiting()
        if self.on_complete is None or response is None:
            return
        doubts = self.doubts()
        if doubts:
            self.read_ahead(doubts, response)
        else:
            self._complete(response)

    def _complete(self, response: FetchResponse) -> None:
        complete, self.on_complete = self.on_complete, None
        if complete is not None:
            complete(response)

    def _stop_waiting(self) -> None:
        self._services.deadlines.remove(self)
        for partition in self._waited_on:
            partition.stop_waiting_for_data(self)
        self._waited_on.clear()


def divergence(partition: Partition, last_epoch: int, offset: int) -> EpochEndOffset | None:
    """KIP-595: where the epoch that a reader read last ended here, if it is past that already."""
    epoch, end_offset = partition.log.epoch_end(last_epoch)
    if epoch < 0 or offset < partition.log.log_start_offset:
        raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
    if epoch == last_epoch and offset <= end_offset:
        return None
    return EpochEndOffset(epoch=epoch, end_offset=end_offset)


def wanted_of(request: FetchRequest, by_id: bool) -> list[Wanted]:
    """The partitions a request lists, in its order; of one that is named twice the last."""
    wanted = {}
    for topic in request.topics:
        key = topic.topic_id if by_id else topic.topic
        for row in topic.partitions:
            wanted[key, row.partition] = Wanted(
                key,
                row.partition,
                row.fetch_offset,
                row.partition_max_bytes,
                row.current_leader_epoch,
                row.last_fetched_epoch,
            )
    return list(wanted.values())


def forgotten_of(request: FetchRequest, by_id: bool) -> list[Key]:
    return [
        (topic.topic_id if by_id else topic.topic, partition)
        for topic in request.forgotten_topics_data
        for partition in topic.partitions
    ]
