"""The coordinator of transactions: a state machine on each partition of `__transaction_state`."""
