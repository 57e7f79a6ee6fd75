"""Metadata: bootstrap, topics that come up or are refused, leaders that move, coordinators."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import Uuid
from ottla.client.cluster import Cluster, KeyType
from ottla.client.errors import ClientClosedError, NoBrokersError
from ottla.client.settings import ClientSettings
from ottla.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from ottla.protocol.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from ottla.rpc.errors import ConnectError
from tests.rpc.conftest import PORT, versions_answer

SETTINGS = ClientSettings(bootstrap_servers=f"nowhere:1,broker:{PORT}", request_timeout_ms=1_000)
TOPIC_ID = Uuid(bytes(range(16)))


def broker_row(node_id=1):
    return MetadataResponseBroker(node_id=node_id, host="broker", port=PORT, rack="r")


def topic_row(name="t", *leaders, epoch=1, error=0, topic_id=TOPIC_ID):
    partitions = [
        MetadataResponsePartition(
            partition_index=index,
            leader_id=leader,
            leader_epoch=epoch,
            replica_nodes=[1],
            isr_nodes=[1],
        )
        for index, leader in enumerate(leaders)
    ]
    return MetadataResponseTopic(
        error_code=error, name=name, topic_id=topic_id, partitions=partitions
    )


def serve(stage, *answers):
    """Answers to Metadata, one after another, the last one again and again."""
    left = list(answers)

    def answer(header, request):
        if header.api_key != 3:
            return versions_answer(header, request)
        rows = left.pop(0) if len(left) > 1 else left[0]
        return MetadataResponse(
            brokers=[broker_row()], controller_id=1, cluster_id="c", topics=list(rows)
        )

    stage.listen(answer)


def played(stage, script):
    async def whole():
        cluster = Cluster(stage.world, SETTINGS)
        try:
            await script(cluster)
        finally:
            await cluster.close()

    stage.play(whole)


def asked(stage):
    return [request for header, request in stage.requests if header.api_key == 3]


def test_bootstrap_tries_each_server_and_asks_for_no_topic(stage):
    serve(stage, [])

    async def script(cluster):
        await cluster.start()
        assert cluster.cluster_id == "c" and cluster.controller_id == 1
        assert cluster.nodes[1].rack == "r"
        assert [request.topics for request in asked(stage)] == [[]]

    played(stage, script)


def test_no_broker_is_told_with_each_reason(stage):
    async def script(cluster):
        with pytest.raises(NoBrokersError, match=r"nowhere:1: .*; broker:9092: "):
            await cluster.start()

    played(stage, script)


def test_a_topic_is_waited_for_while_it_is_made(stage):
    unknown, coming = topic_row(error=3), topic_row(error=5)
    serve(stage, [], [unknown], [coming], [topic_row("t", 1, -1)])

    async def script(cluster):
        await cluster.start()
        views = await asyncio.gather(*(cluster.topic("t", 5_000) for _ in range(5)))
        assert all(view is views[0] for view in views)
        assert views[0].available == (0,) and len(views[0].partitions) == 2
        assert cluster.leader_of("t", 0) == 1 and cluster.leader_of("t", 9) == -1
        assert cluster.name_of(TOPIC_ID) == "t"
        assert len(asked(stage)) == 4

    played(stage, script)


def test_who_gives_up_waiting_for_a_topic_takes_it_from_nobody_else(stage):
    serve(stage, [], *[[topic_row(error=5)]] * 5, [topic_row("t", 1)])

    async def script(cluster):
        await cluster.start()
        first, second = (asyncio.create_task(cluster.topic("t", 5_000)) for _ in range(2))
        await asyncio.sleep(0.3)
        first.cancel()
        assert (await second).name == "t"
        assert all(request.topics for request in asked(stage)[1:])

    played(stage, script)


def test_a_topic_that_was_never_asked_for_does_not_wait_for_the_next_refresh(stage):
    serve(stage, [], [topic_row("t", 1)])

    async def script(cluster):
        await cluster.start()
        start = asyncio.get_running_loop().time()
        await cluster.topic("t", 5_000)
        assert asyncio.get_running_loop().time() - start < 0.05, "retry_backoff_ms is 100"

    played(stage, script)


@pytest.mark.parametrize("code", [ErrorCode.INVALID_TOPIC_EXCEPTION, 29])
def test_a_topic_that_is_refused_is_told_at_once(stage, code):
    serve(stage, [topic_row(error=code)])

    async def script(cluster):
        await cluster.start()
        start = asyncio.get_running_loop().time()
        with pytest.raises(KafkaError) as told:
            await cluster.topic("t", 60_000)
        assert told.value.code == code and "'t'" in str(told.value)
        assert asyncio.get_running_loop().time() - start < 5

    played(stage, script)


def test_a_topic_that_never_comes_up_is_told_in_time(stage):
    serve(stage, [topic_row(error=3)])

    async def script(cluster):
        await cluster.start()
        with pytest.raises(KafkaError, match="did not come up in 3000 ms") as told:
            await cluster.topic("t", 3_000)
        assert told.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert 5 < len(asked(stage)) < 50, "tries keep apart"

    played(stage, script)


def test_a_leader_of_an_older_epoch_is_not_believed(stage):
    other = Uuid(b"\1" * 16)
    serve(
        stage,
        [topic_row("t", 1, 1, epoch=7)],
        [topic_row("t", 2, 2, epoch=6)],
        [topic_row("t", 2, 2, epoch=8)],
        [topic_row("t", 3, 3, epoch=0, topic_id=other)],
    )

    async def script(cluster):
        await cluster.topic("t", 1_000)
        leaders = [cluster.leader_of("t", 0)]
        for _ in range(3):
            await cluster.refresh()
            leaders.append(cluster.leader_of("t", 0))
        assert leaders == [1, 1, 2, 3]

    played(stage, script)


def test_refreshes_are_shared_and_cancelling_who_waits_ends_none(stage):
    serve(stage, [])
    told = []

    async def script(cluster):
        cluster.on_change.append(lambda: told.append(1))
        tasks = [asyncio.ensure_future(cluster.refresh()) for _ in range(9)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.gather(*tasks[1:])
        assert len(asked(stage)) == len(told) == 1

    played(stage, script)


def test_coordinators_are_kept_until_they_refuse(stage):
    def answer(header, request):
        if header.api_key == 10:
            row = Coordinator(key=request.coordinator_keys[0], node_id=7, host="broker", port=PORT)
            return FindCoordinatorResponse(coordinators=[row])
        if header.api_key == 3:
            return MetadataResponse(brokers=[broker_row()], topics=[])
        return versions_answer(header, request)

    stage.listen(answer)

    async def script(cluster):
        await cluster.start()
        for _ in range(3):
            assert await cluster.coordinator(KeyType.GROUP, "g") == 7
        cluster.forget_coordinator(KeyType.GROUP, "g")
        await cluster.coordinator(KeyType.GROUP, "g")
        assert sum(header.api_key == 10 for header, _ in stage.requests) == 2
        assert cluster.peer(7).port == PORT
        with pytest.raises(ConnectError):
            cluster.peer(99)

    played(stage, script)


def test_a_closed_cluster_says_so(stage):
    serve(stage, [])

    async def script(cluster):
        await cluster.start()
        waiting = asyncio.ensure_future(cluster.topic("t", 60_000))
        await asyncio.sleep(0)
        await cluster.close()
        with pytest.raises(ClientClosedError):
            await waiting
        with pytest.raises(ClientClosedError):
            await cluster.refresh()

    played(stage, script)
