"""`ottla log` as a user runs it: exit codes, one clear line, no traceback."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.test_dump_log import dump as kafka_dump
from tests.storage.test_dump_log import write_mixed
from tests.tools.kafka_jars import require_classpath
from tests.tools.serving import serving

SEGMENT = f"{0:020d}"


def ottla(*words: str) -> tuple[int, list[str], str]:
    done = subprocess.run(
        [sys.executable, "-m", "ottla.cli", "log", *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_mixed(tmp_path / "data")
    return tmp_path / "data"


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_verify_and_repair(data: Path) -> None:
    code, lines, errors = ottla("verify", str(data))
    assert (code, errors) == (0, "")
    assert re.fullmatch(r"2 logs, \d+ segments, .* sound, 0 notes", lines[-1])
    assert len(lines) == 1

    index = data / "orders-0" / f"{SEGMENT}.index"
    flip(index, 3)
    code, lines, _ = ottla("verify", f"{data}/")
    assert code == 1
    assert lines[0].startswith(f"{index}: position ")
    assert lines[0].endswith("(repair rebuilds it)")

    code, lines, _ = ottla("verify", "--json", str(data / "orders-0"))
    rows = [json.loads(line) for line in lines]
    assert [row["kind"] for row in rows] == ["damage", "summary"]
    assert (rows[0]["path"], rows[1]["damage"]) == (str(index), 1)

    assert ottla("repair", "--dry-run", str(data))[1][0] == f"{index}: would be rebuilt"
    assert ottla("verify", str(data))[0] == 1
    assert ottla("repair", str(data))[:2] == (
        0,
        [f"{index}: rebuilt", "2 logs: 1 mended, 0 left"],
    )
    assert ottla("verify", str(data))[0] == 0


def test_what_cannot_be_repaired(data: Path) -> None:
    log = data / "orders-0" / f"{SEGMENT}.log"
    flip(log, 70)
    before = log.read_bytes()
    code, lines, _ = ottla("repair", str(data))
    assert code == 1
    assert lines[0] == f"{log}: left: CRC (restore it from a replica or a backup)"
    assert log.read_bytes() == before
    code, lines, _ = ottla("dump", str(log))
    assert code == 1
    assert any("isvalid: false fault: CRC" in line for line in lines)
    assert any("isvalid: true" in line for line in lines)


def test_what_cannot_be_read(tmp_path: Path, data: Path) -> None:
    for words, cause in [
        (("verify", str(tmp_path / "none")), "is no directory"),
        (("verify", str(tmp_path)), "is neither a log directory nor a partition's"),
        (("dump", str(tmp_path / "none.log")), "No such file or directory"),
        (("dump", "/etc/hostname"), "has not the name of a file of a log directory"),
        (("dump", "--offsets", "x", str(data / "orders-0" / f"{SEGMENT}.log")), "is not FROM-TO"),
        (("verify",), "the following arguments are required: DIR"),
    ]:
        code, lines, errors = ottla(*words)
        assert (code, lines) == (2, [])
        assert cause in errors
        assert len(errors.splitlines()) == 1


def test_a_running_broker_is_left_alone(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        for verb in ("verify", "repair"):
            code, _, errors = ottla(verb, str(server.data))
            assert code == 2
            assert errors == f"ottla: {server.data} is in use by another process\n"
        assert ottla("verify", "--force", str(server.data))[0] == 0
        server.stop()
        assert ottla("verify", str(server.data))[0] == 0


def test_dump_of_each_kind_of_file(data: Path) -> None:
    directory = data / "orders-1"
    names = [SEGMENT + kind for kind in (".log", ".index", ".timeindex")]
    names += ["leader-epoch-checkpoint", "partition.metadata"]
    paths = [*(directory / name for name in names), *directory.glob("*.snapshot")]
    paths += [data / "meta.properties", *data.glob("*-offset-checkpoint")]
    for path in paths:
        code, lines, errors = ottla("dump", "--json", str(path))
        assert (code, errors) == (0, "")
        assert all(json.loads(line)["file"] == str(path) for line in lines)
    code, lines, _ = ottla(
        "dump", "--print-data-log", "--offsets", "3-5", str(directory / f"{SEGMENT}.log")
    )
    offsets = [re.match(r"\| offset: (\d+) .* key: k payload: \w+$", line) for line in lines]
    assert [found[1] for found in offsets if found] == ["3", "4", "5"]


def test_kafka_dump_log_says_the_same(data: Path) -> None:
    classpath = require_classpath()
    log = str(data / "orders-1" / f"{SEGMENT}.log")
    theirs = kafka_dump(classpath, "--deep-iteration", "--print-data-log", "--files", log)
    ours = "\n".join(ottla("dump", "--print-data-log", log)[1])
    for pattern in (
        (
            r"baseOffset: \d+ lastOffset: \d+ count: \d+ baseSequence: -?\d+ lastSequence: -?\d+"
            r" producerId: -?\d+ producerEpoch: -?\d+ partitionLeaderEpoch: \d+"
            r" isTransactional: \w+ isControl: \w+"
        ),
        r"size: \d+ magic: 2 compresscodec: \w+ crc: \d+ isvalid: true",
        r"\| offset: \d+ CreateTime: \d+ keySize: \d+ valueSize: \d+",
        r"payload: \w+",
    ):
        found = re.findall(pattern, ours)
        assert found == re.findall(pattern, theirs)
        assert len(found) > 20
