"""A transactional producer in a few lines, to be scripted against a node in process."""

import asyncio
from typing import Any

from ottla.base.errors import ErrorCode
from ottla.coordinator.transaction.state import State
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
)
from ottla.protocol.messages.end_txn import EndTxnRequest
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.records.batch import iterate_headers
from ottla.records.builder import build_batch
from ottla.records.control import read_marker
from ottla.records.record import Record, iterate_records

FEW = {"offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "2"}
FIRST, SECOND = 1, 2
"""The two protocols."""


class Client:
    """One transactional id. `protocol` is FIRST or SECOND."""

    def __init__(self, node: Any, transactional_id: str = "t", protocol: int = SECOND) -> None:
        self.node = node
        self.id = transactional_id
        self.protocol = protocol
        self.producer_id, self.epoch = -1, -1
        self.sequences: dict[tuple[str, int], int] = {}

    def twin(self) -> "Client":
        """A zombie: another process that believes to be the same producer."""
        twin = Client(self.node, self.id, self.protocol)
        twin.producer_id, twin.epoch = self.producer_id, self.epoch
        twin.sequences = dict(self.sequences)
        return twin

    async def init(self, *, timeout_ms: int = 60_000, knows: bool = False, version: int = 5) -> int:
        await self.node.ask(FindCoordinatorRequest(key=self.id, key_type=1), 3)
        expected = (self.producer_id, self.epoch) if knows else (-1, -1)
        answer = await self.node.ask(
            InitProducerIdRequest(
                transactional_id=self.id,
                transaction_timeout_ms=timeout_ms,
                producer_id=expected[0],
                producer_epoch=expected[1],
            ),
            version,
        )
        if not answer.error_code:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
            self.sequences.clear()
        return answer.error_code

    async def init_patiently(self, **options: Any) -> None:
        """As clients do: ask again while a transaction of before is being ended."""
        while (code := await self.init(**options)) == ErrorCode.CONCURRENT_TRANSACTIONS:
            await asyncio.sleep(0.001)
        assert code == 0, ErrorCode(code)

    async def add(self, topic: str, *partitions: int, version: int = 3) -> int:
        answer = await self.node.ask(
            AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=self.id,
                v3_and_below_producer_id=self.producer_id,
                v3_and_below_producer_epoch=self.epoch,
                v3_and_below_topics=[
                    AddPartitionsToTxnTopic(name=topic, partitions=list(partitions))
                ],
            ),
            version,
        )
        (row,) = answer.results_by_topic_v3_and_below
        codes = {each.partition_error_code for each in row.results_by_partition}
        return max(codes)

    def batch(self, topic: str, partition: int, values: tuple[bytes, ...]) -> bytearray:
        now_ms = self.node.services.world.clock.time_ms()
        return build_batch(
            [Record(n, now_ms, None, value) for n, value in enumerate(values)],
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=self.sequences.get((topic, partition), 0),
            transactional=True,
        )

    async def send(self, topic: str, partition: int, *values: bytes, version: int = 0) -> int:
        """Produce, as the protocol has it; the error code."""
        if self.protocol == FIRST and not version:
            code = await self.add(topic, partition)
            if code:
                return code
        answer = await self.node.ask(
            ProduceRequest(
                transactional_id=self.id,
                acks=-1,
                timeout_ms=10_000,
                topic_data=[
                    TopicProduceData(
                        name=topic,
                        partition_data=[
                            PartitionProduceData(
                                index=partition, records=self.batch(topic, partition, values)
                            )
                        ],
                    )
                ],
            ),
            version or (12 if self.protocol == SECOND else 11),
        )
        code = answer.responses[0].partition_responses[0].error_code
        if not code:
            at = (topic, partition)
            self.sequences[at] = self.sequences.get(at, 0) + len(values)
        return code

    async def commit_offset(
        self, group: str, topic: str, partition: int, offset: int, version: int = 0, **who: Any
    ) -> int:
        if self.protocol == FIRST and not version:
            answer = await self.node.ask(
                AddOffsetsToTxnRequest(
                    transactional_id=self.id,
                    producer_id=self.producer_id,
                    producer_epoch=self.epoch,
                    group_id=group,
                ),
                4,
            )
            if answer.error_code:
                return answer.error_code
        await self.node.ask(FindCoordinatorRequest(key=group, key_type=0), 3)
        answer = await self.node.ask(
            TxnOffsetCommitRequest(
                transactional_id=self.id,
                group_id=group,
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                topics=[
                    TxnOffsetCommitRequestTopic(
                        name=topic,
                        partitions=[
                            TxnOffsetCommitRequestPartition(
                                partition_index=partition, committed_offset=offset
                            )
                        ],
                    )
                ],
                **who,
            ),
            version or (5 if self.protocol == SECOND else 4),
        )
        return answer.topics[0].partitions[0].error_code

    async def end(self, commit: bool = True, version: int = 0) -> int:
        answer = await self.node.ask(
            EndTxnRequest(
                transactional_id=self.id,
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                committed=commit,
            ),
            version or (5 if self.protocol == SECOND else 4),
        )
        if not answer.error_code and self.protocol == SECOND:
            if (answer.producer_id, answer.producer_epoch) != (self.producer_id, self.epoch):
                self.sequences.clear()
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        return answer.error_code


