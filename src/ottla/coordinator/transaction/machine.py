"""The state machine of one partition of `__transaction_state`.

Each operation decides on what is in memory, and memory is as the records before it say, committed
or not: Kafka answers CONCURRENT_TRANSACTIONS while a record is on its way, here the answer waits
for it. What leaves this machine waits too: markers go out when the record that decided them is
committed, and the record of completion is made when the last marker is.

    operation        state                 outcome
    init             Empty, Complete…      next epoch, see `beginnings`
                     Ongoing               fenced and aborted: CONCURRENT_TRANSACTIONS
                     Prepare…              CONCURRENT_TRANSACTIONS
    add              Empty, Complete…      Ongoing
                     Ongoing               more partitions
                     Prepare…              CONCURRENT_TRANSACTIONS
    verify           Prepare…              CONCURRENT_TRANSACTIONS
                     otherwise             TRANSACTION_ABORTABLE for a partition that is not in it
    end              see `endings`

An id that runs over its timeout is fenced as by init, and its epoch is nobody's then. An id that
rests for `transactional.id.expiration.ms` is forgotten, a piece of them at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import TRANSACTIONAL_IDS_BYTES
from ottla.base.options import BrokerSettings
from ottla.coordinator.machine import Host, Outcome
from ottla.coordinator.pending import Pending
from ottla.coordinator.transaction.beginnings import begun, check_known
from ottla.coordinator.transaction.endings import (
    Ending,
    completed,
    ending_of,
    fenced,
    prepared,
)
from ottla.coordinator.transaction.markers import EndMarker, MarkerJob
from ottla.coordinator.transaction.records import (
    TAGGED_VERSION,
    TransactionRecord,
    decode_record,
    encode_record,
)
from ottla.coordinator.transaction.state import (
    BUMPING,
    PREPARED,
    RESTING,
    Place,
    Producer,
    State,
    Transaction,
)

logger = logging.getLogger(__name__)

ID_BYTES: Final = 800
"""What an id takes besides its name."""
PIECE_IDS: Final = 500
"""Ids that are looked at before others get their turn."""
RETRY_MS: Final = 100
SMALL_COUNT: Final = 500
"""Partitions whose record is small whatever their names are: 249 letters at most."""
END_BYTES: Final = 24
"""Most that the record of a transaction's end has more than that of what it holds: the tagged
fields, which are the producers before and after, and the client's version."""


class SendMarkers(Protocol):
    def __call__(
        self, marker: EndMarker, places: Sequence[Place], marked: Callable[[Place], None]
    ) -> MarkerJob: ...


