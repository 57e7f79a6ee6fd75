"""`ottla serve` as a process of its own, which a test may kill, stop and start again."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

OTTLA: Final = (sys.executable, "-m", "ottla.cli")
STOP_TIMEOUT_S: Final = 60


class Serving:
    """A broker over `data`. Its first start finds a port, which later starts keep, so that
    clients meet it again. What it logs goes to `DATA.log`."""

    def __init__(self, data: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.settings = dict(settings or {})
        self.environment: dict[str, str] = {}
        """What stands in that of the process besides what stands in this one's."""
        self.port = 0
        self.log = data.with_name(f"{data.name}.log")
        self.process: subprocess.Popen[str] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        listen = ("--listen", self.bootstrap, "--data", str(self.data))
        pairs = [word for pair in self.settings.items() for word in ("--set", "=".join(pair))]
        return [*OTTLA, "serve", *listen, *pairs]

    def launch(self) -> subprocess.Popen[str]:
        """Start the process, and wait for nothing."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **self.environment},
            )
        return self.process

    def start(self) -> "Serving":
        """Start, and wait until it is ready."""
        process = self.launch()
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("ottla ready "):
            process.wait()
            raise RuntimeError(f"did not start: {line}{self.log.read_text()[-2_000:]}")
        self.port = int(line.split()[2].rpartition(":")[2])
        return self

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()


@contextlib.contextmanager
def serving(data: Path, settings: Mapping[str, str] | None = None) -> Iterator[Serving]:
    """A broker for as long as the block lasts; stopped at its end if it still runs."""
    server = Serving(data, settings)
    try:
        yield server.start()
    finally:
        server.stop()
