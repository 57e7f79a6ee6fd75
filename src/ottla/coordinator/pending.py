"""A request that waits for a coordinator: for its records to be committed, or for other members.

Whoever answers need not know the API: `refuse` makes its response out of an error code. The first
answer counts. A request whose connection is gone may still be answered; nobody hears it.
"""

from collections.abc import Callable
from typing import Any

from ottla.base.errors import ErrorCode
from ottla.replica.purgatory import Parked


class Pending(Parked):
    """`api_version` is that of the request: some answers differ by it."""

    __slots__ = ("_refuse", "api_version", "response")

    def __init__(self, refuse: Callable[[ErrorCode], Any], api_version: int = 0) -> None:
        super().__init__()
        self._refuse = refuse
        self.api_version = api_version
        self.response: Any = None
        """The answer, once it is there."""

    @property
    def outcome(self) -> Any:
        """What a handler returns: the response where it is there already, else this."""
        return self if self.response is None else self.response

    def complete(self, response: Any) -> None:
        if self.response is not None:
            return
        self.response = response
        complete, self.on_complete = self.on_complete, None
        if complete is not None:
            complete(response)

    def fail(self, code: ErrorCode) -> None:
        if self.response is None:
            self.complete(self._refuse(code))

    def expire(self) -> None:
        """The node stops: the client looks for another coordinator."""
        self.fail(ErrorCode.NOT_COORDINATOR)

    def abandon(self) -> None:
        self.on_complete = None


class PatientPending(Pending):
    """It waits for other members, and a node that stops does not wait for them."""

    __slots__ = ()
    is_patient = True
