"""The records that operations write, as batches of a coordinator's log.

    operation ──> parts ──> batches: one for all parts of a turn, or as many as they need

A part is in one batch, so that the log has all of it or nothing, whatever fails. What an
operation writes is one part, unless it says that it is divisible: what it does may stop anywhere
and be done again. An operation that is too large for a batch is refused before it changes
anything.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.records.builder import build_batch
from ottla.records.record import Record

RECORD_OVERHEAD_BYTES: Final = 32
"""Most that a record adds to its key and value, lengths and deltas."""
BATCH_OVERHEAD_BYTES: Final = 64
BATCH_BYTES: Final = 1 << 20
"""Where a batch takes no other part, if the topic does not end it sooner."""

Pair = tuple[bytes, bytes | None]
"""Key and value of a record."""


class Part(NamedTuple):
    pairs: Sequence[Pair]
    size_bytes: int
    """At most, in a batch."""


def parts_of(pairs: Sequence[Pair], batch_max_bytes: int, *, is_divisible: bool) -> list[Part]:
    """KafkaError MESSAGE_TOO_LARGE or RECORD_LIST_TOO_LARGE where the log would not take them."""
    limit = batch_max_bytes - BATCH_OVERHEAD_BYTES
    sizes = [len(key) + len(value or b"") + RECORD_OVERHEAD_BYTES for key, value in pairs]
    if max(sizes, default=0) > limit:
        raise KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE, f"a record of {max(sizes)} bytes, of {limit} that can be"
        )
    total = sum(sizes)
    if total <= limit:
        return [Part(pairs, total)] if pairs else []
    if is_divisible:
        return [Part((pair,), size) for pair, size in zip(pairs, sizes, strict=True)]
    raise KafkaError(
        ErrorCode.RECORD_LIST_TOO_LARGE,
        f"{len(pairs)} records of one operation have {total} bytes, of {limit} that can be",
    )


def batches(
    parts: Iterable[Part], batch_max_bytes: int, now_ms: int, producer: tuple[int, int] | None
) -> Iterator[bytearray]:
    """`producer`: id and epoch of that in whose transaction they are."""
    limit = min(batch_max_bytes, BATCH_BYTES) - BATCH_OVERHEAD_BYTES
    producer_id, epoch = producer or (-1, -1)

    def build(pairs: list[Pair]) -> bytearray:
        return build_batch(
            [Record(index, now_ms, key, value) for index, (key, value) in enumerate(pairs)],
            producer_id=producer_id,
            producer_epoch=epoch,
            transactional=producer is not None,
        )

    pairs: list[Pair] = []
    size_bytes = 0
    for part in parts:
        if pairs and size_bytes + part.size_bytes > limit:
            yield build(pairs)
            pairs, size_bytes = [], 0
        pairs += part.pairs
        size_bytes += part.size_bytes
    if pairs:
        yield build(pairs)
