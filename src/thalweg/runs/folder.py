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
      result.json          of a search: the values that came out
      summary.json         the figures of the run; "status" is running, finished, interrupted or failed
      run.lock             who writes: process and machine; the kernel holds a lock on it while the process lives

Files that are written once are written beside their place, forced to the disk and renamed: they are there
whole or not at all.

A process that is killed cannot say so, and its summary says "running" for ever. The kernel ends its lock,
whatever ended the process, so :meth:`RunFolder.writer_alive` knows.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.checkpoints.files import flush_folder
from thalweg.errors import RunError
from thalweg.runs.files import json_text, make_folder, member_names, replacing
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
        self.values = path / "result.json"
        self.summary = path / "summary.json"
        self.lock = path / "run.lock"
        self.release: Callable[[], object] = lambda: None
        self._writer = WriterLock(self.lock)

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make the folder of a new run, where the caller says.

        Raises:
            RunError: there is something in it already, or it cannot be made.
        """
        try:
            make_folder(path)
        except (OSError, ValueError) as error:
            raise _not_made(path, error) from error
        return cls._fill(path, new=cls.refuse_occupied(path))

    @classmethod
    def refuse_occupied(cls, path: Path) -> bool:
        """Refuse a folder in which a new run cannot be; nothing is made.

        Returns:
            Whether there is nothing in it; if not, there is what a run left that died before its first row.

        Raises:
            RunError: there is something in it already, or it cannot be read.
        """
        try:
            occupied = next(path.iterdir(), None) if path.exists() else None
        except (OSError, ValueError) as error:
            raise _not_made(path, error) from error
        if occupied is None:
            return True
        if cls(path).writer_alive():
            raise RunError(f"The folder {path} is in use: a run is going on in it. Choose another folder.")
        if cls(path)._has_only_begun():
            return False
        if (path / "run.sqlite").is_file():
            name = shlex.quote(str(path))
            raise RunError(
                f"The folder {path} is not empty: there is a run in it, and a run never writes over another. To go on "
                f"with it: thalweg resume {name}. For a new one choose another folder."
            )
        raise RunError(
            f"The folder {path} is not empty (there is {occupied.name}), and a run never writes over what "
            "is there. Choose another folder, or move this one away."
        )

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
                make_folder(parent)
                path.mkdir()
                flush_folder(parent)
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
            flush_folder(path)
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
        return self._writer.is_held()

    def refuse_a_second_writer(self) -> None:
        """Raise if a process that writes this run lives.

        Raises:
            RunError: it does; the message says which one.
        """
        self._writer.refuse_if_held()

    def refuse_if_moved(self) -> None:
        """Raise if the folder that this object writes is not the one that has its path any more.

        Raises:
            RunError: it is not; the message says where it is.
        """
        self._writer.refuse_if_moved()

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
        files = (self.study, self.summary, self.history, self.result, self.values, self.models / "block-*.npz")
        patterns = [(file.parent, f".{file.name}.*") for file in files] + [(self.figures, ".*.png")]
        for place, pattern in patterns:
            for left in place.glob(pattern):
                with suppress(OSError):  # a run is worth more
                    left.unlink()

    def _acquire(self, *, new: bool = True) -> None:
        """Hold the lock until :meth:`release`, or until this object or the process ends."""
        self.release = self._writer.take(self, new=new)

    def _replacing(self, path: Path) -> AbstractContextManager[IO[bytes]]:
        self.refuse_if_moved()
        return replacing(path)

    def write_study(self, text: str) -> None:
        """Freeze the study."""
        with self._replacing(self.study) as file:
            file.write(text.encode())

    def write_summary(self, summary: dict[str, Any]) -> list[str]:
        """Write ``summary.json``; returns the dotted paths of numbers that are not finite, which JSON writes
        as null."""
        text, lost = json_text(summary)
        with self._replacing(self.summary) as file:
            file.write(text)
        return lost

    def write_result(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Write ``result.npz``.

        Raises:
            RunError: an array holds Python objects, which would need pickle.
        """
        self._write_arrays(self.result, arrays)

    def write_values(self, values: dict[str, Any]) -> None:
        """Write ``result.json``, the values of structured variables by name."""
        with self._replacing(self.values) as file:
            file.write(json_text(values)[0])

    def write_model(self, block: int, arrays: dict[str, NDArray[Any]]) -> None:
        """Write ``models/block-<n>.npz``, the variables as they were after a block.

        Raises:
            RunError: it cannot be written.
        """
        self.refuse_if_moved()
        try:
            self.models.mkdir()  # in the run's folder, which is there or was moved
            flush_folder(self.path)
        except FileExistsError:
            pass
        except OSError as error:
            raise RunError(f"{self.models} cannot be made: {error.strerror or error}.") from error
        self._write_arrays(self.models / f"block-{block}.npz", arrays)

    def forget_models(self, first: int) -> None:
        """Remove the models of the blocks from ``first`` on: they will be computed again, and may become others."""
        for path in self.models.glob("block-*.npz"):
            number = path.name.removeprefix("block-").removesuffix(".npz")
            if number.isdecimal() and int(number) >= first:
                with suppress(OSError):  # for the report only
                    path.unlink()

    def forget_result(self, figures: Iterable[str]) -> None:
        """Remove the result of an earlier end of the run, and its pictures: they are no more what the run is at.

        Args:
            figures: the names of the pictures that were drawn; a user's own stay.
        """
        with suppress(OSError, RunError):  # a report knows an old one by its digest
            self.refuse_if_moved()
            for path in (self.result, self.values, *(self.figures / f"{name}.png" for name in figures)):
                path.unlink(missing_ok=True)

    def _write_arrays(self, path: Path, arrays: dict[str, NDArray[Any]]) -> None:
        objects = [name for name, array in arrays.items() if array.dtype.hasobject]
        if objects:
            raise RunError(f"The results {objects} hold Python objects; our .npz files hold numbers and text only.")
        names = member_names(arrays)
        members: dict[str, Any] = {names[name]: array for name, array in arrays.items()}
        with self._replacing(path) as file:
            np.savez(file, **members)


def _not_made(path: Path, error: Exception) -> RunError:
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return RunError(
        f"The folder {str(path)!r} of the run cannot be made: {why}. Name another one (--out, or output.folder in "
        "the study): one that is new or empty, where you may write."
    )
