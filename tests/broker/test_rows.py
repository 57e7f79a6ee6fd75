"""Rows side by side: in order, in bounded groups, each group started whole."""

import asyncio

import pytest

from ottla.broker.rows import GROUP_COUNT, side_by_side


def test_rows_come_in_order_and_a_group_waits_together():
    started, most = 0, 0

    async def row(number):
        nonlocal started, most
        started += 1
        most = max(most, started)
        for _ in range(number % 3):
            await asyncio.sleep(0)
        started -= 1
        return number

    count = 3 * GROUP_COUNT + 5
    done = asyncio.run(side_by_side(row(number) for number in range(count)))
    assert done == list(range(count))
    assert 1 < most <= GROUP_COUNT


def test_nothing_and_an_error():
    async def fail():
        raise RuntimeError("broken")

    assert asyncio.run(side_by_side(())) == []
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(side_by_side(fail() for _ in range(2)))
