"""`ottla log`: log directories looked at, shown and mended while no broker has them.

    verify DIR   everything that is not as it was written; one line each
    dump FILE    what a file holds, readable or as JSON
    repair DIR   builds anew what the logs tell

Exit codes of verify and repair: 0 sound, 1 damage was found (repair: and some is left), 2 it could
not be looked at. Notes, of what the next start sees to, are no damage. dump: 1 where some of the
file is damaged.

verify and repair take the directory's lock, as a broker does: what is being written cannot be
judged. `--force` reads without it: for a file system that cannot be written, or a look at a
running broker, of whose last batches and checkpoints nothing can be told then. dump takes no lock.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

from ottla.base.errors import CorruptionError
from ottla.host.disk import HostDisk
from ottla.storage.checkpoints import directory_of
from ottla.storage.dump import DumpOptions, NotDumpedError, Row, dump
from ottla.storage.findings import Finding
from ottla.storage.names import LOCK
from ottla.storage.repair import RepairOptions, repair
from ottla.storage.sound import OFFSET_MAX
from ottla.storage.verify import NotALogDirectoryError, is_partition, verify
from ottla.storage.verify_log import Tally

SOUND: Final = 0
DAMAGED: Final = 1
NOT_READ: Final = 2
PROGRESS_SECONDS: Final = 0.5


class NotReadError(Exception):
    """Why nothing could be looked at: one line."""


def add_to(commands: Any) -> None:
    parser = commands.add_parser("log", help="check, show and mend the files of a stopped broker")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_verify(verbs)
    _add_dump(verbs)
    _add_repair(verbs)


def _add_verify(verbs: Any) -> None:
    parser = verbs.add_parser("verify", help="check a log directory or a partition's")
    parser.add_argument("dirs", nargs="+", metavar="DIR")
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--force", action="store_true", help="do not take the directory's lock")
    parser.add_argument("--no-records", action="store_true", help="do not unpack batches")
    parser.set_defaults(run=_guarded(_verify))


def _add_dump(verbs: Any) -> None:
    parser = verbs.add_parser("dump", help="show what files of a log directory hold")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--deep-iteration", action="store_true", help="the records of a .log too")
    parser.add_argument(
        "--print-data-log", action="store_true", help="and their keys, values and headers"
    )
    parser.add_argument("--offsets", metavar="FROM-TO", help="no others; either may be left out")
    parser.set_defaults(run=_guarded(_dump))


def _add_repair(verbs: Any) -> None:
    parser = verbs.add_parser("repair", help="build anew what the logs tell")
    parser.add_argument("dirs", nargs="+", metavar="DIR")
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--dry-run", action="store_true", help="tell, and do nothing")
    parser.add_argument(
        "--truncate-torn-tail",
        action="store_true",
        help="cut what an unclean stop left past the recovery point and is no sound batch",
    )
    parser.add_argument(
        "--accept-log-end",
        action="store_true",
        help="of a log that lost flushed records at its end: serve what is left",
    )
    parser.set_defaults(run=_guarded(_repair))


def _guarded(
    run: Callable[[argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """What keeps a command from its work is one line."""

    def guarded(chosen: argparse.Namespace) -> int:
        try:
            return run(chosen)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DAMAGED
        except KeyboardInterrupt:
            return 130
        except (NotReadError, NotALogDirectoryError, NotDumpedError, CorruptionError) as error:
            print(f"ottla: {error}", file=sys.stderr)
        except OSError as error:
            print(f"ottla: {error.filename}: {error.strerror}", file=sys.stderr)
        return NOT_READ

    return guarded


def clean_path(path: str) -> str:
    """Without what would hide the last name of it."""
    normal = os.path.normpath(path)
    return os.path.abspath(normal) if normal.endswith(".") or "/" not in normal else normal


@contextmanager
def locked(disk: HostDisk, path: str, *, force: bool = False) -> Iterator[None]:
    """The lock of the log directory that `path` is or stands in. Where no broker ever was there
    is none to take."""
    log_dir = directory_of(path) if is_partition(disk, path) else path
    lock_path = f"{log_dir}/{LOCK}"
    if force or not disk.exists(lock_path):
        yield
        return
    try:
        lock = disk.lock(lock_path)
    except BlockingIOError as error:
        raise NotReadError(f"{log_dir} is in use by another process") from error
    except OSError as error:
        cause = f"{lock_path} cannot be locked: {error.strerror} (--force reads without)"
        raise NotReadError(cause) from error
    try:
        yield
    finally:
        lock.release()


class Progress:
    """The directory that is being read, on a terminal alone."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.is_shown = sys.stderr.isatty()
        self._due = 0.0

    def __call__(self, path: str) -> None:
        if self.is_shown and time.monotonic() >= self._due:
            self._due = time.monotonic() + PROGRESS_SECONDS
            text = f"{self.tally.logs} logs, {self.tally.size_bytes >> 20} MiB, {path}"
            print(f"\r\x1b[K{text[:78]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def show(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        kind = "note" if finding.is_note else "damage"
        row = {"kind": kind, **finding._asdict()}
        del row["is_note"]
        print(json.dumps(row), flush=True)
    else:
        print(finding, flush=True)


def _verify(chosen: argparse.Namespace) -> int:
    disk, tally = HostDisk(), Tally()
    damaged = notes = 0
    progress = Progress(tally)
    for path in map(clean_path, chosen.dirs):
        with locked(disk, path, force=chosen.force):
            for finding in verify(
                disk, path, tally, with_records=not chosen.no_records, watch=progress
            ):
                progress.clear()
                show(finding, as_json=chosen.json)
                damaged, notes = damaged + (not finding.is_note), notes + finding.is_note
    progress.clear()
    counts = {
        "logs": tally.logs,
        "segments": tally.segments,
        "batches": tally.batches,
        "records": tally.records,
        "size_bytes": tally.size_bytes,
        "damage": damaged,
        "notes": notes,
    }
    if chosen.json:
        print(json.dumps({"kind": "summary", **counts}))
    else:
        print(
            f"{tally.logs} logs, {tally.segments} segments, {tally.batches} batches,"
            f" {tally.records} records, {tally.size_bytes} bytes:"
            f" {'sound' if not damaged else f'{damaged} damaged'}, {notes} notes"
        )
    return DAMAGED if damaged else SOUND


def _dump(chosen: argparse.Namespace) -> int:
    first, last = _offset_range(chosen.offsets)
    with_data = chosen.print_data_log
    options = DumpOptions(chosen.deep_iteration or with_data, with_data, first, last)
    is_damaged = False
    for path in chosen.files:
        rows = dump(HostDisk(), path, options)
        first_row = next(rows, None)  # where the file cannot be opened nothing is said of it
        if not chosen.json:
            print(f"Dumping {path}")
        for row in chain(filter(None, (first_row,)), rows):
            is_damaged |= "fault" in row
            print(json.dumps({"file": path, **row}) if chosen.json else _row_text(row))
    return DAMAGED if is_damaged else SOUND


def _offset_range(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, OFFSET_MAX
    first, dash, last = text.partition("-")
    try:
        return int(first or 0), int(last or OFFSET_MAX) if dash else int(first)
    except ValueError:
        raise NotReadError(f"--offsets {text}: is not FROM-TO") from None


def _row_text(row: Row) -> str:
    """As `kafka-dump-log` has it; of a record with the bar in front."""
    bar = "| " if "keySize" in row else ""
    return bar + " ".join(f"{name}: {_value_text(value)}" for name, value in row.items())


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return "none" if value is None else str(value)


def _repair(chosen: argparse.Namespace) -> int:
    disk, tally = HostDisk(), Tally()
    options = RepairOptions(chosen.dry_run, chosen.truncate_torn_tail, chosen.accept_log_end)
    done = left = 0
    for path in map(clean_path, chosen.dirs):
        with locked(disk, path):
            for deed in repair(disk, path, options, tally):
                done, left = done + (not deed.is_left), left + deed.is_left
                would = "would be " if chosen.dry_run and not deed.is_left else ""
                print(
                    json.dumps({**deed._asdict(), "is_dry": chosen.dry_run})
                    if chosen.json
                    else f"{deed.path}: {would}{deed.what}",
                    flush=True,
                )
    if chosen.json:
        print(json.dumps({"logs": tally.logs, "done": done, "left": left}))
    else:
        would = "would be mended" if chosen.dry_run else "mended"
        print(f"{tally.logs} logs: {done} {would}, {left} left")
    return DAMAGED if left else SOUND
