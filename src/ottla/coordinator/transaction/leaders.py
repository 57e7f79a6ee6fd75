"""The leaders that this node is: where a marker of a transaction goes in.

A partition takes it into its log. A partition of `__consumer_offsets` takes it through the shard of
its groups, whose memory learns with the log that offsets count now, or never will.
"""

from collections.abc import Callable
from typing import Protocol

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.world import Clock
from ottla.coordinator.pending import Pending
from ottla.coordinator.transaction.markers import EndMarker
from ottla.coordinator.transaction.state import Place
from ottla.metadata.image import ClusterImage
from ottla.metadata.topic_names import CONSUMER_OFFSETS
from ottla.records.control import Marker
from ottla.replica.manager import ReplicaManager
from ottla.replica.partition import Partition

Done = Callable[[ErrorCode], None]


class GroupEnds(Protocol):
    """What is asked of the coordinator of groups."""

    def end_transaction(
        self,
        index: int,
        marker: Marker,
        producer: tuple[int, int],
        pending: Pending,
        *,
        is_bumped: bool,
    ) -> None: ...


class LocalLeaders:
    def __init__(
        self,
        clock: Clock,
        replicas: ReplicaManager,
        groups: GroupEnds,
        image: Callable[[], ClusterImage],
    ) -> None:
        self._clock = clock
        self._replicas = replicas
        self._groups = groups
        self._image = image

    def is_gone(self, topic: str) -> bool:
        return topic not in self._image().topics

    def write(self, marker: EndMarker, place: Place, done: Done) -> None:
        topic, index = place
        try:
            partition = self._replicas.leader_of(topic, index)
            if topic == CONSUMER_OFFSETS:
                self._write_to_groups(marker, index, done)
                return
            info = partition.append_marker(
                Marker(marker.committed, marker.coordinator_epoch),
                marker.producer_id,
                marker.epoch,
                self._clock.time_ms(),
                is_bumped=marker.is_bumped,
            )
        except KafkaError as error:
            done(error.code)
            return
        end_offset = info.last_offset + 1
        if partition.high_watermark >= end_offset:
            done(ErrorCode.NONE)
        else:
            partition.wait_for_offset(end_offset, _Waiter(partition, done))

    def _write_to_groups(self, marker: EndMarker, index: int, done: Done) -> None:
        pending = Pending(lambda code: code)
        pending.on_complete = done
        self._groups.end_transaction(
            index,
            Marker(marker.committed, marker.coordinator_epoch),
            (marker.producer_id, marker.epoch),
            pending,
            is_bumped=marker.is_bumped,
        )


class _Waiter:
    """For a marker to be committed."""

    __slots__ = ("_done", "_partition")

    def __init__(self, partition: Partition, done: Done) -> None:
        self._partition = partition
        self._done = done

    def reached(self) -> None:
        self._done(ErrorCode.NONE)

    def closed(self) -> None:
        self._done(self._partition.refusal)
