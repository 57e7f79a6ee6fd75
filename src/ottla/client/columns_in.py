"""What `send_many` may be given: an iterable of records, or columns of them.

A column is a one-dimensional numpy array or an Arrow array of binary. It is made into objects a
piece at a time, so a large one costs no second copy of itself.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

PIECE_COUNT: Final = 4_096
"""Items of a column that are objects at the same time."""


def items_of(records: Any, keys: Any = None) -> Iterator[Any]:
    """One item after another; with `keys`, (key, value) pairs. TypeError for a column of
    something else than bytes, ValueError where the columns differ in length."""
    values = _objects(records)
    return values if keys is None else zip(_objects(keys), values, strict=True)


def _objects(column: Any) -> Iterator[Any]:
    if hasattr(column, "dtype"):
        return _numpy_objects(column)
    if hasattr(column, "to_pylist"):
        return _arrow_objects(column)
    return iter(column)


def _numpy_objects(array: Any) -> Iterator[Any]:
    if array.ndim != 1 or array.dtype.kind not in "OSV":
        raise TypeError(
            f"an array of {array.ndim} dimensions of {array.dtype}: a column has one dimension, "
            "of bytes (S, V) or objects"
        )
    pieces = range(0, len(array), PIECE_COUNT)
    return chain.from_iterable(array[at : at + PIECE_COUNT].tolist() for at in pieces)


def _arrow_objects(array: Any) -> Iterator[Any]:
    """Of an Array or a ChunkedArray."""
    if "binary" not in str(array.type):
        raise TypeError(f"an Arrow column of {array.type}: a column is of binary")
    chunks = array.chunks if hasattr(array, "chunks") else [array]
    return chain.from_iterable(
        _arrow_piece(chunk[at : at + PIECE_COUNT])
        for chunk in chunks
        for at in range(0, len(chunk), PIECE_COUNT)
    )


def _arrow_piece(piece: Any) -> list[Any]:
    try:
        found: list[Any] = piece.to_numpy(zero_copy_only=False).tolist()
    except ImportError:  # Arrow without numpy: its own loop is slower
        found = piece.to_pylist()
    return found
