"""What both files of a generation need: to be flushed, to be plain files, and errors that name them."""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thalweg.errors import CheckpointCorruptError, CheckpointError

PIECE = 1 << 24
"""So many bytes are written, read or digested at once."""


def whole(value: Any, what: str, least: int) -> int:
    """``value`` as an integer, at least ``least``; a CheckpointError that names ``what`` if it is none."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise CheckpointError(f"{what} is {value!r}; give an integer, at least {least}", **{what: value})
    return number


def corrupt(path: Path, what: str, entry: str | None = None) -> CheckpointCorruptError:
    """The error that says what is damaged, and what can be done."""
    return CheckpointCorruptError(
        f"damaged checkpoint: {path} {what}; restore the folder from a copy, or load another generation",
        file=str(path),
        entry=entry,
    )


def flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[int]:
    """A descriptor of a new file; what was written is on the disk when the block ends well."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        yield descriptor
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it: a file system that is nearly full takes a part, and says no at the next call only."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest[:PIECE]) :]


@contextlib.contextmanager
def plain_file(path: Path) -> Iterator[tuple[int, int]]:
    """A descriptor of a file for reading, and its size.

    Raises:
        CheckpointCorruptError: it is missing, or no regular file: a link would lead elsewhere, a pipe would
            wait for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise corrupt(path, "is missing") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOTDIR):
            raise corrupt(path, "is not a regular file") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise corrupt(path, "is not a regular file")
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def read_into(descriptor: int, target: memoryview) -> bool:
    """Fill ``target`` from the file's present place; False if the file ends before."""
    done = 0
    while done < len(target):
        count = os.readv(descriptor, [target[done : done + PIECE]])
        if count == 0:
            return False
        done += count
    return True