class TransactionMachine:
    def __init__(
        self,
        host: Host,
        settings: Callable[[], BrokerSettings],
        version: Callable[[], int],
        send: SendMarkers,
        take_id: Callable[[], int],
    ) -> None:
        """`version` is the cluster's transaction.version as it is now. `take_id` gives a producer
        id that nobody has; KafkaError where there is none now."""
        self._host = host
        self._settings = settings
        self._version = version
        self._send = send
        self._take_id = take_id
        self._jobs: dict[str, MarkerJob] = {}
        self._ongoing: dict[str, Transaction] = {}
        self._settling: dict[str, asyncio.Event] = {}
        """Of ids whose markers somebody waits for."""
        self.transactions: dict[str, Transaction] = {}
        self._kept_bytes = 0
        """What they take."""
        self._is_full = False
        """As the log was told."""

    # -- as a shard's machine

    def encode(self, record: TransactionRecord) -> tuple[bytes, bytes | None]:
        return encode_record(record, TAGGED_VERSION if self._version() else 0)

    def decode(self, key: bytes, value: bytes | None) -> TransactionRecord | None:
        return decode_record(key, value)

    def replay(self, record: TransactionRecord) -> None:
        transactional_id, value, last_epoch = record
        self._ongoing.pop(transactional_id, None)
        if value is None:
            if self.transactions.pop(transactional_id, None) is not None:
                self._kept_bytes -= _size_of(transactional_id)
                self._is_full = False
            return
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            transaction = self.transactions[transactional_id] = Transaction(transactional_id)
            self._kept_bytes += _size_of(transactional_id)
        transaction.take(value, last_epoch)
        if transaction.state is State.ONGOING:
            self._ongoing[transactional_id] = transaction
        elif transaction.state in RESTING and transactional_id in self._settling:
            self._settling.pop(transactional_id).set()

    def replay_pending(self, record: TransactionRecord, producer_id: int) -> None:
        """Nobody writes here in a transaction."""

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Nor is there one to end."""

    def loaded(self, now_ms: int) -> None:
        for transaction in self.transactions.values():
            if transaction.state in PREPARED:
                self._mark_when_committed(transaction)
        self._schedule("abort", self._abort_interval_ms, self._abort_overdue)
        self._schedule("expire", self._expiry_interval_ms, self._expire)

    def closed(self, code: ErrorCode) -> None:
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.cancel()
        for event in self._settling.values():
            event.set()

    # -- InitProducerId

    def init(
        self, transactional_id: str, timeout_ms: int, expected: Producer | None, now_ms: int
    ) -> Outcome:
        """The producer of an id, with an epoch that fences all before it. `expected` is who the
        client believes to be (KIP-360)."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            self._check_room(transactional_id)
            transaction = Transaction(transactional_id)
        if transaction.state in PREPARED:
            raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
        check_known(transaction, expected)
        if transaction.state is State.ONGOING:
            return self._fence(transaction, now_ms, ErrorCode.CONCURRENT_TRANSACTIONS)
        record, producer = begun(transaction, expected, timeout_ms, now_ms, self._take_id)
        return Outcome([record], producer)

    def _check_room(self, transactional_id: str) -> None:
        """KafkaError POLICY_VIOLATION where one more id is one too many."""
        if self._kept_bytes + _size_of(transactional_id) <= TRANSACTIONAL_IDS_BYTES:
            return
        if not self._is_full:
            self._is_full = True
            count = len(self.transactions)
            logger.warning("%d transactional ids are kept: new ones are refused", count)
        raise KafkaError(ErrorCode.POLICY_VIOLATION, "there are too many transactional ids")

    # -- what a transaction holds

    def _known(self, transactional_id: str, producer: Producer) -> Transaction:
        transaction = self.transactions.get(transactional_id)
        if transaction is not None and transaction.state in PREPARED:
            # Before the producer is looked at: see `endings`.
            raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
        if transaction is None or transaction.producer_id != producer.id:
            raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if transaction.epoch != producer.epoch:
            raise KafkaError(ErrorCode.PRODUCER_FENCED)
        return transaction

    def add(
        self,
        transactional_id: str,
        producer: Producer,
        places: Iterable[Place],
        version: int,
        now_ms: int,
    ) -> Outcome:
        """The transaction is about to write to these partitions; `version` is the protocol that
        the client speaks."""
        transaction = self._known(transactional_id, producer)
        is_open = transaction.state is State.ONGOING
        wanted = {**transaction.partitions, **dict.fromkeys(places)}
        if is_open and len(wanted) == len(transaction.partitions):
            return Outcome(response=True)
        value = transaction.value(
            partitions=wanted,
            transaction_status=State.ONGOING,
            transaction_start_timestamp_ms=transaction.start_ms if is_open else now_ms,
            transaction_last_update_timestamp_ms=now_ms,
            client_transaction_version=version,
        )
        record = TransactionRecord(transactional_id, value, transaction.last_epoch)
        self._check_size(record, len(wanted))
        return Outcome([record], True)

    def _check_size(self, record: TransactionRecord, count: int) -> None:
        if count <= SMALL_COUNT:
            return
        key, value = self.encode(record)
        if len(key) + len(value or b"") + END_BYTES > self._host.record_max_bytes:
            raise KafkaError(ErrorCode.MESSAGE_TOO_LARGE, "the transaction has too many partitions")

    def verify(self, transactional_id: str, producer: Producer, places: Iterable[Place]) -> Outcome:
        """Whether the transaction holds these partitions, one by one."""
        transaction = self._known(transactional_id, producer)
        held = transaction.partitions
        codes = {
            place: ErrorCode.NONE if place in held else ErrorCode.TRANSACTION_ABORTABLE
            for place in places
        }
        return Outcome(response=codes)

    def settling(self, transactional_id: str) -> Outcome:
        """The response is an event that is set when no marker of the id is missing, or when this
        machine ends."""
        transaction = self.transactions.get(transactional_id)
        event = asyncio.Event()
        if transaction is not None and transaction.state in PREPARED:
            event = self._settling.setdefault(transactional_id, event)
        else:
            event.set()
        return Outcome(response=event)

    # -- the end

    def end(
        self,
        transactional_id: str,
        producer: Producer,
        *,
        commit: bool,
        version: int,
        now_ms: int,
    ) -> Outcome:
        """Commit or abort; the response is the producer as it goes on. `version` is the protocol
        that the client speaks."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        ending = ending_of(transaction, producer, commit=commit, is_bumping=version >= BUMPING)
        if ending is Ending.DONE:
            return Outcome(response=Producer(transaction.producer_id, transaction.epoch))
        state = State.PREPARE_COMMIT if commit else State.PREPARE_ABORT
        changes: dict[str, Any] = {}
        if ending is Ending.BEGUN_EMPTY:
            changes["transaction_start_timestamp_ms"] = now_ms
        record, answer = prepared(transaction, state, version, now_ms, self._take_id, **changes)
        self._mark_when_committed(transaction)
        return Outcome([record], answer)

    def _fence(self, transaction: Transaction, now_ms: int, answer: Any) -> Outcome:
        record = fenced(transaction, self._version(), now_ms, self._take_id)
        self._mark_when_committed(transaction)
        return Outcome([record], answer)

    def _mark_when_committed(self, transaction: Transaction) -> None:
        """Markers leave when all that was decided until now is committed."""
        pending = Pending(lambda code: None)

        def answered(is_committed: bool | None) -> None:
            if is_committed:
                self._mark(transaction)
            else:  # it takes long, or this machine ends, whose timers nobody hears then
                again = partial(_mark_again, transaction.id)
                self._host.schedule(("mark", transaction.id), RETRY_MS, again)

        pending.on_complete = answered
        self._host.answer(pending, True)

    def mark_again(self, transactional_id: str) -> Outcome:
        transaction = self.transactions.get(transactional_id)
        if transaction is not None and transaction.state in PREPARED:
            self._mark_when_committed(transaction)
        return Outcome()

    def _mark(self, transaction: Transaction) -> None:
        if transaction.state not in PREPARED or transaction.id in self._jobs:
            return
        marker = EndMarker(
            transaction.producer_id,
            transaction.epoch,
            transaction.state is State.PREPARE_COMMIT,
            self._host.epoch,
            transaction.is_bumping,
        )
        unmarked = transaction.unmarked

        def marked(place: Place) -> None:
            unmarked.pop(place, None)
            if not unmarked:
                self._jobs.pop(transaction.id, None)
                complete = partial(_complete, transaction.id, Producer(*marker[:2]))
                self._host.schedule(("complete", transaction.id), 0, complete)

        if not unmarked:
            marked(("", -1))
            return
        self._jobs[transaction.id] = self._send(marker, list(unmarked), marked)

    def complete(self, transactional_id: str, producer: Producer, now_ms: int) -> Outcome:
        """The last of its markers is committed."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.state not in PREPARED:
            return Outcome()
        if (transaction.producer_id, transaction.epoch) != producer:
            return Outcome()
        return Outcome([completed(transaction, now_ms)])

    # -- what time brings

    def _schedule(
        self, name: str, interval_ms: int, operation: Callable[[Any, int], Outcome]
    ) -> None:
        self._host.schedule((name,), interval_ms, operation)

    @property
    def _abort_interval_ms(self) -> int:
        return self._settings().transaction_abort_timed_out_transaction_cleanup_interval_ms

    @property
    def _expiry_interval_ms(self) -> int:
        return self._settings().transaction_remove_expired_transaction_cleanup_interval_ms

    def _abort_overdue(self, _: object, now_ms: int) -> Outcome:
        self._schedule("abort", self._abort_interval_ms, self._abort_overdue)
        records: list[TransactionRecord] = []
        for transaction in list(self._ongoing.values()):
            if transaction.start_ms + transaction.timeout_ms < now_ms:
                with suppress(KafkaError):  # no producer id can be had: the next round sees to it
                    records += self._fence(transaction, now_ms, None).records
        return Outcome(records, is_divisible=True)

    def _expire(self, _: object, now_ms: int) -> Outcome:
        self._schedule("expire", self._expiry_interval_ms, self._expire)
        return self._expire_piece(list(self.transactions), 0, None, now_ms)

    def _expire_piece(self, ids: list[str], start: int, _: object, now_ms: int) -> Outcome:
        oldest = now_ms - self._settings().transactional_id_expiration_ms
        records = []
        for transactional_id in ids[start : start + PIECE_IDS]:
            transaction = self.transactions.get(transactional_id)
            if transaction is None or transaction.state not in RESTING:
                continue
            if transaction.updated_ms <= oldest:
                records.append(TransactionRecord(transactional_id, None))
        if start + PIECE_IDS < len(ids):
            rest = partial(self._expire_piece, ids, start + PIECE_IDS)
            self._schedule("expire piece", 0, rest)
        return Outcome(records, is_divisible=True)


def _size_of(transactional_id: str) -> int:
    return ID_BYTES + len(transactional_id)


def _complete(
    transactional_id: str, producer: Producer, machine: TransactionMachine, now_ms: int
) -> Outcome:
    return machine.complete(transactional_id, producer, now_ms)


def _mark_again(transactional_id: str, machine: TransactionMachine, _: int) -> Outcome:
    return machine.mark_again(transactional_id)
