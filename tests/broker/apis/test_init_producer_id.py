"""InitProducerId: ids that nobody else gets, and what an id and an epoch must look like."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.metadata.controller import PRODUCER_ID_BLOCK
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest


def init(**options):
    return InitProducerIdRequest(**{"transaction_timeout_ms": 60_000, **options})


@pytest.mark.parametrize("version", range(6))
def test_every_producer_gets_an_id_of_its_own(on_node, version):
    async def test(node):
        answers = [await node.ask(init(), version) for _ in range(3)]
        assert [each.error_code for each in answers] == [0, 0, 0]
        assert [each.producer_epoch for each in answers] == [0, 0, 0]
        assert [each.producer_id for each in answers] == [0, 1, 2]

    on_node(test)


def test_a_new_block_follows_the_old_one(on_node):
    async def test(node):
        answers = await asyncio.gather(*(node.ask(init()) for _ in range(PRODUCER_ID_BLOCK + 50)))
        ids = sorted(each.producer_id for each in answers)
        assert ids == list(range(PRODUCER_ID_BLOCK + 50))

    on_node(test)


def test_no_id_is_given_again_after_a_restart(on_node):
    last = []

    async def before(node):
        last.append((await node.ask(init())).producer_id)

    async def after(node):
        assert (await node.ask(init())).producer_id > last[0]

    on_node(before)
    on_node(after)


def test_an_idempotent_producer_starts_afresh(on_node):
    async def test(node):
        answer = await node.ask(init(producer_id=77, producer_epoch=5))
        assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (0, 0, 0)

    on_node(test)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (init(producer_id=77), ErrorCode.INVALID_REQUEST),
        (init(producer_epoch=5), ErrorCode.INVALID_REQUEST),
        (init(transactional_id=""), ErrorCode.INVALID_REQUEST),
        (init(transactional_id="t", transaction_timeout_ms=0), 50),
        (init(transactional_id="t", transaction_timeout_ms=900_001), 50),
        (init(transactional_id="t"), ErrorCode.NOT_COORDINATOR),
    ],
)
def test_refused(on_node, asked, code):
    async def test(node):
        answer = await node.ask(asked)
        assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (code, -1, -1)

    on_node(test)


def test_without_a_block_the_client_is_to_ask_again(on_node, monkeypatch):
    async def refuse(count):
        raise KafkaError(ErrorCode.NOT_CONTROLLER)

    async def test(node):
        monkeypatch.setattr(node.services.controller, "allocate_producer_ids", refuse)
        answer = await node.ask(init())
        assert answer.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS

    on_node(test)
