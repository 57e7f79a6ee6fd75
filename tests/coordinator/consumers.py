"""Consumer groups on a shard in memory: topics that come and go, and members who heartbeat."""

from dataclasses import replace
from typing import Any

from ottla.base.errors import ErrorCode
from ottla.base.ids import LeaderEpoch, NodeId, PartitionIndex, Uuid
from ottla.coordinator.group.consumer_group import ConsumerGroup
from ottla.coordinator.group.consumer_membership import refused_heartbeat
from ottla.coordinator.group.member import Sender
from ottla.metadata.image import PartitionImage, TopicImage
from ottla.protocol.consumer_protocol import (
    ConsumerProtocolSubscription,
    TopicPartition,
    written,
)
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from tests.coordinator.places import Asked, GroupPlace

ONE = NodeId(1)


def topic_image(name: str, partitions: int, number: int) -> TopicImage:
    rows = tuple(
        PartitionImage(PartitionIndex(index), ONE, LeaderEpoch(0), (ONE,), (ONE,), (), 0, (), (), 1)
        for index in range(partitions)
    )
    return TopicImage(name, Uuid(number.to_bytes(16, "big")), rows, {}, 1)


def subscription(
    *topics: str, owned: dict[str, list[int]] | None = None, version: int = 3
) -> bytes:
    rows = [TopicPartition(topic=name, partitions=parts) for name, parts in (owned or {}).items()]
    return written(
        ConsumerProtocolSubscription(topics=list(topics), owned_partitions=rows), version
    )


def durable(group: ConsumerGroup) -> dict[str, Any]:
    """All that the log holds of a group, and what follows from it."""
    soft = ("_budget", "checked", "scanned_topics")
    fields = {name: getattr(group, name) for name in group.__slots__ if name not in soft}
    return {
        name: dict(value) if isinstance(value, dict) else value for name, value in fields.items()
    }


class ConsumerPlace(GroupPlace):
    """A shard of groups on a node that has topics."""

    topics_made = 0

    def make(self, name: str, partitions: int) -> Uuid:
        """A topic is made, or gets more partitions."""
        known = self.image.topics.get(name)
        if known is None:
            type(self).topics_made += 1
            topic = topic_image(name, partitions, type(self).topics_made)
        else:
            topic = replace(topic_image(name, partitions, 0), id=known.id)
        self._set({**self.image.topics, name: topic})
        return topic.id

    def drop(self, name: str) -> None:
        self._set({key: topic for key, topic in self.image.topics.items() if key != name})

    def _set(self, topics: dict[str, TopicImage]) -> None:
        by_id = {topic.id: topic for topic in topics.values()}
        revision = self.image.revision + 1
        self.image = replace(self.image, revision=revision, topics=topics, topics_by_id=by_id)

    def consumers(self, group_id: str = "g") -> ConsumerGroup:
        group = self.machine.groups.find_consumer(group_id)
        assert group is not None
        return group

    def beat(
        self,
        member_id: str,
        epoch: int,
        *,
        group: str = "g",
        topics: list[str] | None = None,
        regex: str | None = None,
        owned: dict[Uuid, list[int]] | None = None,
        instance: str | None = None,
        rebalance_ms: int = -1,
        assignor: str | None = None,
        version: int = 1,
    ) -> Asked:
        rows = None
        if owned is not None:
            rows = [TopicPartitions(topic_id=each, partitions=owned[each]) for each in owned]
        request = ConsumerGroupHeartbeatRequest(
            group_id=group,
            member_id=member_id,
            member_epoch=epoch,
            instance_id=instance,
            rebalance_timeout_ms=rebalance_ms,
            subscribed_topic_names=topics,
            subscribed_topic_regex=regex,
            server_assignor=assignor,
            topic_partitions=rows,
        )
        sender = Sender("c", "/127.0.0.1")
        return self.perform(
            lambda machine, now: machine.consumers.heartbeat(sender, request, version, now)
        )

    async def beaten(self, *args: Any, **options: Any) -> ConsumerGroupHeartbeatResponse:
        answer = await self.answer(self.beat(*args, **options))
        if isinstance(answer, ErrorCode):
            return refused_heartbeat(answer)
        assert isinstance(answer, ConsumerGroupHeartbeatResponse)
        return answer


class Consumer:
    """A client of the new protocol: gives back what it is told to, and says what it has."""

    def __init__(self, place: ConsumerPlace, member_id: str, **options: Any) -> None:
        self.place = place
        self.id = member_id
        self.epoch = 0
        self.has: dict[Uuid, list[int]] = {}
        self.options = options
        self.is_lazy = False
        """It does not do what it was told: it does not give back."""
        self.share: dict[Uuid, list[int]] | None = None
        """What it was told to have last."""
        self.told: ConsumerGroupHeartbeatResponse

    async def join(self) -> ConsumerGroupHeartbeatResponse:
        self.epoch = 0
        self.has = {}
        self.share = None
        options = {"topics": ["a"], "rebalance_ms": 60_000, **self.options}
        return self._take(await self.place.beaten(self.id, 0, owned={}, **options))

    async def beat(self, **options: Any) -> ConsumerGroupHeartbeatResponse:
        self._obey()
        instance = self.options.get("instance")
        return self._take(
            await self.place.beaten(
                self.id, self.epoch, owned=self.has, instance=instance, **options
            )
        )

    def _take(self, told: ConsumerGroupHeartbeatResponse) -> ConsumerGroupHeartbeatResponse:
        self.told = told
        if told.error_code == 0:
            self.epoch = told.member_epoch
            if told.assignment is not None:
                rows = told.assignment.topic_partitions
                self.share = {row.topic_id: row.partitions for row in rows}
                self._obey()
        return told

    def _obey(self) -> None:
        if self.share is not None and not self.is_lazy:
            self.has, self.share = self.share, None

    @property
    def places(self) -> set[tuple[Uuid, int]]:
        return {(topic, index) for topic, parts in self.has.items() for index in parts}
