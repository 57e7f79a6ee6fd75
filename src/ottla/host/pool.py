"""What connections keep in memory while something waits, held to one bound for the whole node.

A connection keeps the unfinished tail of what it received, and answers its peer does not read.
Each alone is bounded (a frame's cap, an output cap); many are bounded here, by
`queued.max.request.bytes`. Tails are counted as they change, answers once a second.

While more than that is kept, memory is short:
- a connection that keeps nothing is read in pieces of SHORT_READ_BYTES: small requests are served
  as ever, and what a large one leaves behind is little;
- of those that keep something only the oldest is read, so that there is always one that gets on;
- whoever has kept something for PATIENCE_SECONDS without getting on is closed.
So what is kept overruns the bound by one frame and SHORT_READ_BYTES for each connection at most,
and a flood of half-sent frames, or of peers that do not read, is gone after PATIENCE_SECONDS.
While memory is not short nobody is closed for being slow: slow frames then cost others nothing.

Age counts from the last frame that was finished, or the last byte that the peer took.

Rejected: to close the oldest at once (many large produces over slow lines would be cut off,
where a pause is enough); to reserve what a frame claims before it is read, as Kafka's memory
pool does (a claim costs the peer nothing).
"""

import asyncio
from typing import Final, Protocol

SHORT_READ_BYTES: Final = 4096
PATIENCE_SECONDS: Final = 10.0
SWEEP_SECONDS: Final = 1.0


class Keeper(Protocol):
    """What the pool asks of a connection."""

    def unread_bytes(self) -> int: ...
    def read_on(self) -> None: ...
    def give_up(self) -> None: ...


class Pool:
    __slots__ = (
        "_inputs",
        "_loop",
        "_outputs",
        "_outputs_bytes",
        "_since",
        "_timer",
        "_waiting",
        "capacity",
        "input_bytes",
        "is_short",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.capacity: int | None = None
        self.is_short = False
        self.input_bytes = 0
        self._loop = loop
        self._inputs: dict[Keeper, int] = {}
        """Bytes of the tail, by connection, the oldest first."""
        self._outputs: dict[Keeper, None] = {}
        """Connections whose peer did not take all it was sent."""
        self._outputs_bytes = 0
        self._since: dict[Keeper, float] = {}
        self._waiting: dict[Keeper, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def keep_input(self, keeper: Keeper, size: int, *, got_on: bool) -> None:
        """A connection keeps a tail of `size` bytes; `got_on`: not that of the frame before."""
        # hot: produce
        inputs = self._inputs
        before = inputs.get(keeper, 0)
        if got_on and before:
            del inputs[keeper]
        if size:
            inputs[keeper] = size
            if got_on or not before:
                self._since[keeper] = self._loop.time()
        elif before:
            inputs.pop(keeper, None)
        self.input_bytes += size - before
        self._judge()

    def keep_output(self, keeper: Keeper) -> None:
        """A connection's peer took some of what it was sent, and not all."""
        self._outputs[keeper] = None
        self._since[keeper] = self._loop.time()
        if self._timer is None and self.capacity is not None:
            self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def forget_output(self, keeper: Keeper) -> None:
        self._outputs.pop(keeper, None)

    def forget(self, keeper: Keeper) -> None:
        """The connection is gone."""
        self._outputs.pop(keeper, None)
        self._waiting.pop(keeper, None)
        self._since.pop(keeper, None)
        self.input_bytes -= self._inputs.pop(keeper, 0)
        self._judge()

    def may_read(self, keeper: Keeper) -> bool:
        """While memory is short: whether the connection may be read, or is told when it may."""
        if keeper not in self._inputs or next(iter(self._inputs)) is keeper:
            return True
        self._waiting[keeper] = None
        return False

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _judge(self) -> None:
        # hot: produce
        is_short = (
            self.capacity is not None and self.input_bytes + self._outputs_bytes > self.capacity
        )
        if is_short:
            self.is_short = True
            if self._timer is None:
                self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)
            oldest = next(iter(self._inputs), None)
            if oldest in self._waiting:
                del self._waiting[oldest]
                self._loop.call_soon(oldest.read_on)
        elif self.is_short:
            self.is_short = False
            waiting, self._waiting = self._waiting, {}
            for keeper in waiting:
                self._loop.call_soon(keeper.read_on)

    def _sweep(self) -> None:
        self._timer = None
        self._outputs_bytes = sum(keeper.unread_bytes() for keeper in self._outputs)
        self._judge()
        if self.is_short:
            too_old = self._loop.time() - PATIENCE_SECONDS
            keepers = dict.fromkeys((*self._inputs, *self._outputs))
            for keeper in sorted(keepers, key=self._since.__getitem__):
                if not self.is_short or self._since[keeper] > too_old:
                    break
                self._outputs_bytes -= keeper.unread_bytes()
                keeper.give_up()
        if (self.is_short or self._outputs) and self._timer is None:
            self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)
