"""`ottla serve`: one broker in this process, until SIGTERM or SIGINT.

What belongs to the whole process is set here and nowhere else: signals, logging, the collector.
Ready is one line on standard output, `ottla ready HOST:PORT …`, which tools wait for; everything
else goes to standard error. Settings: the file, then --listen and --data, then --set; later wins.

For tests, OTTLA_FAILPOINT in the environment makes calls of the disk fail or end the process
(`ottla.sim.failpoints`). Where it is not set, nothing of that is even imported.
"""

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ottla.base.config_file import parse_config_file
from ottla.base.errors import KafkaError
from ottla.base.world import World
from ottla.broker.node import Node
from ottla.broker.settings import NodeSettings, StartError, node_settings
from ottla.host.reactor import close_world, real_world

logger = logging.getLogger(__name__)

FAILPOINT: Final = "OTTLA_FAILPOINT"
DONE: Final = 0
FAILED: Final = 1
COULD_NOT_START: Final = 2
GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Hot objects have no cycles, so the collector finds little: let it look rarely."""


def add_to(commands: Any) -> None:
    parser = commands.add_parser("serve", help="run a broker")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where to listen (default 127.0.0.1:9092)"
    )
    parser.add_argument(
        "--data", metavar="DIR", help="directory for the logs (default ./ottla-data)"
    )
    parser.add_argument("--config", metavar="FILE", help="TOML, or a Kafka server.properties")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="a config key; repeatable"
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning"))
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    logging.basicConfig(
        level=chosen.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    _raise_descriptor_limit()
    try:
        settings = node_settings(settings_texts(chosen))
        return asyncio.run(_serve(settings))
    except StartError as error:
        print(f"ottla: {error}", file=sys.stderr)
        return COULD_NOT_START


def settings_texts(chosen: argparse.Namespace) -> dict[str, str]:
    """Config keys and their texts, all sources taken together."""
    texts = _file_texts(chosen.config) if chosen.config else {}
    if chosen.listen:
        texts["listeners"] = f"PLAINTEXT://{chosen.listen}"
        texts.pop("advertised.listeners", None)
    if chosen.data:
        texts["log.dirs"] = chosen.data
    for pair in chosen.set:
        key, separator, value = pair.partition("=")
        if not separator:
            raise StartError(f"--set {pair}: is not KEY=VALUE")
        texts[key.strip()] = value
    return texts


def _file_texts(path: str) -> dict[str, str]:
    try:
        text = Path(path).read_text("utf-8")
        return parse_config_file(text, "toml" if path.endswith(".toml") else "properties")
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartError(f"{path}: is not UTF-8") from None
    except KafkaError as error:
        raise StartError(f"{path}: {error.message}") from None


def _raise_descriptor_limit() -> None:
    """A partition takes several descriptors, a connection one: take all that may be had."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(settings: NodeSettings) -> int:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not stop.done():
            stop.set_result(code)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, DONE)
    world = real_world(loop)
    if os.environ.get(FAILPOINT):
        world = _with_failpoints(world, os.environ[FAILPOINT])
    node = Node(world, settings, on_failure=lambda error: end(FAILED))
    try:
        host, port = await node.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        data = ",".join(settings.broker.log_dirs)
        print(f"ottla ready {host}:{port} node {node.node_id} data {data}", flush=True)
        code = await stop
        await node.stop()
        return code
    finally:
        close_world(world)


def _with_failpoints(world: World, text: str) -> World:
    """The same world on a disk that does what the plan says."""
    from ottla.sim.failpoints import FailDisk, Plan, parse_plan

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    try:
        armed = parse_plan(text)
    except ValueError as error:
        close_world(world)
        raise StartError(f"{FAILPOINT}: {error}") from None
    logger.warning("%s is set, this is a test: %s", FAILPOINT, text)
    return replace(world, disk=FailDisk(world.disk, Plan(armed, kill=kill, sleep=time.sleep)))
