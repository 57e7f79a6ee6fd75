"""Which handler answers which API key. The one list of what this broker serves.

A handler is `handler(context, request)` and returns a response, a `Parked` that completes later,
a coroutine that returns a response, or None for no answer (acks=0). Modules load on first use,
so that start-up pays only for what is called.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from ottla.protocol.registry import APIS, ApiKey


class Endpoint:
    """One API: its handler, and whether it may overtake parked replies (see pipeline)."""

    __slots__ = ("_handler", "module", "pipelined")

    def __init__(self, module: str, *, pipelined: bool = False) -> None:
        self.module = module
        self.pipelined = pipelined
        self._handler: Callable[[Any, Any], Any] | None = None

    @property
    def handler(self) -> Callable[[Any, Any], Any]:
        if self._handler is None:
            module = import_module(f"ottla.broker.apis.{self.module}")
            self._handler = getattr(module, self.module)
        return self._handler


ENDPOINTS: Final[dict[int, Endpoint]] = {
    ApiKey.PRODUCE: Endpoint("produce", pipelined=True),
    ApiKey.FETCH: Endpoint("fetch", pipelined=True),
    ApiKey.LIST_OFFSETS: Endpoint("list_offsets"),
    ApiKey.METADATA: Endpoint("metadata"),
    ApiKey.FIND_COORDINATOR: Endpoint("find_coordinator"),
    ApiKey.OFFSET_COMMIT: Endpoint("offset_commit"),
    ApiKey.OFFSET_FETCH: Endpoint("offset_fetch"),
    ApiKey.JOIN_GROUP: Endpoint("join_group"),
    ApiKey.HEARTBEAT: Endpoint("heartbeat"),
    ApiKey.LEAVE_GROUP: Endpoint("leave_group"),
    ApiKey.SYNC_GROUP: Endpoint("sync_group"),
    ApiKey.DESCRIBE_GROUPS: Endpoint("describe_groups"),
    ApiKey.LIST_GROUPS: Endpoint("list_groups"),
    ApiKey.API_VERSIONS: Endpoint("api_versions"),
    ApiKey.CREATE_TOPICS: Endpoint("create_topics"),
    ApiKey.DELETE_TOPICS: Endpoint("delete_topics"),
    ApiKey.DELETE_RECORDS: Endpoint("delete_records"),
    ApiKey.INIT_PRODUCER_ID: Endpoint("init_producer_id"),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: Endpoint("offset_for_leader_epoch"),
    ApiKey.ADD_PARTITIONS_TO_TXN: Endpoint("add_partitions_to_txn"),
    ApiKey.ADD_OFFSETS_TO_TXN: Endpoint("add_offsets_to_txn"),
    ApiKey.END_TXN: Endpoint("end_txn"),
    ApiKey.WRITE_TXN_MARKERS: Endpoint("write_txn_markers"),
    ApiKey.TXN_OFFSET_COMMIT: Endpoint("txn_offset_commit"),
    ApiKey.DESCRIBE_ACLS: Endpoint("describe_acls"),
    ApiKey.CREATE_ACLS: Endpoint("create_acls"),
    ApiKey.DELETE_ACLS: Endpoint("delete_acls"),
    ApiKey.DESCRIBE_CONFIGS: Endpoint("describe_configs"),
    ApiKey.ALTER_CONFIGS: Endpoint("alter_configs"),
    ApiKey.ALTER_REPLICA_LOG_DIRS: Endpoint("alter_replica_log_dirs"),
    ApiKey.DESCRIBE_LOG_DIRS: Endpoint("describe_log_dirs"),
    ApiKey.CREATE_PARTITIONS: Endpoint("create_partitions"),
    ApiKey.DELETE_GROUPS: Endpoint("delete_groups"),
    ApiKey.ELECT_LEADERS: Endpoint("elect_leaders"),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: Endpoint("incremental_alter_configs"),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: Endpoint("alter_partition_reassignments"),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: Endpoint("list_partition_reassignments"),
    ApiKey.OFFSET_DELETE: Endpoint("offset_delete"),
    ApiKey.DESCRIBE_QUORUM: Endpoint("describe_quorum"),
    ApiKey.UPDATE_FEATURES: Endpoint("update_features"),
    ApiKey.DESCRIBE_CLUSTER: Endpoint("describe_cluster"),
    ApiKey.DESCRIBE_PRODUCERS: Endpoint("describe_producers"),
    ApiKey.DESCRIBE_TRANSACTIONS: Endpoint("describe_transactions"),
    ApiKey.LIST_TRANSACTIONS: Endpoint("list_transactions"),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: Endpoint("consumer_group_heartbeat"),
    ApiKey.CONSUMER_GROUP_DESCRIBE: Endpoint("consumer_group_describe"),
    ApiKey.LIST_CONFIG_RESOURCES: Endpoint("list_config_resources"),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: Endpoint("describe_topic_partitions"),
}


def endpoint_of(api_key: int) -> Endpoint | None:
    return ENDPOINTS.get(api_key)


def advertised() -> list[tuple[int, int, int]]:
    """(api key, lowest, highest version) of everything served, by key.

    Produce is advertised from 0, though 0 to 2 are refused: librdkafka before 2.11.1 sends
    compressed batches unpacked otherwise (KAFKA-18659).
    """
    rows = []
    for key in sorted(ENDPOINTS):
        api = APIS[key]
        rows.append((int(key), 0 if key == ApiKey.PRODUCE else api.first, api.last))
    return rows
