"""The SQLite file that answers are kept in: made, opened, and known when it is damaged or somebody else's."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from thalweg.errors import CheckpointCorruptError, CheckpointVersionError

FILE = "answers.sqlite"
VERSION = 1
APPLICATION = 0x74776C6D  # "twlm", in SQLite's header: this file is one of ours
HEADER = b"SQLite format 3\0"
PATIENCE = 30.0  # s that a commit of another process may take

_TABLES = """
CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE flights (
  id TEXT PRIMARY KEY, session TEXT NOT NULL, key TEXT NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL,
  lost INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""

# Not there in the first files; whoever does not know it asks again, and the server refuses again.
_STAND_INS = """
CREATE TABLE IF NOT EXISTS stand_ins (key TEXT PRIMARY KEY, other TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID
"""


def connect(file: Path) -> sqlite3.Connection:
    """A connection whose commits are on the disk.

    Raises:
        sqlite3.DatabaseError: the file is none of SQLite's, or was cut off.
    """
    with contextlib.suppress(FileNotFoundError), file.open("rb") as found:
        head = found.read(32)
        if head and head[:16] != HEADER:  # SQLite would take a very short file for a new one
            raise sqlite3.DatabaseError("file is not a database")
        # A file that was cut off reads as zeros there, so that answers would be missing without a word. While there is
        # a log, the file may be shorter than it says.
        size = int.from_bytes(head[16:18], "big") * int.from_bytes(head[28:32], "big")
        if head and os.fstat(found.fileno()).st_size < size and not file.with_name(f"{FILE}-wal").exists():
            raise sqlite3.DatabaseError(f"it should have {size} bytes, and was cut off")
    connection = sqlite3.connect(file, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, file: Path) -> None:
    """Make the tables that are not there, and look at all of the file.

    Raises:
        CheckpointCorruptError: it is somebody else's.
        CheckpointVersionError: a newer version of Thalweg made it.
        sqlite3.DatabaseError: it is damaged.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if application == 0 and tables == 0:
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif application != APPLICATION:
            raise CheckpointCorruptError(
                f"{file} is no file of answers; name another folder.", file=str(file), entry=None
            )
        elif version > VERSION:
            raise CheckpointVersionError(
                f"{file} has version {version}; this version of Thalweg reads {VERSION}: update Thalweg.",
                file=str(file),
                format=str(version),
            )
        connection.execute(_STAND_INS)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if fault != "ok":
        raise sqlite3.DatabaseError(str(fault))
