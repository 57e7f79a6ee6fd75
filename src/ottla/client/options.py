"""The options of the clients as keywords with types: what an editor offers and mypy checks.

Names and types are those of the settings (`settings`, `asking`, `producer_settings`,
`consumer_settings`), which hold defaults, meanings and checks; a test holds the two together. A
TypedDict is the one way to give the keywords of a constructor types without repeating them in three
clients.
"""

from collections.abc import Sequence
from typing import TypedDict

from ottla.client.producer_settings import Acks, PartitionerCall
from ottla.security.sasl import TokenSource


class ClientOptions(TypedDict, total=False):
    bootstrap_servers: str | Sequence[str]
    client_id: str
    request_timeout_ms: int
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    reconnect_backoff_ms: int
    reconnect_backoff_max_ms: int
    socket_connection_setup_timeout_ms: int
    metadata_max_age_ms: int
    receive_message_max_bytes: int
    security_protocol: str
    ssl_cafile: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None
    ssl_password: str | None
    ssl_check_hostname: bool
    ssl_context: object | None
    sasl_mechanism: str | None
    sasl_username: str
    sasl_password: str
    sasl_oauthbearer_token: TokenSource | None


class AdminOptions(ClientOptions, total=False):
    default_api_timeout_ms: int


class ProducerOptions(ClientOptions, total=False):
    acks: Acks
    enable_idempotence: bool | None
    compression_type: str
    compression_gzip_level: int | None
    compression_lz4_level: int | None
    compression_zstd_level: int | None
    linger_ms: float
    batch_size: int
    buffer_memory: int
    max_block_ms: int
    max_request_size: int
    delivery_timeout_ms: int
    retries: int
    max_in_flight_requests_per_connection: int
    transactional_id: str | None
    transaction_timeout_ms: int
    partitioner: PartitionerCall | None


class ConsumerOptions(ClientOptions, total=False):
    group_id: str | None
    group_instance_id: str | None
    group_protocol: str
    group_remote_assignor: str | None
    partition_assignment_strategy: Sequence[str]
    auto_offset_reset: str
    enable_auto_commit: bool
    auto_commit_interval_ms: int
    isolation_level: str
    fetch_min_bytes: int
    fetch_max_bytes: int
    fetch_max_wait_ms: int
    max_partition_fetch_bytes: int
    max_poll_records: int
    check_crcs: bool
    client_rack: str
    default_api_timeout_ms: int
    session_timeout_ms: int
    heartbeat_interval_ms: int
    max_poll_interval_ms: int
