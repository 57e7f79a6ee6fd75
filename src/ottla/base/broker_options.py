"""The options of a broker: Kafka's names, and Kafka's defaults but for these.

    listeners                  PLAINTEXT://127.0.0.1:9092   Kafka: every interface
    log.dirs                   ./ottla-data                 Kafka: /tmp/kafka-logs
    node.id                    1                            Kafka: none, it must be set
    max.connections            20000                        Kafka: 2^31-1
    queued.max.request.bytes   268435456                    Kafka: -1, no bound

The first because there is no authentication yet, and a broker that nobody configured should not
be open to a network; the last two because a bound that is off is no bound (memory that strangers
can claim has a cap from the start). The options of logs and of coordinators are in modules of
their own; BrokerSettings holds all of them.
"""

from dataclasses import dataclass
from typing import Final

from ottla.base.broker_coordinator_options import BrokerCoordinatorSettings
from ottla.base.option import (
    BOOLEAN,
    INT,
    INT_MAX,
    LIST,
    LONG,
    STRING,
    Effect,
    Synonym,
    Update,
    at_least,
    either,
    not_empty,
    one_of,
    option,
    table_of,
)

LATER: Final = Effect.LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings(BrokerCoordinatorSettings):
    """What the options of one broker are, all layers taken together."""

    # Who and where.
    node_id: int = option(
        INT,
        1,
        at_least(0),
        "The number of this node in its cluster.",
        importance="high",
        synonyms=(Synonym("broker.id"),),
    )
    broker_id: int = option(
        INT, -1, at_least(-1), "Older name of node.id, which wins over it.", importance="high"
    )
    broker_rack: str | None = option(
        STRING, None, None, "Rack or zone of this node, told to clients."
    )
    listeners: tuple[str, ...] = option(
        LIST,
        ("PLAINTEXT://127.0.0.1:9092",),
        not_empty,
        "Where to listen, as NAME://HOST:PORT; an empty host is every interface. Kafka's default "
        "is every interface, Ottla's this machine alone.",
        importance="high",
    )
    advertised_listeners: tuple[str, ...] | None = option(
        LIST,
        None,
        not_empty,
        "Where clients are told to connect, as NAME://HOST:PORT; the listeners where not set.",
        importance="high",
    )
    listener_security_protocol_map: tuple[str, ...] = option(
        LIST,
        ("PLAINTEXT:PLAINTEXT",),
        not_empty,
        "Security protocol of each listener, as NAME:PROTOCOL. PLAINTEXT is the only one yet.",
        importance="low",
    )
    controller_listener_names: tuple[str, ...] = option(
        LIST,
        (),
        None,
        "Listeners of Kafka's controller quorum. Ottla has none: they are not opened.",
        importance="high",
    )
    log_dirs: tuple[str, ...] = option(
        LIST,
        ("./ottla-data",),
        not_empty,
        "Directories that hold the logs.",
        importance="high",
        synonyms=(Synonym("log.dir"),),
    )
    log_dir: tuple[str, ...] | None = option(
        LIST, None, not_empty, "Older name of log.dirs, which wins over it.", importance="high"
    )
    # Who may do what.
    authorizer_class_name: str = option(
        STRING,
        "",
        one_of("", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        "Kafka's StandardAuthorizer, by its name: access control lists decide. Empty: everybody "
        "may do everything.",
        importance="low",
    )
    super_users: str = option(
        STRING,
        "",
        None,
        "Principals that may do everything, as User:NAME with semicolons between them.",
    )
    allow_everyone_if_no_acl_found: bool = option(
        BOOLEAN,
        False,
        None,
        "Whether everybody may use a resource of which no access control list speaks.",
    )
    # Topics.
    auto_create_topics_enable: bool = option(
        BOOLEAN, True, None, "Make a topic when a client first asks for it.", importance="high"
    )
    default_replication_factor: int = option(
        INT, 1, at_least(1), "Replicas of a topic made without a count."
    )
    delete_topic_enable: bool = option(
        BOOLEAN, True, None, "Let topics be deleted.", importance="high"
    )
    num_partitions: int = option(INT, 1, at_least(1), "Partitions of a topic made without a count.")
    # Connections.
    connections_max_idle_ms: int = option(
        LONG, 600_000, None, "A connection without a request for this long is closed (ms)."
    )
    max_connections: int = option(
        INT,
        20_000,
        at_least(0),
        "Most connections at once; more wait until one is closed. Kafka sets no bound.",
        update=Update.CLUSTER_WIDE,
    )
    max_connections_per_ip: int = option(
        INT,
        INT_MAX,
        at_least(0),
        "Most connections at once from one address.",
        update=Update.CLUSTER_WIDE,
    )
    max_connections_per_ip_overrides: tuple[str, ...] = option(
        LIST,
        (),
        None,
        "max.connections.per.ip for single addresses, as ADDRESS:COUNT.",
        update=Update.CLUSTER_WIDE,
        effect=LATER,
    )
    socket_listen_backlog_size: int = option(
        INT, 50, at_least(1), "Connections that may wait to be accepted."
    )
    socket_receive_buffer_bytes: int = option(
        INT,
        102_400,
        at_least(-1),
        "SO_RCVBUF of a connection; -1 leaves it to the operating system (bytes).",
        importance="high",
    )
    socket_send_buffer_bytes: int = option(
        INT,
        102_400,
        at_least(-1),
        "SO_SNDBUF of a connection; -1 leaves it to the operating system (bytes).",
        importance="high",
    )
    # Requests.
    fetch_max_bytes: int = option(
        INT, 57_671_680, at_least(1024), "Most that one fetch is answered with (bytes)."
    )
    max_incremental_fetch_session_cache_slots: int = option(
        INT, 1_000, at_least(0), "Fetch sessions that are remembered."
    )
    max_request_partition_size_limit: int = option(
        INT, 2_000, at_least(1), "Most partitions that one DescribeTopicPartitions answers with."
    )
    queued_max_request_bytes: int = option(
        LONG,
        256 << 20,
        either(-1, at_least(1)),
        "Requests held in memory at once; past it nothing is read (bytes). Kafka sets no bound; "
        "-1 is none.",
    )
    queued_max_requests: int = option(
        INT,
        500,
        at_least(1),
        "Kafka's queue before its request threads. Ottla handles a request as it arrives.",
        importance="high",
        effect=Effect.NONE,
    )
    request_timeout_ms: int = option(
        INT, 30_000, None, "How long a request between nodes may take (ms).", importance="high"
    )
    socket_request_max_bytes: int = option(
        INT, 104_857_600, at_least(1), "Largest request that is taken (bytes).", importance="high"
    )
    # Replication and quotas.
    num_replica_fetchers: int = option(
        INT,
        1,
        at_least(1),
        "Fetchers from each other node.",
        importance="high",
        update=Update.CLUSTER_WIDE,
        effect=LATER,
    )
    replica_fetch_max_bytes: int = option(
        INT, 1_048_576, at_least(0), "Most of a partition in one replica fetch.", effect=LATER
    )
    replica_fetch_min_bytes: int = option(
        INT, 1, None, "Least that a replica fetch waits for.", importance="high", effect=LATER
    )
    replica_fetch_response_max_bytes: int = option(
        INT, 10_485_760, at_least(0), "Most that one replica fetch is answered with.", effect=LATER
    )
    replica_fetch_wait_max_ms: int = option(
        INT, 500, None, "Longest that a replica fetch waits (ms).", importance="high", effect=LATER
    )
    replica_lag_time_max_ms: int = option(
        LONG,
        30_000,
        None,
        "A follower behind for this long leaves the in-sync set (ms).",
        importance="high",
        effect=LATER,
    )
    quota_window_num: int = option(
        INT, 11, at_least(1), "Windows that a quota looks back.", importance="low", effect=LATER
    )
    quota_window_size_seconds: int = option(
        INT, 1, at_least(1), "Length of a quota's window (s).", importance="low", effect=LATER
    )
    num_recovery_threads_per_data_dir: int = option(
        INT,
        2,
        at_least(1),
        "Groups of logs of one log directory that are opened at once when the node starts.",
        importance="high",
        update=Update.CLUSTER_WIDE,
    )
    background_threads: int = option(
        INT,
        10,
        at_least(1),
        "Threads for background work. A node has its own helper threads.",
        importance="high",
        update=Update.CLUSTER_WIDE,
        effect=Effect.NONE,
    )
    sasl_kerberos_min_time_before_relogin: int = option(
        LONG,
        60_000,
        None,
        "Least time between two logins to Kerberos (ms).",
        update=Update.PER_BROKER,
        effect=LATER,
    )


BROKER_OPTIONS: Final = table_of(BrokerSettings)
