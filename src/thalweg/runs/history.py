"""The history of a run in SQLite: written by the run, readable by anybody at any time.

Tables: ``iterations`` (one row each committed step), ``events`` (what else happened) and ``facts`` (about the
run).

While a run is active the database is in WAL mode: readers see the last committed state and never wait for the
writer, nor the writer for them; a torn write at the end of the log fails its checksum and is ignored by
SQLite. ``synchronous`` is FULL: a row that was flushed is on the disk, also when the power fails. When the
run ends the database goes back to DELETE mode and is one plain file, which reads from a read-only folder,
too.

A commit that waits for the disk takes milliseconds, so a thread of the writer's own does it, and rows that
come meanwhile go into the next one. :meth:`HistoryWriter.flush` waits until everything is on the disk.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RunError
from thalweg.runs.folder import RunFolder

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS iterations (
    iteration INTEGER PRIMARY KEY, block INTEGER NOT NULL, epoch INTEGER NOT NULL,
    items INTEGER NOT NULL, loss REAL NOT NULL, misfit REAL NOT NULL,
    metrics TEXT NOT NULL, batch TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, kind TEXT NOT NULL,
    iteration INTEGER NOT NULL, text TEXT NOT NULL, details TEXT NOT NULL);
"""
_INSERT_ITERATION = "INSERT INTO iterations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_EVENT = "INSERT INTO events (time, kind, iteration, text, details) VALUES (?, ?, ?, ?, ?)"
_INSERT_FACT = "INSERT OR REPLACE INTO facts VALUES (?, ?)"

COLUMNS: dict[str, type[np.generic]] = {
    "iteration": np.int64,
    "block": np.int64,
    "epoch": np.int64,
    "items": np.int64,
    "loss": np.float64,
    "misfit": np.float64,
    "seconds": np.float64,
}
"""The columns that every iteration has; metrics come besides and may not have these names."""

_ITERATIONS = f"SELECT {', '.join(COLUMNS)}, metrics FROM iterations ORDER BY iteration"
_EVENTS = "SELECT time, kind, iteration, text, details FROM events ORDER BY id"
_FACTS = "SELECT name, value FROM facts ORDER BY name"


@dataclass(frozen=True)
class IterationRecord:
    """One committed step.

    Args:
        iteration: from 1.
        block: from 0.
        epoch: passes through the data that were begun.
        items: number of items in the batch.
        loss: the batch's loss before the step.
        metrics: finite numbers by name: those of the feedback, of the problem after the step, and of the
            optimizer.
        batch: the indices of the items.
        seconds: since the run began, at the end of the step.
    """

    iteration: int
    block: int
    epoch: int
    items: int
    loss: float
    batch: tuple[int, ...]
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def misfit(self) -> float:
        """The loss an item, which can be compared between batches of different sizes."""
        return self.loss / self.items


