"""What a consumer subscribes to, and whom it tells when partitions come and go.

Topics by their names, or by a pattern: with the classic protocol a Python expression that names
of topics in the cluster are matched against as a whole (internal topics never match), with the
protocol of KIP-848 an RE2 expression that the broker matches.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from ottla.base.ids import TopicPartition
from ottla.client.errors import ConfigError
from ottla.client.topology import TopicView

Told = Callable[[list[TopicPartition]], Awaitable[None] | None]
"""A callback of a rebalance: a function or a coroutine function of partitions."""


@dataclass(frozen=True, slots=True)
class Listener:
    on_assigned: Told | None = None
    """These came. Nothing of them was handed out yet: it may seek."""
    on_revoked: Told | None = None
    """These are about to go. What was done of them is committed; it may commit more."""
    on_lost: Told | None = None
    """These went without notice: somebody else may read them already. Where there is none,
    `on_revoked` is told."""


@dataclass(frozen=True, slots=True)
class Subscription:
    topics: tuple[str, ...] = ()
    pattern: str | None = None

    def names(self, known: Mapping[str, TopicView]) -> list[str]:
        """The topics it comes to, in order, of those that are known."""
        if self.pattern is None:
            return sorted(self.topics)
        expression = re.compile(self.pattern)
        return sorted(
            name
            for name, view in known.items()
            if not view.is_internal and expression.fullmatch(name)
        )

    def check(self) -> None:
        """ConfigError where the pattern is no expression (of Python's)."""
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ConfigError(f"pattern {self.pattern!r}: {error}") from error
