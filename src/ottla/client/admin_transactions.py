"""Transactions and their producers: what is open, and how what hangs is ended.

To end a transaction that a lost producer left open in a partition: `describe_producers` finds it (a
`transaction_start_offset` that does not move), `abort_transaction` writes its end.
"""

from collections.abc import Iterable, Sequence
from functools import partial

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.asking import Asking, Key, by_topic, partition_of, refusal
from ottla.client.cluster import KeyType
from ottla.client.errand import one_by_one
from ottla.client.rows import (
    FencedProducer,
    ProducerState,
    TransactionDescription,
    TransactionListing,
)
from ottla.protocol.messages import describe_producers, describe_transactions
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
)
from ottla.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from ottla.rpc.errors import RpcError


class TransactionAdmin(Asking):
    async def list_transactions(
        self,
        *,
        states: Iterable[str] = (),
        producer_ids: Iterable[int] = (),
        longer_than_ms: int = -1,
        pattern: str | None = None,
    ) -> list[TransactionListing]:
        """The transactional ids that the brokers know: all, or those that meet every filter. States
        are Kafka's ("Ongoing", "CompleteCommit" ...); `longer_than_ms` needs brokers from 3.8,
        `pattern` (a regular expression of RE2 for the whole id) from 4.1."""
        request = ListTransactionsRequest(
            state_filters=list(states),
            producer_id_filters=list(producer_ids),
            duration_filter=longer_than_ms,
            transactional_id_pattern=pattern,
        )

        async def ask(node: int, _: object) -> dict[int, list[TransactionListing]]:
            response = await self._send(node, request, ListTransactionsResponse)
            if response.unknown_state_filters:
                told = ", ".join(response.unknown_state_filters)
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"no states of transactions: {told}")
            return {
                node: [
                    TransactionListing(row.transactional_id, row.producer_id, row.transaction_state)
                    for row in response.transaction_states
                ]
            }

        nodes = await self._all_nodes("list_transactions")
        found = await self._each("list_transactions", nodes, self._nodes_of(), ask)
        return sorted(row for rows in found.values() for row in rows)

    async def describe_transactions(
        self, *transactional_ids: str
    ) -> dict[str, TransactionDescription]:
        async def ask(
            node: int, ids: Sequence[str]
        ) -> dict[str, TransactionDescription | KafkaError]:
            request = describe_transactions.DescribeTransactionsRequest(transactional_ids=list(ids))
            response = await self._send(
                node, request, describe_transactions.DescribeTransactionsResponse
            )
            return {
                row.transactional_id: refusal(row.error_code, None, row.transactional_id)
                or _transaction(row)
                for row in response.transaction_states
            }

        route = self._coordinators(KeyType.TRANSACTION)
        return await self._each("describe_transactions", transactional_ids, route, ask)

    async def describe_producers(
        self, *partitions: Key
    ) -> dict[TopicPartition, list[ProducerState]]:
        """The producers that the leaders of these partitions remember."""

        async def ask(
            node: int, keys: Sequence[TopicPartition]
        ) -> dict[TopicPartition, list[ProducerState] | KafkaError]:
            topics = [
                describe_producers.TopicRequest(name=name, partition_indexes=indexes)
                for name, indexes in by_topic(keys).items()
            ]
            request = describe_producers.DescribeProducersRequest(topics=topics)
            response = await self._send(node, request, describe_producers.DescribeProducersResponse)
            return {
                (key := partition_of((topic.name, row.partition_index))): refusal(
                    row.error_code, row.error_message, key
                )
                or [_producer(each) for each in row.active_producers]
                for topic in response.topics
                for row in topic.partitions
            }

        keys = map(partition_of, partitions)
        return await self._each("describe_producers", keys, self._leaders(), ask)

    async def abort_transaction(self, partition: Key, producer: ProducerState) -> None:
        """Write the end of the transaction that this producer has open in a partition, as
        `describe_producers` told of it: its records are aborted there."""
        key = partition_of(partition)
        marker = WritableTxnMarker(
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            transaction_result=False,
            topics=[WritableTxnMarkerTopic(name=key.topic, partition_indexes=[key.partition])],
            coordinator_epoch=max(0, producer.coordinator_epoch),
        )

        async def ask(node: int, _: object) -> dict[TopicPartition, KafkaError | None]:
            request = WriteTxnMarkersRequest(markers=[marker])
            response = await self._send(node, request, WriteTxnMarkersResponse)
            return {
                partition_of((topic.name, row.partition_index)): refusal(row.error_code, None, key)
                for answered in response.markers
                for topic in answered.topics
                for row in topic.partitions
            }

        await self._each("abort_transaction", [key], self._leaders(), ask)

    async def fence_producers(self, *transactional_ids: str) -> dict[str, FencedProducer]:
        """Shut out the producers that have these ids, and abort what they left open. The id and
        epoch that the next producer will go on from."""

        async def fence(node: int, name: str) -> FencedProducer:
            request = InitProducerIdRequest(
                transactional_id=name, transaction_timeout_ms=self.settings.request_timeout_ms
            )
            response = await self._send(node, request, InitProducerIdResponse)
            return FencedProducer(response.producer_id, response.producer_epoch)

        async def ask(
            node: int, ids: Sequence[str]
        ) -> dict[str, FencedProducer | KafkaError | RpcError]:
            return await one_by_one(ids, partial(fence, node))

        route = self._coordinators(KeyType.TRANSACTION)
        return await self._each("fence_producers", transactional_ids, route, ask)


def _transaction(row: describe_transactions.TransactionState) -> TransactionDescription:
    return TransactionDescription(
        row.transactional_id,
        row.transaction_state,
        row.producer_id,
        row.producer_epoch,
        row.transaction_timeout_ms,
        row.transaction_start_time_ms,
        tuple(
            partition_of((topic.topic, index)) for topic in row.topics for index in topic.partitions
        ),
    )


def _producer(row: describe_producers.ProducerState) -> ProducerState:
    return ProducerState(
        row.producer_id,
        row.producer_epoch,
        row.last_sequence,
        row.last_timestamp,
        row.coordinator_epoch,
        row.current_txn_start_offset,
    )