def machine_of(node: Any, transactional_id: str = "t") -> Any:
    """The state machine that an id belongs to."""
    transactions = node.services.transactions
    return transactions._runtime._shards[transactions._runtime.shard_of(transactional_id)].machine


def kept(node: Any, transactional_id: str = "t") -> Any:
    """What the coordinator keeps of an id."""
    return machine_of(node, transactional_id).transactions[transactional_id]


async def settled(node: Any, transactional_id: str = "t") -> State:
    """The state of an id when no marker is missing any more."""
    while True:
        await asyncio.sleep(0.001)
        states = await node.services.transactions.ask_all(_states)
        state = next(each[transactional_id] for each in states if transactional_id in each)
        if state not in (State.PREPARE_COMMIT, State.PREPARE_ABORT):
            return state


def _states(machine: Any, now_ms: int) -> Any:
    from ottla.coordinator.machine import Outcome

    return Outcome(response={each.id: each.state for each in machine.transactions.values()})


async def fetched(node: Any, topic: str, partition: int = 0, isolation: int = 1) -> Any:
    """The row of a Fetch of the whole partition."""
    answer = await node.ask(
        FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            isolation_level=isolation,
            topics=[
                FetchTopic(
                    topic=topic,
                    partitions=[
                        FetchPartition(
                            partition=partition, fetch_offset=0, partition_max_bytes=1 << 24
                        )
                    ],
                )
            ],
        ),
        12,
    )
    return answer.responses[0].partitions[0]


async def committed(node: Any, topic: str, partition: int = 0) -> list[bytes]:
    """What a read_committed consumer makes of it, as the clients do it."""
    row = await fetched(node, topic, partition)
    assert row.error_code == 0
    aborted = sorted(row.aborted_transactions or [], key=lambda each: each.first_offset)
    aborting: dict[int, None] = {}
    values: list[bytes] = []
    data = bytes(row.records)
    for at, header in iterate_headers(data):
        while aborted and aborted[0].first_offset <= header.last_offset:
            aborting[aborted.pop(0).producer_id] = None
        records = list(iterate_records(data[at : at + header.size_bytes], 1 << 20))
        if header.is_control:
            marker = read_marker(records[0])
            if marker is not None and not marker.committed:
                aborting.pop(header.producer_id, None)
        elif not (header.is_transactional and header.producer_id in aborting):
            values += [bytes(record.value or b"") for record in records]
    return values


async def latest(node: Any, topic: str, isolation: int) -> int:
    answer = await node.ask(
        ListOffsetsRequest(
            replica_id=-1,
            isolation_level=isolation,
            topics=[
                ListOffsetsTopic(
                    name=topic, partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)]
                )
            ],
        ),
        7,
    )
    return answer.topics[0].partitions[0].offset


async def group_offset(
    node: Any, group: str, topic: str, *, stable: bool = True
) -> tuple[int, int]:
    """(error code, offset) of partition 0."""
    answer = await node.ask(
        OffsetFetchRequest(
            groups=[
                OffsetFetchRequestGroup(
                    group_id=group,
                    topics=[OffsetFetchRequestTopics(name=topic, partition_indexes=[0])],
                )
            ],
            require_stable=stable,
        ),
        9,
    )
    row = answer.groups[0].topics[0].partitions[0]
    return row.error_code, row.committed_offset
