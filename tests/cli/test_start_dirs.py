"""A start over log directories that are missing, another's, in use or swapped: refused with one
line, exit code 2, and nothing made, formatted or deleted (reliability: "Log dir missing, wrong
owner, locked by another broker, foreign cluster id, swapped between brokers")."""

import fcntl
import re
import shutil
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid, id_text
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from tests.cli.test_serve import content, read_only, refused, serve
from tests.tools.serving import OTTLA, Serving, serving
from tests.tools.wire import ask

PARTITIONS: Final = 6
STORE: Final = "ottla-metadata.sqlite"
LATEST: Final = -1


class Home:
    """Two directories of a broker that has stopped, with a record in each of six partitions."""

    def __init__(self, root: Path, node_id: int = 1) -> None:
        root.mkdir()
        self.root, self.node_id = root, node_id
        self.first, self.second = self.dirs = [root / "d1", root / "d2"]
        with self.serving() as server:
            make_topic(server, "t", PARTITIONS)
            producer = Producer({"bootstrap.servers": server.bootstrap})
            for index in range(PARTITIONS):
                producer.produce("t", b"v", partition=index)
            assert not producer.flush(60)
        self.in_second = [
            index for index in range(PARTITIONS) if (self.second / f"t-{index}").is_dir()
        ]
        assert 0 < len(self.in_second) < PARTITIONS

    def serving(self, *dirs: Path) -> AbstractContextManager[Serving]:
        return serving(self.root / "server", self.settings(dirs or (self.first, self.second)))

    def settings(self, dirs: tuple[Path, ...]) -> dict[str, str]:
        return {"log.dirs": ",".join(map(str, dirs)), "node.id": str(self.node_id)}

    def refused(self, complaint: str, *dirs: Path) -> None:
        """Nothing changes but what the dead left in the store, which goes when it is opened."""
        pairs = self.settings(dirs or (self.first, self.second)).items()
        words = [word for key, value in pairs for word in ("--set", f"{key}={value}")]
        refused(self.root, complaint, "--listen", "127.0.0.1:0", *words, but=f"d1/{STORE}")

    def served(self, *dirs: Path) -> list[int]:
        """The end of each partition; -56 where its directory is offline."""
        with self.serving(*dirs) as server:
            return ends(server)

    def all_but_second(self, other: int) -> list[int]:
        return [other if index in self.in_second else 1 for index in range(PARTITIONS)]


def make_topic(server: Serving, name: str, partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(60)


def ends(server: Serving) -> list[int]:
    asked = [
        ListOffsetsPartition(partition_index=index, timestamp=LATEST) for index in range(PARTITIONS)
    ]
    topics = [ListOffsetsTopic(name="t", partitions=asked)]
    [topic] = ask(server.port, ListOffsetsRequest(replica_id=-1, topics=topics), 7).topics
    rows = sorted(topic.partitions, key=lambda row: row.partition_index)
    return [row.offset if not row.error_code else -row.error_code for row in rows]


OFFLINE: Final = -int(ErrorCode.KAFKA_STORAGE_ERROR)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "a")


# -- missing


def unmounted(home: Home) -> None:
    """The disk is not there, and neither is the directory that it was mounted to."""
    home.second.rename(home.root / "elsewhere")


def mounted_over_nothing(home: Home) -> None:
    unmounted(home)
    home.second.mkdir()


def without_identity(home: Home) -> None:
    shutil.copytree(home.second, home.root / "elsewhere")
    (home.second / "meta.properties").unlink()


@pytest.mark.parametrize("lose", [unmounted, mounted_over_nothing, without_identity])
def test_a_directory_is_missing(home: Home, lose: object) -> None:
    assert callable(lose)
    lose(home)
    home.refused("d2 has no meta.properties, and the log directory ")
    home.refused("is its disk mounted?")
    home.refused("d3 has no meta.properties", home.first, home.root / "d3")
    shutil.rmtree(home.second, ignore_errors=True)
    (home.root / "elsewhere").rename(home.second)
    assert home.served() == [1] * PARTITIONS


def complaint_of(home: Home) -> str:
    with pytest.raises(RuntimeError) as caught, home.serving():
        pass
    return str(caught.value)


