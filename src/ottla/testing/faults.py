"""The faults that a test has ordered: which requests they strike, how often, and what they do.

A test orders on its own thread; the broker's thread asks for every request (`strike`), its
helper threads for every sync (`disk_ms`). One lock keeps both. Of several faults that would
strike a request the one that was ordered first does, and the others let it be.
"""

import threading
from collections.abc import Callable, Collection
from enum import Enum
from types import TracebackType
from typing import Final, Literal, Self

from ottla.base.errors import ErrorCode
from ottla.broker.registry import ENDPOINTS
from ottla.protocol.api_key import ApiKey

When = Literal["request", "response"]


def api_name(key: int) -> str:
    """Kafka's name of a request: `ListOffsets`."""
    return "".join(word.capitalize() for word in ApiKey(key).name.split("_"))


_KEYS: Final = {api_name(key): int(key) for key in ENDPOINTS}


class Kind(Enum):
    DELAY = "delay"
    DROP = "drop"
    ERROR = "error"
    DISCONNECT = "disconnect"


class Fault:
    """One order. Use it as a context to lift it at the end of the block."""

    def __init__(
        self,
        faults: "Faults",
        kind: Kind,
        api: str,
        *,
        topic: str | None,
        times: int | None,
        after: int,
        when: Literal["request", "response", "mid-response"] = "request",
        ms: float = 0,
        code: ErrorCode = ErrorCode.NONE,
    ) -> None:
        if api not in _KEYS:
            raise ValueError(f"{api!r} is no request that is served: {', '.join(sorted(_KEYS))}")
        if when not in ("request", "response", "mid-response"):
            raise ValueError(f"when={when!r}")
        if ms < 0 or after < 0 or (times is not None and times < 1):
            raise ValueError(f"ms={ms}, after={after}, times={times}")
        self.kind = kind
        self.api_key = _KEYS[api]
        self.topic = topic
        self.when = when
        self.ms = ms
        self.code = code
        self._faults = faults
        self._times = times
        self._after = after
        self._count = 0

    @property
    def count(self) -> int:
        """How many requests it has struck."""
        return self._count

    def wait(self, count: int = 1, timeout_s: float = 10.0) -> None:
        """Until it has struck so many requests; TimeoutError when it has not in time."""
        if not self._faults.wait_for(lambda: self._count >= count, timeout_s):
            raise TimeoutError(f"{self.kind.value} struck {self._count} requests, not {count}")

    def lift(self) -> None:
        """Strike no more."""
        self._faults.lift(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lift()

    def waits_for(self, api_key: int) -> bool:
        """Whether it may strike a request of that kind."""
        return api_key == self.api_key and self._count != self._times

    def strikes(self, api_key: int, topics: Callable[[], Collection[str]]) -> bool:
        """Whether it strikes this request, which is counted. The lock is held."""
        if not self.waits_for(api_key):
            return False
        if self.topic is not None and self.topic not in topics():
            return False
        if self._after:
            self._after -= 1
            return False
        self._count += 1
        return True


class Faults:
    """What a broker's clients shall suffer: `kafka_broker.faults`.

    `api` is Kafka's name of a request ("Produce", "ListOffsets"). A fault strikes `times`
    requests of that kind (None: all, until it is lifted) after it has let `after` of them pass,
    and of those only the ones that name `topic`, where one is given. The calls may be made at any
    time and from any thread; ValueError for a name that is none.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._orders: tuple[Fault, ...] = ()
        self._disk_ms = 0.0
        self._disk_is_quick = threading.Event()

    def delay(
        self,
        api: str,
        *,
        ms: float,
        topic: str | None = None,
        times: int | None = 1,
        after: int = 0,
    ) -> Fault:
        """Hold a request back for `ms` milliseconds before it is handled. What its connection
        sent after it waits too; other connections do not."""
        return self._order(
            Fault(self, Kind.DELAY, api, topic=topic, times=times, after=after, ms=ms)
        )

    def drop(
        self,
        api: str,
        *,
        when: When = "response",
        topic: str | None = None,
        times: int | None = 1,
        after: int = 0,
    ) -> Fault:
        """Let the network lose a request, or its response (the request has been handled then).
        Its connection stays open and is dead: nothing more is read or answered on it."""
        return self._order(
            Fault(self, Kind.DROP, api, topic=topic, times=times, after=after, when=when)
        )

    def disconnect(
        self,
        api: str,
        *,
        when: Literal["request", "response", "mid-response"] = "response",
        topic: str | None = None,
        times: int | None = 1,
        after: int = 0,
    ) -> Fault:
        """Close the connection: when the request arrives, which is not handled then; or when it
        has been handled, before its response or in the middle of it."""
        return self._order(
            Fault(self, Kind.DISCONNECT, api, topic=topic, times=times, after=after, when=when)
        )

    def error(
        self,
        api: str,
        code: str,
        *,
        topic: str | None = None,
        times: int | None = 1,
        after: int = 0,
    ) -> Fault:
        """Answer with an error code, by Kafka's name ("NOT_LEADER_OR_FOLLOWER"), and do nothing
        else of the request. The code stands for all topics and partitions of it; in Metadata, for
        `topic` alone, and the rest of the answer is true."""
        if code not in ErrorCode.__members__ or code == "NONE":
            raise ValueError(f"{code!r} is no error code of Kafka's")
        if api in _WITHOUT_CODE:
            raise ValueError(f"the response to {api} cannot be made an error")
        found = ErrorCode[code]
        return self._order(
            Fault(self, Kind.ERROR, api, topic=topic, times=times, after=after, code=found)
        )

    def slow_disk(self, ms: float) -> None:
        """Let every sync of the log take `ms` milliseconds longer, until that is set to 0. With
        the defaults an answer with acks=all waits for a sync; one with acks=1 does not."""
        if ms < 0:
            raise ValueError(f"ms={ms}")
        self._disk_is_quick.set()  # what waits has waited enough
        self._disk_is_quick = threading.Event()
        self._disk_ms = ms

    def clear(self) -> None:
        """Lift all faults. A request that is held back stays so for its time."""
        with self._changed:
            self._orders = ()
        self.slow_disk(0)

    # What the broker asks

    @property
    def has_orders(self) -> bool:
        return bool(self._orders)

    def needs_topics(self, api_key: int) -> bool:
        """Whether a fault that waits for such a request has to know all topics that it is about:
        to find its own among them, or to refuse each."""
        return any(
            fault.waits_for(api_key) and (fault.kind is Kind.ERROR or fault.topic is not None)
            for fault in self._orders
        )

    def strike(self, api_key: int, topics: Callable[[], Collection[str]]) -> Fault | None:
        """The fault that strikes this request, which is counted; `topics` tells those it names."""
        with self._changed:
            for fault in self._orders:
                if fault.strikes(api_key, topics):
                    self._changed.notify_all()
                    return fault
        return None

    def wait_for_disk(self) -> None:
        """Blocks for as long as a sync of the slow disk takes. For helper threads."""
        if self._disk_ms:
            self._disk_is_quick.wait(self._disk_ms / 1000)

    # What a fault asks

    def lift(self, fault: Fault) -> None:
        with self._changed:
            self._orders = tuple(each for each in self._orders if each is not fault)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def _order(self, fault: Fault) -> Fault:
        with self._changed:
            self._orders = (*self._orders, fault)
        return fault


_WITHOUT_CODE: Final = ("WriteTxnMarkers",)
"""Between brokers alone; its errors are not where others have them."""
