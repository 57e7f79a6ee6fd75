"""What changed between two images, for those who start and stop things because of it.

It is made from what an `Edit` touched, so it costs the change. A topic that was deleted and
made again under its name is both: topics are the same when their ids are. Partitions go only
with their topic; the deleted topic is handed over as it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ottla.base.ids import NodeId, Uuid
from ottla.metadata.image import ClusterImage, Edit, PartitionImage, TopicImage

K = TypeVar("K")


class PartitionChange(NamedTuple):
    topic: TopicImage
    """As it is now."""
    old: PartitionImage | None
    """None: the partition is new."""
    new: PartitionImage


@dataclass(frozen=True, slots=True)
class Delta:
    topics_created: tuple[TopicImage, ...]
    topics_deleted: tuple[TopicImage, ...]
    topic_configs_changed: tuple[TopicImage, ...]
    """As they are now; topics that were created are not among them."""
    partitions_added: tuple[PartitionChange, ...]
    """Those of created topics too."""
    partitions_changed: tuple[PartitionChange, ...]
    brokers_changed: tuple[NodeId, ...]
    """Registered, registered anew or gone."""
    broker_configs_changed: tuple[str, ...]
    """Kafka's resource names: '' for all brokers, else a node id."""
    controller_changed: bool
    acls_changed: bool

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


def delta_of_edit(old: ClusterImage, new: ClusterImage, edit: Edit) -> Delta:
    """`new` is `edit.image()`, and `edit` began with `old`."""
    partitions = {
        topic_id: sorted(touched) for topic_id, touched in edit.touched_partitions.items()
    }
    return _delta(old, new, edit.touched_topics, partitions)


def delta_between(old: ClusterImage, new: ClusterImage) -> Delta:
    """Of two images with no history between them. Costs a walk over both."""
    topic_ids = dict.fromkeys((*old.topics_by_id, *new.topics_by_id))
    partitions = {topic.id: range(len(topic.partitions)) for topic in new.topics.values()}
    return _delta(old, new, topic_ids, partitions)


def _delta(
    old: ClusterImage,
    new: ClusterImage,
    topic_ids: Iterable[Uuid],
    partitions: Mapping[Uuid, Sequence[int]],
) -> Delta:
    created, deleted, configured = [], [], []
    for topic_id in topic_ids:
        before, after = old.topics_by_id.get(topic_id), new.topics_by_id.get(topic_id)
        if before is None and after is not None:
            created.append(after)
        elif before is not None and after is None:
            deleted.append(before)
        elif before is not None and after is not None and before.configs != after.configs:
            configured.append(after)
    changes = [
        change
        for topic_id, indexes in partitions.items()
        if (topic := new.topics_by_id.get(topic_id)) is not None
        for change in _partition_changes(old.topics_by_id.get(topic_id), topic, indexes)
    ]
    return Delta(
        topics_created=tuple(created),
        topics_deleted=tuple(deleted),
        topic_configs_changed=tuple(configured),
        partitions_added=tuple(change for change in changes if change.old is None),
        partitions_changed=tuple(change for change in changes if change.old is not None),
        brokers_changed=_keys_changed(old.brokers, new.brokers),
        broker_configs_changed=_keys_changed(old.broker_configs, new.broker_configs),
        controller_changed=old.controller_id != new.controller_id,
        acls_changed=old.acls is not new.acls and old.acls != new.acls,
    )


def _partition_changes(
    before: TopicImage | None, topic: TopicImage, indexes: Sequence[int]
) -> Iterator[PartitionChange]:
    before_count = len(before.partitions) if before is not None else 0
    for index in indexes:
        new = topic.partitions[index]
        old = before.partitions[index] if before is not None and index < before_count else None
        if old != new:
            yield PartitionChange(topic, old, new)


def _keys_changed(old: Mapping[K, object], new: Mapping[K, object]) -> tuple[K, ...]:
    both = dict.fromkeys((*old, *new))
    return tuple(key for key in both if old.get(key) != new.get(key))
