"""The SQLite file of the embedded store: tables, transactions, and what SQLite's errors mean.

    store     id = 1 | revision | compacted            the one row of counters
    entries   key | value | mod_revision | lease       what is
    changes   revision | number | key | value          what was (value null: deleted)
    leases    id (never used again) | slot             who holds keys by being alive

WAL with synchronous=FULL: a commit is one fsync. All methods run on a helper thread, one at a
time; `embedded_store` sees to that. A job refuses before its first write or not at all, so a
refused one leaves nothing to undo in the transaction that it shares with others.
This is the one module of the broker that imports sqlite3.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

from ottla.base.errors import CorruptionError
from ottla.metadata.store import (
    NO_REVISION,
    Changes,
    Compare,
    Delete,
    DeletePrefix,
    Entry,
    Event,
    LeaseId,
    LeaseLostError,
    Put,
    Revision,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
    TxnResult,
    Write,
)

_APPLICATION_ID: Final = 0x4F74746C
_SCHEMA_VERSION: Final = 1
_AFTER_ASCII: Final = "\x7f"
_SCHEMA: Final = f"""
CREATE TABLE store (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER, compacted INTEGER);
CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, mod_revision INTEGER NOT NULL,
                      lease INTEGER) WITHOUT ROWID;
CREATE INDEX entries_by_lease ON entries (lease) WHERE lease IS NOT NULL;
CREATE TABLE changes (revision INTEGER, number INTEGER, key TEXT NOT NULL, value BLOB,
                      PRIMARY KEY (revision, number)) WITHOUT ROWID;
