"""What a coordinator has in memory, held against what its log says.

Each shard's log is replayed into a machine of its own while the node goes on. What is durable must
be the same in both; what is in memory alone (who is joining a classic group, which markers are out)
is left out. A shard whose log grew meanwhile is looked at again.
"""

import asyncio
from typing import Any

from ottla.coordinator.group.classic import EMPTY, STABLE
from ottla.coordinator.group.consumer_group import ConsumerGroup
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.shard import Shard, State
from ottla.coordinator.transaction.machine import TransactionMachine
from ottla.sim.server import Server
from ottla.sim.workload import Violation

CONSUMER_FIELDS = (
    "epoch",
    "metadata_hash",
    "members",
    "static_ids",
    "target_epoch",
    "target_time_ms",
    "targets",
    "owners",
)


async def compare_replayed(server: Server) -> None:
    """Violation `replay` where memory and log part."""
    node = server.node
    if node is None:
        raise Violation("replay", "the node does not serve")
    shards: list[Shard[Any]] = [*node.services.groups.shards, *node.services.transactions.shards]
    for shard in shards:
        live, replayed = await _both(shard)
        for entry in sorted({*live, *replayed}):
            if live.get(entry) != replayed.get(entry):
                told = f"{live.get(entry)} in memory, {replayed.get(entry)} in the log"
                raise Violation("replay", f"{shard}: {entry}: {told}")


async def _both(shard: Shard[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    while True:
        await asyncio.sleep(0.01)
        if shard.state is not State.ACTIVE:
            continue
        machine, end_offset = shard.machine, shard.partition.log.log_end_offset
        live = durable_of(machine)
        replayed = durable_of(await shard.replayed())
        if shard.machine is machine and shard.partition.log.log_end_offset == end_offset:
            return live, replayed


def durable_of(machine: GroupMachine | TransactionMachine) -> dict[str, Any]:
    if isinstance(machine, TransactionMachine):
        return {name: known.value() for name, known in machine.transactions.items()}
    groups = machine.groups
    known: dict[str, Any] = {}
    for group_id in groups.ids():
        offsets = dict(groups.offsets(group_id))
        pending = sorted(groups.pending.places(group_id))
        consumer, classic = groups.find_consumer(group_id), groups.find(group_id)
        record: Any = None
        if consumer is not None:
            record = _fields(consumer)
        elif classic is not None and classic.is_durable:
            # Between two generations the record is of the last one.
            record = classic.record() if classic.is_in(STABLE, EMPTY) else None
        if offsets or pending or record:
            known[group_id] = offsets, pending, record
    return known


def _fields(group: ConsumerGroup) -> dict[str, Any]:
    return {name: getattr(group, name) for name in CONSUMER_FIELDS}
