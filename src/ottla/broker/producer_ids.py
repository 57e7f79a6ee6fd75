"""Producer ids that this node may hand out: a block of the cluster's, kept in memory.

The controller gives a block to nobody else, so an id is never given twice, also not after a
crash: what was left of a block is lost with it.
"""

import asyncio

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ProducerId
from ottla.metadata.controller import PRODUCER_ID_BLOCK, Controller
from ottla.metadata.store import StoreError


class ProducerIds:
    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._next = self._end = 0
        self._refill = asyncio.Lock()

    async def take(self) -> ProducerId:
        """An id that nobody else has; COORDINATOR_LOAD_IN_PROGRESS while there is no block."""
        await self.ready()
        return self.take_now()

    async def ready(self) -> None:
        """Until there is an id at hand; KafkaError where there will be none."""
        if self._next == self._end:
            async with self._refill:
                if self._next == self._end:
                    self._next = await self._new_block()
                    self._end = self._next + PRODUCER_ID_BLOCK

    def take_now(self) -> ProducerId:
        """`take` for those who cannot wait: COORDINATOR_LOAD_IN_PROGRESS where none is at hand."""
        if self._next == self._end:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        taken = self._next
        self._next += 1
        return ProducerId(taken)

    async def _new_block(self) -> int:
        try:
            return await self._controller.allocate_producer_ids(PRODUCER_ID_BLOCK)
        except (KafkaError, StoreError) as error:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, str(error)) from error
