"""Random interleavings of producers, zombies, markers and reloads, in virtual time, and a model.

Three partitions, and two transactional ids. Each has a client, which dies now and then and begins
anew, and a zombie: whatever the client was some time ago, it sends and ends as that. The model
knows nothing of epochs: a transaction counts as committed when its EndTxn was answered so, as
aborted when another end was, and as either where the answer was an error. A client that begins
anew says who it was, or does not, and speaks the cluster's protocol or an older one; an id has
many epochs, or few. When all has come to
rest:

    of each transaction, all of its acknowledged records are visible or none
    committed: all, each once; aborted: none
    what the log was replayed to is what was live
"""

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.options import BrokerSettings
from ottla.coordinator.machine import Outcome
from ottla.coordinator.pending import Pending
from ottla.coordinator.transaction import beginnings, endings, state
from ottla.coordinator.transaction.machine import TransactionMachine
from ottla.coordinator.transaction.markers import MarkerJob
from ottla.coordinator.transaction.state import (
    BUMPING,
    LAST_EPOCH,
    RESTING,
    Producer,
    State,
)
from ottla.records.batch import iterate_headers
from ottla.records.builder import build_batch
from ottla.records.control import Marker, read_marker
from ottla.records.record import Record, iterate_records
from ottla.sim.loop import SimLoop
from tests.coordinator.places import Place

PARTITIONS = 3
SETTINGS = BrokerSettings(transaction_abort_timed_out_transaction_cleanup_interval_ms=500)


class Waiter:
    def __init__(self, done: Any) -> None:
        self.done = done

    def reached(self) -> None:
        self.done(ErrorCode.NONE)

    def closed(self) -> None:
        self.done(ErrorCode.KAFKA_STORAGE_ERROR)


class Cluster:
    """A coordinator and the partitions that it marks, each on a disk of its own."""

    def __init__(self, loop: SimLoop, version: int) -> None:
        self.loop = loop
        self.version = version
        self.logs = [Place(loop) for _ in range(PARTITIONS)]
        for place in self.logs:
            place.partition.is_internal = False
        self.place = Place(loop)
        self.shard = self.place.shard(self._machine)
        self.ids = iter(range(1_000, 10_000))

    def _machine(self, host: Any) -> TransactionMachine:
        def send(marker: Any, places: Any, marked: Any) -> MarkerJob:
            return MarkerJob(self.loop, self, marker, places, marked)

        return TransactionMachine(
            host, lambda: SETTINGS, lambda: self.version, send, lambda: next(self.ids)
        )

    def is_gone(self, topic: str) -> bool:
        return False

    def write(self, marker: Any, place: Any, done: Any) -> None:
        partition = self.logs[place[1]].partition
        try:
            info = partition.append_marker(
                Marker(marker.committed, marker.coordinator_epoch),
                marker.producer_id,
                marker.epoch,
                0,
                is_bumped=marker.is_bumped,
            )
        except KafkaError as error:
            done(error.code)
            return
        if partition.high_watermark > info.last_offset:
            done(ErrorCode.NONE)
        else:
            partition.wait_for_offset(info.last_offset + 1, Waiter(done))

    async def ask(self, operation: Any) -> Any:
        future = self.loop.create_future()
        pending = Pending(KafkaError)
        pending.on_complete = lambda answer: future.done() or future.set_result(answer)
        self.shard.perform(operation, pending)
        answer = await future
        await asyncio.sleep(0)  # as a client that hears of it later
        if isinstance(answer, KafkaError):
            raise answer
        return answer

    def visible(self, index: int) -> list[bytes]:
        """What a read_committed consumer makes of a partition."""
        place = self.logs[index]
        partition, log = place.partition, place.log
        end = partition.last_stable_offset
        found, aborted = partition.read_committed(0, 1 << 24, at_least_one=True)
        if found is None:
            return []
        data = found.file.pread(found.length, found.position)
        coming = sorted(aborted, key=lambda each: each.first_offset)
        aborting: dict[int, None] = {}
        values = []
        for at, header in iterate_headers(data):
            assert header.last_offset < end <= log.log_end_offset
            while coming and coming[0].first_offset <= header.last_offset:
                aborting[coming.pop(0).producer_id] = None
            records = list(iterate_records(data[at : at + header.size_bytes], 1 << 20))
            if header.is_control:
                marker = read_marker(records[0])
                if marker is not None and not marker.committed:
                    aborting.pop(header.producer_id, None)
            elif header.producer_id not in aborting:
                values += [bytes(record.value or b"") for record in records]
        return values


