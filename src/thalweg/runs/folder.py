"""A run on disk: one folder that holds all of it.

::

    RUN/
      study.toml           the study as it ran, with every --set applied
      run.sqlite           history and events (thalweg.runs.History)
      checkpoints/NNNNNN/  manifest.json, state.safetensors (thalweg.checkpoints)
      models/              the variables after each block, block-0.npz and so on
      shots/               finished sums of the iteration in progress (output.checkpoint_shots), until it is committed
      figures/             pictures
      result.npz           the model that came out, and what the problem puts beside it
      summary.json         the figures of the run; "status" is running, finished, interrupted or failed
      run.lock             who writes: process and machine; the kernel holds a lock on it while the process lives

Files that are written once are written beside their place, forced to the disk and renamed: they are there
whole or not at all.

A process that is killed cannot say so, and its summary says "running" for ever. The kernel ends its lock,
whatever ended the process, so :meth:`RunFolder.writer_alive` knows.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RunError
from thalweg.runs.lock import WriterLock


class RunFolder:
    """The paths of a run, and how its files are written.

    Args:
        path: the folder.

    Example:
        >>> from pathlib import Path
        >>> from thalweg.runs.folder import RunFolder
        >>> RunFolder(Path("runs/head-1")).summary.as_posix()
        'runs/head-1/summary.json'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.study = path / "study.toml"
        self.history = path / "run.sqlite"
        self.checkpoints = path / "checkpoints"
        self.models = path / "models"
        self.figures = path / "figures"
        self.result = path / "result.npz"
        self.summary = path / "summary.json"
        self.lock = path / "run.lock"
        self.release: Callable[[], object] = lambda: None

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make the folder of a new run, where the caller says.

        Raises:
            RunError: there is something in it already, or it cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            occupied = next(path.iterdir(), None)
        except (OSError, ValueError) as error:
            raise _not_made(path, error) from error
        if occupied is not None and cls(path).writer_alive():
            raise RunError(f"The folder {path} is in use: a run is going on in it. Choose another folder.")
        if occupied is not None and cls(path)._has_only_begun():
            return cls._fill(path, new=False)
        if occupied is not None:
            raise RunError(
                f"The folder {path} is not empty (there is {occupied.name}), and a run never writes over what "
                "is there. Choose another folder, or move this one away."
            )
        return cls._fill(path)

    @classmethod
    def create_next(cls, parent: Path, name: str) -> RunFolder:
        """Make ``parent/name-n`` with the smallest free n from 1; safe against others who do the same.

        Raises:
            RunError: it cannot be made.
        """
        number = 1
        while True:
            path = parent / f"{name}-{number}"
            try:
                parent.mkdir(parents=True, exist_ok=True)
                path.mkdir()
                return cls._fill(path)
            except FileExistsError:
                if not parent.is_dir():
                    raise RunError(
                        f"{parent} is a file, so the run cannot be made in it. Name another folder (--out, or "
                        "output.folder in the study)."
                    ) from None
                number += 1
            except (OSError, ValueError) as error:
                raise _not_made(path, error) from error

    def _has_only_begun(self) -> bool:
        """Whether all that is here is the beginning of a run that was killed before it had a history."""
        names = {entry.name for entry in self.path.iterdir()}
        ours = {self.lock.name, self.study.name, self.checkpoints.name, self.figures.name}
        beside = (f".{self.study.name}.", f".{self.history.name}.new")
        folders = [folder for folder in (self.checkpoints, self.figures) if folder.name in names]
        return (
            self.lock.name in names
            and all(name in ours or name.startswith(beside) for name in names)
            and not any(folder.is_symlink() or next(folder.iterdir(), None) for folder in folders)
        )

    @classmethod
    def _fill(cls, path: Path, *, new: bool = True) -> RunFolder:
        folder = cls(path)
        try:
            folder._acquire(new=new)
            folder._remove_leftovers()
            folder.checkpoints.mkdir(exist_ok=not new)
            folder.figures.mkdir(exist_ok=not new)
        except FileExistsError:
            raise RunError(f"The folder {path} is in use: another run has just begun in it.") from None
        except OSError as error:
            raise _not_made(path, error) from error
        return folder

    def writer_alive(self) -> bool | None:
        """Whether the process that writes this run lives; None where the file system cannot say.

        Example:
            >>> from pathlib import Path
            >>> from thalweg.runs.folder import RunFolder
            >>> RunFolder(Path("no-such-run")).writer_alive()
            False
        """
        return WriterLock(self.lock).is_held()

    def refuse_a_second_writer(self) -> None:
        """Raise if a process that writes this run lives.

        Raises:
            RunError: it does; the message says which one.
        """
        WriterLock(self.lock).refuse_if_held()

    def reopen(self) -> None:
        """Become the writer of a run that has ended, however it ended.

        Raises:
            RunError: another process writes it, or it cannot be written.
        """
        try:
            self._acquire(new=False)
            self._remove_leftovers()
            self.checkpoints.mkdir(exist_ok=True)
            self.figures.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"The run in {self.path} cannot be written: {error}. Make its folder writable, or copy it to where you "
                "may write; a copy goes on like the original."
            ) from error

    def _remove_leftovers(self) -> None:
        """Remove what was being written when the process was killed; only the writer may."""
        files = (self.study, self.summary, self.result, self.models / "block-*.npz")
        patterns = [(file.parent, f".{file.name}.*") for file in files] + [(self.figures, ".*.png")]
        for place, pattern in patterns:
            for left in place.glob(pattern):
                with suppress(OSError):  # a run is worth more
                    left.unlink()

    def _acquire(self, *, new: bool = True) -> None:
        """Hold the lock until :meth:`release`, or until this object or the process ends."""
        self.release = WriterLock(self.lock).take(self, new=new)

    def write_study(self, text: str) -> None:
        """Freeze the study."""
        with replacing(self.study) as file:
            file.write(text.encode())

    def write_summary(self, summary: dict[str, Any]) -> list[str]:
        """Write ``summary.json``; returns the dotted paths of numbers that are not finite, which JSON writes
        as null."""
        lost: list[str] = []
        clean = _plain(summary, "", lost)
        with replacing(self.summary) as file:
            file.write((json.dumps(clean, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())
        return lost

    def write_result(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Write ``result.npz``.

        Raises:
            RunError: an array holds Python objects, which would need pickle.
        """
        self._write_arrays(self.result, arrays)

    def write_values(self, values: dict[str, Any]) -> None:
        """Write ``result.json``, the values of structured variables by name."""
        with replacing(self.path / "result.json") as file:
            file.write((json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())

    def write_model(self, block: int, arrays: dict[str, NDArray[Any]]) -> None:
        """Write ``models/block-<n>.npz``, the variables as they were after a block.

        Raises:
            RunError: it cannot be written.
        """
        try:
            self.models.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.models} cannot be made: {error.strerror or error}.") from error
        self._write_arrays(self.models / f"block-{block}.npz", arrays)

    def _write_arrays(self, path: Path, arrays: dict[str, NDArray[Any]]) -> None:
        objects = [name for name, array in arrays.items() if array.dtype.hasobject]
        if objects:
            raise RunError(f"The results {objects} hold Python objects; our .npz files hold numbers and text only.")
        with replacing(path) as file:
            members: dict[str, Any] = {_member(name): array for name, array in arrays.items()}
            np.savez(file, **members)


def _not_made(path: Path, error: Exception) -> RunError:
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return RunError(
        f"The folder {str(path)!r} of the run cannot be made: {why}. Name another one (--out, or output.folder in "
        "the study): one that is new or empty, where you may write."
    )


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
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error


SMALLEST_TOO_LARGE = 1 << 24
"""Bytes: no study and no summary has so many."""


def read_small(path: Path, limit: int = SMALLEST_TOO_LARGE) -> str:
    """The text of a file that is small, if it is what we think it is.

    Raises:
        OSError: it cannot be read, or is a pipe or a device, which might never end.
        ValueError: it has ``limit`` bytes or more, or is no UTF-8 text; or ``path`` is no path.

    Example:
        >>> from pathlib import Path
        >>> from thalweg.runs.folder import read_small
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
    return content.decode("utf-8")


def sync_folder(path: Path) -> None:
    """Force a folder's entries to the disk, so that a rename in it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    status = Path("/proc/self/status")  # os.umask can only be read by changing it, for every thread
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0o022
    return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), 0o022)


def _member(name: str) -> str:
    # NumPy takes the names as keyword arguments: "file" is one of its own.
    return f"{name}_" if name in ("file", "allow_pickle") else name


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
