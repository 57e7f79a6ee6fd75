"""`ottla storage`: log directories as a node's property, while no broker has them.

    format DIR   makes a directory a node's: as the first start does by itself, and as it does not
                 where a directory of that node is missing

With `--directory-id` it takes the place of a directory that is lost: the next start takes what was
in that for lost as well, and begins those partitions anew. Nothing that has a `meta.properties` is
formatted again. Exit codes: 0 done, 2 not done (one line says why).
"""

import argparse
import os
import sys
from typing import Any, Final

from ottla.base.ids import Uuid, id_of_text, id_text, is_reserved_directory_id
from ottla.host.disk import HostDisk
from ottla.storage.claim import claim_directory, format_directory
from ottla.storage.identity import Identity, MetaProperties
from ottla.storage.log_dir import LogDirError

DONE: Final = 0
NOT_DONE: Final = 2


def add_to(commands: Any) -> None:
    parser = commands.add_parser("storage", help="make log directories a node's")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("format", help="make a directory a node's")
    verb.add_argument("dir", metavar="DIR")
    verb.add_argument("--cluster-id", required=True, type=_id, metavar="ID")
    verb.add_argument("--node-id", required=True, type=_node_id, metavar="N")
    verb.add_argument(
        "--directory-id",
        type=_directory_id,
        metavar="ID",
        help="of the lost one whose place it takes",
    )
    verb.set_defaults(run=_format)


def _id(text: str) -> Uuid:
    try:
        return id_of_text(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no id of 22 characters") from None


def _directory_id(text: str) -> Uuid:
    uuid = _id(text)
    if is_reserved_directory_id(uuid):
        raise argparse.ArgumentTypeError(f"{text!r} is reserved: no directory has it")
    return uuid


def _node_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no id of a node")
    return int(text)


def _format(chosen: argparse.Namespace) -> int:
    disk, identity = HostDisk(), Identity(id_text(chosen.cluster_id), chosen.node_id)
    meta = MetaProperties(identity, chosen.directory_id or Uuid(os.urandom(16)))
    try:
        found, lock = claim_directory(disk, chosen.dir, identity)
        try:
            if found is not None:
                raise LogDirError(f"{chosen.dir} is this node's already")
            format_directory(disk, chosen.dir, meta)
        finally:
            lock.release()
    except LogDirError as error:
        print(f"ottla: {error}", file=sys.stderr)
        return NOT_DONE
    print(f"{chosen.dir} is log directory {id_text(meta.directory_id)} of node {chosen.node_id}")
    return DONE
