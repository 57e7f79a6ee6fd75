"""Kafka's own tools, in Java, for ACLs, elections, reassignments and the quorum."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import ottla
from tests.clients.peers import MARKS
from tests.clients.test_acls import ON
from tests.clients.test_java import JVM, WAIT_S
from tests.tools.kafka_jars import require_classpath

pytestmark = [*MARKS, pytest.mark.java, pytest.mark.timeout(900)]

ACLS = "org.apache.kafka.tools.AclCommand"
ELECTION = "org.apache.kafka.tools.LeaderElectionCommand"
REASSIGN = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand"

Tool = Callable[..., str]


@pytest.fixture(scope="module")
def broker() -> Iterator[ottla.Broker]:
    with ottla.Broker(settings=ON) as broker:
        yield broker


@pytest.fixture(scope="module")
def tool(broker: ottla.Broker) -> Tool:
    """`tool(main_class, *arguments, code=0)` is what it prints."""
    classpath = require_classpath()

    def run(main_class: str, *arguments: str, code: int = 0) -> str:
        logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        command = ["java", *JVM, logging, "-cp", classpath, main_class]
        command += ["--bootstrap-server", broker.bootstrap_servers, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def topic(broker: ottla.Broker) -> str:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    admin.create_topics([NewTopic("t", 2, 1)])["t"].result(WAIT_S)
    return "t"


def test_kafka_acls(tool: Tool) -> None:
    added = tool(
        ACLS,
        *("--add", "--allow-principal", "User:alice", "--allow-host", "10.0.0.1"),
        *("--producer", "--topic", "app-", "--resource-pattern-type", "prefixed"),
    )
    assert "resourceType=TOPIC, name=app-, patternType=PREFIXED" in added
    listed = tool(ACLS, "--list", "--topic", "app-1", "--resource-pattern-type", "match")
    found = re.findall(r"host=(\S+), operation=(\w+), permissionType=(\w+)", listed)
    assert sorted(found) == [
        ("10.0.0.1", "CREATE", "ALLOW"),
        ("10.0.0.1", "DESCRIBE", "ALLOW"),
        ("10.0.0.1", "WRITE", "ALLOW"),
    ]
    tool(
        ACLS,
        *("--remove", "--force", "--topic", "app-", "--resource-pattern-type", "prefixed"),
    )
    assert "app-" not in tool(ACLS, "--list")


def test_kafka_leader_election(tool: Tool, topic: str) -> None:
    told = tool(
        ELECTION,
        *("--election-type", "preferred", "--topic", topic, "--partition", "0"),
    )
    assert "Valid replica already elected for partitions t-0" in told
    tool(ELECTION, "--election-type", "preferred", "--all-topic-partitions")


def test_kafka_reassign_partitions(tool: Tool, topic: str, tmp_path: Path) -> None:
    assert "No partition reassignments found" in tool(REASSIGN, "--list")
    plan = tmp_path / "plan.json"

    def planned(replicas: list[int]) -> str:
        rows = [{"topic": topic, "partition": 0, "replicas": replicas}]
        plan.write_text(json.dumps({"version": 1, "partitions": rows}))
        return str(plan)

    told = tool(REASSIGN, "--execute", "--reassignment-json-file", planned([1]))
    assert "Successfully started partition reassignment for t-0" in told
    verified = tool(REASSIGN, "--verify", "--reassignment-json-file", planned([1]))
    assert "Reassignment of partition t-0 is completed" in verified
    refused = tool(REASSIGN, "--execute", "--reassignment-json-file", planned([1, 2]), code=1)
    assert "2" in refused


def test_kafka_metadata_quorum(tool: Tool) -> None:
    status = tool(QUORUM, "describe", "--status")
    assert re.search(r"LeaderId:\s+1\b", status)
    assert re.search(r"MaxFollowerLag:\s+0\b", status)
    assert re.search(r'CurrentVoters:\s+\[\{"id": 1, "directoryId": "\S{22}"', status)
    replication = tool(QUORUM, "describe", "--replication")
    assert re.search(r"^1\s.*\sLeader\s*$", replication, re.MULTILINE)
