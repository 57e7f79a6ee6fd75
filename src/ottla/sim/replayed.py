"""What a coordinator has in memory, held against what its log says.

Each shard's log is replayed into a machine of its own while the node goes on. What is durable must
be the same in both; what is in memory alone (who is joining a classic group, which markers are out)
is left out. A shard whose log grew meanwhile is looked at again.
"""

import asyncio
from typing import Any

from ottla.coordinator.group.classic import EMPTY, STABLE
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.shard import Shard, State
from ottla.coordinator.transaction.machine import TransactionMachine
from ottla.sim.server import Server
from ottla.sim.workload import Violation

Durable = dict[tuple[str, str], Any]
"""By the name of a group or transactional id, and what of it."""
BETWEEN = "between two generations"
"""Of a classic group: the log knows the last one."""
CONSUMER_FIELDS = (
    "epoch",
    "metadata_hash",
    "members",
    "static_ids",
    "target_epoch",
    "target_time_ms",
    "targets",
    "owners",
    "expressions",
    "has_partition_metadata",
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
            if live.get(entry) not in (replayed.get(entry), BETWEEN):
                told = f"{live.get(entry)} in memory, {replayed.get(entry)} in the log"
                raise Violation("replay", f"{shard}: {entry[0]}, its {entry[1]}: {told}")


async def _both(shard: Shard[Any]) -> tuple[Durable, Durable]:
    while True:
        await asyncio.sleep(0.01)
        if shard.state is not State.ACTIVE:
            continue
        machine, end_offset = shard.machine, shard.partition.log.log_end_offset
        live = durable_of(machine)
        replayed = durable_of(await shard.replayed())
        if shard.machine is machine and shard.partition.log.log_end_offset == end_offset:
            return live, replayed


def durable_of(machine: GroupMachine | TransactionMachine) -> Durable:
    if isinstance(machine, TransactionMachine):
        return {(name, "state"): known.value() for name, known in machine.transactions.items()}
    known: Durable = {}
    groups = machine.groups
    for group_id in groups.ids():
        consumer, classic = groups.find_consumer(group_id), groups.find(group_id)
        known[group_id, "offsets"] = dict(groups.offsets(group_id))
        known[group_id, "pending offsets"] = _pending_of(machine, group_id)
        if consumer is not None:
            for name in CONSUMER_FIELDS:
                known[group_id, name] = getattr(consumer, name)
        elif classic is not None and classic.is_durable:
            is_at_rest = classic.is_in(STABLE, EMPTY)
            known[group_id, "record"] = classic.record() if is_at_rest else BETWEEN
    return {entry: value for entry, value in known.items() if value}


def _pending_of(machine: GroupMachine, group_id: str) -> dict[tuple[str, int], Any]:
    """By topic and partition: what stands if all transactions commit; None where that is what is
    committed already."""
    pending = machine.groups.pending
    return {**dict.fromkeys(pending.places(group_id)), **pending.latest(group_id)}
