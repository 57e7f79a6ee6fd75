"""Kafka's broker options that Ottla does not have, so that a Kafka server.properties starts.

Three answers to a key that is not in BROKER_OPTIONS:
- *no effect*: it tunes something that is not here (the JVM's threads, the controller quorum,
  ZooKeeper), or a feature that is yet to come. The broker starts and says so in one note.
- *refused*: leaving it out in silence would make the broker less safe, or other, than the file
  says (TLS, SASL, a policy). Only the value that asks for nothing is taken.
- *unknown*: an error that names the key, and the one that was perhaps meant.

An entry that ends in a dot stands for every key that begins with it; the longest entry that fits
a key is the one that counts.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from ottla.base.broker_options import BROKER_OPTIONS
from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import CLIENT_TEXT_LOG_CHARS

_KRAFT: Final = "Kafka's controller quorum is not part of Ottla"
_THREADS: Final = "a node has one reactor and its own helper threads"
_PURGATORY: Final = "parked requests are purged as they complete"
_METRICS: Final = "metrics of the JVM"
_ZOOKEEPER: Final = "there is no ZooKeeper, nor the message formats of its time"
_REPLICATION: Final = "replication is yet to come"
_GROUPS: Final = "share groups and groups of Kafka Streams are yet to come"
_TRANSACTIONS: Final = "first writes are always verified; two-phase commit is not offered"
_TIERED: Final = "tiered storage is yet to come"
_CLIENT: Final = "belongs to connections that Kafka's broker opens"

NO_EFFECT: Final[Mapping[str, str]] = {
    "process.roles": _KRAFT,
    "controller.": _KRAFT,
    "metadata.log.": _KRAFT,
    "metadata.max.": _KRAFT,
    "broker.heartbeat.interval.ms": _KRAFT,
    "broker.session.timeout.ms": _KRAFT,
    "initial.broker.registration.timeout.ms": _KRAFT,
    "early.start.listeners": _KRAFT,
    "controlled.shutdown.enable": _KRAFT,
    "cluster.id": _KRAFT,
    "unstable.": _KRAFT,
    "num.network.threads": _THREADS,
    "num.io.threads": _THREADS,
    "num.replica.alter.log.dirs.threads": _THREADS,
    "group.coordinator.": _THREADS,
    "group.share.": _GROUPS,
    "group.streams.": _GROUPS,
    "share.coordinator.": _GROUPS,
    "offsets.": "it tunes what the log of groups does not have here",
    "transaction.": _TRANSACTIONS,
    "add.partitions.to.txn.": _TRANSACTIONS,
    "delete.records.purgatory.purge.interval.requests": _PURGATORY,
    "fetch.purgatory.purge.interval.requests": _PURGATORY,
    "producer.purgatory.purge.interval.requests": _PURGATORY,
    "share.fetch.purgatory.purge.interval.requests": _PURGATORY,
    "metric.reporters": _METRICS,
    "metrics.": _METRICS,
    "kafka.metrics.": _METRICS,
    "telemetry.": _METRICS,
    "auto.leader.rebalance.enable": _REPLICATION,
    "leader.": _REPLICATION,
    "follower.": _REPLICATION,
    "replica.": _REPLICATION,
    "replication.": _REPLICATION,
    "alter.log.dirs.": "moves between log directories are not throttled",
    "cordoned.log.dirs": "no log directory can be cordoned",
    "log.dir.failure.timeout.ms": "there is no controller that would be told",
    "inter.broker.listener.name": _REPLICATION,
    "remote.": _TIERED,
    "max.connection.creation.rate": "the rate of new connections is not bounded",
    "connection.failed.authentication.delay.ms": "there is no authentication yet",
    "connections.max.reauth.ms": "there is no authentication yet",
    "socket.connection.setup.timeout.": _CLIENT,
    "zookeeper.": _ZOOKEEPER,
    "broker.id.generation.enable": _ZOOKEEPER,
    "reserved.broker.max.id": _ZOOKEEPER,
    "control.plane.listener.name": _ZOOKEEPER,
    "inter.broker.protocol.version": _ZOOKEEPER,
    "log.message.format.version": _ZOOKEEPER,
    "log.message.downconversion.enable": _ZOOKEEPER,
    "log.message.timestamp.difference.max.ms": _ZOOKEEPER,
}

_SECURITY: Final = "TLS and SASL are yet to come"
_CLASSES: Final = "Java classes cannot be loaded"

REFUSED: Final[Mapping[str, tuple[str, str | None]]] = {
    "ssl.": (_SECURITY, None),
    "sasl.": (_SECURITY, None),
    "listener.name.": (_SECURITY, None),
    "delegation.token.": (_SECURITY, None),
    "security.inter.broker.protocol": (_SECURITY, "PLAINTEXT"),
    "security.providers": (_CLASSES, ""),
    "principal.builder.class": (_CLASSES, ""),
    "alter.config.policy.class.name": (_CLASSES, ""),
    "create.topic.policy.class.name": (_CLASSES, ""),
    "client.quota.callback.class": (_CLASSES, ""),
    "replica.selector.class": (_CLASSES, ""),
    "config.providers": (_CLASSES, ""),
    "remote.log.storage.system.enable": (_TIERED, "false"),
}
"""Why, and the one value that asks for nothing (None: there is none)."""


def accept_static(pairs: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The options of a broker's file that Ottla has, checked one by one, and the notes on those
    that have no effect. KafkaError(INVALID_CONFIG) for a key or value that cannot be taken."""
    options, notes = {}, []
    for key, text in pairs.items():
        if key in BROKER_OPTIONS:
            BROKER_OPTIONS[key].parse(text)
            options[key] = text
        else:
            notes.append(_note(key, text))
    return options, notes


def _note(key: str, text: str) -> str:
    refused, ignored = _entry_of(key, REFUSED), _entry_of(key, NO_EFFECT)
    if refused is not None and len(refused) >= len(ignored or ""):
        why, harmless = REFUSED[refused]
        if text.strip() != harmless:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"{key}: cannot be set: {why}")
        return f"{key} has no effect: {why}"
    if ignored is not None:
        return f"{key} has no effect: {NO_EFFECT[ignored]}"
    raise KafkaError(ErrorCode.INVALID_CONFIG, _unknown(key))


def _entry_of(key: str, entries: Iterable[str]) -> str | None:
    """The longest entry that is the key, or ends in a dot and begins it."""
    fitting = [
        entry
        for entry in entries
        if key == entry or (entry.endswith(".") and key.startswith(entry))
    ]
    return max(fitting, key=len, default=None)


def _unknown(key: str) -> str:
    shown = key[:CLIENT_TEXT_LOG_CHARS]
    meant = difflib.get_close_matches(shown, BROKER_OPTIONS, n=1)
    return f"{shown}: is no option of a broker" + (f"; is {meant[0]} meant?" if meant else "")
