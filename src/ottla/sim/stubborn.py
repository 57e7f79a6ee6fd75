"""Asking a coordinator as clients do: again and again, as long as its answer says to come back.

What is told of it in the end: the code of the last answer, and whether the request may have been
carried out though no answer said so (`is_doubtful`). An answer that was lost leaves that open, and
so does an error that comes when records were appended already.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from ottla.base.errors import ErrorCode
from ottla.protocol.message import Request, Response
from ottla.sim.client import Answer, Ending, SimClient

R = TypeVar("R", bound=Response)

TIMEOUT_S: Final = 5.0
TRIES: Final = 25
BACK_OFF_S: Final = (0.02, 0.5)

REFUSED: Final = (
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.UNSTABLE_OFFSET_COMMIT,
    ErrorCode.NOT_ENOUGH_REPLICAS,
)
"""Not carried out; later perhaps."""
OPEN: Final = (
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
)
"""Carried out or not; worth another try."""


class Told(NamedTuple, Generic[R]):
    code: ErrorCode | None
    """None: no answer came."""
    response: R | None
    is_doubtful: bool


class Stubborn:
    def __init__(self, client: SimClient, rng: random.Random) -> None:
        self.client = client
        self._rng = rng

    async def ask(
        self,
        request: Request,
        version: int,
        expected: type[R],
        code_of: Callable[[R], int],
        *,
        is_doubled: bool = False,
        goes_on: bool = True,
    ) -> Told[R]:
        """`is_doubled`: each time it is sent twice in a row, and both answers are waited for.
        `goes_on`: it is sent again where no answer came."""
        is_doubtful = is_doubled
        code: ErrorCode | None = None
        for _ in range(TRIES):
            answer = await self._once(request, version, expected, is_doubled=is_doubled)
            if answer.response is not None:
                code = ErrorCode(code_of(answer.response))
                if code not in REFUSED and code not in OPEN:
                    return Told(code, answer.response, is_doubtful)
                is_doubtful |= code in OPEN
            elif answer.ending is Ending.INFO:
                is_doubtful = True
                if not goes_on:
                    return Told(None, None, is_doubtful)
            await asyncio.sleep(self._rng.uniform(*BACK_OFF_S))
        return Told(code, None, is_doubtful)

    async def _once(
        self, request: Request, version: int, expected: type[R], *, is_doubled: bool
    ) -> Answer[R]:
        if not is_doubled or not await self.client.connect():
            return await self.client.ask(request, version, expected, timeout_s=TIMEOUT_S)
        link = self.client.link
        first, _ = await asyncio.gather(
            *(
                self.client.ask(request, version, expected, timeout_s=TIMEOUT_S, on=link)
                for _ in range(2)
            )
        )
        return first
