"""Access control entries on both twins of the store: made, removed, followed, and bounded."""

import asyncio
import random

import pytest

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.metadata import keys
from ottla.metadata.cluster import Metadata
from ottla.metadata.store import Delete, Put
from ottla.security.acl import (
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from tests.metadata.test_controller import on_cluster

ALL = AclFilter(ResourceType.ANY, PatternType.ANY, None, None, None, Operation.ANY, Permission.ANY)


def acl(name="t", principal="User:alice"):
    return Acl(
        ResourceType.TOPIC,
        PatternType.LITERAL,
        name,
        principal,
        "*",
        Operation.READ,
        Permission.ALLOW,
    )


def test_an_entry_reads_back_as_it_was_written():
    for each in (acl(), acl("é" * 50), acl('"\\'), acl(principal="User:CN=a,O=b")):
        assert keys.acl_of(keys.acl_value(each)) == each


@pytest.mark.parametrize("change", [{"type": "NOPE"}, {"operation": 3}, {"type": None}])
def test_what_is_no_entry(change):
    content = keys.content_of(keys.acl_value(acl())) | change
    with pytest.raises((KeyError, ValueError)):
        keys.acl_of(keys.value_of(content))


def test_subscribers_are_told_of_entries_alone(kind):
    async def test(controller, metadata):
        told = []
        metadata.subscribe(lambda delta, image: told.append((delta.acls_changed, len(image.acls))))
        await controller.create_topic("t", partitions=1, replication_factor=1)
        await controller.acls.create([acl(), acl("u"), acl()])
        await controller.acls.create([acl()])
        await controller.acls.delete([ALL])
        assert told == [(False, 0), (False, 0), (True, 2), (True, 0)]

    on_cluster(kind, test)


def test_entries_are_there_for_who_opens_the_store_later(kind):
    async def test(controller, metadata):
        await controller.acls.create([acl(), acl("u")])
        async with kind.open() as store:
            other = await Metadata.open(store, random.Random(1))
            assert set(other.image.acls.values()) == {acl(), acl("u")}
            told = []
            other.subscribe(lambda delta, image: told.append(delta.acls_changed))
            assert told == [True]

    on_cluster(kind, test)


def test_who_makes_the_same_entries_at_once_plans_again(kind):
    async def test(controller, metadata):
        both = [acl(), acl("u")], [acl("u"), acl("v")]
        assert await asyncio.gather(*map(controller.acls.create, both)) == [[None, None]] * 2
        assert {each.name for each in metadata.image.acls.values()} == {"t", "u", "v"}

    on_cluster(kind, test)


def test_a_controller_no_more_removes_nothing_and_says_so(kind):
    async def test(controller, metadata):
        await controller.acls.create([acl()])
        await metadata.store.txn([], [Delete(keys.CONTROLLER)])
        for call in (controller.acls.delete([ALL]), controller.acls.create([acl("u")])):
            with pytest.raises(KafkaError) as caught:
                await call
            assert caught.value.code is ErrorCode.NOT_CONTROLLER
        assert len(metadata.image.acls) == 1

    on_cluster(kind, test)


def test_content_that_is_no_entry_is_corruption(kind):
    async def test(controller, metadata):
        result = await metadata.store.txn([], [Put("acls/x", b'{"type":"TOPIC"}')])
        with pytest.raises(CorruptionError, match="acls/x"):
            await metadata.wait_revision(result.revision)

    on_cluster(kind, test)
