"""Configs of topics, brokers, groups and the rest.

Brokers before 2.3 cannot change one config and leave the others (KIP-339). There what is set is
asked for first and sent again with the changes: two who change one resource at the same time may
then undo each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.client.asking import Asking, raise_named
from ottla.client.errors import ClientError
from ottla.client.routes import Anyone, Nodes
from ottla.client.rows import ConfigEntry, Resource
from ottla.protocol.messages import alter_configs, describe_configs, incremental_alter_configs
from ottla.protocol.messages.list_config_resources import (
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)
from ottla.rpc.errors import ConnectError

SET: Final = 0
DELETE: Final = 1
APPEND: Final = 2
SUBTRACT: Final = 3
DYNAMIC_DEFAULT: Final = 3
"""The source of what is set of all brokers at once, which have no name."""
SET_HERE: Final = {Resource.TOPIC: 1, Resource.BROKER: 2}
"""The source of what is set of a resource itself."""


class ConfigAdmin(Asking):
    async def describe_configs(
        self, resource: Resource, name: str, keys: Iterable[str] | None = None
    ) -> dict[str, ConfigEntry]:
        """The configs of one resource (of a broker: its id as a text), by key."""
        row = describe_configs.DescribeConfigsResource(
            resource_type=resource,
            resource_name=name,
            configuration_keys=None if keys is None else list(keys),
        )
        response = await self._one(
            self._route(resource, name),
            describe_configs.DescribeConfigsRequest(resources=[row]),
            describe_configs.DescribeConfigsResponse,
            lambda answer: _check(answer.results, name),
        )
        return {
            entry.name: ConfigEntry(
                entry.name, entry.value, entry.config_source, entry.read_only, entry.is_sensitive
            )
            for result in response.results
            for entry in result.configs
        }

    async def alter_configs(
        self,
        resource: Resource,
        name: str,
        changes: Mapping[str, str | None] | None = None,
        *,
        append: Mapping[str, str] | None = None,
        subtract: Mapping[str, str] | None = None,
        validate_only: bool = False,
    ) -> None:
        """Set configs of one resource, or (None) take them back; others stay as they are. `append`
        and `subtract` change the values of those that are lists."""
        rows = [
            incremental_alter_configs.AlterableConfig(name=key, config_operation=kind, value=value)
            for kind, given in ((SET, changes), (APPEND, append), (SUBTRACT, subtract))
            for key, value in (given or {}).items()
        ]
        for row in rows:
            if row.value is None:
                row.config_operation = DELETE
        request = incremental_alter_configs.IncrementalAlterConfigsRequest(
            resources=[
                incremental_alter_configs.AlterConfigsResource(
                    resource_type=resource, resource_name=name, configs=rows
                )
            ],
            validate_only=validate_only,
        )
        try:
            await self._one(
                self._route(resource, name),
                request,
                incremental_alter_configs.IncrementalAlterConfigsResponse,
                lambda answer: _check(answer.responses, name),
            )
        except KafkaError as error:
            is_too_old = error.code is ErrorCode.UNSUPPORTED_VERSION
            if not is_too_old or append or subtract or resource not in SET_HERE:
                raise
            await self._replace_configs(resource, name, changes or {}, validate_only)

    async def _replace_configs(
        self, resource: Resource, name: str, changes: Mapping[str, str | None], validate_only: bool
    ) -> None:
        """As brokers before 2.3 have it: what is not sent is taken back."""
        there = await self.describe_configs(resource, name)
        source = SET_HERE[resource] if name else DYNAMIC_DEFAULT
        wanted: dict[str, str | None] = {}
        for entry in there.values():
            if entry.source == source:
                wanted[entry.name] = entry.value
                if entry.is_sensitive and entry.name not in changes:
                    raise ClientError(f"{name}: the broker would lose {entry.name}: set it as well")
        wanted.update(changes)
        rows = [
            alter_configs.AlterableConfig(name=key, value=value)
            for key, value in wanted.items()
            if value is not None
        ]
        request = alter_configs.AlterConfigsRequest(
            resources=[
                alter_configs.AlterConfigsResource(
                    resource_type=resource, resource_name=name, configs=rows
                )
            ],
            validate_only=validate_only,
        )
        await self._one(
            self._route(resource, name),
            request,
            alter_configs.AlterConfigsResponse,
            lambda answer: _check(answer.responses, name),
        )

    async def list_config_resources(self, *kinds: Resource) -> list[tuple[Resource, str]]:
        """The resources of these kinds that have configs (of all, where none is named); brokers
        from 4.1, and client metrics from 3.7."""

        def request(version: int) -> ListConfigResourcesRequest:
            is_old = version == 0 and kinds == (Resource.CLIENT_METRICS,)
            return ListConfigResourcesRequest(resource_types=[] if is_old else list(kinds))

        response = await self._one(self._anyone(), request, ListConfigResourcesResponse)
        known = {int(kind) for kind in Resource}
        return [
            (Resource(row.resource_type), row.resource_name)
            for row in response.config_resources
            if row.resource_type in known
        ]

    def _route(self, resource: Resource, name: str) -> Anyone | Nodes:
        """What concerns a broker is asked of that broker, all else of any."""
        if resource in (Resource.BROKER, Resource.BROKER_LOGGER) and name:
            if not name.isdecimal():
                raise ClientError(f"a broker is named by its id, not {name!r}")
            return self._nodes_of(lambda _: int(name))
        return self._anyone()


ConfigResult = (
    describe_configs.DescribeConfigsResult
    | alter_configs.AlterConfigsResourceResponse
    | incremental_alter_configs.AlterConfigsResourceResponse
)


def _check(rows: Sequence[ConfigResult], name: str) -> None:
    if not rows:
        raise ConnectError(f"the node does not answer what it was asked of {name!r}")
    for row in rows:
        raise_named(row.error_code, row.error_message, name)
