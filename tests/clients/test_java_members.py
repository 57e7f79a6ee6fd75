"""Groups of Kafka's own consumer, with both protocols: members come, leave and crash under load."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.groups import Crowd
from tests.clients.peers import MARKS
from tests.clients.test_consumer_groups import SETTINGS
from tests.clients.test_groups import Load, new_topic, story
from tests.clients.test_java import JVM
from tests.tools.kafka_jars import require_classpath
from tests.tools.serving import Serving, serving

__all__ = ["new_topic"]
pytestmark = [*MARKS, pytest.mark.java, pytest.mark.long, pytest.mark.timeout(600)]

SOURCE = Path(__file__).with_name("GroupMember.java")
CLASSIC = ("group.protocol=classic", "session.timeout.ms=4000", "heartbeat.interval.ms=300")
ASSIGNOR = "partition.assignment.strategy=org.apache.kafka.clients.consumer"
PROTOCOLS = {
    "range": (*CLASSIC, f"{ASSIGNOR}.RangeAssignor"),
    "cooperative": (*CLASSIC, f"{ASSIGNOR}.CooperativeStickyAssignor"),
    "consumer": ("group.protocol=consumer",),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("members") / "data", SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs one."""
    if shutil.which("javac") is None:
        pytest.skip("there is no javac")
    classes = tmp_path_factory.mktemp("classes")
    jars = require_classpath()
    subprocess.run(["javac", "-cp", jars, "-d", str(classes), str(SOURCE)], check=True)
    logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    return ["java", *JVM, logging, "-cp", f"{classes}:{jars}", "GroupMember"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_members_come_leave_and_crash(
    protocol: str, member: list[str], server: Serving, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    crowd = Crowd("java", server.bootstrap, f"g-java-{protocol}", topic)
    crowd.command = [*member, server.bootstrap, f"g-java-{protocol}", topic]
    crowd.command += PROTOCOLS[protocol]
    story(crowd, Load(server.bootstrap, topic))
