"""What is asked of transactions by tools, by other brokers, and of features."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from ottla.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from ottla.protocol.messages.describe_transactions import DescribeTransactionsRequest
from ottla.protocol.messages.list_transactions import ListTransactionsRequest
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from ottla.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from tests.broker.apis.transacting import (
    FEW,
    FIRST,
    Client,
    committed,
    kept,
    latest,
)


def test_a_broker_verifies_many_transactions_at_once(on_node):
    """AddPartitionsToTxn from 4 on: each is answered on its own, and verifying adds nothing."""

    async def test(node):
        await node.topic("a", 2)
        client = Client(node, protocol=FIRST)
        await client.init_patiently()
        assert await client.add("a", 0) == 0

        def asked(transactional_id, partitions, *, epoch=client.epoch, topic="a", verify=True):
            return AddPartitionsToTxnTransaction(
                transactional_id=transactional_id,
                producer_id=client.producer_id,
                producer_epoch=epoch,
                verify_only=verify,
                topics=[AddPartitionsToTxnTopic(name=topic, partitions=partitions)],
            )

        async def answers(*transactions, version=5):
            request = AddPartitionsToTxnRequest(transactions=list(transactions))
            answer = await node.ask(request, version)
            assert answer.error_code == 0
            return [
                [row.partition_error_code for row in each.topic_results[0].results_by_partition]
                for each in answer.results_by_transaction
            ]

        abortable, unknown = (
            ErrorCode.TRANSACTION_ABORTABLE,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        )
        assert await answers(
            asked("t", [0, 1]),
            asked("nobody", [0]),
            asked("", [0]),
            asked("t", [0], epoch=client.epoch + 1),
            asked("t", [0, 7]),
            asked("t", [0], topic="b"),
        ) == [
            [0, abortable],
            [ErrorCode.INVALID_PRODUCER_ID_MAPPING],
            [ErrorCode.INVALID_REQUEST],
            [ErrorCode.PRODUCER_FENCED],
            [ErrorCode.OPERATION_NOT_ATTEMPTED, unknown],
            [unknown],
        ]
        assert await answers(asked("t", [1]), version=4) == [[ErrorCode.INVALID_TXN_STATE]]
        assert list(kept(node).partitions) == [("a", 0)]
        assert await answers(asked("t", [1], verify=False)) == [[0]]
        assert list(kept(node).partitions) == [("a", 0), ("a", 1)]
        assert await client.end(commit=False) == 0

    on_node(test, FEW)


def test_partitions_that_are_not_there_add_nothing(on_node):
    async def test(node):
        await node.topic("a")
        client = Client(node, protocol=FIRST)
        await client.init_patiently()
        assert await client.add("a", 0, 7) == ErrorCode.OPERATION_NOT_ATTEMPTED
        assert await client.add("b", 0) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert await client.end() == ErrorCode.INVALID_TXN_STATE

    on_node(test, FEW)


def test_administrators_see_and_end_what_hangs(on_node):
    async def test(node):
        await node.topic("a")
        client = Client(node)
        await client.init_patiently()
        await client.send("a", 0, b"1")
        answer = await node.ask(DescribeTransactionsRequest(transactional_ids=["t", "", "u"]))
        states = {each.transactional_id: each for each in answer.transaction_states}
        assert states["u"].error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
        assert states[""].error_code == ErrorCode.INVALID_REQUEST
        assert states["t"].transaction_state == "Ongoing"
        assert [(t.topic, t.partitions) for t in states["t"].topics] == [("a", [0])]
        asked = DescribeProducersRequest(topics=[TopicRequest(name="a", partition_indexes=[0])])
        (row,) = (await node.ask(asked)).topics[0].partitions[0].active_producers
        assert (row.current_txn_start_offset, row.coordinator_epoch) == (0, -1)
        marker = WritableTxnMarker(
            producer_id=row.producer_id,
            producer_epoch=row.producer_epoch,
            transaction_result=False,
            coordinator_epoch=0,
            topics=[WritableTxnMarkerTopic(name="a", partition_indexes=[0, 9])],
        )
        answer = await node.ask(WriteTxnMarkersRequest(markers=[marker]), 1)
        rows = answer.markers[0].topics[0].partitions
        assert [each.error_code for each in rows] == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        assert await latest(node, "a", 1) == await latest(node, "a", 0) == 2
        assert await committed(node, "a") == []

    on_node(test, FEW)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_transactions_are_listed(on_node, version):
    async def test(node):
        await node.topic("a")
        for name in ("one", "two"):
            client = Client(node, name)
            await client.init_patiently()
        await client.send("a", 0, b"1")

        async def listed(**filters):
            filters = {"state_filters": [], "producer_id_filters": [], **filters}
            answer = await node.ask(ListTransactionsRequest(**filters), version)
            rows = {(r.transactional_id, r.transaction_state) for r in answer.transaction_states}
            return answer.error_code, rows, answer.unknown_state_filters

        everything = {("one", "Empty"), ("two", "Ongoing")}
        assert await listed() == (0, everything, [])
        assert await listed(state_filters=["Ongoing", "Odd"]) == (
            0,
            {("two", "Ongoing")},
            ["Odd"],
        )
        ids = [client.producer_id]
        assert await listed(producer_id_filters=ids) == (0, {("two", "Ongoing")}, [])
        if version:
            assert await listed(duration_filter=60_000) == (0, set(), [])
        if version > 1:
            assert await listed(transactional_id_pattern="o.*") == (0, {("one", "Empty")}, [])
            code, *_ = await listed(transactional_id_pattern="(")
            assert code == ErrorCode.INVALID_REGULAR_EXPRESSION

    on_node(test, FEW)


def test_features_are_raised_and_lowered(on_node):
    async def test(node):
        async def update(level, version=1, **options):
            key = FeatureUpdateKey(
                feature=options.pop("feature", "transaction.version"),
                max_version_level=level,
                upgrade_type=options.pop("upgrade_type", 1),
            )
            request = UpdateFeaturesRequest(feature_updates=[key], **options)
            return (await node.ask(request, version)).error_code

        wrong = ErrorCode.INVALID_UPDATE_VERSION
        assert await update(1) == wrong
        assert await update(3) == wrong
        assert await update(1, feature="odd") == wrong
        assert await update(1, upgrade_type=9) == wrong
        assert await update(1, upgrade_type=2, validate_only=True) == 0
        assert node.image.features == {}
        assert await update(1, upgrade_type=2) == 0
        assert node.image.features == {"transaction.version": 1}
        assert await update(2, version=2) == 0
        assert node.image.features == {"transaction.version": 2}

    on_node(test, FEW)
