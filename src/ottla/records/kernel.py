"""The record kernel: the loops over records that a client and a broker spend their time in.

    walk(body, count, base_timestamp, needs_key, lowest, highest) -> int
        Check every record of a produced batch: its lengths, offset deltas 0, 1, 2 ..., a key
        where one is needed, a timestamp that is -1 or within the bounds. The largest timestamp,
        at least -1.
    read(body, count, base_offset, base_timestamp, append_time) -> Block
        All records of a batch, checked and found, and not yet made into objects.
        `append_time` takes the place of all timestamps unless it is None.
    append(body, timestamp_delta, offset_delta, key, value, headers) -> None
        Write one record at the end of a bytearray; `headers` are None or as `encode_headers`
        makes them. Nothing is changed where it raises.
    extend(body, timestamp_delta, offset_delta, keys, values, start, limit) -> int
        Write a record without headers for each value from index `start` on, with offset deltas
        that count up, as long as the body does not grow past `limit` bytes; the index of the
        first that was not written. Lists of bytes and None; `keys` are None or as many. Nothing
        is changed where it raises.
    murmur2(key) -> int
        The hash that chooses a key's partition (client/murmur2.py).
    spread(pairs, count) -> list[(index, keys, values)] | None
        Which of `count` partitions each (key, value) goes to by its key's hash: for each that
        gets any its records in order. None where one is no pair of bytes (the value may be None).

`body` is an unpacked records section (layout: record.py); what is appended is anything with a
buffer, or None. ValueError: records are not what they say; `record.iterate_body` says why.
OverflowError: a number or a length that no record can hold. TypeError: neither bytes nor None.

Two twins with the same results: compiled (`_kernel*.c`), where a compiler was there when the
package was built, and `pure_kernel`. This module alone chooses; OTTLA_PURE=1 in the environment
forces Python. The CRC is not here: the library `crc32c` is as fast as it can be made.
"""

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING or os.environ.get("OTTLA_PURE") == "1":
    from ottla.records.pure_kernel import Block, append, extend, murmur2, read, spread, walk
else:
    try:
        from ottla.records._kernel import Block, append, extend, murmur2, read, spread, walk
    except ImportError:
        from ottla.records.pure_kernel import Block, append, extend, murmur2, read, spread, walk

IS_COMPILED: Final = "pure" not in Block.__module__

__all__ = ["IS_COMPILED", "Block", "append", "extend", "murmur2", "read", "spread", "walk"]
