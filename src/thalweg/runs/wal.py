"""SQLite's write-ahead log: leaving it when a run ends, and reading past it where it cannot be shared.

Processes that share a database in WAL mode share memory, so they must be on one machine, and must be allowed to write
beside it. Whoever is not reads a copy. A copy of database and log is whole if the log was not begun anew meanwhile:
what was written into the database while that was copied is in the log, and is put there again::

    log's header  →  copy the database  →  copy the log, whose header must be the same

Without the log a reader keeps whoever writes waiting. One that holds a snapshot when a run goes on is left with the
file that it has, and the run goes on in a copy (:func:`renew`). A few network file systems cannot share memory at all,
and so have no log; :data:`NOT_SHARED` is said there.

Source: https://www.sqlite.org/walformat.html (section 4.1: the salts of the header change when a log is begun anew)
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from thalweg.runs.files import replacing

PATIENCE = 5.0
"""s: so long the beginning and the end of a run wait for readers."""

NOT_SHARED = (
    "the file system of this folder has no shared memory, so whoever reads the history keeps it from being written "
    "meanwhile: programs other than Thalweg should read a copy of run.sqlite"
)

_HEADER = 32  # bytes, the salts among them
_TRIES = 20
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def switch(database: sqlite3.Connection, mode: str) -> bool:
    """Have a database be in a journal mode: ``"wal"``, or ``"delete"``, in which it is one plain file. A reader that
    holds a snapshot makes this wait for a while; the mode then stays, and is as complete.

    Returns:
        Whether it is in that mode.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            # One that has not looked into the log, which readers may have made, would leave it lying there.
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            found = database.execute(f"PRAGMA journal_mode = {mode}").fetchone()
            return bool(found == (mode,))  # a file system without shared memory has no WAL
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
        if time.monotonic() > end:
            return False
        time.sleep(0.01)


def is_busy(error: Exception) -> bool:
    """Whether it says that another connection has the database."""
    code = getattr(error, "sqlite_errorcode", None)  # which errors of Python's own module lack
    return isinstance(error, sqlite3.OperationalError) and code is not None and code & 0xFF in _BUSY


def renew(path: Path) -> None:
    """Put a copy in the place of a database without a log, which nobody writes: its readers keep what they have open,
    and whoever opens it from now on is not kept waiting by them.

    Raises:
        RunError: there is no room for it.
    """
    with open(path, "rb") as old, replacing(path) as new:
        shutil.copyfileobj(old, new)


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """A copy of a database and its log that is as it was at one moment, whoever writes it.

    Raises:
        OSError: it cannot be read, or is written faster than it can be copied.
    """
    log = log_of(path)
    with tempfile.TemporaryDirectory(prefix="thalweg-") as folder:
        copy = Path(folder) / path.name
        for _ in range(_TRIES):
            before = _mark(path, log)
            shutil.copyfile(path, copy)
            log_of(copy).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(log, log_of(copy))
            if before == (_mark(copy, log_of(copy)) if log_of(copy).exists() else _mark(path, log)):
                yield copy
                return
        raise OSError("it is written faster than it can be copied")


def log_of(path: Path) -> Path:
    """Where the log of a database is, if there is one."""
    return path.with_name(f"{path.name}-wal")


def _mark(path: Path, log: Path) -> Any:
    """What changes when the database is changed otherwise than through the present log."""
    try:
        with open(log, "rb") as file:
            return file.read(_HEADER)
    except FileNotFoundError:
        status = path.stat()
        return status.st_size, status.st_mtime_ns
