"""kcat as a peer: a command line, so its records are lines of text and its output is framed."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pytest

from tests.clients.records import WAIT_S, Headers, Seen, Sent


class Kcat:
    """librdkafka as Debian has it; its command line is text, so it says little."""

    name = "kcat"

    @staticmethod
    def can_say(record: Sent) -> bool:
        """One line of text `key:value`, with headers and a timestamp that are not ours to give."""
        return bool(
            not record.headers
            and record.key
            and record.value is not None
            and re.fullmatch(rb"[ -9;-~]*", record.key + record.value)
        )

    @staticmethod
    def produce(
        bootstrap: str,
        topic: str,
        records: Sequence[Sent],
        *,
        partition: int = 0,
        codec: str = "none",
        acks: str = "all",
        idempotent: bool = False,
    ) -> None:
        lines = b"".join(b"%b:%b\n" % (record.key, record.value) for record in records)
        settings = (f"acks={acks}", f"enable.idempotence={str(idempotent).lower()}")
        arguments = ["-P", "-t", topic, "-p", str(partition), "-K:", "-z", codec]
        run_kcat(bootstrap, *arguments, *_each("-X", settings), text=lines)

    @staticmethod
    def consume(
        bootstrap: str, topic: str, starts: Mapping[int, int], count: int, **_: Any
    ) -> list[Seen]:
        seen: list[Seen] = []
        for index, offset in starts.items():
            wanted = ["-C", "-q", "-e", "-t", topic, "-p", str(index), "-o", str(offset)]
            wanted += ["-X", "fetch.wait.max.ms=50"]
            output = run_kcat(bootstrap, *wanted, "-f", KCAT_FORMAT)
            seen += _parse_kcat(index, output)
        return seen


KCAT_FORMAT: Final = r"%o %T %K %S %k%s%h\x1e"
_KCAT_FRAME: Final = re.compile(rb"(\d+) (-?\d+) (-?\d+) (-?\d+) ")


needs_kcat = pytest.mark.skipif(
    shutil.which("kcat") is None, reason="kcat is not installed (Debian: apt install kcat)"
)


def run_kcat(bootstrap: str, *arguments: str, text: bytes = b"") -> bytes:
    done = subprocess.run(
        ["kcat", "-b", bootstrap, *arguments], input=text, capture_output=True, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _parse_kcat(partition: int, output: bytes) -> list[Seen]:
    """Frames of `KCAT_FORMAT`. kcat tells headers as `name=value,…`, which we read where the
    bytes leave no doubt."""
    seen, at = [], 0
    while at < len(output):
        match = _KCAT_FRAME.match(output, at)
        assert match, output[at : at + 80]
        offset, timestamp, key_size, value_size = map(int, match.groups())
        key_end = match.end() + max(key_size, 0)
        value_end = key_end + max(value_size, 0)
        key = output[match.end() : key_end] if key_size >= 0 else None
        value = output[key_end:value_end] if value_size >= 0 else None
        end = output.index(b"\x1e", value_end)
        headers = _parse_kcat_headers(output[value_end:end])
        seen.append(Seen(partition, offset, timestamp, key, value, headers))
        at = end + 1
    return seen


def _parse_kcat_headers(text: bytes) -> Headers:
    pairs = (pair.partition(b"=") for pair in text.split(b",") if pair)
    return tuple((name.decode(), None if value == b"NULL" else value) for name, _, value in pairs)


def _each(flag: str, values: Iterable[str]) -> Iterable[str]:
    for value in values:
        yield flag
        yield value
