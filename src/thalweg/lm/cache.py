"""Answers on disk, by the content of the request: what was received once is never paid for again.

A folder with one SQLite file (WAL, every commit flushed to the disk) and a lock file for each process that uses it::

    before a request is sent     flights ← key, bound          on the disk
    its answer is there          answers ← key, answer, digest; flights → gone      one commit
    it failed for nothing        flights → gone
    nobody knows what it cost    flights → lost
    it stands for another one    stand_ins ← that one's key, key, digest                 with its answer

A process that dies leaves its requests in ``flights``: at most as many as it had under way. The next one that opens the
folder sees by the kernel's lock that the owner is dead, and counts them as lost, with their bounds. Writes that come at
the same time share one flush. An entry has a digest over key and answer: a flipped bit is found when it is read.

Locks need a local file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thalweg.checkpoints.manifest import digest
from thalweg.checkpoints.shared import Shared
from thalweg.errors import CheckpointCorruptError, LanguageModelError
from thalweg.lm.answers import Answer
from thalweg.lm.cache_file import FILE, connect, prepare
from thalweg.lm.spending import Usage

Operation = Callable[[sqlite3.Connection], Any]


class AnswerCache:
    """Keeps answers in a folder, which several processes may share.

    Args:
        folder: made if it is not there.

    Raises:
        LanguageModelError: the folder cannot be made or used.
        CheckpointCorruptError: its file is damaged, or somebody else's.
        CheckpointVersionError: a newer version of Thalweg made it.

    Example:
        >>> import tempfile, thalweg as tw
        >>> from thalweg.lm import Answer, AnswerCache, Usage
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with AnswerCache(folder) as cache:
        ...         flight = tw.wait(cache.begin("0" * 64, Usage(100, 10)))
        ...         kept = tw.wait(cache.keep(flight, "0" * 64, Answer("Four.", "stop", Usage(12, 2))))
        ...         cache.get("0" * 64).text, cache.get("1" * 64), cache.paid()
        ('Four.', None, (1, Usage(prompt=12, completion=2)))
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.file = self.folder / FILE
        self._session = secrets.token_hex(8)
        self._lock = threading.Lock()  # of writing
        self._reading = threading.Lock()
        self._jobs: deque[_Job] = deque()
        self._shared = Shared()
        lock = -1
        connection: sqlite3.Connection | None = None
        reader: sqlite3.Connection | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(self._lock_file(self._session))
            with self._damage():
                connection = connect(self.file)
                prepare(connection, self.file)
                _transact(connection, [_Job(self._bury)])
                reader = connect(self.file)  # beside it, so that nobody who reads waits for the disk
        except BaseException as error:
            _close((reader, connection), lock, self._lock_file(self._session))
            if isinstance(error, OSError | sqlite3.OperationalError):
                raise LanguageModelError(f"The answers cannot be kept in {self.folder}: {error}.") from error
            raise
        self._connection = connection
        self._reader = reader
        self._finalizer = weakref.finalize(self, _close, (reader, connection), lock, self._lock_file(self._session))

    # -- answers -------------------------------------------------------------------------

    def get(self, key: str) -> Answer | None:
        """The answer of a request, or that of the one that stands for it; None if there is none.

        Raises:
            CheckpointCorruptError: it is damaged; :meth:`drop` removes it, so that it is asked for, and paid, again.
        """
        with self._reading, self._damage():
            row = self._reader.execute("SELECT answer, digest FROM answers WHERE key = ?", (key,)).fetchone()
            other = self._reader.execute("SELECT other, digest FROM stand_ins WHERE key = ?", (key,)).fetchone()
        found = row or other
        if found is None:
            return None
        try:
            if _digest(key, found[0]) != found[1]:
                raise ValueError("its digest differs")
            return Answer.from_json(json.loads(found[0])) if row else self.get(found[0])
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointCorruptError(
                f"damaged answer: entry {key} of {self.file} ({error}); restore the file from a copy, or remove the "
                f"entry with AnswerCache({str(self.folder)!r}).drop({key!r}), and it is asked for, and paid, again.",
                file=str(self.file),
                entry=key,
            ) from error

    async def begin(self, key: str, most: Usage, *, flight: str | None = None) -> str:
        """Note that a request will be sent now.

        Args:
            key: of the request.
            most: its bound.
            flight: a name from :func:`flight_name`; a new one by default.

        Returns:
            The name of this flight, for :meth:`keep`, :meth:`end` or :meth:`lose`.
        """
        flight = flight_name() if flight is None else flight
        values = (flight, self._session, key, most.prompt, most.completion)
        await self._write(
            lambda c: c.execute(
                "INSERT INTO flights (id, session, key, prompt, completion) VALUES (?, ?, ?, ?, ?)", values
            )
        )
        return flight

    async def keep(self, flight: str, key: str, answer: Answer, *, stands_for: str | None = None) -> Answer:
        """Keep an answer; on the disk when this returns.

        Args:
            flight: as :meth:`begin` called it.
            key: of the request.
            answer: what is kept.
            stands_for: the key of another request, that the server refused, and that this is the answer of, too.

        Returns:
            What is kept: another process's answer, if that was first.
        """
        text = json.dumps(answer.to_json(), ensure_ascii=False, sort_keys=True)

        def all_of_it(connection: sqlite3.Connection) -> int:
            new = connection.execute(
                "INSERT OR IGNORE INTO answers (key, answer, digest) VALUES (?, ?, ?)", (key, text, _digest(key, text))
            ).rowcount
            if stands_for is not None:
                _stand_in(connection, key, stands_for)
            connection.execute("DELETE FROM flights WHERE id = ?", (flight,))
            return new

        new = await self._write(all_of_it)
        return answer if new else (self.get(key) or answer)

    async def stand_in(self, key: str, stands_for: str) -> None:
        """Note that the answer of a request is that of a refused one, too; as :meth:`keep` does with ``stands_for``."""
        await self._write(lambda c: _stand_in(c, key, stands_for))

    async def end(self, flight: str) -> None:
        """Note that a request cost nothing."""
        await self._write(lambda c: c.execute("DELETE FROM flights WHERE id = ?", (flight,)))

    async def lose(self, flight: str) -> None:
        """Note that a request was sent, and no answer will be known."""
        await self._write(lambda c: c.execute("UPDATE flights SET lost = 1 WHERE id = ?", (flight,)))

    def drop(self, key: str) -> None:
        """Remove an answer, so that it is asked for again."""
        jobs = [
            _Job(lambda c: c.execute("DELETE FROM answers WHERE key = ?", (key,))),
            _Job(lambda c: c.execute("DELETE FROM stand_ins WHERE key = ?", (key,))),
        ]
        with self._lock, self._damage():
            _transact(self._connection, jobs)

    # -- counts --------------------------------------------------------------------------

    def paid(self) -> tuple[int, Usage]:
        """How many answers are kept, and what they cost when they were received; lost requests not among them."""
        with self._reading, self._damage():
            rows = self._reader.execute(
                "SELECT COUNT(*), COALESCE(SUM(json_extract(answer, '$.usage.prompt')), 0), "
                "COALESCE(SUM(json_extract(answer, '$.usage.completion')), 0) FROM answers"
            ).fetchone()
        return int(rows[0]), Usage(int(rows[1]), int(rows[2]))

    def lost(self) -> tuple[int, Usage]:
        """How many requests were sent and never answered, and their bounds: nobody knows what they cost."""
        with self._reading, self._damage():
            rows = self._reader.execute(
                "SELECT COUNT(*), COALESCE(SUM(prompt), 0), COALESCE(SUM(completion), 0) FROM flights WHERE lost = 1"
            ).fetchone()
        return int(rows[0]), Usage(int(rows[1]), int(rows[2]))

    def close(self) -> None:
        """Give the file back; it can then be read from a read-only folder."""
        self._finalizer()

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"AnswerCache({str(self.folder)!r})"

    # -- inside --------------------------------------------------------------------------

    def _lock_file(self, session: str) -> Path:
        return self.folder / f"session-{session}.lock"

    def _bury(self, connection: sqlite3.Connection) -> None:
        """Count the requests of processes that died as lost."""
        sessions = connection.execute("SELECT DISTINCT session FROM flights WHERE lost = 0").fetchall()
        for (session,) in sessions:
            path = self._lock_file(str(session))
            if session != self._session and _is_free(path):
                connection.execute("UPDATE flights SET lost = 1 WHERE session = ?", (session,))
        for path in self.folder.glob("session-*.lock"):
            if path != self._lock_file(self._session) and _is_free(path):
                path.unlink(missing_ok=True)

    async def _write(self, operation: Operation) -> Any:
        job = _Job(operation)
        self._jobs.append(job)
        await self._shared(self._commit)
        if job.error is not None:
            raise job.error
        return job.result

    def _commit(self) -> None:
        """Commit every job that waits."""
        with self._lock:
            jobs = [self._jobs.popleft() for _ in range(len(self._jobs))]
            if not jobs:
                return
            try:
                with self._damage():
                    _transact(self._connection, jobs)
            except BaseException as error:
                for job in jobs:
                    job.error = error

    @contextlib.contextmanager
    def _damage(self) -> Any:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LanguageModelError(f"{self.file} cannot be used: {error}.") from error
        except sqlite3.ProgrammingError as error:
            raise LanguageModelError(f"{self!r} was closed; make a new one.") from error
        except sqlite3.DatabaseError as error:
            raise CheckpointCorruptError(
                f"damaged answers: {self.file} ({error}); restore it from a copy, or move it away, and everything is "
                "asked for, and paid, again.",
                file=str(self.file),
                entry=None,
            ) from error


