"""The tables of a history, how they are made, and how their rows are read: they may be damaged, or somebody else's.

A database can do more than hold rows. A view in the place of a table computes for ever, a trigger changes what is
written, and a tree of twenty damaged pages says that it has more rows than there are atoms. So the tables must be,
word for word, the ones that we make, nothing else may be in the database, and what is read may not be more than the
file can hold.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.checkpoints.files import flush_folder
from thalweg.errors import RunError
from thalweg.runs import wal
from thalweg.runs.evaluation import Evaluation

TABLES = {
    "facts": "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "iterations": """CREATE TABLE iterations (
    iteration INTEGER PRIMARY KEY, block INTEGER NOT NULL, epoch INTEGER NOT NULL,
    items INTEGER NOT NULL, loss REAL NOT NULL, misfit REAL NOT NULL,
    metrics TEXT NOT NULL, batch TEXT NOT NULL, seconds REAL NOT NULL)""",
    "events": """CREATE TABLE events (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, kind TEXT NOT NULL,
    iteration INTEGER NOT NULL, text TEXT NOT NULL, details TEXT NOT NULL)""",
    "candidates": """CREATE TABLE candidates (
    number INTEGER PRIMARY KEY, iteration INTEGER NOT NULL, origin TEXT NOT NULL, tried TEXT NOT NULL)""",
    "evaluations": """CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY, iteration INTEGER NOT NULL, candidate INTEGER NOT NULL, key TEXT NOT NULL,
    item INTEGER NOT NULL, stage TEXT NOT NULL, status TEXT NOT NULL, reward REAL, feedback TEXT NOT NULL,
    tokens INTEGER NOT NULL, money REAL NOT NULL, seconds REAL NOT NULL, error TEXT NOT NULL)""",
}
LATER = ("candidates", "evaluations")
"""Tables that a history of version 0.1 does not have."""

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

ITERATIONS = f"SELECT {', '.join(COLUMNS)}, metrics FROM iterations ORDER BY iteration"
EVENTS = "SELECT time, kind, iteration, text, details FROM events ORDER BY id"
FACTS = "SELECT name, value FROM facts ORDER BY name"

CANDIDATES = "SELECT number, iteration, origin, tried FROM candidates ORDER BY number"
EVALUATIONS = f"SELECT {', '.join(field.name for field in fields(Evaluation))} FROM evaluations ORDER BY id"

_OWN = {("table", name): text for name, text in TABLES.items()} | {("index", "sqlite_autoindex_facts_1"): None}
_LEAST_ROW = 4
"""Bytes that a row has on the disk at least."""
_LARGEST_TABLE = 1 << 25
"""Bytes of metrics, most of them NaN, that even a small file may come to."""
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")


INSERT_FACT = "INSERT OR REPLACE INTO facts VALUES (?, ?)"
DELETE_FACT = "DELETE FROM facts WHERE name = ?"


class ForeignError(ValueError):
    """The database is not what a run writes."""


def harden(database: sqlite3.Connection) -> None:
    """Trust nothing that a database says about itself."""
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")


def make(path: Path, facts: Mapping[str, Any]) -> None:
    """Make a history beside its place: readers find none, or one with its tables and facts.

    Args:
        path: where.
        facts: JSON values by name.

    Raises:
        OSError: it cannot be made.
        sqlite3.Error: the same.
    """
    new = path.with_name(f".{path.name}.new")
    for left in ("", "-journal"):  # by a process that was killed here
        new.with_name(new.name + left).unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(new, isolation_level=None)) as database:
            database.execute("BEGIN")
            for text in TABLES.values():
                database.execute(text)
            for name, value in facts.items():
                database.execute(INSERT_FACT, (name, json.dumps(value)))
            database.execute("COMMIT")
        os.replace(new, path)
        flush_folder(path.parent)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def check_tables(database: sqlite3.Connection) -> list[str]:
    """Refuse a database that holds anything but our tables.

    Returns:
        The names of those of :data:`LATER` that it does not have.

    Raises:
        ForeignError: it does, or lacks one of them.
        sqlite3.Error: it is none, or damaged.
    """
    found = {}
    for kind, name, text in database.execute("SELECT type, name, sql FROM sqlite_master"):
        if (kind, name) not in _OWN or text != _OWN[kind, name]:
            raise ForeignError(f"it has a {kind!s:.20} {name!r:.60} that no run makes")
        found[kind, name] = text
    missing = [name for key, name in _OWN if (key, name) not in found]
    for name in missing:
        if name not in LATER:
            raise ForeignError(f"it has no {name}")
    return missing


def check_journal(path: Path) -> None:
    """Refuse a journal that names another file, which SQLite would remove. Ours never do.

    Raises:
        ForeignError: there is one.
        OSError: it cannot be read.
    """
    journal = path.with_name(f"{path.name}-journal")
    if journal.is_file():
        with open(journal, "rb") as file:
            file.seek(max(0, journal.stat().st_size - len(_SUPER_JOURNAL)))
            if file.read() == _SUPER_JOURNAL:
                raise ForeignError(f"{journal.name} names another file")


@contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write, in a transaction: everything that is asked sees the same state."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0)
    try:
        harden(database)
        database.execute("BEGIN")
        check_tables(database)
        yield database
    finally:
        database.close()


def open_to_write(path: Path, facts: Mapping[str, Any]) -> tuple[sqlite3.Connection, bool]:
    """A connection for the one writer, in WAL mode; the database is made if it is not there.

    Args:
        path: where.
        facts: by name, what a database that is made has from its first moment on.

    Returns:
        The connection, and whether readers never keep it waiting; see :data:`thalweg.runs.wal.NOT_SHARED`.

    Raises:
        ForeignError: it is not what a run writes.
        OSError: it cannot be made or read.
        RunError: there is no room.
        sqlite3.Error: it is damaged.
    """
    if path.is_symlink():
        raise ForeignError("it is a symbolic link, and would be written elsewhere")
    if path.exists():
        check_journal(path)
    else:
        make(path, facts)
    database, shared = _connect(path)
    if not shared and not wal.log_of(path).exists():  # a reader holds it, or there is no log here
        database.close()
        wal.renew(path)
        database, shared = _connect(path)
    try:
        for name in check_tables(database):
            database.execute(TABLES[name])
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA cache_size = -256")  # KiB: rows come at the end, and 2 MB would fill with the run
    except BaseException:
        database.close()
        raise
    return database, shared


def _connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    try:
        harden(database)
        check_tables(database)
        return database, wal.switch(database, "wal")
    except BaseException:
        database.close()
        raise


def rows(database: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query of ours.

    Raises:
        ForeignError: there are more than the file can hold.
    """
    left = size_of(database)
    found: list[tuple[Any, ...]] = []
    cursor = database.execute(query)
    while some := cursor.fetchmany(256):
        left -= sum(_LEAST_ROW + sum(len(v) for v in row if isinstance(v, str | bytes)) for row in some)
        if left < 0:
            raise ForeignError("it has more rows than there is room for in its file")
        found += some
    return found