def test_a_disk_that_is_lost_for_good(home: Home) -> None:
    """The refusal says what to do, word for word."""
    shutil.rmtree(home.second)
    found = re.search(r"ottla (storage format --cluster-id=.* \S*/d2)$", complaint_of(home), re.M)
    assert found is not None
    command = [*OTTLA, *found[1].split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{home.second} is log directory ")
    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (2, f"ottla: {home.second} is this node's already\n")
    assert home.served() == home.all_but_second(0)
    assert home.served() == home.all_but_second(0)


@pytest.mark.parametrize(
    "node_id", ["-1", "2147483648", "00000000000099999999999", "1" * 5000, "x"]
)
def test_what_is_no_node_id_formats_nothing(tmp_path: Path, node_id: str) -> None:
    options = ["--cluster-id=kQ0m4vGWTPyXwRhDzPlnQg", f"--node-id={node_id}"]
    command = [*OTTLA, "storage", "format", *options, str(tmp_path / "d")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no id of a node" in done.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("number", [0, 1, 2, 99, (1 << 64) - 1])
def test_an_id_that_kafka_keeps_for_itself_formats_nothing(tmp_path: Path, number: int) -> None:
    """The second half of an id is a signed number there: -1 is below 100."""
    directory_id = id_text(Uuid(number.to_bytes(16)))
    options = ["--cluster-id=kQ0m4vGWTPyXwRhDzPlnQg", "--node-id=1"]
    command = [*OTTLA, "storage", "format", *options, f"--directory-id={directory_id}"]
    done = subprocess.run([*command, str(tmp_path / "d")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'{directory_id}' is reserved: no directory has it" in done.stderr
    assert not (tmp_path / "d").exists()


def test_a_directory_that_was_left_out(home: Home) -> None:
    """What was in it is refused, not made anew, until it is there again."""
    with home.serving(home.first) as server:
        assert ends(server) == home.all_but_second(OFFLINE)
        make_topic(server, "new")
        assert "partitions are nowhere else, and not served" in server.log.read_text()
    home.refused("d3 has no meta.properties, and the log", home.first, home.root / "d3")
    assert home.served() == [1] * PARTITIONS


def test_a_directory_that_nothing_is_missing_without_is_forgotten(home: Home) -> None:
    with home.serving() as server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap})
        admin.delete_topics(["t"])["t"].result(60)
    with home.serving(home.first) as server:
        assert "nothing is missing without it" in server.log.read_text()
    with home.serving(home.first, home.root / "d3") as server:
        make_topic(server, "t", PARTITIONS)
        assert ends(server) == [0] * PARTITIONS


def test_directories_that_are_added(home: Home) -> None:
    third = home.root / "d3"
    assert home.served(home.first, home.second, third) == [1] * PARTITIONS
    assert (third / "meta.properties").exists()
    home.refused("is missing: is its disk mounted?", home.first, third, home.root / "d4")


def test_the_first_directory_is_missing(home: Home) -> None:
    """And the metadata with it."""
    home.first.rename(home.root / "elsewhere")
    home.refused("d1, the first of log.dirs, holds the metadata and has no meta.properties")
    (home.root / "elsewhere").rename(home.first)
    assert home.served() == [1] * PARTITIONS


def test_the_order_is_another(home: Home) -> None:
    """A store would be made anew, and every option of every topic lost."""
    home.refused(f"d1/{STORE} holds the metadata", home.second, home.first)


def test_logs_of_another_broker_without_one_of_its_directories(home: Home) -> None:
    """Adopted as they are, the topics would be short of what is in the other."""
    for store in home.first.glob(f"{STORE}*"):
        store.unlink()
    home.second.rename(home.root / "elsewhere")
    with pytest.raises(RuntimeError, match=r"d2 has no .*d1 holds the logs .*mount it first"):
        home.served()
    assert not home.second.exists()


# -- another's


def test_directories_that_were_swapped_between_brokers(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "b", node_id=2)
    home.second.rename(tmp_path / "between")
    other.second.rename(home.second)
    (tmp_path / "between").rename(other.second)
    home.refused("d2 belongs to node 2 of cluster ")
    other.refused("d2 belongs to node 1 of cluster ")
    home.refused("d1 belongs to node 2 of cluster ", other.first, home.second)


@pytest.mark.parametrize("line", ["cluster.id=kQ0m4vGWTPyXwRhDzPlnQg", "node.id=7"])
def test_a_directory_of_another_cluster_or_node(home: Home, line: str) -> None:
    key = line.partition("=")[0]
    meta = home.second / "meta.properties"
    meta.write_text(re.sub(f"{key}=.*", line, meta.read_text()))
    home.refused("d2 belongs to node ")


def test_a_copy_of_a_directory(home: Home) -> None:
    copy = home.root / "copy"
    shutil.copytree(home.second, copy)
    home.refused("one is a copy of the other", home.first, home.second, copy)


def test_a_directory_that_another_broker_uses(home: Home) -> None:
    with (home.second / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home.refused("d2 is in use by another process")


# -- not usable


def test_a_directory_that_cannot_be_written_is_offline_alone(home: Home) -> None:
    with read_only(home.second):
        assert home.served() == home.all_but_second(OFFLINE)
    assert home.served() == [1] * PARTITIONS


@pytest.mark.parametrize("point", ["meta-properties.open", "lock.lock"])
def test_a_directory_of_another_owner(
    home: Home, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The first, which holds the metadata: the start ends. The second is offline alone."""
    before = content(home.root)
    monkeypatch.setenv("OTTLA_FAILPOINT", f"{point}:1:EACCES")
    code, out, err = serve("--listen", "127.0.0.1:0", "--data", str(home.first))
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"ottla: {home.first}/")
    assert " cannot be used: " in err.splitlines()[-1]
    assert content(home.root) == before
    monkeypatch.setenv("OTTLA_FAILPOINT", f"{point}:2:EACCES")  # the second directory's
    assert home.served() == home.all_but_second(OFFLINE)
    monkeypatch.delenv("OTTLA_FAILPOINT")
    assert home.served() == [1] * PARTITIONS