class Client:
    """One that believes to be the producer of an id."""

    def __init__(self, cluster: Cluster, transactional_id: str, rng: Random, book: Any) -> None:
        self.cluster = cluster
        self.id = transactional_id
        self.rng = rng
        self.book = book
        self.producer = Producer(-1, -1)
        self.version = cluster.version
        """The protocol that it speaks in this life; the cluster's, or the first."""
        self.expected: Producer | None = None
        """Who it says that it is when it begins anew (KIP-360)."""
        self.sequences: dict[int, int] = {}
        self.current: dict[str, Any] | None = None
        """What was acknowledged of the transaction that it has open, and its end."""

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            await asyncio.sleep(self.rng.random() * 0.01)
            try:
                await self.step()
            except KafkaError:
                if self.producer.id >= 0 and self.rng.random() < 0.5:
                    self.expected = self.producer
                self.producer = Producer(-1, -1)

    async def step(self) -> None:
        if self.producer.id < 0:
            await self.init()
        elif self.rng.random() < 0.6:
            await self.send()
        elif self.rng.random() < 0.15:
            self.producer = Producer(-1, -1)  # it dies, and what comes next is a new life
        else:
            await self.end()

    async def init(self) -> None:
        timeout_ms = self.rng.choice((30, 60_000))
        expected, self.expected = self.expected, None
        self.version = self.rng.choice((self.cluster.version, min(self.cluster.version, 1)))

        def operation(machine: Any, now_ms: int) -> Outcome:
            return machine.init(self.id, timeout_ms, expected, now_ms)

        answer = await self.cluster.ask(operation)
        if expected is not None and self.rng.random() < 0.3:
            self.expected = expected  # the answer is lost, and it asks once more
            return
        self.producer, self.sequences, self.current = answer, {}, None

    async def send(self) -> None:
        index = self.rng.randrange(PARTITIONS)
        partition = self.cluster.logs[index].partition
        producer, is_bumping = self.producer, self.version >= BUMPING
        sequence = self.sequences.get(index, 0)
        token = partition.begin_verification(*producer)

        def add(machine: Any, now_ms: int) -> Outcome:
            return machine.add(self.id, producer, [("a", index)], self.version, now_ms)

        def verify(machine: Any, now_ms: int) -> Outcome:
            return machine.verify(self.id, producer, [("a", index)])

        if not is_bumping:
            await self.cluster.ask(add)
        if not partition.log.producer_state.has_open(*producer):
            answer = await self.cluster.ask(add if is_bumping else verify)
            if not is_bumping and answer["a", index]:
                raise KafkaError(answer["a", index])
        await asyncio.sleep(self.rng.random() * 0.01)
        value = b"%d" % len(self.book["values"])
        self.book["values"].append(value)
        batch = build_batch(
            [Record(0, 1, None, value)],
            producer_id=producer.id,
            producer_epoch=producer.epoch,
            base_sequence=sequence,
            transactional=True,
        )
        now_ms = self.cluster.place.clock.time_ms()
        data = memoryview(batch)
        try:
            info = partition.append(data, acks_all=True, now_ms=now_ms, version=12, token=token)
        finally:
            partition.end_verification(producer.id, token)
        self.sequences[index] = sequence + 1
        if not info.is_duplicate:  # of what the zombie sent
            self.note(index, value)

    def note(self, index: int, value: bytes) -> None:
        if self.current is None:
            self.current = {"values": [], "end": None}
            self.book["transactions"].append(self.current)
        self.current["values"].append((index, value))

    async def end(self) -> None:
        commit, producer = self.rng.random() < 0.6, self.producer
        version = self.version if self.version >= BUMPING else 0

        def operation(machine: Any, now_ms: int) -> Outcome:
            return machine.end(self.id, producer, commit=commit, version=version, now_ms=now_ms)

        current, self.current = self.current, None
        try:
            answer = await self.cluster.ask(operation)
        except KafkaError:
            if current is not None:
                current["end"] = "either"
            raise
        if current is not None:
            current["end"] = "committed" if commit else "aborted"
        if answer != self.producer:
            self.sequences = {}
        self.producer = answer


