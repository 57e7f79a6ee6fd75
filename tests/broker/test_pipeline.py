"""The Session alone: a connection without a socket, handlers that do as the test wants."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.base import limits
from ottla.base.errors import BugError, ErrorCode, KafkaError
from ottla.broker import pipeline
from ottla.broker.context import CloseConnection
from ottla.broker.pipeline import Session
from ottla.broker.registry import ENDPOINTS, Endpoint
from ottla.protocol.messages.fetch import FetchResponse
from ottla.protocol.messages.find_coordinator import FindCoordinatorResponse
from ottla.protocol.messages.metadata import MetadataResponse
from ottla.protocol.messages.produce import ProduceResponse
from ottla.protocol.registry import ApiKey
from ottla.replica.purgatory import Parked
from tests.fuzz.bench import PEER, FakeConnection
from tests.fuzz.valid import frame_of, sized

VERSIONS = {ApiKey.PRODUCE: 9, ApiKey.FETCH: 12, ApiKey.METADATA: 9, ApiKey.FIND_COORDINATOR: 3}
ANSWERS: dict[ApiKey, Any] = {
    ApiKey.PRODUCE: ProduceResponse(responses=[]),
    ApiKey.FETCH: FetchResponse(responses=[]),
    ApiKey.METADATA: MetadataResponse(brokers=[], topics=[]),
    ApiKey.FIND_COORDINATOR: FindCoordinatorResponse(),
}


class Waiting(Parked):
    """A parked request that a test completes."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__()
        self.key = key
        self.is_abandoned = False

    def finish(self) -> None:
        complete, self.on_complete = self.on_complete, None
        assert complete is not None
        complete(ANSWERS[self.key])

    def expire(self) -> None:
        self.finish()

    def abandon(self) -> None:
        self.is_abandoned = True
        self.on_complete = None


class Patient(Waiting):
    is_patient = True


class NoReplicas:
    """No partition is led here, so that every Produce goes the whole way to its handler."""

    def leader_of(self, topic: str | bytes, index: int) -> Any:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


class Services:
    replicas = NoReplicas()
    shapes_left = 1_000

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop


