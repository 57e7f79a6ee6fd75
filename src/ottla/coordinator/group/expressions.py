"""Regular expressions of subscriptions, in a matcher that cannot be made to hang: Google's RE2.

RE2 takes time in proportion to the text, whatever the expression. What it takes for each letter
grows with the size of the compiled expression, so that has a bound, and so has a piece of work:
topics are matched a piece in each turn of the loop, the more at once the smaller the expression.
An expression has to match the whole name, as in Kafka, which uses RE2/J.

Rejected: the standard library's `re` (an expression of twenty letters can run for years); a
helper thread (the names and matches are Python objects, so it would hold the interpreter as long
as the reactor does, with pieces that nobody chose).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from ottla.base.errors import ErrorCode, KafkaError

PROGRAM_SIZE: Final = 5_000
"""Most instructions of a compiled expression: `[a-z0-9]+` has 10, `\\pL+` 1,200."""
MEMORY_BYTES: Final = 1 << 20
"""What RE2 may use for one expression."""
PIECE_COST: Final = 200_000
"""Instructions times names in one piece, where RE2 is at its slowest some 5 ms of letters."""
PIECE_NAMES: Final = 250


@lru_cache(maxsize=256)
def compiled(expression: str) -> Any:
    """KafkaError INVALID_REGULAR_EXPRESSION where it is none, or too large."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = MEMORY_BYTES
    try:
        pattern = re2.compile(expression, options)
    except (re2.error, UnicodeError, RecursionError) as error:
        raise KafkaError(
            ErrorCode.INVALID_REGULAR_EXPRESSION,
            f"SubscribedTopicRegex `{expression[:200]}` is not a valid regular expression: "
            f"{_words(error)}.",
        ) from None
    if pattern.programsize > PROGRAM_SIZE:
        raise KafkaError(
            ErrorCode.INVALID_REGULAR_EXPRESSION,
            f"SubscribedTopicRegex `{expression[:200]}` is too large.",
        )
    return pattern


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


class Scan:
    """Expressions on their way over all topics."""

    def __init__(
        self,
        expressions: Iterable[str],
        names: Sequence[str],
        version: int,
        may_see: Callable[[str], bool],
    ) -> None:
        self.version = version
        self.found: dict[str, set[str]] = {}
        self._patterns = []
        self._names = names
        self._may_see = may_see
        self._at = 0
        for expression in expressions:
            self.found[expression] = set()
            try:
                self._patterns.append((expression, compiled(expression)))
            except KafkaError:
                continue  # of a log whose broker took what this one does not: it matches nothing
        size = sum(pattern.programsize for _, pattern in self._patterns)
        self._step = max(1, min(PIECE_NAMES, PIECE_COST // max(size, 1)))

    def piece(self) -> bool:
        """Match some names; whether that were the last."""
        names = self._names[self._at : self._at + self._step]
        self._at += len(names)
        encoded = [(name, name.encode()) for name in names if self._may_see(name)]
        for expression, pattern in self._patterns:
            found, matches = self.found[expression], pattern.fullmatch
            found.update(name for name, text in encoded if matches(text))
        return self._at >= len(self._names)
