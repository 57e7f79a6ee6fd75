"""`ottla serve` from outside: the ready line, its settings, its end; and all that keeps it from
starting, each one line on standard error, exit code 2, and nothing touched."""

import contextlib
import fcntl
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from ottla.protocol.messages.api_versions import ApiVersionsRequest
from tests.tools.serving import OTTLA, serving
from tests.tools.wire import ask

CLUSTER_ID: Final = "kQ0m4vGWTPyXwRhDzPlnQg"
META: Final = (
    "version=1\ncluster.id={cluster}\nnode.id={node}\ndirectory.id=GpV1DisnYfPG3X3d-IsXiQ\n"
)


def serve(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a start that fails."""
    done = subprocess.run([*OTTLA, "serve", *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def content(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(directory)): None if path.is_dir() else path.read_bytes()
        for path in sorted(directory.rglob("*"))
    }


def refused(home: Path, complaint: str, *words: str, but: str = "") -> None:
    """It does not start, says so in one line, and leaves everything under `home` as it is
    (`but` for one file)."""
    before = content(home)
    code, out, err = serve(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert err.startswith("ottla: "), err
    assert complaint in err
    assert "Errno" not in err, "for people, not for Python"
    after = content(home)
    assert {**after, but: None} == {**before, but: None}


def words_of(data: Path, *more: str) -> list[str]:
    return ["--listen", "127.0.0.1:0", "--data", str(data), *more]


# -- serving


def test_ready_means_ready(tmp_path: Path) -> None:
    with serving(tmp_path / "data", {"node.id": "3"}) as server:
        assert ask(server.port, ApiVersionsRequest(), 0).error_code == 0
        assert content(server.data)[".lock"] == b""
        assert b"node.id=3\n" in (content(server.data)["meta.properties"] or b"")
        assert server.stop() == 0
        assert ".kafka_cleanshutdown" in content(server.data)


def test_what_it_says_when_ready(tmp_path: Path) -> None:
    command = [*OTTLA, "serve", *words_of(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:2] == ["ottla", "ready"]
        assert words[3:] == ["node", "1", "data", str(tmp_path / "data")]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stdout.read() == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'listeners = "PLAINTEXT://127.0.0.1:0"\n"node.id" = 5\n"log.dirs" = "{data}"\n'),
        ("server.properties", "listeners=PLAINTEXT://127.0.0.1:0\nnode.id=5\nlog.dirs={data}\n"),
    ],
)
def test_a_file_of_settings(tmp_path: Path, name: str, text: str) -> None:
    config = tmp_path / name
    config.write_text(text.format(data=tmp_path / "data"))
    command = [*OTTLA, "serve", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split()[3:] == ["node", "5", "data", f"{tmp_path}/data"]
        process.terminate()
        assert process.wait(30) == 0


def test_the_node_id_is_the_directorys_where_none_is_set(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "meta.properties").write_text(META.format(cluster=CLUSTER_ID, node=42))
    with serving(data) as server:
        assert server.process is not None
    refused(tmp_path, "belongs to node 42", *words_of(data, "--set", "node.id=1"))
    refused(tmp_path, "belongs to node 42", *words_of(data, "--set", "broker.id=1"))
    with serving(data, {"node.id": "42"}):
        pass


# -- what is in the way


def test_the_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        complaint = f"cannot listen on {address}: Address already in use"
        refused(tmp_path, complaint, "--listen", address, "--data", str(tmp_path / "data"))


def test_the_directory_is_in_use(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        before = {
            name: data for name, data in content(server.data).items() if "checkpoint" not in name
        }
        code, _, err = serve(*words_of(server.data))
        assert (code, err) == (2, f"ottla: {server.data} is in use by another process\n")
        after = content(server.data)
        assert {name: after[name] for name in before} == before
        assert ask(server.port, ApiVersionsRequest(), 0).error_code == 0


def test_the_directory_is_locked_before_its_first_broker(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with (data / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(tmp_path, "in use by another process", *words_of(data))


def settled(data: Path) -> None:
    """A directory that a broker has left."""
    with serving(data):
        pass


def two_clusters(data: Path) -> None:
    settled(data)
    meta = data / "meta.properties"
    lines = [line for line in meta.read_text().splitlines() if not line.startswith("cluster.id")]
    meta.write_text("\n".join([*lines, f"cluster.id={CLUSTER_ID}", ""]))


def unreadable_meta(data: Path) -> None:
    data.mkdir()
    (data / "meta.properties").write_text("version=1\nno sense\n")


def zookeeper_meta(data: Path) -> None:
    data.mkdir()
    (data / "meta.properties").write_text(f"version=0\ncluster.id={CLUSTER_ID}\nbroker.id=1\n")


def damaged_store(data: Path) -> None:
    settled(data)
    (data / "ottla-metadata.sqlite").write_bytes(b"this is no database at all" * 100)


def a_file(data: Path) -> None:
    data.write_text("a file")


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        (two_clusters, "is that of cluster"),
        (unreadable_meta, "meta.properties: "),
        (zookeeper_meta, "version 0"),
        (damaged_store, "ottla-metadata.sqlite"),
        (a_file, "meta.properties cannot be used: Not a directory"),
    ],
)
def test_the_directory_is_not_for_us(
    tmp_path: Path, prepare: Callable[[Path], None], complaint: str
) -> None:
    data = tmp_path / "data"
    prepare(data)
    store = "data/ottla-metadata.sqlite"
    # What cluster the store is of shows when it is open, and what the dead left in it is gone.
    refused(tmp_path, complaint, *words_of(data), but=store if prepare is two_clusters else "")


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A directory that nobody can write to, not even root."""
    bind = ["mount", "--bind", "-o", "ro", str(path), str(path)]
    if subprocess.run(bind, capture_output=True).returncode:
        path.chmod(0o555)
        try:
            (path / "probe").touch()
        except PermissionError:
            pass
        else:
            (path / "probe").unlink()
            pytest.skip("this user can write everywhere and mount nothing")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], capture_output=True)
        path.chmod(0o755)