class Stage:
    """A session, and what its handlers were asked. A handler does what `plan` holds for its key:
    answers at once (the default), parks, waits for a future, raises or says nothing."""

    def __init__(self, frame_cap: int = 10_000) -> None:
        self.loop = asyncio.get_running_loop()
        self.plan: dict[ApiKey, Any] = {}
        self.handled: list[tuple[ApiKey, int]] = []
        self.parked: list[Waiting] = []
        self.stops: list[BaseException] = []
        self.forgotten: list[Session] = []
        self.connection = FakeConnection(self.loop)
        self.connection.forbids_views = False  # an error that a test holds has its frames
        self.session = self.connection.session = Session(
            self.connection,
            frame_cap=frame_cap,
            stop_node=self.stops.append,
            forget=self.forgotten.append,
        )
        self._number = 0

    def serve(self) -> None:
        self.session.serve(Services(self.loop))  # type: ignore[arg-type]

    def handler(self, key: ApiKey) -> Callable[..., Any]:
        def handle(context: Any, request: Any) -> Any:
            self.handled.append((key, context.api_version))
            do = self.plan.get(key)
            if isinstance(do, Exception):
                raise do
            if isinstance(do, type):
                self.parked.append(do(key))
                return self.parked[-1]
            if do is not None:
                return do(request)
            return ANSWERS[key]

        return handle

    def ask(self, *keys: ApiKey, **values: Any) -> None:
        """Requests arrive, all at once; correlation ids count from 1."""
        data = b""
        for key in keys:
            self._number += 1
            data += frame_of(key, VERSIONS[key], correlation_id=self._number, **values)
        self.connection.give(data)

    @property
    def answered(self) -> list[int]:
        return [int.from_bytes(frame[:4], "big") for frame in self.connection.frames()]

    @property
    def handled_keys(self) -> list[ApiKey]:
        return [key for key, _ in self.handled]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def on_stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a coroutine function of a Stage."""

    def run(test: Callable[[Stage], Awaitable[None]], frame_cap: int = 10_000) -> None:
        async def main() -> None:
            stage = Stage(frame_cap)
            for key in VERSIONS:
                planted = Endpoint("planted", pipelined=ENDPOINTS[key].pipelined)
                planted._handler = stage.handler(key)
                monkeypatch.setitem(ENDPOINTS, key, planted)
            stage.serve()
            await turns()
            await test(stage)

        asyncio.run(main())

    return run


PRODUCE, FETCH, METADATA = ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.METADATA


# --- order ------------------------------------------------------------------------------------


def test_what_is_ready_leaves_at_once_and_in_order(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        stage.ask(PRODUCE, FETCH, METADATA, PRODUCE, METADATA)
        assert stage.answered == [1, 2, 3, 4, 5]

    on_stage(test)


def test_replies_wait_for_the_ones_before(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        stage.plan[PRODUCE] = Waiting
        stage.ask(PRODUCE, FETCH, PRODUCE, FETCH)
        assert stage.handled_keys == [PRODUCE, FETCH, PRODUCE, FETCH]
        assert stage.answered == []
        stage.parked[1].finish()
        assert stage.answered == []
        stage.parked[0].finish()
        assert stage.answered == [1, 2, 3, 4]
        assert stage.session.is_idle

    on_stage(test)


def test_a_barrier_waits_for_all_before_it(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        stage.plan[PRODUCE] = Waiting
        stage.ask(PRODUCE, PRODUCE, METADATA, FETCH)
        assert stage.handled_keys == [PRODUCE, PRODUCE]
        assert stage.connection.is_paused
        stage.parked[0].finish()
        await turns()
        assert stage.handled_keys == [PRODUCE, PRODUCE]
        stage.parked[1].finish()
        await turns()
        assert stage.handled_keys == [PRODUCE, PRODUCE, METADATA, FETCH]
        assert stage.answered == [1, 2, 3, 4]

    on_stage(test)


def test_all_after_a_barrier_wait_for_it(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        done: asyncio.Future[Any] = stage.loop.create_future()

        async def slowly(request: Any) -> Any:
            return await done

        stage.plan[METADATA] = slowly
        stage.ask(METADATA, PRODUCE)
        await turns()
        assert stage.handled_keys == [METADATA]
        stage.ask(FETCH)
        assert stage.answered == []
        done.set_result(ANSWERS[METADATA])
        await turns()
        assert stage.answered == [1, 2, 3]

    on_stage(test)


def test_output_that_drains_does_not_end_a_barrier(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        done: asyncio.Future[Any] = stage.loop.create_future()

        async def slowly(request: Any) -> Any:
            return await done

        stage.plan[METADATA] = slowly
        stage.ask(METADATA, PRODUCE)
        stage.session.drained()
        await turns()
        assert stage.handled_keys == [METADATA]
        done.set_result(ANSWERS[METADATA])
        await turns()
        assert stage.answered == [1, 2]

    on_stage(test)


def test_in_flight_requests_are_capped(on_stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(stage: Stage) -> None:
        monkeypatch.setattr(limits, "CONNECTION_IN_FLIGHT_COUNT", 3)
        stage.plan[FETCH] = Waiting
        stage.ask(*[FETCH] * 8)
        for most in (3, 6, 8):
            assert len(stage.handled) == most
            for parked in stage.parked[-(most - len(stage.answered)) :]:
                parked.finish()
            await turns()
        assert stage.answered == list(range(1, 9))

    on_stage(test)


def test_no_reply_takes_no_place(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        stage.plan[PRODUCE] = lambda request: None
        stage.ask(PRODUCE, FETCH, PRODUCE, METADATA)
        assert stage.answered == [2, 4]

    on_stage(test)


# --- reading and not reading ------------------------------------------------------------------


def test_an_unfinished_frame_is_left(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        frame = frame_of(METADATA, 9)
        for byte in frame[:-1]:
            stage.connection.give(bytes([byte]))
            assert not stage.handled
        stage.connection.give(frame[-1:] + frame[:5])
        assert stage.answered == [7]
        assert stage.connection.tail == frame[:5]

    on_stage(test)


def test_nothing_is_read_before_the_node_serves() -> None:
    async def main() -> None:
        stage = Stage()
        assert stage.connection.is_paused
        stage.serve()
        assert not stage.connection.is_paused

    asyncio.run(main())


def test_who_does_not_read_is_not_read(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        stage.connection.unsent_bytes = limits.CONNECTION_OUTPUT_BYTES + 1
        stage.ask(METADATA, METADATA)
        assert len(stage.handled) == 1
        stage.session.drained()
        await turns()
        assert len(stage.handled) == 1, "still too much is unsent"
        stage.connection.unsent_bytes = 0
        stage.session.drained()
        await turns()
        assert stage.answered == [1, 2]

    on_stage(test)


def test_a_stage_before_authentication_takes_small_frames_alone(on_stage: Any) -> None:
    cap = limits.FRAME_UNAUTHENTICATED_BYTES

    async def test(stage: Stage) -> None:
        stage.connection.give(sized(frame_of(METADATA, 9)[4:].ljust(cap, b"\0")))
        assert stage.answered == [7]

    on_stage(test, frame_cap=cap)

    async def too_large(stage: Stage) -> None:
        stage.connection.give((cap + 1).to_bytes(4, "big"))
        assert stage.connection.is_closed

    on_stage(too_large, frame_cap=cap)

    async def raised(stage: Stage) -> None:
        stage.session.frame_cap = 1 << 20
        stage.connection.give((cap + 1).to_bytes(4, "big"))
        assert not stage.connection.is_closed

    on_stage(raised, frame_cap=cap)


# --- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [-1, 0, limits.FRAME_MIN_BYTES - 1, 10_001, 2**31 - 1])
def test_a_hostile_length_closes_with_one_line(
    size: int, on_stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(stage: Stage) -> None:
        data = size.to_bytes(4, "big", signed=True)
        stage.connection.give(data + frame_of(METADATA, 9))
        assert stage.connection.is_closed
        assert not stage.connection.tail
        stage.connection.give(frame_of(METADATA, 9))
        await turns()
        assert not stage.handled
        assert stage.forgotten == [stage.session]

    on_stage(test)
    assert caplog.messages == [f"{PEER}: connection closed: frame of {size} bytes"]


def test_answers_before_a_bad_frame_leave(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        stage.connection.give(frame_of(METADATA, 9) + bytes(20))
        assert stage.answered == [7]
        assert stage.connection.is_closed

    on_stage(test)


def test_a_handler_closes(on_stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(stage: Stage) -> None:
        stage.plan[PRODUCE] = CloseConnection("no way to answer")
        stage.ask(PRODUCE, METADATA)
        assert stage.connection.is_closed
        assert stage.handled_keys == [PRODUCE]
        assert not stage.stops

    on_stage(test)
    assert caplog.messages == [f"{PEER}: connection closed: no way to answer"]


async def breaks(request: Any) -> Any:
    raise ZeroDivisionError("later")


def answers_what_cannot_be_sent(request: Any) -> Any:
    nothing: Any = None
    return MetadataResponse(brokers=nothing, topics=[])


@pytest.mark.parametrize("do", [ZeroDivisionError("now"), breaks, answers_what_cannot_be_sent])
def test_a_handler_that_breaks_ends_its_connection_alone(
    do: Any, on_stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(stage: Stage) -> None:
        stage.plan[METADATA] = do
        stage.ask(METADATA, METADATA)
        await turns()
        assert stage.connection.is_closed
        assert stage.answered == []
        assert not stage.stops

    on_stage(test)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"{PEER}: METADATA failed; connection closed"
    assert record.exc_info


def test_a_failed_check_stops_the_node(on_stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(stage: Stage) -> None:
        bug = BugError("cannot be")
        stage.plan[PRODUCE] = bug
        stage.ask(PRODUCE)
        assert stage.stops == [bug]
        assert stage.connection.is_closed

    on_stage(test)
    assert len(caplog.records) == 1


def test_a_lost_connection_lets_go_of_everything(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        stage.plan[PRODUCE] = Waiting
        stage.ask(PRODUCE, PRODUCE)
        stage.session.lost("reset")
        assert [parked.is_abandoned for parked in stage.parked] == [True, True]
        assert stage.session.is_idle
        assert stage.forgotten == [stage.session]

    on_stage(test)


def test_a_lost_connection_cancels_its_task(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        ended: list[str] = []

        async def long(request: Any) -> Any:
            try:
                await stage.loop.create_future()
            finally:
                ended.append("cancelled")

        stage.plan[METADATA] = long
        stage.ask(METADATA)
        await turns()
        stage.session.lost("reset")
        await turns()
        assert ended == ["cancelled"]
        assert stage.answered == []

    on_stage(test)


def test_a_stop_answers_the_patient_and_waits_for_the_rest(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        stage.plan[PRODUCE], stage.plan[FETCH] = Waiting, Patient
        stage.ask(PRODUCE, FETCH)
        stage.session.finish()
        assert not stage.session.is_idle
        assert stage.answered == []
        stage.ask(METADATA)
        stage.parked[0].finish()
        await turns()
        assert stage.answered == [1, 2]
        assert stage.session.is_idle
        assert METADATA not in stage.handled_keys, "no new request is taken"

    on_stage(test)


def test_api_versions_that_nobody_knows_is_answered_in_version_0(on_stage: Any) -> None:
    async def test(stage: Stage) -> None:
        frame = bytearray(frame_of(ApiKey.API_VERSIONS, 3))
        frame[6:8] = (77).to_bytes(2, "big")
        stage.connection.give(bytes(frame))
        [answer] = stage.connection.frames()
        assert answer[:6] == b"\0\0\0\7\0\x23"

    on_stage(test)


def test_the_pipeline_names_what_may_overtake() -> None:
    overtaking = {key for key, endpoint in ENDPOINTS.items() if endpoint.pipelined}
    assert overtaking == {PRODUCE, FETCH}
    assert pipeline.endpoint_of(9_999) is None
