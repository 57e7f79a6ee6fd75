"""Where the records go that processing brings forth: a handler's outputs, and dead letters.

A record counts as done only when all that came of it is delivered. The producer behind it is
made when the first record goes out, with the connection options of the consumer.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ottla.client.producer import HeadersLike, Producer


class Output(NamedTuple):
    """A record to be produced, returned by a handler."""

    topic: str
    value: bytes | None = None
    key: bytes | None = None
    headers: HeadersLike = ()
    partition: int | None = None


class Outlet:
    def __init__(self, make: Callable[[], Producer]) -> None:
        self._make = make
        self._starting: asyncio.Task[Producer] | None = None

    async def send(self, outputs: Sequence[Output]) -> None:
        """Returns when all are delivered; DeliveryError and its kin where one is not."""
        if not outputs:
            return
        producer = await self.producer()
        deliveries = [
            await producer.send(
                each.topic,
                each.value,
                key=each.key,
                headers=each.headers,
                partition=each.partition,
            )
            for each in outputs
        ]
        for delivery in deliveries:
            await delivery

    async def producer(self) -> Producer:
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        starting = self._starting
        try:
            return await asyncio.shield(starting)
        except Exception:
            if self._starting is starting:
                self._starting = None  # the next one tries again
            raise

    async def _start(self) -> Producer:
        producer = self._make()
        await producer.start()
        return producer

    async def close(self) -> None:
        if self._starting is None:
            return
        starting, self._starting = self._starting, None
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled() and starting.exception() is None:
            await starting.result().close()
