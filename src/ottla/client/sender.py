"""The sender: takes batches from the lanes to the brokers that lead them, and answers back.

A turn is one call on the loop, made when something may have changed: a batch was opened or is
full, an answer came, a connection stands, metadata are new, a timer is due. It looks at the lanes
that hold anything, closes what has lingered, and sends what may be sent: to each leader one
request at a time with at most one batch of each partition, five requests in flight. Sending is
one call that never waits (`Channel.send`), so batches leave in the order in which lanes give them.
A lane that was served goes behind the others, so that none starves where a request is too small
for all of them.

What takes long happens beside it: connecting, getting a producer id, compressing a large batch
(on a helper thread; a batch is sent when that is done).

With acks=0 nothing is answered, so a node is sent more only when it has taken nearly all that went
before: else what a slow one does not read would pile up outside of `buffer_memory`. A node that
throttles is sent nothing until the time that it asked for is over (KIP-219).
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID
from ottla.base.world import World
from ottla.client.batch import NO_SEQUENCE, Batch
from ottla.client.cluster import Cluster
from ottla.client.delivery import Waiters
from ottla.client.errors import RETRIABLE, STALE_METADATA, code_of, raise_for
from ottla.client.lane import Lane
from ottla.client.offsets import CONCURRENT_PAUSE_S
from ottla.client.producer_settings import ProducerSettings
from ottla.protocol.message import Response
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from ottla.records.compression import compress
from ottla.rpc.channel import Channel
from ottla.rpc.errors import AuthenticationError, RpcError, VersionMismatchError

_log = logging.getLogger(__name__)

OFFLOADED_BYTES: Final = 64 * 1024
"""From this size on a batch is compressed on a helper thread."""
LAST_WITHOUT_IDS: Final = 12
"""Of Produce: the last version that names topics."""
LAST_OF_FIRST_TRANSACTIONS: Final = 11
"""Of Produce: from the next one on it adds its partitions to the transaction (KIP-890)."""
PRODUCER_ID_TIMEOUT_MS: Final = 60_000

Sent = list[tuple[Lane, Batch]]


class Sender:
    def __init__(self, world: World, cluster: Cluster, settings: ProducerSettings) -> None:
        self._world = world
        self._cluster = cluster
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[Lane, None] = {}
        """Those that hold anything."""
        self._in_flight: dict[int, int] = {}
        self._posted: dict[int, Channel] = {}
        """acks=0: where requests went, by node."""
        self._muted_until: dict[int, float] = {}
        self._identifying: asyncio.Task[None] | None = None
        self._producer = (NO_SEQUENCE, NO_SEQUENCE)
        """(producer id, epoch)."""
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._quiet = Waiters()
        self.admits: Callable[[Lane], bool] | None = None
        """Of a transactional producer: whether a lane may send now."""
        self.is_second_version: Callable[[], bool] = lambda: False
        self.hurries_count = 0
        """Who waits for what is there to leave: while above 0 nothing lingers."""
        cluster.on_change.append(self.turn_soon)
        cluster.on_refused.append(self._refused)

    def close(self) -> None:
        """Stop; what is in the lanes stays there."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._identifying is not None:
            self._identifying.cancel()

    async def wait_quiet(self) -> None:
        """Until no request is under way, nor one without an answer that is not written yet."""
        channels = self._posted.values()
        while any(self._in_flight.values()) or any(each.unsent_bytes for each in channels):
            await self._quiet.wait()

    # ---- being told

    def take_producer(self, producer_id: int, epoch: int) -> None:
        """What lanes send with that have no producer id yet."""
        self._producer = producer_id, epoch

    def active(self, lane: Lane) -> None:
        """The lane holds something: it has a new batch."""
        self._lanes[lane] = None
        self.turn_soon()

    def closed(self, batch: Batch) -> None:
        """A batch takes no more records: make its payload, here or on a helper thread."""
        codec, level = self._settings.codec, self._settings.codec_level
        if not codec:
            batch.payload = batch.body
        elif len(batch.body) < OFFLOADED_BYTES:
            self._compressed(batch, compress(codec, batch.body, level), None)
        else:
            body = bytes(batch.body)
            self._world.offload.submit(
                lambda: compress(codec, body, level), partial(self._compressed, batch)
            )
        self.turn_soon()

    def _compressed(self, batch: Batch, packed: bytes | None, error: BaseException | None) -> None:
        if batch.is_settled:
            return
        if packed is None:
            _log.warning("%s is sent uncompressed: %s", batch, error)
            batch.payload = batch.body
        else:
            batch.codec, batch.payload = self._settings.codec, packed
        self.turn_soon()

    def turn_soon(self) -> None:
        if not self._is_due and not self._is_closed:
            self._is_due = True
            self._loop.call_soon(self._turn)

    def _turn_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, when - self._world.clock.monotonic())
        self._timer = self._loop.call_later(delay, self.turn_soon)

    # ---- a turn

    def _turn(self) -> None:
        self._is_due = False
        self._quiet.wake()
        if self._is_closed:
            return
        try:
            self._take_turn()
        except Exception as error:
            # A bug of ours. Nobody may wait for ever for deliveries that nobody sends.
            _log.exception("the sender failed")
            self._fail_lanes(f"the sender failed: {error!r}", None)

    def _take_turn(self) -> None:
        now = self._world.clock.monotonic()
        next_at = now + 3_600.0
        by_leader: dict[int, list[Lane]] = {}
        for lane in list(self._lanes):
            lane.expire(now)
            lane.mend()
            if lane.is_idle:
                del self._lanes[lane]
                continue
            next_at = min(next_at, self._prepare(lane, now))
            if self.admits is not None and not self.admits(lane):
                continue  # until `turn_soon` is called
            leader = self._cluster.leader_of(lane.topic, lane.partition)
            if leader < 0:
                self._cluster.refresh_soon()
            elif lane.needs_producer_id and not self._gives_producer_id(lane):
                self._identify_soon()
            else:
                lane.meet(self._cluster.topics[lane.topic].id)
                by_leader.setdefault(leader, []).append(lane)
        for leader, lanes in by_leader.items():
            next_at = min(next_at, self._serve(leader, lanes, now))
        self._turn_at(next_at)

    def _prepare(self, lane: Lane, now: float) -> float:
        """Close what has lingered; when this lane wants to be looked at again."""
        batch = lane.open
        next_at = lane.blocked_until if lane.blocked_until > now else now + 3_600.0
        if batch is not None and batch.count:
            due_at = batch.created_at + self._settings.linger_ms / 1_000
            if self.hurries_count or due_at <= now:
                # While it could not be sent anyway, it goes on gathering.
                if not lane.ready and now >= lane.blocked_until and lane.may_send:
                    lane.close_open()
                    self.closed(batch)
            else:
                next_at = min(next_at, due_at)
        return min(next_at, lane.next_deadline)

    def _serve(self, leader: int, lanes: list[Lane], now: float) -> float:
        """Send to one node what it may be sent; when to look again at the latest."""
        muted_until = self._muted_until.get(leader, 0.0)
        if now < muted_until:
            return muted_until
        channel = self._cluster.channel(leader)
        if channel is None:
            return now + 3_600.0
        while self._may_send(leader, channel):
            sent = self._take(lanes, now)
            if not sent:
                break
            self._send(leader, channel, sent)
        return now + 3_600.0

    def _may_send(self, leader: int, channel: Channel) -> bool:
        if not channel.is_open:
            return False
        settings = self._settings
        if settings.acks_number:
            return self._in_flight.get(leader, 0) < settings.max_in_flight_requests_per_connection
        self._posted[leader], channel.on_drained = channel, self.turn_soon
        return channel.unsent_bytes < settings.max_request_size

    def _take(self, lanes: list[Lane], now: float) -> Sent:
        """A batch of each lane that has one, as many as fit into a request; those lanes go behind
        the others."""
        sent: Sent = []
        left: list[Lane] = []
        room = self._settings.max_request_size
        for lane in lanes:
            head = lane.head
            fits = head is None or not sent or head.sent_bytes <= room
            batch = lane.next_batch(now) if fits else None
            if batch is None:
                left.append(lane)
            else:
                room -= batch.sent_bytes
                sent.append((lane, batch))
                self._lanes[lane] = self._lanes.pop(lane)
        lanes[:] = [*left, *(lane for lane, _ in sent)]
        return sent

    def _send(self, leader: int, channel: Channel, sent: Sent) -> None:
        request, last = self._request(sent)
        try:
            if not self._settings.acks_number:
                channel.post(request, last=last)
                for lane, batch in sent:
                    lane.acknowledged(batch, -1)
                return
            answer = channel.send(request, last=last)
        except RpcError as failure:
            self._lost(sent, failure)
            return
        self._in_flight[leader] = self._in_flight.get(leader, 0) + 1
        answer.add_done_callback(lambda done: self._answered(leader, sent, done.result()))

    def _request(self, sent: Sent) -> tuple[ProduceRequest, int | None]:
        settings = self._settings
        is_transactional = settings.transactional_id is not None
        topics: dict[str, TopicProduceData] = {}
        last = None
        for _, batch in sent:
            rows = topics.get(batch.topic)
            if rows is None:
                view = self._cluster.topics.get(batch.topic)
                topic_id = ZERO_UUID if view is None else view.id
                if topic_id == ZERO_UUID:
                    last = LAST_WITHOUT_IDS
                rows = topics[batch.topic] = TopicProduceData(
                    name=batch.topic, topic_id=topic_id, partition_data=[]
                )
            records = batch.sealed(transactional=is_transactional)
            rows.partition_data.append(PartitionProduceData(index=batch.partition, records=records))
        if is_transactional and not self.is_second_version():
            last = LAST_OF_FIRST_TRANSACTIONS
        request = ProduceRequest(
            transactional_id=settings.transactional_id,
            acks=settings.acks_number,
            timeout_ms=settings.request_timeout_ms,
            topic_data=list(topics.values()),
        )
        return request, last

    # ---- answers

    def _answered(self, leader: int, sent: Sent, answer: Response | RpcError) -> None:
        self._in_flight[leader] -= 1
        self._quiet.wake()
        if isinstance(answer, ProduceResponse):
            self._take_answer(leader, sent, answer)
        else:
            self._lost(sent, answer if isinstance(answer, RpcError) else RpcError("no answer"))
        self.turn_soon()

    def _take_answer(self, leader: int, sent: Sent, response: ProduceResponse) -> None:
        now = self._world.clock.monotonic()
        if response.throttle_time_ms > 0:
            self._muted_until[leader] = now + response.throttle_time_ms / 1_000
        rows: dict[tuple[str, int], PartitionProduceResponse] = {}
        for topic in response.responses:
            name = topic.name or self._cluster.name_of(topic.topic_id) or ""
            for row in topic.partition_responses:
                rows[name, row.index] = row
        is_stale = False
        for lane, batch in sent:
            if batch.is_settled:
                continue
            answer = rows.get((batch.topic, batch.partition))
            if answer is None:
                lane.unanswered(batch, "the answer leaves it out", now, self._retry_at(lane, now))
                continue
            code = code_of(answer.error_code)
            if not code:
                lane.acknowledged(batch, answer.base_offset, answer.log_append_time_ms)
                continue
            if code is ErrorCode.MESSAGE_TOO_LARGE and (halves := lane.halved(batch)):
                for half in halves:
                    self.closed(half)
                continue
            is_stale = is_stale or code in STALE_METADATA
            retry_at = self._retry_at(lane, now)
            if code is ErrorCode.CONCURRENT_TRANSACTIONS:
                retry_at = min(retry_at, now + CONCURRENT_PAUSE_S)
            lane.refused(batch, code, answer.error_message, now, retry_at)
        if is_stale:
            self._cluster.refresh_soon()

    def _lost(self, sent: Sent, failure: RpcError) -> None:
        now = self._world.clock.monotonic()
        for lane, batch in sent:
            if batch.is_settled:
                continue
            if isinstance(failure, VersionMismatchError):
                lane.fail_all(str(failure), ErrorCode.UNSUPPORTED_VERSION)
            elif failure.is_uncertain:
                lane.unanswered(batch, str(failure), now, self._retry_at(lane, now))
            else:
                lane.not_sent(batch)
        self._cluster.refresh_soon()

    def _refused(self, leader: int, failure: AuthenticationError) -> None:
        """The leader (-1: whoever knows it) will not have us: what waits for it will not leave."""
        for lane in list(self._lanes):
            if self._cluster.leader_of(lane.topic, lane.partition) == leader:
                lane.fail_unsent(str(failure), failure.code)

    def _retry_at(self, lane: Lane, now: float) -> float:
        backoff = self._settings.retry_backoff
        return now + backoff.seconds(lane.failures_count + 1, self._world.rng)

    # ---- beside the turns

    def _identify_soon(self) -> None:
        if self._identifying is None:
            self._identifying = self._loop.create_task(self._identify())

    def _gives_producer_id(self, lane: Lane) -> bool:
        """All lanes share a producer id, but for one that has used up its epochs."""
        producer_id, epoch = self._producer
        if producer_id < 0 or producer_id == lane.used_up_id:
            return False
        lane.take_producer_id(producer_id, epoch)
        return True

    async def _identify(self) -> None:
        """Get a producer id. Without one nothing is sent, so what cannot be had fails it all."""
        failures_count = 0
        try:
            while True:
                try:
                    await self._give_producer_id()
                    return
                except RpcError as failure:
                    _log.info("no producer id yet: %s", failure)
                except KafkaError as failure:
                    if failure.code not in RETRIABLE:
                        self._fail_lanes(f"no producer id: {failure.message}", failure.code)
                        return
                failures_count += 1
                await asyncio.sleep(
                    self._settings.retry_backoff.seconds(failures_count, self._world.rng)
                )
        finally:
            self._identifying = None
            self.turn_soon()

    async def _give_producer_id(self) -> None:
        request = InitProducerIdRequest(
            transactional_id=None, transaction_timeout_ms=PRODUCER_ID_TIMEOUT_MS
        )
        response = await self._cluster.ask_any(request, InitProducerIdResponse)
        raise_for(response.error_code)
        self._producer = response.producer_id, response.producer_epoch

    def _fail_lanes(self, cause: str, code: ErrorCode | None) -> None:
        for lane in list(self._lanes):
            lane.fail_all(cause, code)
