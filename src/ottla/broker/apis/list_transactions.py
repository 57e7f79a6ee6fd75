"""ListTransactions (key 66): the transactional ids that this node coordinates.

Behaviour. Filters are met all together: a state (those that do not exist are named in the answer),
a producer id, how long a transaction runs, a pattern that the whole id must match. While a shard is
being loaded the answer is COORDINATOR_LOAD_IN_PROGRESS.
Authorised by: transactional ids without Describe are left out.
Versions. 1 filters by duration (KIP-994), 2 by a pattern (KIP-1152): INVALID_REGULAR_EXPRESSION
where it is none.
"""

from typing import Any

from ottla.base.errors import KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.coordinator.group.expressions import compiled
from ottla.coordinator.machine import Outcome
from ottla.coordinator.transaction.machine import TransactionMachine
from ottla.coordinator.transaction.state import State, Transaction
from ottla.protocol.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
    TransactionState,
)
from ottla.security.acl import Operation, ResourceType

_TITLES = {state.title: state for state in State}


async def list_transactions(
    context: RequestContext, request: ListTransactionsRequest
) -> ListTransactionsResponse:
    unknown = [name for name in request.state_filters if name not in _TITLES]
    try:
        pattern = None
        if request.transactional_id_pattern:
            pattern = compiled(request.transactional_id_pattern)
        found = await context.services.transactions.ask_all(_listing(request, pattern))
    except KafkaError as error:
        return ListTransactionsResponse(error_code=coordinator_error(error.code))
    return ListTransactionsResponse(
        unknown_state_filters=unknown,
        transaction_states=[
            row
            for rows in found
            for row in rows
            if context.may(
                Operation.DESCRIBE,
                ResourceType.TRANSACTIONAL_ID,
                row.transactional_id,
                quiet=True,
            )
        ],
    )


def _listing(request: ListTransactionsRequest, pattern: Any) -> Any:
    states, producer_ids = dict.fromkeys(request.state_filters), request.producer_id_filters

    def is_wanted(transaction: Transaction, now_ms: int) -> bool:
        if producer_ids and transaction.producer_id not in producer_ids:
            return False
        if states and transaction.state.title not in states:
            return False
        if request.duration_filter >= 0 and (
            transaction.start_ms < 0 or now_ms - transaction.start_ms <= request.duration_filter
        ):
            return False
        return pattern is None or pattern.fullmatch(transaction.id) is not None

    def operation(machine: TransactionMachine, now_ms: int) -> Outcome:
        rows = [
            TransactionState(
                transactional_id=each.id,
                producer_id=each.producer_id,
                transaction_state=each.state.title,
            )
            for each in machine.transactions.values()
            if is_wanted(each, now_ms)
        ]
        return Outcome(response=rows)

    return operation
