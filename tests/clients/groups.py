"""A group of members that are processes, what they tell, and what must be true of it."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

WAIT_S = 60.0


class Told(NamedTuple):
    member: str
    what: str
    at: float
    numbers: tuple[int, ...]


class Crowd:
    """Members of one group, and all that they told so far."""

    def __init__(self, client: str, bootstrap: str, group: str, topic: str, *extra: str) -> None:
        self.command = [sys.executable, "-m", "tests.clients.group_member", client]
        self.command += [bootstrap, group, topic, *extra]
        self.members: dict[str, subprocess.Popen[str]] = {}
        self.told: list[Told] = []
        self.news = threading.Condition()
        self._readers: list[threading.Thread] = []

    def join(self, name: str) -> None:
        root = Path(__file__).resolve().parents[2]
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=root,
        )
        self.members[name] = process
        reader = threading.Thread(target=self._read, args=(name, process))
        reader.start()
        self._readers.append(reader)

    def _read(self, name: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if not line.endswith("\n"):
                    continue  # its last words, when it was killed
                what, at, *numbers = line.split()
                told = Told(name, what, float(at), tuple(map(int, numbers)))
                with self.news:
                    self.told.append(told)
                    self.news.notify_all()

    def wait(self, is_so: Callable[[], Any], what: str) -> None:
        """Until `is_so`, asked again whenever somebody tells something."""
        with self.news:
            assert self.news.wait_for(is_so, WAIT_S), f"{what}: {self.owners()}"

    def leave(self, name: str) -> None:
        process = self.members.pop(name)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WAIT_S) == 0

    def crash(self, name: str, now: Callable[[], float]) -> None:
        process = self.members.pop(name)
        process.kill()
        process.wait(WAIT_S)
        assert process.stdin is not None
        process.stdin.close()
        with self.news:
            self.told.append(Told(name, "dead", now(), ()))

    def close(self) -> None:
        for name in list(self.members):
            process = self.members.pop(name)
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for reader in self._readers:
            reader.join()

    def owned(self, name: str) -> set[int]:
        own: set[int] = set()
        for told in self.told:
            if told.member == name:
                _change(own, told)
        return own

    def owners(self) -> dict[str, set[int]]:
        return {name: self.owned(name) for name in self.members}

    def is_shared(self, count: int) -> bool:
        """Every partition has one of the members, and every member has some."""
        owners = list(self.owners().values())
        return all(owners) and sorted(p for own in owners for p in own) == list(range(count))

    def read(self) -> set[tuple[int, int]]:
        return {
            (told.numbers[0], told.numbers[1]) for told in list(self.told) if told.what == "read"
        }

    def check_owners(self) -> None:
        """Nobody was given a partition that somebody else had, and nobody read one it had not."""
        owner: dict[int, str] = {}
        for told in sorted(self.told, key=lambda each: each.at):
            if told.what == "assigned":
                for partition in told.numbers:
                    assert owner.get(partition, told.member) == told.member, (told, owner)
                    owner[partition] = told.member
            elif told.what == "revoked":
                for partition in told.numbers:
                    if owner.get(partition) == told.member:
                        del owner[partition]
            elif told.what in ("left", "dead"):
                owner = {p: who for p, who in owner.items() if who != told.member}
            else:
                assert owner.get(told.numbers[0]) == told.member, (told, owner)


def _change(own: set[int], told: Told) -> None:
    if told.what == "assigned":
        own.update(told.numbers)
    elif told.what == "revoked":
        own.difference_update(told.numbers)