class Zombie(Client):
    """What another client was some time ago."""

    def __init__(self, cluster: Cluster, original: Client, rng: Random) -> None:
        super().__init__(cluster, original.id, rng, original.book)
        self.original = original

    async def step(self) -> None:
        self.producer, self.version = self.original.producer, self.original.version
        self.sequences = dict(self.original.sequences)
        await asyncio.sleep(self.rng.random() * self.rng.choice((0.01, 0.1)))
        if self.producer.id < 0:
            return
        if self.rng.random() < 0.8:
            await self.send()
            return
        original = self.original
        try:
            await self.end()
        finally:
            if original.current is not None and original.producer.id == self.producer.id:
                # It may have ended what its original believes to be open.
                original.current["end"], original.current = "either", None

    def note(self, index: int, value: bytes) -> None:
        """Nobody knows what becomes of it."""


async def trouble(cluster: Cluster, rng: Random, count: int) -> None:
    """The coordinator is loaded again, here and there."""
    for _ in range(count):
        await asyncio.sleep(rng.random() * 0.2)
        if cluster.shard.refusal:
            continue
        cluster.shard._load_again(ErrorCode.NOT_COORDINATOR)


async def rest(cluster: Cluster) -> None:
    """Until nothing is open any more: timeouts see to that."""
    while True:
        await asyncio.sleep(1)
        machine = cluster.shard.machine
        if cluster.shard.refusal:
            continue
        if all(each.state in RESTING for each in machine.transactions.values()):
            return
        for each in machine.transactions.values():
            if each.state is State.ONGOING and each.timeout_ms > 1_000:
                each.timeout_ms = 30


def states(cluster: Cluster) -> Any:
    return {
        each.id: (each.producer_id, each.epoch, each.state, dict(each.partitions))
        for each in cluster.shard.machine.transactions.values()
    }


@pytest.fixture(scope="module", params=[LAST_EPOCH, 4], ids=["many epochs", "few epochs"])
def epochs(request: pytest.FixtureRequest) -> Iterator[None]:
    """How many a producer id has: where they are few, ids are replaced all the time."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (state, endings, beginnings):
            patched.setattr(module, "LAST_EPOCH", request.param)
        yield


def play(seed: int, version: int, reloads: int) -> None:
    loop, rng = SimLoop(), Random(seed)
    book: dict[str, Any] = {"values": [], "transactions": []}

    async def test() -> None:
        cluster = Cluster(loop, version)
        clients = [Client(cluster, name, Random(rng.random()), book) for name in "ab"]
        zombies = [Zombie(cluster, each, Random(rng.random())) for each in clients]
        runs = [each.run(60) for each in clients] + [each.run(20) for each in zombies]
        await asyncio.gather(*runs, trouble(cluster, rng, reloads))
        await rest(cluster)
        for place in cluster.logs:
            assert place.partition.last_stable_offset == place.log.log_end_offset, "it hangs"
        seen = [cluster.visible(index) for index in range(PARTITIONS)]
        for values in seen:
            assert len(set(values)) == len(values), "doubled"
        for each in book["transactions"]:
            shown = [value in seen[index] for index, value in each["values"]]
            assert all(shown) or not any(shown), "torn"
            if each["end"] == "committed":
                assert all(shown), "lost"
            elif each["end"] == "aborted":
                assert not any(shown), "aborted, and seen"
        before = states(cluster)
        cluster.shard._load_again(ErrorCode.NOT_COORDINATOR)
        while cluster.shard.refusal:
            await asyncio.sleep(0.01)
        assert states(cluster) == before

    loop.run(test())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), version=st.sampled_from((0, 1, 2)), reloads=st.integers(0, 4))
def test_no_transaction_is_torn(epochs: None, seed: int, version: int, reloads: int) -> None:
    play(seed, version, reloads)
