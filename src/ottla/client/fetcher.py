"""The fetcher: keeps a little ahead of the consumer, from whichever node leads each partition.

Like the sender it works in turns on the loop: each node has at most one fetch under way, for the
partitions it leads that have a position, are not paused, and have less buffered than a fetch
brings. So a partition holds at most two fetches of `max_partition_fetch_bytes`, and who does not
poll fetches nothing. Fetched batches are buffered as bytes, checked by their CRC and decoded when
they are handed out.

A fetch says which leader epoch it believes in, and the first one to a new leader of which epoch
the last record was: where that leader has another history the log was truncated (KIP-320).

With `read_committed` the batches of aborted transactions are left out as they arrive: the broker
names the aborted ones, and markers in the log end each (Kafka's protocol, "Fetch"). Control
batches are never handed out; what is left out still moves the offset to be fetched next.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, PartitionIndex, TopicPartition
from ottla.base.world import World
from ottla.client.assignment import PartitionState
from ottla.client.cluster import Cluster
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import (
    RETRIABLE,
    STALE_METADATA,
    BadAnswerError,
    LogTruncatedError,
    NoOffsetError,
    code_of,
)
from ottla.client.fetch_session import FetchSession, Plan, Wanted
from ottla.client.records import FetchedBatch, split_batches
from ottla.client.topology import PartitionView
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Response
from ottla.protocol.messages.fetch import (
    EpochEndOffset,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
)
from ottla.records.batch import HEADER_BYTES
from ottla.records.control import Marker, read_marker
from ottla.rpc.errors import AuthenticationError, BadResponseError, RpcError

_log = logging.getLogger(__name__)

LAST_WITHOUT_IDS = 12
"""Of Fetch: the last version that names topics."""
FIRST_THAT_CHECKS = 12
"""Of Fetch: the first in which a leader is told the last record's epoch."""


