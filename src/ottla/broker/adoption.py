"""Topics for logs that were there before the store: the first start on another broker's data.

A log directory that Apache Kafka wrote holds records, and of their topics no more than the
directories tell: name, number, and the topic's id in `partition.metadata`. At the first start of
a store (and never again: a later one would bring deleted topics back) each of them becomes a
topic with that id, as many partitions as its highest number asks for, and the leader epochs that
its logs were last written under, so that no epoch goes back.

Not known are the topics' configs, which Kafka keeps elsewhere. Kafka's defaults would be a guess
that deletes records, so a topic is adopted with nothing deleted by time or size; who wants less
alters it. Producer ids start far behind the highest that any log remembers: an id that was given
to a producer of the former broker must not be given again.

The other broker may have the directory again in between. What it appended is served; the leader
epochs that it did that under are taken over, so that no epoch goes back here either.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ottla.base.ids import Uuid
from ottla.base.world import Rng
from ottla.metadata.cluster import random_id
from ottla.metadata.controller import Controller
from ottla.metadata.image import ClusterImage
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir

logger = logging.getLogger(__name__)

KEEP_ALL: Final = {"retention.ms": "-1", "retention.bytes": "-1"}
COMPACTED: Final = {"cleanup.policy": "compact", "compression.type": "producer"}
CONFIGS: Final[Mapping[str, Mapping[str, str]]] = {
    "__consumer_offsets": COMPACTED,
    "__transaction_state": {**COMPACTED, "compression.type": "uncompressed"},
}
PRODUCER_ID_GAP: Final = 1_000_000


async def adopt(controller: Controller, log_dirs: Sequence[LogDir], rng: Rng) -> None:
    """Make topics for all logs that the directories hold."""
    for topic, partitions in sorted(_topics(log_dirs).items()):
        known = [topic_id for topic_id, _ in partitions.values() if topic_id is not None]
        topic_id = known[0] if known else random_id(rng)
        count = max(partitions) + 1
        if len(partitions) < count:
            logger.warning(
                "%s: %d of its %d partitions are not here, they start empty",
                topic,
                count - len(partitions),
                count,
            )
        epochs = [partitions[index][1] if index in partitions else 0 for index in range(count)]
        logger.info("adopted topic %s with %d partition(s)", topic, count)
        await controller.adopt_topic(topic, topic_id, epochs, CONFIGS.get(topic, KEEP_ALL))
    await controller.finish_adoption(_next_producer_id(log_dirs))


async def catch_up(
    controller: Controller, image: ClusterImage, topic_ids_and_logs: Iterable[tuple[Uuid, Log]]
) -> None:
    """Take over the leader epochs of logs, each with the id that its directory tells, that are
    ahead of the image."""
    for topic_id, log in topic_ids_and_logs:
        name, index = log.topic_partition
        topic = image.topics.get(name)
        if topic is not None and topic.id == topic_id and index < len(topic.partitions):
            await controller.raise_leader_epoch(topic.id, index, log.epochs.latest)


def _topics(log_dirs: Sequence[LogDir]) -> dict[str, dict[int, tuple[Uuid | None, int]]]:
    """(topic id, leader epoch) by topic and number."""
    topics: dict[str, dict[int, tuple[Uuid | None, int]]] = {}
    for log_dir in log_dirs:
        for topic_partition in (*log_dir.logs, *log_dir.offline_logs):
            log = log_dir.logs.get(topic_partition)
            epoch = max(log.epochs.latest, 0) if log is not None else 0
            found = topics.setdefault(topic_partition.topic, {})
            found[topic_partition.partition] = log_dir.topic_ids.get(topic_partition), epoch
    return topics


def _next_producer_id(log_dirs: Sequence[LogDir]) -> int:
    highest = max(
        (
            producer.producer_id
            for log_dir in log_dirs
            for log in log_dir.logs.values()
            for producer in log.producers()
        ),
        default=-1,
    )
    return highest + PRODUCER_ID_GAP if highest >= 0 else 0