def test_the_directory_is_not_writable(tmp_path: Path) -> None:
    data = tmp_path / "data"
    settled(data)
    with read_only(data):
        refused(tmp_path, f"{data}/.lock cannot be used: ", *words_of(data))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /sys")
def test_the_directory_cannot_be_made(tmp_path: Path) -> None:
    refused(tmp_path, "/sys/ottla cannot be used: ", *words_of(Path("/sys/ottla/data")))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--set", "no.such.key=1"], "no.such.key"),
        (["--set", "num.partitions"], "--set num.partitions: is not KEY=VALUE"),
        (["--set", "num.partitions=many"], "num.partitions"),
        (["--set", "num.partitions=0"], "num.partitions"),
        (["--set", "flush.on.ack=perhaps"], "flush.on.ack"),
        (["--set", "listeners=nowhere"], "listeners"),
        (["--set", "listeners=SSL://127.0.0.1:0"], "SSL"),
        (["--listen", "127.0.0.1:99999"], "99999"),
        (["--listen", "203.0.113.1:0"], "cannot listen on 203.0.113.1:0"),
        (["--config", "no-such-file"], "no-such-file: No such file"),
        (["--config", "."], ".: Is a directory"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, words: list[str], complaint: str) -> None:
    refused(tmp_path, complaint, *words_of(tmp_path / "data", *words))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.toml", b"= nothing", "a.toml: "),
        ("a.toml", b'"no.such.key" = 1', "no.such.key"),
        ("a.properties", b"no.such.key=1", "no.such.key"),
        ("a.properties", b"node.id=\xff", "is not UTF-8"),
        ("a.properties", b"node.id=minus one", "node.id"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, name: str, text: bytes, complaint: str) -> None:
    config = tmp_path / name
    config.write_bytes(text)
    refused(tmp_path, complaint, *words_of(tmp_path / "data", "--config", str(config)))
