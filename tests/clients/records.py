"""Records as tests state them: what was sent, what was seen, and what clients could get wrong."""

from typing import Final, NamedTuple

WAIT_S: Final = 30
"""How long a client may take for what should take no time: a hang, not a speed, is the error."""

Headers = tuple[tuple[str, bytes | None], ...]


class Sent(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0
    """In ms; 0 leaves it to the client."""


class Seen(NamedTuple):
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def sent(self) -> Sent:
        return Sent(self.key, self.value, self.headers, self.timestamp)


def telling_records(now_ms: int) -> list[Sent]:
    """What a client could get wrong: nulls, emptiness, duplicates, bytes that are no text."""
    rows: list[tuple[bytes | None, bytes | None, Headers]] = [
        (b"key", b"value", (("h", b"1"),)),
        (None, b"null key", ()),
        (b"", b"empty key", ()),
        (b"null value", None, ()),
        (b"empty value", b"", ()),
        (None, None, ()),
        (b"", b"", ()),
        (b"\x00\xff\n\r\t", bytes(range(256)), (("bytes", bytes(range(256))),)),
        (b"duplicates", b"d", (("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"1"))),
        (b"null header", b"n", (("gone", None), ("empty", b""))),
        (
            b"not ascii",
            "žluťoučký 🐎".encode(),
            (("ключ", "значение".encode()), ("", b"")),
        ),
        (b"large", b"0123456789abcdef" * 2048, ()),
    ]
    rows += [(b"k%d" % n, b"value %d " % n * (n % 9), ()) for n in range(40)]
    spread = (0, 5, -3, 60_000, 7)  # not in order of time
    return [
        Sent(*row, timestamp=now_ms - 120_000 + n + spread[n % 5]) for n, row in enumerate(rows)
    ]
