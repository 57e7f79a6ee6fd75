"""One request over a socket of its own, through our codecs: what no client would send."""

import socket
from typing import Any

from ottla.protocol.framing import decode_response, encode_request
from ottla.protocol.message import Request

TIMEOUT_S = 30


def ask(port: int, request: Request, version: int) -> Any:
    """The broker's answer; ConnectionError where it closes instead."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        parts = encode_request(7, "test", version, request)
        connection.sendall(b"".join(bytes(part) for part in parts))
        stream = connection.makefile("rb")
        size = int.from_bytes(stream.read(4), "big")
        frame = stream.read(size)
        if not size or len(frame) < size:
            raise ConnectionError("closed without an answer")
    correlation_id, answer = decode_response(request.__api__, version, memoryview(frame))
    assert correlation_id == 7
    return answer
