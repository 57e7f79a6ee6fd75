"""The image and its deltas: following changes leads to what reading everything would give."""

import asyncio
import random
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.errors import CorruptionError, KafkaError
from ottla.metadata.cluster import Metadata
from ottla.metadata.config_ops import ConfigOp, OpType, ResourceType
from ottla.metadata.controller import Controller
from ottla.metadata.delta import delta_between, delta_of_edit
from ottla.metadata.image import EMPTY, Edit
from ottla.metadata.memory import MemoryKeep, MemoryStore
from ottla.metadata.store import Changes, Entry, Event

PARTITION = (
    b'{"replicas":[1],"leader":1,"leader_epoch":0,"isr":[1],"elr":[],'
    b'"partition_epoch":%d,"adding":[],"removing":[]}'
)


def topic_events(name, number, partitions, epoch=0):
    topic_id = b"%032x" % number
    value = b'{"id":"%s","partitions":%d,"configs":{}}' % (topic_id, partitions)
    return [
        Event(f"topics/{name}", value),
        *(
            Event(f"partitions/{topic_id.decode()}/{index}", PARTITION % epoch)
            for index in range(partitions)
        ),
    ]


def after(image, revision, events):
    edit = Edit(image)
    edit.take(Changes(revision, events))
    new = edit.image()
    return new, delta_of_edit(image, new, edit)


def test_one_change_shares_everything_else():
    image, _ = after(EMPTY, 1, topic_events("a", 1, 3) + topic_events("b", 2, 2))
    key = topic_events("a", 1, 3)[2].key
    changed, delta = after(image, 2, [Event(key, PARTITION % 1)])
    a, b = changed.topics["a"], changed.topics["b"]
    assert b is image.topics["b"]
    assert a.partitions[0] is image.topics["a"].partitions[0]
    assert a is changed.topics_by_id[a.id]
    [change] = delta.partitions_changed
    assert (change.topic, change.old, change.new) == (
        a,
        image.topics["a"].partitions[1],
        a.partitions[1],
    )
    assert not delta.partitions_added and not delta.topics_created
    assert image.topics["a"].partitions[1].partition_epoch == 0


def test_a_topic_made_again_is_deleted_and_created():
    image, created = after(EMPTY, 1, topic_events("a", 1, 2))
    assert [topic.name for topic in created.topics_created] == ["a"]
    assert [change.new.index for change in created.partitions_added] == [0, 1]
    gone = [Event(event.key, None) for event in topic_events("a", 1, 2)]
    new, delta = after(image, 2, [*gone, *topic_events("a", 2, 1)])
    assert delta.topics_deleted == (image.topics["a"],)
    assert delta.topics_created == (new.topics["a"],)
    assert [change.topic for change in delta.partitions_added] == [new.topics["a"]]
    assert list(new.topics_by_id) == [new.topics["a"].id]


def test_a_topic_of_another_id_takes_nothing_over():
    image, _ = after(EMPTY, 1, topic_events("a", 1, 2))
    new, delta = after(image, 2, topic_events("a", 2, 1))
    assert len(new.topics["a"].partitions) == 1
    assert list(new.topics_by_id.values()) == [new.topics["a"]]
    assert delta.topics_deleted == (image.topics["a"],)


def test_configs_and_the_controller_that_change_are_told():
    image, _ = after(EMPTY, 1, topic_events("a", 1, 1) + topic_events("b", 2, 1))
    value = b'{"id":"%032x","partitions":1,"configs":{"retention.ms":"1"}}' % 1
    events = [
        Event("topics/a", value),
        Event("configs/brokers/default", b'{"log.retention.ms":"1"}'),
        Event("configs/brokers/2", b"{}"),
        Event("controller", b'{"node":2}'),
    ]
    new, delta = after(image, 2, events)
    assert delta.topic_configs_changed == (new.topics["a"],)
    assert new.topics["a"].partitions == image.topics["a"].partitions
    assert delta.broker_configs_changed == ("", "2")
    assert delta.controller_changed and new.controller_id == 2
    assert not (delta.topics_created or delta.partitions_added or delta.partitions_changed)
    gone, delta = after(new, 3, [Event("controller", None), Event("configs/brokers/2", None)])
    assert delta.controller_changed and gone.controller_id == -1
    assert delta.broker_configs_changed == ("2",)


