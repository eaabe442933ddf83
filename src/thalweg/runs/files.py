"""Files that are whole or not there: written beside their place, forced to the disk, renamed; and read as if they were
somebody else's.

::

    RUN/.summary.json.x7f2   ← write, fsync
    rename to summary.json, fsync the folder
"""

from __future__ import annotations

import json
import math
import os
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from thalweg.checkpoints.files import flush_folder
from thalweg.errors import RunError


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when the block ends well; if it does not, nothing has changed.

    Raises:
        RunError: it cannot be written (no room, not allowed).
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())  # mkstemp's files are for their owner only
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        flush_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error


SMALLEST_TOO_LARGE = 1 << 24
"""Bytes: no study and no summary has so many."""


def is_file(path: Path) -> bool:
    """Whether a path is a file that is ours to see; what cannot be looked at, or is no path at all, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_small(path: Path, limit: int = SMALLEST_TOO_LARGE) -> str:
    """The text of a file that is small, if it is what we think it is.

    Raises:
        OSError: it cannot be read, or is a pipe or a device, which might never end.
        ValueError: it has ``limit`` bytes or more, or is no UTF-8 text; or ``path`` is no path.

    Example:
        >>> from pathlib import Path
        >>> from thalweg.runs.files import read_small
        >>> read_small(Path("/dev/zero"))
        Traceback (most recent call last):
        ...
        OSError: it is no regular file
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for somebody who writes
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no regular file")
        content = file.read(min(limit, status.st_size + 1))
    if len(content) >= limit:
        raise ValueError(f"it has {status.st_size} bytes, and should have less than {limit}")
    return content.decode("utf-8").removeprefix("\ufeff")  # a mark that editors of Windows put there


def _umask() -> int:
    status = Path("/proc/self/status")  # os.umask can only be read by changing it, for every thread
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0o022
    return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), 0o022)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are not there; their names survive a power failure.

    Raises:
        OSError: it cannot be made, or there is a file of that name.
    """
    missing = []
    place = path
    while not place.exists() and place != place.parent:
        missing.append(place)
        place = place.parent
    path.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        with suppress(PermissionError):  # who may make a folder there may not always look into it
            flush_folder(made.parent)


def json_text(value: Any) -> tuple[bytes, list[str]]:
    """A value as JSON for people and programs, and the dotted paths of numbers that are not finite, which JSON writes
    as null. What is no JSON value becomes its text.

    Example:
        >>> from thalweg.runs.files import json_text
        >>> text, lost = json_text({"a": [0.5, float("nan")]})
        >>> text.decode().split(), lost
        (['{', '"a":', '[', '0.5,', 'null', ']', '}'], ['a.1'])
    """
    lost: list[str] = []
    text = json.dumps(_plain(value, "", lost), indent=2, allow_nan=False, ensure_ascii=False)
    # The name of a file may hold what no UTF-8 has; what it is escaped to here is JSON's own escape of it.
    return f"{text}\n".encode("utf-8", "backslashreplace"), lost


def member_names(names: Collection[str], reserved: Collection[str] = ()) -> dict[str, str]:
    """What arrays are called in an ``.npz``: their names, but for those that mean something else there.

    Args:
        names: of the arrays.
        reserved: what the caller puts there besides.

    Returns:
        The name of each in the archive; no two have the same.

    Example:
        >>> from thalweg.runs.files import member_names
        >>> member_names(["x", "file", "file_"])
        {'x': 'x', 'file': 'file__', 'file_': 'file_'}
    """
    taken = {"file", "allow_pickle", *reserved}  # NumPy takes the names as keyword arguments, and has these itself
    used = taken | set(names)
    found = {}
    for name in names:
        member = name
        if name in taken:
            while member in used:
                member += "_"
            used.add(member)
        found[name] = member
    return found


def _plain(value: Any, path: str, lost: list[str]) -> Any:
    """The JSON value of ``value``; NumPy's numbers become Python's."""
    if isinstance(value, dict):
        return {str(k): _plain(v, f"{path}.{k}" if path else str(k), lost) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, f"{path}.{i}", lost) for i, entry in enumerate(value)]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist(), path, lost)
    if isinstance(value, float) and not math.isfinite(value):
        lost.append(path)
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
