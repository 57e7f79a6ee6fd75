"""How bad input is made from good: cuts and single bytes in order, and random changes by seed."""

from collections.abc import Iterator
from random import Random
from typing import Final

from ottla.protocol.registry import APIS, ApiKey
from ottla.records.batch import seal_batch
from tests.fuzz.valid import OF_API, SERVED, frame_of, sized

HUGE: Final = (
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x7f\xff",
    b"\x00\x00\x00\x00",
    b"\xff\xfe",
)


def prefixes(frame: bytes) -> Iterator[bytes]:
    """The frame cut short at every byte of its body, with the size that is left."""
    for end in range(4, len(frame)):
        yield sized(frame[4:end])


def byte_changes(frame: bytes, *, exhaustive: bool = False) -> Iterator[bytes]:
    """Every byte changed alone, to a handful of telling values or to all."""
    for at, old in enumerate(frame):
        telling = (0, 1, 0x7F, 0x80, 0xFF, old ^ 1, old ^ 0x80)
        for new in range(256) if exhaustive else dict.fromkeys(telling):
            if new != old:
                yield frame[:at] + bytes([new]) + frame[at + 1 :]


class Mutator:
    """Random inputs, all from one seed: (bytes, where they are cut on their way in)."""

    def __init__(self, seed: int, topic_id: bytes, records: bytes) -> None:
        self._draw = Random(seed)
        self._topic_id = topic_id
        self._records = records

    def next(self) -> tuple[bytes, list[int]]:
        draw = self._draw
        if draw.random() < 0.15:
            data = self._like_an_earlier_one()
        else:
            data = b"".join(self._frame() for _ in range(draw.choice((1, 1, 1, 1, 2, 3))))
        count = draw.choice((0, 0, 0, 1, 2, 5))
        cuts = sorted(draw.randrange(len(data) + 1) for _ in range(count))
        return data, cuts

    def _like_an_earlier_one(self) -> bytes:
        """A good Produce, which the session learns, and others that differ a little."""
        first = self._valid(ApiKey.PRODUCE, self._draw.randrange(3, APIS[ApiKey.PRODUCE].last + 1))
        rest = [self._changed(first), sized(self._changed(first)[4:]), first]
        self._draw.shuffle(rest)
        numbered = (frame[:8] + number.to_bytes(4, "big") + frame[12:]
                    for number, frame in enumerate(rest))  # fmt: skip
        return first + b"".join(numbered)

    def _frame(self) -> bytes:
        draw = self._draw
        key, version = draw.choice(SERVED)
        frame = self._valid(key, version)
        for _ in range(draw.choice((0, 1, 1, 1, 2, 3, 8))):
            frame = self._changed(frame)
        if draw.random() < 0.9:
            frame = sized(frame[4:])
        return frame

    def _valid(self, key: ApiKey, version: int) -> bytes:
        draw = self._draw
        values = {}
        if "validate_only" not in OF_API.get(key, {}) and draw.random() < 0.2:
            values["validate_only"] = False
        if key is ApiKey.PRODUCE:
            values["acks"] = draw.choice((-1, -1, 0, 1, 2))
        return frame_of(
            key,
            version,
            correlation_id=draw.randrange(-(2**31), 2**31),
            client_id=draw.choice((None, "", "fuzz", "é" * 20)),
            topic_id=self._topic_id,
            records=self._batch(),
            **values,
        )

    def _batch(self) -> bytes:
        """A record batch; changed in half of the cases, mostly with a CRC that is right."""
        draw = self._draw
        records = bytearray(self._records)
        if draw.random() < 0.5:
            return bytes(records)
        for _ in range(draw.choice((1, 1, 2))):
            records[draw.randrange(len(records))] = draw.randrange(256)
        if draw.random() < 0.8:
            records[8:12] = (len(records) - 12).to_bytes(4, "big")
            seal_batch(records)
        return bytes(records)

    def _changed(self, frame: bytes) -> bytes:
        draw = self._draw
        at = draw.randrange(4, max(len(frame), 5))
        kind = draw.randrange(9)
        if kind == 0:
            return frame[:at] + bytes([draw.randrange(256)]) + frame[at + 1 :]
        if kind == 1:
            return (
                frame[:at] + bytes([frame[at] ^ 1 << draw.randrange(8)]) + frame[at + 1 :]
                if at < len(frame)
                else frame
            )
        if kind == 2:
            return frame[:at]
        if kind == 3:
            huge = draw.choice(HUGE)
            return frame[:at] + huge + frame[at + len(huge) * draw.randrange(2) :]
        if kind == 4:
            return frame[:at] + draw.randbytes(draw.randrange(1, 9)) + frame[at:]
        if kind == 5:
            return frame[:at] + frame[at + draw.randrange(1, 9) :]
        if kind == 6:
            end = draw.randrange(at, len(frame) + 1)
            return frame[:end] + frame[at:end] * draw.choice((1, 2, 50)) + frame[end:]
        if kind == 7:
            other = self._valid(*draw.choice(SERVED))
            return frame[:at] + other[min(at, len(other)) :]
        return self._other_version(frame)

    def _other_version(self, frame: bytes) -> bytes:
        """The header of another version, or of another API, before the same bytes."""
        draw = self._draw
        if draw.random() < 0.3:
            return frame[:4] + draw.randrange(100).to_bytes(2, "big") + frame[6:]
        api = APIS.get(int.from_bytes(frame[4:6], "big"), APIS[ApiKey.METADATA])
        version = draw.randrange(-1, api.last + 3)
        return frame[:6] + version.to_bytes(2, "big", signed=True) + frame[8:]
