"""A scripted administrator: makes topics, cuts their logs from below, deletes some and makes new
ones of the same name.

The topics of a run (`PLAN`) are small on purpose: tiny indexes roll a segment every few batches,
so that boundaries of segments are met all the time.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid
from ottla.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from ottla.protocol.messages.delete_topics import (
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from ottla.sim.client import SimClient
from ottla.sim.history import Bound, History, Key, Span, Topic, TopicState

TIMEOUT_S: Final = 8.0
PAUSE_S: Final = (0.2, 2.0)

STEADY, TRIMMED, SOFT, FLEETING = "steady", "trimmed", "soft", "fleeting"
COMPACTED: Final = "compacted"
PLAN: Final = {STEADY: 3, TRIMMED: 2, SOFT: 1, FLEETING: 2, COMPACTED: 2}
"""Topics and their partition counts."""
MIXED, TARGET = "mixed", "target"
"""Topics that transactions write to."""


class Admin:
    def __init__(
        self,
        client: SimClient,
        history: History,
        rng: random.Random,
        boot: Callable[[], int],
        plan: Mapping[str, int] = PLAN,
    ) -> None:
        self._plan = plan
        self._client = client
        self._history = history
        self._rng = rng
        self._boot = boot
        self._configs: dict[str, dict[str, str]] = {}
        """Of each topic, also of the next one of its name."""

    async def make_all(self) -> None:
        for name in self._plan:
            while await self.make(name) is None:
                await asyncio.sleep(0.5)

    async def run(self, until: float) -> None:
        while self._now() < until:
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
            if self._rng.random() < 0.7:
                await self._trim()
            else:
                await self._replace()

    # ---- topics

    async def make(self, name: str) -> Topic | None:
        """Make a topic, or find the one that an earlier try made; None: it is not known yet."""
        configs = self._configs.setdefault(name, self._draw_configs(name))
        row = CreatableTopic(
            name=name,
            num_partitions=self._plan[name],
            replication_factor=1,
            assignments=[],
            configs=[CreatableTopicConfig(name=key, value=text) for key, text in configs.items()],
        )
        answer = await self._client.ask(
            CreateTopicsRequest(topics=[row]), 7, CreateTopicsResponse, timeout_s=TIMEOUT_S
        )
        if answer.response is None:
            return None
        made = answer.response.topics[0]
        if made.error_code == ErrorCode.NONE:
            return self._note(name, made.topic_id)
        if made.error_code == ErrorCode.TOPIC_ALREADY_EXISTS:
            found = await self._find(name)
            return None if found is None else self._note(name, found)
        self._history.surprises.append(f"CreateTopics: {made.error_code} {made.error_message}")
        return None

    def _draw_configs(self, name: str) -> dict[str, str]:
        rng = self._rng
        configs = {
            "segment.index.bytes": rng.choice(["64", "120", "400"]),
            "index.interval.bytes": rng.choice(["0", "200", "1000"]),
            "file.delete.delay.ms": rng.choice(["0", "1000"]),
            "record.validation": rng.choice(["header", "deep"]),
        }
        if rng.random() < 0.3:
            configs["segment.ms"] = "2000"
        if rng.random() < 0.2:
            configs["message.timestamp.type"] = "LogAppendTime"
        if name == SOFT:
            configs["flush.on.ack"] = "false"
            configs["flush.ms"] = rng.choice(["500", "5000"])
        if name == TRIMMED:
            configs["retention.bytes"] = rng.choice(["5000", "20000", "-1"])
        if name == COMPACTED:
            configs["cleanup.policy"] = "compact"
            configs["min.cleanable.dirty.ratio"] = rng.choice(["0", "0.3"])
        return configs

    def _note(self, name: str, topic_id: bytes) -> Topic:
        topic = Topic(
            name,
            bytes(topic_id),
            self._plan[name],
            is_soft=name == SOFT,
            is_trimmed=name == TRIMMED,
            has_retention=self._configs[name].get("retention.bytes", "-1") != "-1",
            is_fleeting=name == FLEETING,
            is_transactional=name in (MIXED, TARGET),
            is_compacted=name == COMPACTED,
        )
        self._history.add_topic(topic)
        return topic

    async def _find(self, name: str) -> bytes | None:
        """The id of the topic of that name; empty where there is none, None if nobody says."""
        request = MetadataRequest(
            topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False
        )
        answer = await self._client.ask(request, 12, MetadataResponse, timeout_s=TIMEOUT_S)
        if answer.response is None:
            return None
        told = answer.response.topics[0]
        return b"" if told.error_code else bytes(told.topic_id)

    async def _replace(self) -> None:
        """Delete the fleeting topic and make another."""
        for topic in self._history.alive():
            if topic.is_fleeting:
                topic.state = TopicState.DOUBTED
        for topic in self._history.topics:
            if topic.state is TopicState.DOUBTED and await self._delete(topic):
                topic.state = TopicState.GONE
        if not any(topic.state is TopicState.DOUBTED for topic in self._history.topics):
            await self.make(FLEETING)

    async def _delete(self, topic: Topic) -> bool:
        request = DeleteTopicsRequest(
            topics=[DeleteTopicState(name=None, topic_id=Uuid(topic.id))], timeout_ms=5_000
        )
        answer = await self._client.ask(request, 6, DeleteTopicsResponse, timeout_s=TIMEOUT_S)
        if answer.response is None:
            return False
        code = answer.response.responses[0].error_code
        return code in (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_ID)

    # ---- records

    async def _trim(self) -> None:
        topics = [topic for topic in self._history.alive() if topic.is_trimmed]
        if not topics:
            return
        topic = self._rng.choice(topics)
        key = self._rng.choice(topic.partitions)
        start, end = self._history.asked_start(key), self._history.told_end(key)
        if start < end:
            await self._delete_records(topic, key, self._rng.randint(start, end))

    async def _delete_records(self, topic: Topic, key: Key, offset: int) -> None:
        row = DeleteRecordsPartition(partition_index=key[1], offset=offset)
        request = DeleteRecordsRequest(
            topics=[DeleteRecordsTopic(name=topic.name, partitions=[row])], timeout_ms=5_000
        )
        begun = self._now(), self._boot()
        self._history.deleting(key, offset)
        answer = await self._client.ask(request, 2, DeleteRecordsResponse, timeout_s=TIMEOUT_S)
        if answer.response is None:
            return
        told = answer.response.topics[0].partitions[0]
        if told.error_code == ErrorCode.NONE:
            span = Span(begun[0], self._now(), (begun[1], self._boot()))
            bound = Bound(key, span, log_start_offset=told.low_watermark, is_lasting=True)
            self._history.bounded(bound)
        elif told.error_code != ErrorCode.KAFKA_STORAGE_ERROR:
            self._history.surprises.append(f"DeleteRecords: {ErrorCode(told.error_code).name}")

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