class Fetcher:
    def __init__(
        self,
        world: World,
        cluster: Cluster,
        settings: ConsumerSettings,
        states: dict[TopicPartition, PartitionState],
        told: Callable[[], None],
    ) -> None:
        """`states` is the consumer's, live; `told` is called when there is something to poll, or
        a position to be found."""
        self._world = world
        self._cluster = cluster
        self._settings = settings
        self._states = states
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[int, FetchSession] = {}
        self._in_flight: dict[int, None] = {}
        self._muted_until: dict[int, float] = {}
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        cluster.on_change.append(self.turn_soon)
        cluster.on_refused.append(self._refuses)

    def close(self) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def turn_soon(self) -> None:
        if not self._is_due and not self._is_closed:
            self._is_due = True
            self._loop.call_soon(self._turn)

    # ---- asking

    def _turn(self) -> None:
        self._is_due = False
        if self._is_closed:
            return
        try:
            self._take_turn()
        except Exception as error:
            # A bug of ours: the next read raises it, rather than wait for ever.
            _log.exception("the fetcher failed")
            for state in self._states.values():
                state.error = error
            self._told()

    def _take_turn(self) -> None:
        now = self._world.clock.monotonic()
        next_at = now + 3_600.0
        by_node: dict[int, dict[TopicPartition, Wanted]] = {}
        for key, state in self._states.items():
            if state.stops or state.position is None or state.error is not None:
                continue
            if state.buffered_bytes >= self._settings.max_partition_fetch_bytes:
                continue
            if state.blocked_until > now:
                next_at = min(next_at, state.blocked_until)
                continue
            partition = self._partition(state)
            if partition is None:
                continue
            node = partition.leader
            if state.read_replica in self._cluster.nodes and now < state.read_replica_until:
                node = state.read_replica
            by_node.setdefault(node, {})[key] = Wanted(
                state.fetch_offset,
                partition.leader_epoch,
                state.turn,
                state.topic_id,
                -1 if state.checked_epoch == partition.leader_epoch else state.last_epoch,
            )
        for node, wanted_there in by_node.items():
            if node in self._in_flight:
                continue
            if self._muted_until.get(node, 0.0) > now:
                next_at = min(next_at, self._muted_until[node])
                continue
            self._fetch(node, wanted_there)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, next_at - now), self.turn_soon)

    def _partition(self, state: PartitionState) -> PartitionView | None:
        """What is known of a partition that can be fetched from."""
        topic, index = state.key
        view = self._cluster.topics.get(topic)
        if view is None or self._cluster.leader_of(topic, index) < 0:
            code = self._cluster.topic_errors.get(topic, ErrorCode.NONE)
            if code and code not in RETRIABLE:
                self._block([state.key])
                self._fail(state, KafkaError(code, f"topic {topic!r}: {code.name}"))
            self._cluster.refresh_soon()
            return None
        if view.id != state.topic_id != ZERO_UUID and view.id != ZERO_UUID:
            if not state.is_in_use:  # what came of the former topic is dealt with before
                self._reset(state, "the topic was deleted and made anew")
                state.topic_id = view.id
            return None
        state.topic_id = view.id
        return view.partitions[index]

    def _refuses(self, node: int, failure: AuthenticationError) -> None:
        """The node (-1: whoever knows which) will not have us: the next read raises that."""
        for state in list(self._states.values()):
            if node >= 0 and state.read_replica == node:
                state.read_replica = -1
            elif state.error is None and self._cluster.leader_of(*state.key) == node:
                self._fail(state, failure.__class__(*failure.args))

    def _fetch(self, node: int, wanted: dict[TopicPartition, Wanted]) -> None:
        channel = self._cluster.channel(node)
        if channel is None:
            return
        session = self._sessions.setdefault(node, FetchSession())
        uses_ids = all(each.topic_id != ZERO_UUID for each in wanted.values())
        last = None if uses_ids else LAST_WITHOUT_IDS
        if channel.versions.pick(ApiKey.FETCH, last) < FIRST_THAT_CHECKS:
            wanted = {key: each._replace(last_epoch=-1) for key, each in wanted.items()}
        plan = session.plan(wanted, uses_ids=uses_ids)
        try:
            answer = channel.send(
                self._request(plan),
                last=last,
                timeout_ms=self._settings.request_timeout_ms + self._settings.fetch_max_wait_ms,
            )
        except RpcError as failure:
            self._failed(node, wanted, failure)
            return
        self._in_flight[node] = None
        answer.add_done_callback(lambda done: self._answered(node, wanted, done.result()))

    def _request(self, plan: Plan) -> FetchRequest:
        settings = self._settings
        topics: dict[str, FetchTopic] = {}
        for key, wanted in plan.named.items():
            rows = topics.setdefault(
                key.topic,
                FetchTopic(topic=key.topic, topic_id=wanted.topic_id, partitions=[]),
            )
            rows.partitions.append(
                FetchPartition(
                    partition=key.partition,
                    current_leader_epoch=wanted.leader_epoch,
                    fetch_offset=wanted.fetch_offset,
                    last_fetched_epoch=wanted.last_epoch,
                    partition_max_bytes=settings.max_partition_fetch_bytes,
                )
            )
        forgotten = [
            ForgottenTopic(topic=key.topic, topic_id=topic_id, partitions=[key.partition])
            for key, topic_id in plan.forgotten
        ]
        return FetchRequest(
            max_wait_ms=settings.fetch_max_wait_ms,
            min_bytes=settings.fetch_min_bytes,
            max_bytes=settings.fetch_max_bytes,
            isolation_level=settings.isolation,
            session_id=plan.session_id,
            session_epoch=plan.epoch,
            topics=list(topics.values()),
            forgotten_topics_data=forgotten,
            rack_id=settings.client_rack,
        )

    # ---- answers

    def _answered(
        self, node: int, wanted: dict[TopicPartition, Wanted], answer: Response | RpcError
    ) -> None:
        del self._in_flight[node]
        if isinstance(answer, FetchResponse):
            self._take(node, wanted, answer)
        else:
            self._failed(node, wanted, answer)
        self._turn()  # the next fetch is under way before anybody works on what this one brought
        self._told()

    def _failed(self, node: int, wanted: Iterable[TopicPartition], failure: object) -> None:
        _log.info("fetch from node %d: %s", node, failure)
        if node in self._sessions:
            self._sessions[node].lost()
        self._block(wanted)
        self._cluster.refresh_soon()
        if isinstance(failure, BadResponseError):
            state = next((self._states[key] for key in wanted if key in self._states), None)
            if state is not None:
                self._fail(state, BadAnswerError(f"fetch from node {node}: {failure}"))

    def _block(self, keys: Iterable[TopicPartition]) -> None:
        until = self._world.clock.monotonic() + self._settings.retry_backoff_ms / 1_000
        for key in keys:
            state = self._states.get(key)
            if state is not None:
                state.blocked_until = until
                state.read_replica = -1

    def _take(
        self, node: int, wanted: dict[TopicPartition, Wanted], response: FetchResponse
    ) -> None:
        if response.throttle_time_ms > 0:
            now = self._world.clock.monotonic()
            self._muted_until[node] = now + response.throttle_time_ms / 1_000
        if response.error_code:
            self._failed(node, wanted, code_of(response.error_code).name)
            return
        self._sessions[node].answered(response.session_id)
        for topic in response.responses:
            name = topic.topic or self._cluster.name_of(topic.topic_id) or ""
            for row in topic.partitions:
                key = TopicPartition(name, PartitionIndex(row.partition_index))
                state, asked = self._states.get(key), wanted.get(key)
                if state is None or asked is None:
                    continue
                # Otherwise the consumer has gone elsewhere since, or another node has answered.
                if (state.turn, state.fetch_offset) == (asked.turn, asked.fetch_offset):
                    is_from_replica = node != self._cluster.leader_of(*key)
                    self._take_row(state, asked, row, is_from_replica=is_from_replica)

    def _take_row(
        self, state: PartitionState, asked: Wanted, row: PartitionData, *, is_from_replica: bool
    ) -> None:
        code = code_of(row.error_code)
        if code:
            self._refused(state, code, is_from_replica=is_from_replica)
            return
        state.high_watermark = row.high_watermark
        state.last_stable_offset = row.last_stable_offset
        if row.diverging_epoch is not None:
            self._diverged(state, row.diverging_epoch)
            return
        if row.preferred_read_replica >= 0:
            state.read_replica = row.preferred_read_replica
            age_s = self._settings.metadata_max_age_ms / 1_000
            state.read_replica_until = self._world.clock.monotonic() + age_s
            return
        state.checked_epoch = asked.leader_epoch
        if not isinstance(row.records, memoryview) or not row.records:
            return
        try:
            self._buffer(state, asked, row, row.records)
        except KafkaError as error:
            where = f"{state.key} from offset {state.fetch_offset}"
            state.error = KafkaError(error.code, f"{where}: {error.message}")

    def _fail(self, state: PartitionState, error: Exception) -> None:
        """The next read that comes to this partition raises it."""
        state.error = error
        self._told()

    def _diverged(self, state: PartitionState, end: EpochEndOffset) -> None:
        """The log was truncated: what is buffered may not be in it. Who has read past where it
        diverges is told, or sent back there, and further to what was not done by then."""
        position = state.position or 0
        if position > end.end_offset and self._settings.auto_offset_reset == "none":
            message = f"{state.key}: the log was truncated to {end.end_offset}, before {position}"
            self._block([state.key])
            self._fail(state, LogTruncatedError(message, offset=end.end_offset))
            return
        _log.warning("%s: the log was truncated to %d", state.key, end.end_offset)
        if position <= end.end_offset:
            state.fetch_anew(end.epoch)
        else:
            done = position if state.done is None else state.done
            state.seek(min(done, end.end_offset), epoch=end.epoch)
        self._told()

    def _buffer(
        self, state: PartitionState, asked: Wanted, row: PartitionData, data: memoryview
    ) -> None:
        aborted = sorted(
            ((each.first_offset, each.producer_id) for each in row.aborted_transactions or ()),
            reverse=True,
        )
        ended: set[int] = set()
        for batch in split_batches(data, check_crcs=self._settings.check_crcs):
            header = batch.header
            if header.last_offset < asked.fetch_offset:
                continue
            while aborted and aborted[-1][0] <= header.last_offset:
                ended.add(aborted.pop()[1])
            if header.is_control:
                marker = _marker_of(batch) if header.producer_id in ended else None
                if marker is not None and not marker.committed:
                    ended.discard(header.producer_id)
                batch = _left_out(batch)
            elif header.is_transactional and header.producer_id in ended:
                batch = _left_out(batch)
            state.add(batch)

    def _refused(self, state: PartitionState, code: ErrorCode, *, is_from_replica: bool) -> None:
        if code is ErrorCode.OFFSET_OUT_OF_RANGE:
            # What came is still good; and a follower may only be behind: ask the leader.
            if not state.is_in_use and not is_from_replica:
                self._reset(state, f"offset {state.fetch_offset} is not there")
        elif code in RETRIABLE and code is not ErrorCode.CORRUPT_MESSAGE:
            if code in STALE_METADATA:
                self._cluster.refresh_soon()
        else:
            where = f"{state.key} from offset {state.fetch_offset}"
            self._fail(state, KafkaError(code, f"{where}: {code.name}"))
        self._block([state.key])

    def _reset(self, state: PartitionState, cause: str) -> None:
        """The position is none: find another, as the policy says."""
        policy = self._settings.reset_to(self._world.clock.time_ms())
        if policy is None:
            self._fail(state, NoOffsetError(f"{state.key}: {cause}"))
            return
        _log.warning("%s: %s: %s", state.key, cause, self._settings.auto_offset_reset)
        state.seek(None, policy)
        self._told()


def _left_out(batch: FetchedBatch) -> FetchedBatch:
    """A batch that only moves the offset. It keeps no frame alive, and counts as its header does:
    who does not read fetches no endless row of them."""
    header = memoryview(bytes(batch.data[:HEADER_BYTES]))
    return FetchedBatch(batch.header._replace(record_count=0), header)


def _marker_of(batch: FetchedBatch) -> Marker | None:
    for record in batch.records():
        return read_marker(record)
    return None
