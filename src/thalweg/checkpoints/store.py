"""A folder of generations: how one gets its name, loses it, and is found again.

::

    lock the folder, remove what killed saves left
    .writing-…/    ← state.safetensors, fsync; manifest.json, fsync; fsync the folder
    rename to NNNNNN, fsync the folder above
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.checkpoints.files import corrupt, flush_folder, whole
from thalweg.checkpoints.manifest import FORMAT, MANIFEST, canonical, read_manifest, write_manifest
from thalweg.checkpoints.tensors import STATE, plain, read_state, write_state
from thalweg.errors import CheckpointCorruptError, CheckpointError

TEMPORARY = ".writing-"
REPLACED = ".replaced-"
"""Before the number of a generation whose place a new one is about to take."""


class CheckpointStore:
    """A folder of generations.

    Args:
        folder: where they are, made at the first save.
        parents: whether the folders above it are made, too. If not, and one of them is not there (any more), a save
            fails.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from thalweg.checkpoints import CheckpointStore
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = CheckpointStore(folder)
        ...     path = store.save({"x": np.arange(3.0)}, {"step": 7})
        ...     arrays, meta, generation = store.load()
        >>> arrays["x"], meta, generation
        (array([0., 1., 2.]), {'step': 7}, 1)
    """

    def __init__(self, folder: str | os.PathLike[str], *, parents: bool = True) -> None:
        self.folder = Path(folder)
        self._parents = parents

    def __repr__(self) -> str:
        return f"CheckpointStore({str(self.folder)!r})"

    def generations(self) -> list[int]:
        """The generations that are there, oldest first, whether or not they are damaged.

        Returns:
            Their numbers; an empty list if the folder does not exist.
        """
        try:
            names = os.listdir(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        numbers = [int(name) for name in names if re.fullmatch(r"[0-9]{6,15}", name)]
        return sorted(number for number in set(numbers) if self._path(number).name in names)

    def save(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], *, generation: int | None = None) -> Path:
        """Write one generation: all of it, or nothing.

        Args:
            arrays: arrays by name; booleans, integers or floats of at most 64 bits, any shape, layout and
                byte order. They may not change meanwhile.
            meta: what JSON can hold, without NaN and infinity.
            generation: its number, by default one more than the newest. One that exists is replaced.

        Returns:
            The generation's folder.

        Raises:
            CheckpointError: an array or ``meta`` cannot be saved, or the folder cannot be written. What was
                saved before is untouched.
        """
        ready = {name: plain(name, array) for name, array in arrays.items()}
        canonical(dict(meta))  # refuse what JSON cannot hold before touching the disk
        if generation is not None and (generation := whole(generation, "generation", 0)) >= 10**12:
            raise CheckpointError("generation is 10**12 or more; give a smaller one", generation=generation)
        try:
            fresh = not self.folder.exists()
            self.folder.mkdir(parents=self._parents, exist_ok=True)
            if fresh:
                flush_folder(self.folder.parent)
            with self._locked() as alone:
                if alone:
                    self._remove_leftovers()
                number = generation if generation is not None else max(self.generations(), default=0) + 1
                return self._write(ready, dict(meta), number)
        except OSError as error:
            raise CheckpointError(f"cannot save to {self.folder}: {error}", folder=str(self.folder)) from error

    def load(self, generation: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any], int]:
        """Read one generation and check every digest. It never falls back to another one by itself.

        Args:
            generation: its number, by default the newest.

        Returns:
            The arrays (writable, their own memory), the meta, and the generation's number.

        Raises:
            CheckpointError: there is no such generation, or it is no integer.
            CheckpointCorruptError: it is damaged; the message names the file and the entry.
            CheckpointVersionError: a newer major version of the format wrote it.
        """
        number, manifest = self._manifest(generation)
        with self._reading(number) as path:
            return read_state(path / STATE, manifest["arrays"], manifest["bytes"]), manifest["meta"], number

    def meta(self, generation: int | None = None) -> dict[str, Any]:
        """What one generation says of itself, without reading its arrays.

        Args:
            generation: its number, by default the newest.

        Raises:
            CheckpointError: as :meth:`load`, for the manifest alone.

        Example:
            >>> import tempfile
            >>> from thalweg.checkpoints import CheckpointStore
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     _ = CheckpointStore(folder).save({}, {"step": 7})
            ...     CheckpointStore(folder).meta()
            {'step': 7}
        """
        meta: dict[str, Any] = self._manifest(generation)[1]["meta"]
        return meta

    def prune(self, keep: int, spare: Collection[int] = ()) -> list[int]:
        """Remove all but the newest generations.

        Args:
            keep: how many stay, at least 1.
            spare: the numbers of others that stay, too.

        Returns:
            The numbers of those removed.

        Raises:
            CheckpointError: ``keep`` is no integer or less than 1, or a folder cannot be removed.
        """
        last = whole(keep, "keep", 1)
        if len(self.generations()) <= last:
            return []
        return self._discard(lambda numbers: [number for number in numbers[:-last] if number not in spare])

    def discard_after(self, generation: int) -> list[int]:
        """Remove the generations that are newer than one, for whoever goes on from that one.

        Args:
            generation: the newest that stays; with 0 none does.

        Returns:
            The numbers of those removed, the newest first: whatever happens meanwhile, what is there is in order.

        Raises:
            CheckpointError: it is no integer or less than 0, or a folder cannot be removed.
        """
        last = whole(generation, "generation", 0)
        if not self.generations():
            return []
        return self._discard(lambda numbers: [number for number in reversed(numbers) if number > last])

    def _discard(self, choose: Callable[[list[int]], list[int]]) -> list[int]:
        try:
            with self._locked():  # or who saves would take what is being removed for leftovers
                chosen = choose(self.generations())
                for number in chosen:
                    aside = self._set_aside(self._path(number))
                    if aside is not None:
                        _remove(aside)
        except OSError as error:
            raise CheckpointError(f"cannot prune {self.folder}: {error}", folder=str(self.folder)) from error
        return chosen

    def _path(self, generation: int) -> Path:
        return self.folder / f"{generation:06d}"

    def _manifest(self, generation: int | None) -> tuple[int, dict[str, Any]]:
        known = self.generations()
        number = max(known, default=None) if generation is None else whole(generation, "generation", 0)
        if number is None or number not in known:
            wanted = "no generation" if generation is None else f"no generation {generation}"
            raise CheckpointError(
                f"there is {wanted} in {self.folder} (there are: {', '.join(map(str, known)) or 'none'})",
                folder=str(self.folder),
                generations=known,
            )
        path = self._path(number)
        if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            raise corrupt(path, "is a symbolic link or a file; a generation is a folder of its own")
        with self._reading(number):
            manifest = read_manifest(path / MANIFEST)
        if manifest["generation"] != number:
            raise corrupt(path / MANIFEST, f"is of generation {manifest['generation']}", "generation")
        return number, manifest

    @contextlib.contextmanager
    def _reading(self, number: int) -> Iterator[Path]:
        """The folder of a generation while it is read; what somebody removes meanwhile is not called damaged."""
        path = self._path(number)
        try:
            yield path
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error}", generation=number) from error
        except CheckpointCorruptError as error:
            if os.path.lexists(path):
                raise
            raise CheckpointError(f"{path} was removed while it was read", generation=number) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the kernel's lock on the folder while writing. False where the file system has no locks."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                    raise
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def _remove_leftovers(self) -> None:
        """Remove what a save that was killed left behind; under the lock, so nobody is still writing it."""
        for name in os.listdir(self.folder):
            replaced = re.fullmatch(rf"{re.escape(REPLACED)}([0-9]+)-[0-9a-f]+", name)
            if replaced and not os.path.lexists(final := self.folder / replaced[1]):
                os.rename(self.folder / name, final)  # killed before the new one had its name
            elif replaced or name.startswith(TEMPORARY):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def _write(self, arrays: dict[str, np.ndarray], meta: dict[str, Any], number: int) -> Path:
        temporary = self.folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        final = self._path(number)
        temporary.mkdir()
        try:
            entries = write_state(temporary / STATE, arrays)
            manifest = {
                "format": FORMAT,
                "generation": number,
                "bytes": (temporary / STATE).stat().st_size,
                "arrays": entries,
                "meta": meta,
            }
            write_manifest(temporary / MANIFEST, manifest)
            flush_folder(temporary)
            self._put(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return final

    def _put(self, temporary: Path, final: Path) -> None:
        """Give a finished generation its name; one that has the name already goes only after that.

        A name that may not have reached the disk is taken back: who is told that a save failed must not find it.
        """
        old = self._set_aside(final, f"{REPLACED}{final.name}-")
        try:
            os.rename(temporary, final)
            flush_folder(self.folder)
        except BaseException:
            for new, place in ((final, temporary), (old, final)):
                # What cannot be undone either is whole all the same.
                if new is not None and not os.path.lexists(place):
                    with contextlib.suppress(OSError):
                        os.rename(new, place)
            raise
        if old is not None:
            _remove(old)

    def _set_aside(self, path: Path, prefix: str = TEMPORARY) -> Path | None:
        """Take a generation's name away, in one step, so that it is never seen half removed."""
        if not os.path.lexists(path):
            return None
        aside = self.folder / f"{prefix}{secrets.token_hex(8)}"
        os.rename(path, aside)
        return aside


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)
