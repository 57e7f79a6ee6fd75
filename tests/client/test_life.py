"""How the ends of a client follow each other."""

import asyncio

import pytest

from ottla.client.life import in_turn


class Steps:
    def __init__(self, error=None):
        self.error = error
        self.taken = []

    async def first(self):
        self.taken.append("first")
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error

    async def then(self):
        self.taken.append("then")
        await asyncio.sleep(0)


@pytest.mark.parametrize("error", [None, OSError("broken"), asyncio.CancelledError()])
def test_the_second_end_follows_the_first_however_that_ends(error):
    steps = Steps(error)
    found = []

    async def run():
        try:
            await in_turn(steps.first(), steps.then)
        except (OSError, asyncio.CancelledError) as raised:
            found.append(raised)

    asyncio.run(run())
    assert steps.taken == ["first", "then"]
    assert found == ([] if error is None else [error])


def test_ends_that_are_thrown_away_with_their_loop_await_nothing():
    steps = Steps()
    ending = in_turn(steps.first(), steps.then)
    ending.send(None)
    ending.close()  # RuntimeError where it awaits all the same
    assert steps.taken == ["first"]
