"""Apache Kafka's own tools as a peer under test: their jars from Maven, in a cache.

The jars land once in ~/.cache/ottla/kafka-VERSION/libs; an `ok` file beside them says what is
complete there. `./dev test` runs this module before pytest, so that no test waits for
the download. Where Java or Maven is missing nothing happens, and the tests that need Java skip:
they call `require_classpath()`.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

CACHE: Final = Path(os.environ.get("OTTLA_CACHE", "~/.cache/ottla")).expanduser()
LOGGING: Final = "org.slf4j:slf4j-simple:1.7.36"
DOWNLOAD_TIMEOUT_S: Final = 600


class Kafka(NamedTuple):
    """A version of it, and where its jars are."""

    version: str
    artifacts: tuple[str, ...]

    @property
    def home(self) -> Path:
        return CACHE / f"kafka-{self.version}"


NOW: Final = Kafka(
    "4.3.1",
    (
        "org.apache.kafka:kafka_2.13:4.3.1",
        "org.apache.kafka:kafka-tools:4.3.1",
        "org.apache.kafka:kafka-streams-examples:4.3.1",
        LOGGING,
    ),
)
OLDEST: Final = Kafka(
    "2.1.1",
    (
        "org.apache.kafka:kafka_2.12:2.1.1",
        "org.apache.zookeeper:zookeeper:3.5.9",  # its own, 3.4, finds no host on Java 14 and later
        LOGGING,
    ),
)
"""The oldest that Kafka 4's clients, and ours, speak to. Fetched by the tests that ask for it."""


class Unavailable(Exception):
    """Why the jars cannot be had here."""


def classpath(kafka: Kafka = NOW) -> str:
    """The class path of Kafka's jars, fetched if need be; Unavailable if that cannot be."""
    if not shutil.which("java"):
        raise Unavailable("java is not installed")
    if not _is_complete(kafka):
        download(kafka)
    return f"{kafka.home}/libs/*"


def require_classpath(kafka: Kafka = NOW) -> str:
    """`classpath()` for a test, which skips with the reason where there is none."""
    import pytest

    try:
        return classpath(kafka)
    except Unavailable as reason:
        pytest.skip(f"Kafka's Java tools: {reason}")


def _is_complete(kafka: Kafka) -> bool:
    ok = kafka.home / "ok"
    return ok.exists() and ok.read_text() == pom(kafka)


def download(kafka: Kafka) -> None:
    if not shutil.which("mvn"):
        raise Unavailable("mvn is not installed, and the jars are not in the cache")
    home = kafka.home
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_complete(kafka):
            return
        (home / "pom.xml").write_text(pom(kafka))
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
        try:
            done = subprocess.run(
                command, cwd=home, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"mvn took longer than {DOWNLOAD_TIMEOUT_S} s") from None
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
            raise Unavailable(f"mvn failed: {lines[0]}")
        (home / "ok").write_text(pom(kafka))


def pom(kafka: Kafka) -> str:
    """A Maven project that is nothing but its dependencies."""
    rows = []
    for artifact in kafka.artifacts:
        group, name, version = artifact.split(":")
        rows.append(
            f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
            f"<version>{version}</version></dependency>"
        )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>ottla</groupId><artifactId>kafka-tools-under-test</artifactId>"
        "<version>1</version><packaging>pom</packaging>"
        f"<dependencies>{''.join(rows)}</dependencies></project>\n"
    )


if __name__ == "__main__":
    try:
        classpath()
    except Unavailable as reason:
        print(f"Kafka's Java tools: {reason}; their tests will skip", file=sys.stderr)