class HistoryWriter:
    """The one writer of a run's history.

    Args:
        path: the database; it is made if it is not there.

    Raises:
        RunError: it cannot be opened, or something that was handed in before could not be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from thalweg.runs.history import History, HistoryWriter, IterationRecord
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with HistoryWriter(Path(folder) / "run.sqlite") as writer:
        ...         writer.iteration(IterationRecord(1, 0, 1, items=2, loss=6.0, batch=(0, 1), seconds=0.5))
        ...     History(Path(folder) / "run.sqlite").iterations()["misfit"]
        array([3.])
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._rows: list[tuple[str, tuple[Any, ...]]] = []
        self._job: Future[None] | None = None
        self._error: Exception | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="thalweg-history")
        self._database: sqlite3.Connection | None = None
        try:
            self._thread.submit(self._open).result()
        except (sqlite3.Error, OSError) as error:
            self._thread.shutdown()
            raise RunError(f"The history {path} cannot be opened: {error}.") from error

    def iteration(self, record: IterationRecord) -> None:
        """Record a committed step; does not wait for the disk."""
        r = record
        metrics, batch = json.dumps(r.metrics, allow_nan=False), json.dumps(r.batch)
        row = (r.iteration, r.block, r.epoch, r.items, r.loss, r.misfit, metrics, batch, r.seconds)
        self._add(_INSERT_ITERATION, row)

    def event(self, kind: str, text: str, *, iteration: int = 0, details: dict[str, Any] | None = None) -> None:
        """Record something that happened, such as ``"started"`` or ``"failed"``; does not wait for the
        disk."""
        self._add(_INSERT_EVENT, (time.time(), kind, iteration, text, json.dumps(details or {})))

    def fact(self, name: str, value: Any) -> None:
        """Record a JSON value about the run under a name; does not wait for the disk."""
        self._add(_INSERT_FACT, (name, json.dumps(value)))

    def forget_after(self, iteration: int) -> int:
        """Take out what is known of later iterations: they will be computed again. Waits for the disk.

        Args:
            iteration: the last that stays.

        Returns:
            How many were taken out.

        Raises:
            RunError: it could not be written.
        """
        self.flush()

        def forget() -> int:
            assert self._database is not None
            cursor = self._database.execute("DELETE FROM iterations WHERE iteration > ?", (iteration,))
            return cursor.rowcount

        try:
            return self._thread.submit(forget).result()
        except sqlite3.Error as error:
            raise RunError(f"The history {self._path} cannot be written: {error}.") from error

    def flush(self) -> None:
        """Wait until everything handed in is on the disk.

        Raises:
            RunError: something could not be written.
        """
        while True:
            with self._lock:
                job = self._job
            if job is None:
                break
            job.result()
        self._check()

    def close(self) -> None:
        """Write the rest, go back to DELETE mode, so that the database is one file, and close it; may be
        repeated."""
        if self._database is None:
            return
        try:
            self.flush()
        finally:
            self._thread.submit(self._shut).result()
            self._thread.shutdown()

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        if not self._path.exists():
            # Made beside its place: readers find no history, or one with its tables.
            new = self._path.with_name(f".{self._path.name}.new")
            new.unlink(missing_ok=True)
            with closing(sqlite3.connect(new, isolation_level=None)) as database:
                database.executescript(_SCHEMA)
            os.replace(new, self._path)
        self._database = database = sqlite3.connect(self._path, isolation_level=None, timeout=10.0)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(_SCHEMA)

    def _shut(self) -> None:
        database, self._database = self._database, None
        assert database is not None
        try:
            # A reader that holds a snapshot makes this wait, at last fail; WAL mode then stays, and is as
            # complete.
            database.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError:
            pass
        finally:
            database.close()

    def _add(self, statement: str, row: tuple[Any, ...]) -> None:
        self._check()
        with self._lock:
            self._rows.append((statement, row))
            if self._job is None:
                self._job = self._thread.submit(self._commit)

    def _check(self) -> None:
        if self._error is not None:
            raise RunError(
                f"The history {self._path} cannot be written: {self._error}. What was written before is "
                "readable; make room or mend the disk."
            ) from self._error

    def _commit(self) -> None:
        database = self._database
        assert database is not None
        while True:
            with self._lock:
                rows, self._rows = self._rows, []
                if not rows or self._error is not None:
                    self._job = None
                    return
            try:
                database.execute("BEGIN IMMEDIATE")
                for statement, row in rows:
                    database.execute(statement, row)
                database.execute("COMMIT")
            except Exception as error:  # carried to the next call of the run, which raises it
                self._error = error
                if database.in_transaction:
                    database.execute("ROLLBACK")


@dataclass(frozen=True)
class Moment:
    """A history as it was at one moment: what :meth:`History.moment` read in one transaction.

    Args:
        iterations: as :meth:`History.iterations` has them.
        events: as :meth:`History.events` has them.
        facts: as :meth:`History.facts` has them.
    """

    iterations: dict[str, NDArray[Any]]
    events: list[dict[str, Any]]
    facts: dict[str, Any]


class History:
    """The history of a run, for reading: while it runs, after it ended, or from a read-only folder.

    Args:
        path: the database, or the run's folder.

    Raises:
        RunError: there is none.

    Every method reads the state of that moment. Nothing is held open between calls.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self.path = path / "run.sqlite" if path.is_dir() else path
        if not self.path.is_file():
            raise RunError(f"There is no history {self.path}; is {path} the folder of a run?")

    def iterations(self) -> dict[str, NDArray[Any]]:
        """One array a column, one entry a committed step.

        The columns are ``iteration``, ``block``, ``epoch``, ``items`` (int64, shape (n,)), ``loss``,
        ``misfit`` (the loss an item) and ``seconds`` (float64), and one a metric, NaN where an iteration did
        not log it.
        """
        (rows,) = self._read(_ITERATIONS)
        return _columns(rows)

    def batches(self) -> list[list[int]]:
        """The indices of the items of each iteration."""
        (rows,) = self._read("SELECT batch FROM iterations ORDER BY iteration")
        return [json.loads(row[0]) for row in rows]

    def events(self) -> list[dict[str, Any]]:
        """What else happened, in order: ``time`` (Unix), ``kind``, ``iteration``, ``text``, ``details``."""
        (rows,) = self._read(_EVENTS)
        return _events(rows)

    def facts(self) -> dict[str, Any]:
        """What is known about the run, by name, such as the folder of its study and the versions it ran
        with."""
        (rows,) = self._read(_FACTS)
        return {name: json.loads(value) for name, value in rows}

    def moment(self, *, last: int | None = None) -> Moment:
        """Iterations, events and facts that belong together, however busy the writer is.

        Args:
            last: so many of the newest iterations; by default all.
        """
        newest = f"SELECT * FROM ({_ITERATIONS} DESC LIMIT {last}) ORDER BY iteration" if last is not None else None
        rows, events, facts = self._read(newest or _ITERATIONS, _EVENTS, _FACTS)
        return Moment(_columns(rows), _events(events), {name: json.loads(value) for name, value in facts})

    def writer_alive(self) -> bool | None:
        """Whether the process that writes it lives, from the lock on the run's folder; None where the file
        system cannot say. A run whose summary says "running" and whose writer is not alive was killed."""
        return RunFolder(self.path.parent).writer_alive()

    def _read(self, *queries: str) -> list[list[tuple[Any, ...]]]:
        def ask(path: Path) -> list[list[tuple[Any, ...]]]:
            with _open_to_read(path) as database:
                database.execute("BEGIN")  # all of them see the same state
                return [database.execute(query).fetchall() for query in queries]

        try:
            return ask(self.path)
        except sqlite3.OperationalError:
            # The log of a killed run needs a writable folder to be read along; from a read-only one, read a
            # copy.
            return self._ask_a_copy(ask)
        except sqlite3.DatabaseError as error:
            raise RunError(f"The history {self.path} cannot be read: {error}.") from error

    def _ask_a_copy(self, ask: Callable[[Path], list[list[tuple[Any, ...]]]]) -> list[list[tuple[Any, ...]]]:
        with tempfile.TemporaryDirectory(prefix="thalweg-") as folder:
            try:
                for suffix in ("", "-wal"):
                    source = self.path.with_name(self.path.name + suffix)
                    if source.exists():
                        shutil.copyfile(source, Path(folder) / source.name)
                return ask(Path(folder) / self.path.name)
            except (sqlite3.DatabaseError, OSError) as error:
                raise RunError(f"The history {self.path} cannot be read: {error}.") from error


@contextmanager
def _open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0)
    try:
        yield database
    finally:
        database.close()


def _columns(rows: list[tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {
        name: np.array([row[place] for row in rows], dtype) for place, (name, dtype) in enumerate(COLUMNS.items())
    }
    metrics = [json.loads(row[-1]) for row in rows]
    names = dict.fromkeys(name for entry in metrics for name in entry)
    for name in [name for name in names if name not in COLUMNS]:
        columns[name] = np.array([entry.get(name, math.nan) for entry in metrics], np.float64)
    return columns


def _events(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    names = ("time", "kind", "iteration", "text", "details")
    return [dict(zip(names, (*row[:-1], json.loads(row[-1])), strict=True)) for row in rows]
