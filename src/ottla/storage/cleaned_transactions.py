"""What compaction knows of transactions while it walks along a log.

Data of an aborted transaction goes at once, for nobody may see it. A marker stays as long as any
batch of its transaction is there, and then for `delete.retention.ms`, so that whoever began to
read before still meets it. Which transactions were aborted is told by the transaction indexes;
their markers may lie far behind what is compacted. For each segment that is made, the entries of
the abort markers that keep data company are gathered (`kept`): they are its transaction index.

A marker that aborts what the indexes know nothing of is corruption. To go on would take the
aborted data for committed, and drop what was committed under the same keys.
"""

from collections.abc import Iterable
from operator import attrgetter

from ottla.base.errors import CorruptionError
from ottla.records.batch import BatchHeader
from ottla.records.control import KEY, ControlType
from ottla.storage.transaction_index import AbortedTransaction


class _Open:
    """An aborted transaction whose marker is yet to come."""

    __slots__ = ("has_data", "transaction")

    def __init__(self, transaction: AbortedTransaction) -> None:
        self.transaction = transaction
        self.has_data = False


class CleanedTransactions:
    __slots__ = ("_aborted", "_coming", "_committed", "kept")

    def __init__(self, aborted: Iterable[AbortedTransaction]) -> None:
        """`aborted` may hold a transaction twice."""
        unique = dict.fromkeys(aborted)
        self._coming = sorted(unique, key=attrgetter("first_offset"), reverse=True)
        self._aborted: dict[int, _Open] = {}
        self._committed: dict[int, None] = {}
        self.kept: list[AbortedTransaction] = []

    def take_kept(self) -> list[AbortedTransaction]:
        """The entries that were gathered since the last call."""
        kept, self.kept = self.kept, []
        return kept

    def is_aborted(self, header: BatchHeader) -> bool:
        """Whether this batch of data belongs to an aborted transaction."""
        self._reach(header.last_offset)
        if not header.is_transactional:
            return False
        producer_id = header.producer_id
        aborted = self._aborted.get(producer_id)
        # An entry whose marker is gone says nothing of what the producer wrote later.
        if aborted is not None and aborted.transaction.last_offset > header.last_offset:
            aborted.has_data = True
            return True
        self._committed[producer_id] = None
        return False

    def is_spent(self, header: BatchHeader, key: bytes | None, path: str) -> bool:
        """Whether the control batch with this key of its record (None: it has none) is no longer
        needed, as far as transactions go."""
        if key is None or len(key) < KEY.size:
            return key is None
        producer_id, kind = header.producer_id, KEY.unpack_from(key)[1]
        if kind == ControlType.COMMIT:
            return self._committed.pop(producer_id, self) is self
        if kind != ControlType.ABORT:
            return False
        aborted = self._aborted.pop(producer_id, None)
        if aborted is not None and aborted.transaction.last_offset == header.last_offset:
            if aborted.has_data:
                self.kept.append(aborted.transaction)
            return not aborted.has_data
        if self._committed.pop(producer_id, self) is None:
            raise CorruptionError(
                f"the transaction that the marker at {header.last_offset} aborts is in no index",
                path=path,
            )
        return True

    def _reach(self, offset: int) -> None:
        """Open the aborted transactions that began by then."""
        while self._coming and self._coming[-1].first_offset <= offset:
            transaction = self._coming.pop()
            known = self._aborted.get(transaction.producer_id)
            if known is None or known.transaction.last_offset < transaction.first_offset:
                self._aborted[transaction.producer_id] = _Open(transaction)
