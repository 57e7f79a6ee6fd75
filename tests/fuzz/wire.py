"""A client of raw bytes, and a broker in a process of its own whose memory can be read."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ottla.protocol.framing import decode_response, encode_request
from ottla.protocol.message import Request
from ottla.protocol.registry import APIS
from tests.fuzz.valid import joined

Address = tuple[str, int]


class Raw:
    """A blocking socket that speaks frames."""

    def __init__(self, address: Address, *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(60)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def name(self) -> str:
        """As the broker's log names it."""
        return "{}:{}".format(*self.socket.getsockname())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, count: int) -> bytes:
        """So many bytes, or fewer where the broker closed."""
        data = bytearray()
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return bytes(data)

    def frame(self) -> bytes:
        """The next answer, without its size; empty where the broker closed."""
        size = self.read(4)
        return self.read(int.from_bytes(size, "big")) if len(size) == 4 else b""

    def is_closed(self) -> bool:
        """Whether the broker closes, without another byte."""
        return self.read(1) == b""

    def ask(self, request: Request, version: int | None = None, correlation_id: int = 1) -> Any:
        key = request.__api__
        assert key is not None
        version = APIS[key].last if version is None else version
        self.send(joined(encode_request(correlation_id, "raw", version, request)))
        return self.answer(key, version, correlation_id)

    def answer(self, key: int, version: int, correlation_id: int) -> Any:
        found, response = decode_response(key, version, memoryview(self.frame()))
        assert found == correlation_id
        return response

    def reset(self) -> None:
        """Close as a process does that dies with unread data."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Served:
    """`ottla serve` as a child."""

    def __init__(self, process: subprocess.Popen[str], address: Address, log: Path) -> None:
        self.address = address
        self.log = log
        self._process = process

    def resident_bytes(self) -> int:
        with open(f"/proc/{self._process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def log_text(self) -> str:
        return self.log.read_text()


@contextmanager
def served(directory: Path, **settings: str) -> Iterator[Served]:
    """A broker process; settings with `_` for `.`. Its log must be free of tracebacks."""
    log = directory / "log"
    options = [f"--set={key.replace('_', '.')}={value}" for key, value in settings.items()]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ottla.cli", "serve"),
                *("--listen", "127.0.0.1:0", "--data", str(directory / "data")),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        found = re.match(r"ottla ready (\S+):(\d+) ", process.stdout.readline())
        assert found, log.read_text()
        yield Served(process, (found[1], int(found[2])), log)
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
    assert "Traceback" not in log.read_text()
