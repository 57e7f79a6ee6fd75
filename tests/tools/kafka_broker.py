"""Apache Kafka itself, one KRaft node over a directory: a peer that wrote data before us.

Its log directory is `home/logs`. It takes some seconds to start; the ports stay the same over
its starts.
"""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import confluent_kafka as rd
from confluent_kafka.admin import AdminClient

from tests.tools.kafka_jars import NOW, OLDEST, Kafka, require_classpath

CLUSTER_ID: Final = "AAAAAAAAAAAAAAAAAAAAAQ"
NODE_ID: Final = 7
START_TIMEOUT_S: Final = 90
STOP_TIMEOUT_S: Final = 60


class KafkaBroker:
    """`listeners` are security protocols beside PLAINTEXT, each of which gets a listener of that
    name; `format_words` are said to kafka-storage format (`--add-scram` ...)."""

    kafka = NOW

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str] | None = None,
        *,
        listeners: Sequence[str] = (),
        format_words: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.logs = home / "logs"
        self.settings = dict(settings or {})
        self.port, self._controller_port, *more = free_ports(2 + len(listeners))
        self.bootstraps = {
            name: f"127.0.0.1:{port}" for name, port in zip(listeners, more, strict=True)
        }
        self._format_words = tuple(format_words)
        self.process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> "KafkaBroker":
        self.home.mkdir(parents=True, exist_ok=True)
        properties = self.home / "server.properties"
        properties.write_text("".join(f"{key}={text}\n" for key, text in self._texts().items()))
        self._prepare(properties)
        self._said_before = self._log.stat().st_size if self._log.exists() else 0
        self.process = self._launch("kafka.Kafka", str(properties))
        self._wait_ready()
        return self

    def _prepare(self, properties: Path) -> None:
        if not self.logs.exists():
            words = ("format", "-t", CLUSTER_ID, "-c", str(properties))
            self._run("kafka.tools.StorageTool", *words, *self._format_words)

    def _launch(self, main: str, *words: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            command = java(main, *words, level="info", kafka=self.kafka)
            return subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def _log(self) -> Path:
        return self.home / "kafka.log"

    def said(self) -> str:
        """What it logged since its last start."""
        return self._log.read_bytes()[self._said_before :].decode(errors="replace")

    def _texts(self) -> dict[str, str]:
        controller = f"127.0.0.1:{self._controller_port}"
        reached = {"PLAINTEXT": self.bootstrap, **self.bootstraps}
        advertised = ",".join(f"{name}://{address}" for name, address in reached.items())
        protocols = ",".join(f"{name}:{name}" for name in reached)
        return {
            "process.roles": "broker,controller",
            "node.id": str(NODE_ID),
            "controller.quorum.voters": f"{NODE_ID}@{controller}",
            "listeners": f"{advertised},CONTROLLER://{controller}",
            "advertised.listeners": advertised,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": f"{protocols},CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.logs),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "3",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "3",
            "group.initial.rebalance.delay.ms": "0",
            **self.settings,
        }

    def _run(self, main: str, *words: str) -> None:
        done = subprocess.run(java(main, *words), capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{main}: {done.stdout}{done.stderr}")

    def _wait_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Kafka did not start: {self.said()[-2_000:]}")
            with contextlib.suppress(rd.KafkaException):
                found = admin.list_topics(timeout=1)
                partitions = [
                    each for topic in found.topics.values() for each in topic.partitions.values()
                ]
                if found.brokers and all(each.leader == NODE_ID for each in partitions):
                    return

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIMEOUT_S)


class OldKafkaBroker(KafkaBroker):
    """Of the days of ZooKeeper, which runs beside it; on its own port, for one start."""

    kafka = OLDEST
    _zookeeper: subprocess.Popen[bytes] | None = None

    def _prepare(self, properties: Path) -> None:
        own = self.home / "zookeeper.properties"
        texts = {
            "dataDir": self.home / "zookeeper",
            "clientPort": self._controller_port,
            "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
        }
        own.write_text("".join(f"{key}={text}\n" for key, text in texts.items()))
        self._zookeeper = self._launch(
            "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(own)
        )

    def _texts(self) -> dict[str, str]:
        of_a_quorum = ("process.roles", "node.id", "controller.", "listener")
        return {
            **{k: v for k, v in super()._texts().items() if not k.startswith(of_a_quorum)},
            "broker.id": str(NODE_ID),
            "listeners": f"PLAINTEXT://{self.bootstrap}",
            "zookeeper.connect": f"127.0.0.1:{self._controller_port}",
            "zookeeper.connection.timeout.ms": str(START_TIMEOUT_S * 1_000),
        }

    def stop(self) -> None:
        super().stop()
        process, self._zookeeper = self._zookeeper, None
        if process is not None:
            process.kill()
            process.wait(STOP_TIMEOUT_S)


def java(main: str, *words: str, level: str = "warn", kafka: Kafka = NOW) -> list[str]:
    return [
        "java",
        "-Xmx384m",
        f"-Dorg.slf4j.simpleLogger.defaultLogLevel={level}",
        "-Dzookeeper.jmx.log4j.disable=true",
        "-cp",
        require_classpath(kafka),
        main,
        *words,
    ]


def free_ports(count: int) -> list[int]:
    """Ports that nobody has right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def kafka_broker(
    home: Path,
    settings: Mapping[str, str] | None = None,
    *,
    is_old: bool = False,
    listeners: Sequence[str] = (),
    format_words: Sequence[str] = (),
) -> Iterator[KafkaBroker]:
    kind = OldKafkaBroker if is_old else KafkaBroker
    broker = kind(home, settings, listeners=listeners, format_words=format_words)
    try:
        yield broker.start()
    finally:
        broker.stop()
