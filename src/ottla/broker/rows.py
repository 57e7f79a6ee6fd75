"""Rows of an answer that are worked out side by side.

What one request asks of many topics or resources goes to the store together, which commits it
together: one fsync for a group, not one for each. Groups are bounded, since a client chooses how
many rows there are, and between two of them others get their turn.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from itertools import islice
from typing import Any, Final, TypeVar

T = TypeVar("T")

GROUP_COUNT: Final = 64


async def side_by_side(rows: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them come to, in order."""
    done: list[T] = []
    waiting = iter(rows)
    while group := list(islice(waiting, GROUP_COUNT)):
        done += await asyncio.gather(*group)
    return done
