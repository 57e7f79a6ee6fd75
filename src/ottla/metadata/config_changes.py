"""Changes of configs that the store keeps: of topics, of brokers, of groups.

A change is made of what is there at one moment (`config_ops`), and is one transaction that
compares it; where it has moved meanwhile, the change is made again of what is there then. Broker
and group configs have a key of their own, which goes with the last config of it. A topic's stand
in its row.
"""

from collections.abc import Callable, Mapping, Sequence

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import NodeId
from ottla.base.limits import GROUP_CONFIGS_COUNT
from ottla.metadata import config_ops, keys
from ottla.metadata.cluster import Metadata
from ottla.metadata.config_ops import ConfigOp, ResourceType
from ottla.metadata.image import TopicImage, topic_called
from ottla.metadata.store import NO_REVISION, Commit, Compare, Delete, Put

Change = Callable[[Mapping[str, str]], dict[str, str]]


class ConfigChanges:
    """Of the controller, whose `commit` compares that it still is one."""

    def __init__(self, metadata: Metadata, commit: Commit) -> None:
        self._metadata = metadata
        self._commit = commit

    async def alter(
        self,
        resource: ResourceType,
        resource_name: str,
        ops: Sequence[ConfigOp],
        *,
        replace: bool = False,
        validate_only: bool = False,
        also: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        """Apply `ops` to the configs of a topic, of a broker (its id), of all brokers (''), or of
        a group. With `replace` they are applied to none (AlterConfigs). `also` may refuse what
        would come out, by a KafkaError."""

        def change(before: Mapping[str, str]) -> dict[str, str]:
            after = config_ops.altered(resource, {} if replace else before, ops)
            config_ops.validate(resource, resource_name, before, after)
            if also is not None:
                also(after)
            return after

        if resource is ResourceType.TOPIC:
            await self._alter_topic(resource_name, change, validate_only)
        elif resource is ResourceType.BROKER:
            self._check_broker(resource_name)
            await self._alter_key(keys.broker_configs_key(resource_name), change, validate_only)
        else:
            self._check_room(resource_name)
            await self._alter_key(keys.group_configs_key(resource_name), change, validate_only)

    async def _alter_topic(self, name: str, change: Change, validate_only: bool) -> None:
        while True:
            topic = topic_called(self._metadata.image, name)
            after = change(topic.configs)
            if validate_only or after == topic.configs:
                return
            key = keys.topic_key(name)
            new = TopicImage(name, topic.id, topic.partitions, after, topic.mod_revision)
            if await self._commit([Compare(key, topic.mod_revision)], [Put(key, new.value())]):
                return

    async def _alter_key(self, key: str, change: Change, validate_only: bool) -> None:
        while True:
            _, entries = await self._metadata.store.read(key)
            entry = entries.get(key)
            before = keys.content_of(entry.value) if entry else {}
            after = change(before)
            if validate_only or after == before:
                return
            compare = Compare(key, entry.mod_revision if entry else NO_REVISION)
            write = Put(key, keys.value_of(after)) if after else Delete(key)
            if await self._commit([compare], [write]):
                return

    def _check_room(self, group_id: str) -> None:
        known = self._metadata.image.group_configs
        if group_id not in known and len(known) >= GROUP_CONFIGS_COUNT:
            raise KafkaError(
                ErrorCode.POLICY_VIOLATION, f"{GROUP_CONFIGS_COUNT} groups have configs already."
            )

    def _check_broker(self, resource_name: str) -> None:
        if not resource_name:
            return
        if not (resource_name.isascii() and resource_name.isdecimal() and len(resource_name) < 11):
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"{resource_name[:80]!r} is not the id of a broker."
            )
        if NodeId(int(resource_name)) not in self._metadata.image.brokers:
            raise KafkaError(
                ErrorCode.BROKER_ID_NOT_REGISTERED, f"No broker has id {resource_name}."
            )