def test_what_does_not_concern_the_image_changes_its_revision_alone():
    image, _ = after(EMPTY, 1, topic_events("a", 1, 2))
    new, delta = after(image, 2, [Event("producer-ids", b"?"), Event("cluster-x", b"?")])
    assert new.revision == 2
    assert not delta
    assert new.topics is image.topics


@pytest.mark.parametrize(
    "events",
    [
        topic_events("a", 1, 3)[:-1],
        topic_events("a", 1, 3)[:1] + topic_events("a", 1, 3)[2:],
        [Event("topics/a", b"{")],
        [Event("topics/a", b"\xff")],
        [Event("topics/a", b"[]")],
        [Event("topics/a", b'{"id":"zz","partitions":0,"configs":{}}')],
        [Event("brokers/one", b"{}")],
        [Event("partitions/00/x", PARTITION)],
        [Event("controller", b'{"node":null}')],
    ],
)
def test_content_that_is_not_understood_is_corruption_with_its_key(events):
    with pytest.raises(CorruptionError, match=r"^(topics|brokers|partitions|controller)"):
        after(EMPTY, 1, events)


names = st.sampled_from(["a", "b", "c"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("create"), names, st.integers(1, 4)),
        st.tuples(st.just("delete"), names, st.just(0)),
        st.tuples(st.just("grow"), names, st.integers(1, 6)),
        st.tuples(st.just("configure"), names, st.integers(0, 9)),
        st.tuples(st.just("brokers"), names, st.integers(0, 9)),
    ),
    max_size=12,
)


async def do(controller, image, step):
    kind, name, number = step
    op = ConfigOp("retention.ms", OpType.SET, str(number))
    broker_op = ConfigOp("log.retention.ms", OpType.SET, str(number))
    if kind == "create":
        await controller.create_topic(name, partitions=number, replication_factor=1)
    elif kind == "delete" and name in image.topics:
        await controller.delete_topic(image.topics[name].id)
    elif kind == "grow":
        await controller.create_partitions(name, number)
    elif kind == "configure":
        await controller.configs.alter(ResourceType.TOPIC, name, [op])
    elif kind == "brokers":
        await controller.configs.alter(ResourceType.BROKER, "", [broker_op])


@settings(deadline=None, max_examples=80)
@given(steps)
def test_following_is_the_same_as_reading_everything(script):
    async def main():
        rng, keep = random.Random(3), MemoryKeep()
        metadata = await Metadata.open(MemoryStore(keep), rng)
        controller = Controller(metadata, 1, rng)
        lease = await metadata.store.grant(3_600_000)
        await controller.maybe_become(lease)
        await controller.register_broker(1, host="h", port=1, rack=None, lease=lease)
        images, pairs = [metadata.image], []

        def follow(delta, image):
            pairs.append((delta, delta_between(images[-1], image)))
            images.append(image)

        metadata.subscribe(follow)
        del images[1:], pairs[:]
        for step in script:
            try:
                await do(controller, metadata.image, step)
            except KafkaError:
                continue
        assert len(pairs) == keep.revision - images[0].revision
        for delta, expected in pairs:
            for field in fields(delta):
                assert getattr(delta, field.name) == getattr(expected, field.name), field.name
        edit = Edit(EMPTY)
        edit.load({key: Entry(*entry) for key, entry in keep.under("").items()}, keep.revision)
        assert edit.image() == metadata.image
        await metadata.close()

    asyncio.run(main())
