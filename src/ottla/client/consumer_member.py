"""A member of a group with the protocol of KIP-848, without I/O.

It says one thing again and again, its heartbeat: who it is, at which epoch, and what has changed.
The coordinator assigns; an answer without an assignment says that nothing has changed.

    epoch 0    it joins, and says everything
    epoch > 0  it stays; `target` is what it shall have, `owned` what it reads
    epoch -1   it leaves (-2 a static member, which may come back within its session)

What was said is said again, all of it, after an answer that did not come. What an error means is
the table below; what it does not name cannot be mended.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import Uuid, id_text
from ottla.base.world import Rng
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import code_of
from ottla.client.offsets import GroupMetadata
from ottla.client.subscription import Subscription
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

LEAVING: Final = -1
LEAVING_FOR_NOW: Final = -2

OUT: Final = frozenset(
    {
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.FENCED_MEMBER_EPOCH,
    }
)
"""What it had is lost; it joins again, under the same id."""

Place = tuple[Uuid, int]


class ConsumerMember:
    def __init__(self, settings: ConsumerSettings, rng: Rng) -> None:
        self._settings = settings
        self._group_id = settings.group_id or ""
        self.id = id_text(Uuid(rng.randbytes(16)))
        self.epoch = 0
        self.heartbeat_interval_ms = settings.heartbeat_interval_ms
        self.target: frozenset[Place] | None = None
        """None until it was told."""
        self._said: Mapping[str, object] = {}

    @property
    def metadata(self) -> GroupMetadata:
        epoch = self.epoch if self.epoch > 0 else -1
        return GroupMetadata(self._group_id, epoch, self.id, self._settings.group_instance_id)

    def heartbeat(
        self, subscription: Subscription, owned: Iterable[Place]
    ) -> ConsumerGroupHeartbeatRequest:
        """What is to be said now: of what the last one said only that which is another."""
        settings, is_joining = self._settings, self.epoch == 0
        by_topic: dict[Uuid, list[int]] = {}
        for topic_id, index in () if is_joining else sorted(owned):
            by_topic.setdefault(topic_id, []).append(index)
        says: dict[str, object] = {
            "rebalance_timeout_ms": settings.max_poll_interval_ms,
            "subscribed_topic_names": sorted(subscription.topics),
            "server_assignor": settings.group_remote_assignor,
            "topic_partitions": [
                TopicPartitions(topic_id=topic_id, partitions=indexes)
                for topic_id, indexes in by_topic.items()
            ],
        }
        if subscription.pattern is not None or "subscribed_topic_regex" in self._said:
            says["subscribed_topic_regex"] = subscription.pattern or ""
        fresh = {
            name: value
            for name, value in says.items()
            if is_joining or name not in self._said or self._said[name] != value
        }
        self._said = says
        return self._request(self.epoch, fresh)

    def _request(self, epoch: int, fields: Mapping[str, object]) -> ConsumerGroupHeartbeatRequest:
        request = ConsumerGroupHeartbeatRequest(
            group_id=self._group_id,
            member_id=self.id,
            member_epoch=epoch,
            instance_id=self._settings.group_instance_id,
        )
        if epoch == 0:
            request.rack_id = self._settings.client_rack or None
        for name, value in fields.items():
            setattr(request, name, value)
        return request

    def not_answered(self) -> None:
        """The last heartbeat may not have arrived: the next one says everything."""
        self._said = {name: None for name in self._said if name == "subscribed_topic_regex"}

    def answered(self, response: ConsumerGroupHeartbeatResponse) -> bool:
        """Take the answer. False where it is out of the group; KafkaError where it cannot be a
        member."""
        code = code_of(response.error_code)
        if code in OUT:
            self.epoch, self.target, self._said = 0, None, {}
            return False
        if code:
            message = response.error_message or f"group {self._group_id!r}: {code.name}"
            raise KafkaError(code, message)
        self.id = response.member_id or self.id
        self.epoch = response.member_epoch
        if response.heartbeat_interval_ms > 0:
            self.heartbeat_interval_ms = response.heartbeat_interval_ms
        if response.assignment is not None:
            self.target = frozenset(
                (row.topic_id, index)
                for row in response.assignment.topic_partitions
                for index in row.partitions
            )
        return True

    def leaving(self) -> ConsumerGroupHeartbeatRequest:
        """The last word of a member that is in the group. It is none after it."""
        is_static = self._settings.group_instance_id is not None
        request = self._request(LEAVING_FOR_NOW if is_static else LEAVING, {})
        self.epoch, self.target, self._said = 0, None, {}
        return request
