"""An errand of an admin: several items, each asked of the node that has to be asked, until each is
settled.

A try finds the node of each item that is left, asks all those nodes at the same time, and settles
what they answer: a result, or an error that no other try can mend. What is not answered, or with a
code that may pass, is left for the next try. So an item that is refused keeps none of the others
from being done, and a node that is silent keeps no other from being asked.

A topic, a partition or a node that is not known is believed to be none when that is told
UNKNOWN_TRIES times: brokers learn of a new one after the controller has made it.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.client.errors import AuthenticationError, ClientError, RefusedError
from ottla.client.routes import Place, Route
from ottla.protocol.wire import NOT_IN_VERSION, EncodeError
from ottla.rpc.errors import ConnectError, RpcError, VersionMismatchError

K = TypeVar("K")
V = TypeVar("V")
Ask = Callable[[int, Sequence[K]], Awaitable[Mapping[K, V | KafkaError | RpcError]]]
"""Asks a node for items: what came of each. Raises what concerns all of them."""

UNKNOWN_TRIES: Final = 4
_UNKNOWN: Final = (
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.BROKER_NOT_AVAILABLE,
)


class Errand(Generic[K, V]):
    def __init__(self, items: Iterable[K], route: Route[K], ask: Ask[K, V]) -> None:
        self._wanted = list(dict.fromkeys(items))
        self._left: dict[K, Exception | None] = dict.fromkeys(self._wanted)
        """What is not settled, and why."""
        self._results: dict[K, V] = {}
        self._errors: dict[K, KafkaError] = {}
        self._route = route
        self._ask = ask
        self._unknown_counts: Counter[K] = Counter()

    async def attempt(self) -> None:
        """Ask for what is left. Raises why, where something still is."""
        by_node: dict[int, list[K]] = {}
        for item, place in (await self._places()).items():
            if isinstance(place, int):
                by_node.setdefault(place, []).append(item)
            else:
                self._failed(item, place)
        await asyncio.gather(*(self._ask_node(node, items) for node, items in by_node.items()))
        for failure in self._left.values():
            if failure is not None:
                raise failure

    async def _places(self) -> Mapping[K, Place]:
        left = list(self._left)
        try:
            return await self._route.find(left) if left else {}
        except EncodeError as error:
            return dict.fromkeys(left, _unsendable(error))

    async def _ask_node(self, node_id: int, items: Sequence[K]) -> None:
        outcomes: Mapping[K, V | KafkaError | RpcError]
        try:
            outcomes = await self._ask(node_id, items)
        except EncodeError as error:
            outcomes = dict.fromkeys(items, _unsendable(error))
        except (KafkaError, RpcError) as failure:
            outcomes = dict.fromkeys(items, failure)
        silence = ConnectError(f"node {node_id} does not answer what it was asked")
        for item in items:
            outcome = outcomes.get(item, silence)
            if isinstance(outcome, KafkaError | RpcError):
                self._failed(item, outcome)
                self._route.missed(item, node_id)
            else:
                self._results[item] = outcome
                del self._left[item]

    def _failed(self, item: K, failure: KafkaError | RpcError) -> None:
        if isinstance(failure, VersionMismatchError):
            failure = KafkaError(ErrorCode.UNSUPPORTED_VERSION, str(failure))
        if isinstance(failure, KafkaError) and not self._may_pass(item, failure.code):
            self._errors[item] = failure
            del self._left[item]
        else:
            self._left[item] = failure

    def _may_pass(self, item: K, code: ErrorCode) -> bool:
        self._unknown_counts[item] += code in _UNKNOWN
        return code in self._route.again and self._unknown_counts[item] < UNKNOWN_TRIES

    def give_up(self, late: ClientError) -> None:
        """The time is over: what is left has failed. Raises `late` where nothing is settled."""
        if not self._results and not self._errors:
            raise late
        for item, failure in self._left.items():
            self._errors[item] = KafkaError(
                ErrorCode.REQUEST_TIMED_OUT, f"{item}: {failure or late}"
            )
        self._left.clear()

    def outcome(self) -> dict[K, V]:
        """The result of each; RefusedError where there are errors, AuthenticationError where
        that is all there is to tell."""
        if self._errors:
            first = next(iter(self._errors.values()))
            if isinstance(first, AuthenticationError) and not self._results:
                raise first
            raise RefusedError(self._errors, self._results)
        return {item: self._results[item] for item in self._wanted}


async def one_by_one(
    items: Sequence[K], ask: Callable[[K], Awaitable[V]]
) -> dict[K, V | KafkaError | RpcError]:
    """What came of each, where a node has to be asked for one at a time. A node that fails keeps
    what it answered before."""
    found: dict[K, V | KafkaError | RpcError] = {}
    for item in items:
        try:
            found[item] = await ask(item)
        except (RpcError, AuthenticationError) as failure:
            return found | dict.fromkeys(items[len(found) :], failure)
        except EncodeError as error:
            found[item] = _unsendable(error)
        except KafkaError as error:
            found[item] = KafkaError(error.code, f"{item}: {error.message}")
    return found


def _unsendable(error: EncodeError) -> KafkaError:
    is_too_old = NOT_IN_VERSION in str(error)
    code = ErrorCode.UNSUPPORTED_VERSION if is_too_old else ErrorCode.INVALID_REQUEST
    return KafkaError(code, f"not sent: {error}")
