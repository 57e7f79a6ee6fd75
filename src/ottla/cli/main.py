"""The `ottla` command: reads its words, and hands over to one module per subcommand.

Exit codes of serve: 0 done, 1 the broker failed while it ran, 2 it could not start (one line says
why); those of the others stand in their modules.
argparse, since it is loaded with every start and costs a tenth of what a richer library does.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ottla.cli import log, serve, storage


class OneLineParser(argparse.ArgumentParser):
    """What is wrong with the words is one line, as everything that keeps a broker from starting."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = OneLineParser(prog="ottla", description="A log broker that speaks Kafka's protocol.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve.add_to(commands)
    log.add_to(commands)
    storage.add_to(commands)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))


if __name__ == "__main__":
    sys.exit(main())