def size_of(database: sqlite3.Connection) -> int:
    """Bytes of a database, as the present transaction sees it."""
    (pages,), (size,) = (database.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
    return int(pages) * int(size)


def columns_of(rows: list[tuple[Any, ...]], size: int) -> dict[str, NDArray[Any]]:
    """One array a column, one entry an iteration.

    Args:
        rows: of :data:`ITERATIONS`.
        size: of the file, bytes.

    Raises:
        ForeignError: they are not what a run writes.
    """
    columns: dict[str, NDArray[Any]] = {}
    for place, (name, dtype) in enumerate(COLUMNS.items()):
        kinds = (int,) if dtype is np.int64 else (int, float)
        if not all(type(row[place]) in kinds for row in rows):
            raise ForeignError(f"an iteration's {name} is no number")
        columns[name] = np.array([row[place] for row in rows], dtype)
        if not np.isfinite(columns[name]).all():
            raise ForeignError(f"an iteration's {name} is not finite")
    if not np.all(np.diff(columns["iteration"]) > 0):
        raise ForeignError("an iteration comes twice")
    metrics = [document(row[-1]) for row in rows]
    for entry in metrics:
        if not isinstance(entry, dict) or not all(map(_is_finite, entry.values())):
            raise ForeignError("an iteration's metrics are no finite numbers by name")
    names = [name for name in dict.fromkeys(name for entry in metrics for name in entry) if name not in COLUMNS]
    if 8 * len(names) * len(rows) > 2 * size + _LARGEST_TABLE:
        raise ForeignError(f"it has {len(names)} metrics, hardly one of which two iterations have")
    for name in names:
        columns[name] = np.array([entry.get(name, math.nan) for entry in metrics], np.float64)
    return columns


def batches_of(rows: list[tuple[Any, ...]]) -> list[list[int]]:
    """The items of each iteration, from the texts.

    Raises:
        ForeignError: they are not what a run writes.
    """
    found = [document(row[0]) for row in rows]
    for batch in found:
        if not isinstance(batch, list) or not all(type(item) is int for item in batch):
            raise ForeignError("an iteration's batch is no list of items")
    return found


def events_of(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Events, from the rows of :data:`EVENTS`.

    Raises:
        ForeignError: they are not what a run writes.
    """
    kinds = {"time": (int, float), "kind": (str,), "iteration": (int,), "text": (str,), "details": (dict,)}
    found = []
    for row in rows:
        event = dict(zip(kinds, (*row[:-1], document(row[-1])), strict=True))
        for name, allowed in kinds.items():
            if type(event[name]) not in allowed:
                raise ForeignError(f"an event's {name} is a {type(event[name]).__name__}")
        if not _is_finite(event["time"]):
            raise ForeignError("an event has no time")
        found.append(event)
    return found


def facts_of(rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Facts, from the rows of :data:`FACTS`.

    Raises:
        ForeignError: they are not what a run writes.
    """
    if not all(isinstance(name, str) for name, _ in rows):
        raise ForeignError("a fact has no name")
    return {name: document(value) for name, value in rows}


def candidates_of(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """What a search has tried, from the rows of :data:`CANDIDATES`.

    Raises:
        ForeignError: they are not what a run writes.
    """
    kinds = {"number": int, "iteration": int, "origin": str, "values": dict}
    found = [dict(zip(kinds, (*row[:-1], document(row[-1])), strict=True)) for row in rows]
    for candidate in found:
        for name, kind in kinds.items():
            if type(candidate[name]) is not kind:
                raise ForeignError(f"a candidate's {name} is a {type(candidate[name]).__name__}")
    return found


def evaluations_of(rows: list[tuple[Any, ...]]) -> list[Evaluation]:
    """Evaluations, from the rows of :data:`EVALUATIONS`.

    Raises:
        ForeignError: they are not what a run writes.
    """
    try:
        return [Evaluation(*row) for row in rows]
    except RunError as error:
        raise ForeignError(str(error)) from error


def document(text: Any) -> Any:
    """The document of a JSON text in a row.

    Raises:
        ForeignError: it is none.
    """
    if not isinstance(text, str):
        raise ForeignError(f"it has a {type(text).__name__} where JSON belongs")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ForeignError(f"it has a text that is no JSON: {error!s:.80}") from error


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False
