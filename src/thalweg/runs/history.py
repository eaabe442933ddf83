"""The history of a run in SQLite: written by the run, readable by anybody at any time.

Tables: ``iterations`` (one row each committed step), ``events`` (what else happened), ``facts`` (about the run),
and of a search ``candidates`` (what was tried) and ``evaluations`` (what came of it, sample by sample).

While a run is active the database is in WAL mode: readers see the last committed state and never wait for the
writer, nor the writer for them; a torn write at the end of the log fails its checksum and is ignored by
SQLite. ``synchronous`` is FULL: a row that was flushed is on the disk, also when the power fails. When the
run ends the database goes back to DELETE mode and is one plain file, which reads from a read-only folder,
too. Who cannot share the log, on another machine or where nothing may be written, reads a copy
(:mod:`thalweg.runs.wal`).

A commit that waits for the disk takes milliseconds, so a thread of the writer's own does it, and rows that
come meanwhile go into the next one. :meth:`HistoryWriter.flush` waits until everything is on the disk.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray
from pydantic_core import to_json

from thalweg.errors import RunError
from thalweg.runs import tables, wal
from thalweg.runs.evaluation import Evaluation
from thalweg.runs.folder import RunFolder
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.lock import WriterLock

_INSERT_ITERATION = "INSERT INTO iterations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_EVENT = "INSERT INTO events (time, kind, iteration, text, details) VALUES (?, ?, ?, ?, ?)"
_INSERT_CANDIDATE = "INSERT OR REPLACE INTO candidates VALUES (?, ?, ?, ?)"
_INSERT_EVALUATION = f"INSERT OR REPLACE INTO evaluations VALUES ({', '.join('?' * len(fields(Evaluation)))})"

T = TypeVar("T")


class HistoryWriter:
    """The one writer of a run's history.

    Args:
        path: the database; it is made if it is not there.
        facts: by name, what a history that is made has from its first moment on.
        guard: called in the thread before each commit; its RunError is raised instead.

    Raises:
        RunError: it cannot be opened, or something that was handed in before could not be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from thalweg.runs.history import History, HistoryWriter
        >>> from thalweg.runs.iteration import IterationRecord
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with HistoryWriter(Path(folder) / "run.sqlite") as writer:
        ...         writer.iteration(IterationRecord(1, 0, 1, items=2, loss=6.0, batch=(0, 1), seconds=0.5))
        ...     History(Path(folder) / "run.sqlite").iterations()["misfit"]
        array([3.])
    """

    def __init__(
        self, path: Path, facts: Mapping[str, Any] | None = None, guard: Callable[[], None] = lambda: None
    ) -> None:
        self._path = path
        self._guard = guard
        self._facts = dict(facts or {})
        self._changed = threading.Condition()
        self._rows: list[tuple[str, tuple[Any, ...]]] = []
        self._handed = self._settled = 0  # rows that came in, and of which it is known what became of them
        self._busy = False
        self._error: Exception | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="thalweg-history")
        self._database: sqlite3.Connection | None = None
        self.shared = False
        """Whether readers never keep it waiting: nearly everywhere; see :data:`thalweg.runs.wal.NOT_SHARED`."""
        try:
            self._thread.submit(self._open).result()
        except (sqlite3.Error, OSError, tables.ForeignError, RunError) as error:
            self._thread.shutdown()
            raise RunError(f"The history {path} cannot be opened: {str(error).rstrip('.')}.") from error

    def iteration(self, record: IterationRecord) -> None:
        """Record a committed step; does not wait for the disk.

        Raises:
            ValueError: a number is not finite: nobody could read the history any more.
        """
        r = record
        if not (math.isfinite(r.loss) and math.isfinite(r.seconds) and all(map(math.isfinite, r.metrics.values()))):
            found = f"loss {r.loss!r} after {r.seconds!r} s, metrics {r.metrics!r}"
            raise ValueError(f"iteration {r.iteration}: {found}; give finite numbers")
        metrics, batch = _json(r.metrics), _json(r.batch)
        row = (r.iteration, r.block, r.epoch, r.items, r.loss, r.misfit, metrics, batch, r.seconds)
        self._add(_INSERT_ITERATION, row)

    def event(self, kind: str, text: str, *, iteration: int = 0, details: dict[str, Any] | None = None) -> None:
        """Record something that happened, such as ``"started"`` or ``"failed"``; does not wait for the
        disk."""
        self._add(_INSERT_EVENT, (time.time(), kind, iteration, _utf8(text), json.dumps(details or {})))

    def fact(self, name: str, value: Any) -> None:
        """Record a JSON value about the run under a name; does not wait for the disk."""
        self._add(tables.INSERT_FACT, (name, json.dumps(value)))

    def forget_fact(self, name: str) -> None:
        """Take a fact out, if it is there; does not wait for the disk."""
        self._add(tables.DELETE_FACT, (name,))

    def candidate(self, number: int, iteration: int, origin: str, values: dict[str, Any]) -> None:
        """Record what a search tries; does not wait for the disk."""
        self._add(_INSERT_CANDIDATE, (number, iteration, origin, json.dumps(values, allow_nan=False)))

    def evaluation(self, row: Evaluation, *, soon: bool = False) -> None:
        """Record an evaluation that begins, or what came of it; does not wait for the disk. One that is to be there
        ``soon`` is committed with the next row, which is about to come, or by :meth:`flush`."""
        cells = tuple(_utf8(v) if isinstance(v, str) else v for v in row.cells())
        self._add(_INSERT_EVALUATION, cells, soon=soon)

    def forget_after(self, iteration: int) -> int:
        """Take out what is known of later iterations: they will be computed again. Evaluations stay, which are paid
        for. Waits for the disk.

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
            self._database.execute("DELETE FROM events WHERE kind = 'failed_item' AND iteration > ?", (iteration,))
            self._database.execute("DELETE FROM candidates WHERE iteration > ?", (iteration,))
            cursor = self._database.execute("DELETE FROM iterations WHERE iteration > ?", (iteration,))
            return cursor.rowcount

        try:
            return self._thread.submit(forget).result()
        except sqlite3.Error as error:
            raise RunError(f"The history {self._path} cannot be written: {error}.") from error

    def flush(self) -> None:
        """Wait until everything that was handed in before this call is on the disk.

        Raises:
            RunError: something could not be written.
        """
        with self._changed:
            asked = self._handed
            self._begin()  # when rows came in there may have been no thread to be had
            self._changed.wait_for(lambda: self._settled >= asked or not self._busy)
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
        self._database, self.shared = tables.open_to_write(self._path, self._facts)

    def _shut(self) -> None:
        database, self._database = self._database, None
        assert database is not None
        with closing(database), contextlib.suppress(sqlite3.Error):
            wal.switch(database, "delete")

    def _add(self, statement: str, row: tuple[Any, ...], *, soon: bool = False) -> None:
        self._check()
        with self._changed:
            self._rows.append((statement, row))
            self._handed += 1
            if not soon:
                self._begin()

    def _begin(self) -> None:
        if self._rows and not self._busy and self._error is None:
            self._thread.submit(self._commit)
            self._busy = True

    def _check(self) -> None:
        if isinstance(self._error, RunError):
            raise RunError(str(self._error)) from None
        if self._error is not None:
            cure = "make room or mend the disk"
            if wal.is_busy(self._error):
                cure = "end the program that has it open, and resume the run"
            raise RunError(
                f"The history {self._path} cannot be written: {self._error}. What was written before is "
                f"readable; {cure}."
            ) from self._error

    def _commit(self) -> None:
        database = self._database
        assert database is not None
        while True:
            with self._changed:
                rows, self._rows = self._rows, []
                if not rows or self._error is not None:
                    self._busy = False
                    self._changed.notify_all()
                    return
            try:
                self._guard()
                database.execute("BEGIN IMMEDIATE")
                for statement, row in rows:
                    database.execute(statement, row)
                database.execute("COMMIT")
            except Exception as error:  # carried to the next call of the run, which raises it
                self._error = error
                with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back itself
                    database.execute("ROLLBACK")
            with self._changed:
                self._settled += len(rows)
                self._changed.notify_all()


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
            place = path.parent if path.name == "run.sqlite" else path
            raise RunError(f"There is no history {self.path}; is {place} the folder of a run?")

    def iterations(self) -> dict[str, NDArray[Any]]:
        """One array a column, one entry a committed step.

        The columns are ``iteration``, ``block``, ``epoch``, ``items`` (int64, shape (n,)), ``loss``,
        ``misfit`` (the loss an item) and ``seconds`` (float64), and one a metric, NaN where an iteration did
        not log it.
        """
        return self._read(lambda database: _columns(database, tables.ITERATIONS))

    def batches(self) -> list[list[int]]:
        """The indices of the items of each iteration."""
        query = "SELECT batch FROM iterations ORDER BY iteration"
        return self._read(lambda database: tables.batches_of(tables.rows(database, query)))

    def events(self) -> list[dict[str, Any]]:
        """What else happened, in order: ``time`` (Unix), ``kind``, ``iteration``, ``text``, ``details``."""
        return self._read(lambda database: tables.events_of(tables.rows(database, tables.EVENTS)))

    def facts(self) -> dict[str, Any]:
        """What is known about the run, by name, such as the folder of its study and the versions it ran
        with."""
        return self._read(lambda database: tables.facts_of(tables.rows(database, tables.FACTS)))

    def candidates(self) -> list[dict[str, Any]]:
        """What a search has tried, in order: ``number``, ``iteration``, ``origin``, ``values`` by variable name."""
        return self._read(lambda database: tables.candidates_of(_later(database, "candidates", tables.CANDIDATES)))

    def evaluations(self) -> list[Evaluation]:
        """Each candidate on each sample, in the order in which they began."""
        return self._read(lambda database: tables.evaluations_of(_later(database, "evaluations", tables.EVALUATIONS)))

    def moment(self, *, last: int | None = None) -> Moment:
        """Iterations, events and facts that belong together, however busy the writer is.

        Args:
            last: so many of the newest iterations; by default all.
        """
        query = tables.ITERATIONS
        if last is not None:
            query = f"SELECT * FROM ({query} DESC LIMIT {int(last)}) ORDER BY iteration"

        def ask(database: sqlite3.Connection) -> Moment:
            return Moment(
                _columns(database, query),
                tables.events_of(tables.rows(database, tables.EVENTS)),
                tables.facts_of(tables.rows(database, tables.FACTS)),
            )

        return self._read(ask)

    def writer_alive(self) -> bool | None:
        """Whether the process that writes it lives, from the lock on the run's folder; None where the file
        system cannot say. A run whose summary says "running" and whose writer is not alive was killed."""
        return RunFolder(self.path.parent).writer_alive()

    def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._is_written_elsewhere():
                return self._ask_a_copy(ask)
            try:
                with tables.open_to_read(self.path) as database:
                    return ask(database)
            except sqlite3.OperationalError:
                # The log of a killed run needs a writable folder to be read along.
                return self._ask_a_copy(ask)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise RunError(
                f"The history {self.path} cannot be read: {error}. It is damaged, or of something else than a run."
            ) from error

    def _is_written_elsewhere(self) -> bool:
        """Whether another machine may be writing it, with which no memory can be shared."""
        lock = WriterLock(RunFolder(self.path.parent).lock)
        return wal.log_of(self.path).exists() and lock.is_elsewhere() and lock.is_held() is not False

    def _ask_a_copy(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        with wal.copied(self.path) as copy, tables.open_to_read(copy) as database:
            return ask(database)


def _utf8(text: str) -> str:
    """A text that a database can hold: the name of a file may have bytes that are no UTF-8, which are escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _columns(database: sqlite3.Connection, query: str) -> dict[str, NDArray[Any]]:
    return tables.columns_of(tables.rows(database, query), tables.size_of(database))


def _later(database: sqlite3.Connection, table: str, query: str) -> list[tuple[Any, ...]]:
    return [] if table in tables.check_tables(database) else tables.rows(database, query)


def _json(value: Any) -> str:
    """As JSON text, of what has finite numbers only; a tenth of the time that the standard library takes."""
    try:
        return to_json(value).decode()
    except ValueError:  # half a character in a name: UTF-8 has none, but JSON has escapes
        return json.dumps(value)