def flight_name() -> str:
    """A new name for a request."""
    return secrets.token_hex(8)


class _Job:
    """One write, and what came of it."""

    __slots__ = ("error", "operation", "result")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.result: Any = None
        self.error: BaseException | None = None


def _stand_in(connection: sqlite3.Connection, key: str, stands_for: str) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO stand_ins (key, other, digest) VALUES (?, ?, ?)",
        (stands_for, key, _digest(stands_for, key)),
    )


def _digest(key: str, text: str) -> str:
    return digest(f"{key}\n{text}".encode())


def _transact(connection: sqlite3.Connection, jobs: list[_Job]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for job in jobs:
            result = job.operation(connection)
            job.result = None if isinstance(result, sqlite3.Cursor) else result
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BlockingIOError:
            pass  # somebody looks whether it is free, and will remove it
        os.close(descriptor)


def _is_free(path: Path) -> bool:
    """Whether no living process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _close(connections: tuple[sqlite3.Connection | None, ...], lock: int, lock_file: Path) -> None:
    *readers, writer = connections
    for reader in readers:
        if reader is not None:
            reader.close()
    if writer is not None:
        with contextlib.suppress(sqlite3.Error):
            writer.execute("PRAGMA busy_timeout = 0")
            writer.execute("PRAGMA journal_mode = DELETE")  # refused while somebody else has it open
        writer.close()
    if lock >= 0:
        lock_file.unlink(missing_ok=True)
        os.close(lock)