CREATE TABLE leases (id INTEGER PRIMARY KEY AUTOINCREMENT, slot INTEGER NOT NULL);
INSERT INTO store VALUES (1, 0, 0);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_SCHEMA_VERSION};
"""


class Job(NamedTuple):
    call: Callable[[], object]
    writes: bool


class Outcome(NamedTuple):
    results: list[object | StoreError]
    history: list[Changes]
    compacted: Revision


class StoreFile:
    def __init__(self, path: str, history_revisions: int) -> None:
        self._path = path
        self._history_revisions = history_revisions
        self._sql: sqlite3.Connection

    def open(self, busy_ms: int) -> None:
        try:
            self._sql = sqlite3.connect(
                self._path, timeout=busy_ms / 1000, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise _translated(error, self._path) from error
        try:
            self._check_schema()
        except sqlite3.Error as error:
            self._sql.close()
            raise _translated(error, self._path) from error
        except BaseException:
            self._sql.close()
            raise

    def _check_schema(self) -> None:
        version = self._number("PRAGMA user_version")
        if version == 0 and self._number("SELECT count(*) FROM sqlite_schema") == 0:
            self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = FULL")
        if version == 0:
            version = self._create_schema()
        if self._number("PRAGMA application_id") != _APPLICATION_ID:
            raise StoreVersionError(f"{self._path}: not a store of Ottla")
        if version != _SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self._path}: schema version {version}, known is {_SCHEMA_VERSION}"
            )

    def _create_schema(self) -> int:
        """Where nobody else did meanwhile, and the file is empty."""
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            if self._number("SELECT count(*) FROM sqlite_schema") == 0:
                for statement in _SCHEMA.split(";"):
                    self._sql.execute(statement)
            self._sql.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return self._number("PRAGMA user_version")

    def run(self, jobs: Sequence[Job], since: Revision | None) -> Outcome:
        """All jobs in one transaction, and what changed from `since` on."""
        try:
            self._sql.execute("BEGIN IMMEDIATE" if any(job.writes for job in jobs) else "BEGIN")
            results = [self._result(job) for job in jobs]
            history = [] if since is None else self._history(since)
            compacted = Revision(self._number("SELECT compacted FROM store"))
            self._sql.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise _translated(error, self._path) from error
        return Outcome(results, history, compacted)

    def _result(self, job: Job) -> object | StoreError:
        try:
            return job.call()
        except StoreError as error:
            return error

    def _roll_back(self) -> None:
        if self._sql.in_transaction:
            self._sql.execute("ROLLBACK")

    def read(self, prefix: str) -> tuple[Revision, dict[str, Entry]]:
        rows = self._sql.execute(
            "SELECT key, value, mod_revision FROM entries WHERE key >= ? AND key < ? ORDER BY key",
            (prefix, prefix + _AFTER_ASCII),
        )
        return self._revision(), {key: Entry(value, revision) for key, value, revision in rows}

    def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        current = {compare.key: self._entry(compare.key) for compare in compares}
        for key, expected in compares:
            entry = current[key]
            if (entry.mod_revision if entry else NO_REVISION) != expected:
                return TxnResult(False, self._revision(), current)
        return TxnResult(True, self._write(writes), {})

    def _write(self, writes: Sequence[Write]) -> Revision:
        for lease in dict.fromkeys(write.lease for write in writes if isinstance(write, Put)):
            if lease is not None:
                self.check_lease(lease)
        last = self._revision()
        events = [event for write in writes for event in self._events(write)]
        if not events:
            return last
        revision = Revision(last + 1)
        self._sql.executemany(
            "REPLACE INTO entries VALUES (?, ?, ?, ?)",
            [
                (write.key, write.value, revision, write.lease)
                for write in writes
                if isinstance(write, Put)
            ],
        )
        self._sql.executemany(
            "DELETE FROM entries WHERE key = ?",
            [(event.key,) for event in events if event.value is None],
        )
        self._sql.executemany(
            "INSERT INTO changes VALUES (?, ?, ?, ?)",
            [(revision, number, *event) for number, event in enumerate(events)],
        )
        self._sql.execute("UPDATE store SET revision = ?", (revision,))
        self._maybe_forget(revision)
        return revision

    def _events(self, write: Write) -> list[Event]:
        if isinstance(write, Put):
            return [Event(write.key, write.value)]
        if isinstance(write, DeletePrefix):
            return [Event(key, None) for key in self.read(write.prefix)[1]]
        return [Event(write.key, None)] if self._entry(write.key) else []

    def _maybe_forget(self, revision: Revision) -> None:
        compacted = self._number("SELECT compacted FROM store")
        if revision - compacted > 2 * self._history_revisions:
            compacted = revision - self._history_revisions
            self._sql.execute("DELETE FROM changes WHERE revision <= ?", (compacted,))
            self._sql.execute("UPDATE store SET compacted = ?", (compacted,))

    def _history(self, since: Revision) -> list[Changes]:
        history: list[Changes] = []
        events: list[Event] = []
        for revision, key, value in self._sql.execute(
            "SELECT revision, key, value FROM changes WHERE revision >= ?"
            " ORDER BY revision, number",
            (since,),
        ):
            if not history or history[-1].revision != revision:
                events = []
                history.append(Changes(revision, events))
            events.append(Event(key, value))
        return history

    def grant(self, slot: int) -> LeaseId:
        cursor = self._sql.execute("INSERT INTO leases (slot) VALUES (?)", (slot,))
        return LeaseId(cast(int, cursor.lastrowid))

    def check_lease(self, lease: LeaseId) -> None:
        if not self._number("SELECT count(*) FROM leases WHERE id = ?", lease):
            raise LeaseLostError(f"lease {lease} is gone")

    def revoke(self, lease: LeaseId) -> None:
        rows = self._sql.execute("SELECT key FROM entries WHERE lease = ? ORDER BY key", (lease,))
        self._write([Delete(key) for (key,) in rows.fetchall()])
        self._sql.execute("DELETE FROM leases WHERE id = ?", (lease,))

    def slots_with_leases(self) -> list[int]:
        rows = self._sql.execute("SELECT DISTINCT slot FROM leases ORDER BY slot")
        return [slot for (slot,) in rows]

    def revoke_slot(self, slot: int) -> None:
        rows = self._sql.execute("SELECT id FROM leases WHERE slot = ? ORDER BY id", (slot,))
        for (lease,) in rows.fetchall():
            self.revoke(lease)

    def close(self) -> None:
        self._sql.close()

    def _revision(self) -> Revision:
        return Revision(self._number("SELECT revision FROM store"))

    def _entry(self, key: str) -> Entry | None:
        row = self._sql.execute(
            "SELECT value, mod_revision FROM entries WHERE key = ?", (key,)
        ).fetchone()
        return Entry(*row) if row else None

    def _number(self, query: str, *arguments: int) -> int:
        return cast(int, self._sql.execute(query, arguments).fetchone()[0])


def _translated(error: sqlite3.Error, path: str) -> Exception:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    # A disk that is full: what was begun is rolled back, and may be asked for again.
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL):
        return StoreBusyError(f"{path}: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptionError(str(error), path=path)
    return StoreUnavailableError(f"{path}: {error}")
