"""What a look at a log directory finds: one line each, and what can be done about it.

Damage is a byte that is not what was written, or a file that does not fit the others. A note is
what a stop left behind and the next start takes care of, or what cannot matter.
"""

from typing import Final, NamedTuple

REBUILD: Final = "repair rebuilds it"
CUT: Final = "repair --truncate-torn-tail cuts it"
ACCEPT: Final = "repair --accept-log-end takes the log as it is"
AT_START: Final = "the next start sees to it"
LOST: Final = "restore it from a replica or a backup"
HARMLESS: Final = "nothing needs it"


class Finding(NamedTuple):
    path: str
    position: int
    size_bytes: int
    cause: str
    remedy: str
    is_note: bool = False

    def __str__(self) -> str:
        head = "note: " if self.is_note else ""
        place = f"position {self.position}, {self.size_bytes} bytes: "
        if self.is_note and not self.position and not self.size_bytes:
            place = ""
        return f"{head}{self.path}: {place}{self.cause} ({self.remedy})"


def note(path: str, cause: str, remedy: str, *, position: int = 0, size_bytes: int = 0) -> Finding:
    return Finding(path, position, size_bytes, cause, remedy, True)


def damage(
    path: str, cause: str, remedy: str, *, position: int = 0, size_bytes: int = 0
) -> Finding:
    return Finding(path, position, size_bytes, cause, remedy)


class Faults:
    """The faults of one file: the first few one by one, the rest as a count. One is enough to
    have the file built anew."""

    MOST: Final = 5

    def __init__(self, path: str, remedy: str = REBUILD, *, are_notes: bool = False) -> None:
        self.path = path
        self.remedy = remedy
        self.are_notes = are_notes
        self.findings: list[Finding] = []
        self._more = 0

    def add(self, position: int, size_bytes: int, cause: str) -> None:
        if len(self.findings) >= self.MOST:
            self._more += 1
            return
        found = Finding(self.path, position, size_bytes, cause, self.remedy, self.are_notes)
        self.findings.append(found)

    def all(self) -> list[Finding]:
        if not self._more:
            return self.findings
        more = f"{self._more} more faults of this file"
        return [*self.findings, Finding(self.path, 0, 0, more, self.remedy, self.are_notes)]
