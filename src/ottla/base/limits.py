"""Caps on everything whose size or count somebody else chooses, and how they relate.

What is here is not configuration: these bounds hold whatever a config says. Numbers are bytes
unless the name says otherwise.
"""

from typing import Final

from ottla.base.errors import check

SCRATCH_BYTES: Final = (1 << 20) + (1 << 16)
"""Receive buffer that all connections of a node share: a request of the largest batch that
clients send by default (1 MiB) and its header fit."""
FRAME_UNAUTHENTICATED_BYTES: Final = 512 * 1024
"""Largest frame before authentication (Kafka: sasl.server.max.receive.size)."""
FRAME_MIN_BYTES: Final = 8
"""Smallest request: api key, api version, correlation id."""
CONNECTION_OUTPUT_BYTES: Final = 16 << 20
"""Replies that may wait for one reader; a connection past it is not read until they drain."""
CONNECTION_IN_FLIGHT_COUNT: Final = 1_000
"""Requests of one connection whose replies are parked; past it the connection is not read."""
TOPIC_NAME_CHARS: Final = 249
CLIENT_TEXT_LOG_CHARS: Final = 200
"""How much of a text that a client sent a log line may show."""
DECOMPRESSED_BYTES: Final = 64 << 20
"""Most that one compressed batch may unpack to, where the topic sets no tighter bound."""
ELEMENTS_PER_REQUEST: Final = 250_000
"""Array elements, nested ones included, that one request may hold: decoding and handling them
holds the reactor for about 2 microseconds each."""
WALKED_RECORDS_COUNT: Final = 100_000
"""Records that are looked at one by one in one batch: some 3 us each, on the reactor."""
LOOKED_INTO_BYTES: Final = 16 << 20
"""Most that a batch is unpacked to for a look-up by time."""
PARTITIONS_PER_REQUEST: Final = 10_000
"""Partitions that one CreateTopics or CreatePartitions request may ask for."""
PRODUCERS_PER_PARTITION: Final = 100_000
"""Idempotent producers remembered by one partition; past it the longest idle one goes."""
GROUP_MEMBERS_COUNT: Final = 200_000
"""Members of all groups that a node coordinates, those that were only given an id included."""
GROUP_SOFT_BYTES: Final = 256 << 20
"""What these members, their subscriptions and assignments may take of a node's memory."""
TRANSACTIONAL_IDS_BYTES: Final = 8 << 20
"""What the transactional ids of one partition of `__transaction_state` may take of a node's memory:
some ten thousand of them."""
GROUP_CONFIGS_COUNT: Final = 10_000
"""Groups of which something may be set."""
ACLS_COUNT: Final = 50_000
"""Access control entries of a cluster."""
AUTHORIZER_DECISIONS_COUNT: Final = 100_000
"""Decisions of an authorizer that are remembered, some 300 bytes each."""

check(FRAME_MIN_BYTES < FRAME_UNAUTHENTICATED_BYTES <= SCRATCH_BYTES, "frame caps")
check(SCRATCH_BYTES <= CONNECTION_OUTPUT_BYTES, "output cap")
