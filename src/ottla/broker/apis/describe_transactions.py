"""DescribeTransactions (key 65): how transactional ids stand.

Behaviour. Each id is answered on its own: TRANSACTIONAL_ID_NOT_FOUND, INVALID_REQUEST for an empty
one. While markers are being written, the partitions that wait for theirs are listed.
Versions. 0 alone.
Authorised by: Describe on the transactional id; topics without Describe are left out.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.broker.rows import side_by_side
from ottla.coordinator.machine import Outcome
from ottla.coordinator.transaction.machine import TransactionMachine
from ottla.coordinator.transaction.state import PREPARED
from ottla.protocol.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)
from ottla.security.acl import Operation, ResourceType


async def describe_transactions(
    context: RequestContext, request: DescribeTransactionsRequest
) -> DescribeTransactionsResponse:
    ids = dict.fromkeys(request.transactional_ids)
    rows = await side_by_side(_row(context, each) for each in ids)
    return DescribeTransactionsResponse(transaction_states=rows)


async def _row(context: RequestContext, transactional_id: str) -> TransactionState:
    def describe(machine: TransactionMachine, now_ms: int) -> Outcome:
        found = machine.transactions.get(transactional_id)
        if found is None:
            raise KafkaError(ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
        topics: dict[str, list[int]] = {}
        for topic, index in found.unmarked if found.state in PREPARED else found.partitions:
            if not context.may(Operation.DESCRIBE, ResourceType.TOPIC, topic):
                continue
            topics.setdefault(topic, []).append(index)
        row = TransactionState(
            transactional_id=transactional_id,
            transaction_state=found.state.title,
            transaction_timeout_ms=found.timeout_ms,
            transaction_start_time_ms=found.start_ms,
            producer_id=found.producer_id,
            producer_epoch=found.epoch,
            topics=[TopicData(topic=name, partitions=each) for name, each in topics.items()],
        )
        return Outcome(response=row)

    try:
        if not transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        context.require(Operation.DESCRIBE, ResourceType.TRANSACTIONAL_ID, transactional_id)
        row: TransactionState = await context.services.transactions.ask(transactional_id, describe)
    except KafkaError as error:
        code = coordinator_error(error.code)
        return TransactionState(transactional_id=transactional_id, error_code=code)
    return row
