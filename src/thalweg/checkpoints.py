"""State on disk: numbered generations, each whole or absent, that know when they are damaged. ::

    folder/
      000001/                  a generation
        manifest.json          meta, and a digest of every array and of itself
        state.safetensors      the arrays

A generation is written in a temporary folder, every file is flushed to the disk, and only then does the
folder get its name, so that a crash at any moment leaves the earlier generations as they were. Nothing in it
names a path: the folder may be copied or moved. Nothing in it can run code.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import operator
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.errors import CheckpointCorruptError, CheckpointError, CheckpointVersionError

FORMAT = "1.0"
MANIFEST = "manifest.json"
STATE = "state.safetensors"
TEMPORARY = ".writing-"

_DTYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
}


class CheckpointStore:
    """A folder of generations.

    Args:
        folder: where they are, made at the first save.

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

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"CheckpointStore({str(self.folder)!r})"

    def generations(self) -> list[int]:
        """The generations that are there, oldest first, whether or not they are damaged.

        Returns:
            Their numbers; an empty list if the folder does not exist.
        """
        if not self.folder.is_dir():
            return []
        return sorted(int(entry.name) for entry in self.folder.iterdir() if re.fullmatch(r"\d{6,}", entry.name))

    def save(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], *, generation: int | None = None) -> Path:
        """Write one generation: all of it, or nothing.

        Args:
            arrays: arrays by name; booleans, integers or floats of at most 64 bits, any shape, layout and
                byte order.
            meta: what JSON can hold, without NaN and infinity.
            generation: its number, by default one more than the newest. One that exists is replaced.

        Returns:
            The generation's folder.

        Raises:
            CheckpointError: an array or ``meta`` cannot be saved, or the folder cannot be written. What was
                saved before is untouched.
        """
        plain = {name: _plain(name, array) for name, array in arrays.items()}
        canonical(dict(meta))  # refuse what JSON cannot hold before touching the disk
        if generation is not None and (generation := whole(generation, "generation", 0)) >= 10**12:
            raise CheckpointError("generation is 10**12 or more; give a smaller one", generation=generation)
        try:
            fresh = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            if fresh:
                _flush(self.folder.parent)
            with self._locked() as alone:
                if alone:
                    self._remove_leftovers()
                number = generation if generation is not None else max(self.generations(), default=0) + 1
                return self._write(plain, dict(meta), number)
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
        known = self.generations()
        number = max(known, default=None) if generation is None else whole(generation, "generation", 0)
        if number is None or number not in known:
            wanted = "no generation" if generation is None else f"no generation {generation}"
            raise CheckpointError(
                f"there is {wanted} in {self.folder} (there are: {', '.join(map(str, known)) or 'none'})",
                folder=str(self.folder),
                generations=known,
            )
        try:
            return *_read(self._path(number), number), number
        except OSError as error:
            raise CheckpointError(f"cannot read {self._path(number)}: {error}", generation=number) from error

    def prune(self, keep: int) -> list[int]:
        """Remove all but the newest generations.

        Args:
            keep: how many stay, at least 1.

        Returns:
            The numbers of those removed.

        Raises:
            CheckpointError: ``keep`` is no integer or less than 1, or a folder cannot be removed.
        """
        old = self.generations()[: -whole(keep, "keep", 1)]
        try:
            for number in old:
                aside = self._set_aside(self._path(number))
                if aside is not None:
                    _remove(aside)
        except OSError as error:
            raise CheckpointError(f"cannot prune {self.folder}: {error}", folder=str(self.folder)) from error
        return old

    def _path(self, generation: int) -> Path:
        return self.folder / f"{generation:06d}"

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
        for entry in self.folder.iterdir():
            if entry.name.startswith(TEMPORARY):
                shutil.rmtree(entry, ignore_errors=True)

    def _write(self, arrays: dict[str, np.ndarray], meta: dict[str, Any], number: int) -> Path:
        temporary = self.folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        final = self._path(number)
        temporary.mkdir()
        try:
            _write_state(temporary / STATE, arrays)
            manifest: dict[str, Any] = {
                "format": FORMAT,
                "generation": number,
                "bytes": (temporary / STATE).stat().st_size,
                "arrays": {name: _entry(array) for name, array in sorted(arrays.items())},
                "meta": meta,
            }
            manifest["digest"] = _digest(canonical(manifest))
            with open(temporary / MANIFEST, "w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1, allow_nan=False, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            _flush(temporary)
            self._put(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _flush(self.folder)
        return final

    def _put(self, temporary: Path, final: Path) -> None:
        """Give a finished generation its name; one that has the name already goes only after that."""
        old = self._set_aside(final)
        try:
            os.rename(temporary, final)
        except BaseException:
            if old is not None:
                os.rename(old, final)
            raise
        if old is not None:
            _remove(old)

    def _set_aside(self, path: Path) -> Path | None:
        """Take a generation's name away, in one step, so that it is never seen half removed."""
        if not os.path.lexists(path):
            return None
        aside = self.folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        os.rename(path, aside)
        return aside


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path)


def whole(value: Any, what: str, least: int) -> int:
    """``value`` as an integer, at least ``least``; a CheckpointError that names ``what`` if it is none."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise CheckpointError(f"{what} is {value!r}; give an integer, at least {least}", **{what: value})
    return number


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one way to write a document as JSON: sorted keys, no spaces, UTF-8.

    Args:
        document: what JSON can hold, without NaN and infinity.

    Returns:
        The bytes.

    Raises:
        CheckpointError: JSON cannot hold it.

    Example:
        >>> from thalweg.checkpoints import canonical
        >>> canonical({"b": 1, "a": [0.1, None]})
        b'{"a":[0.1,null],"b":1}'
    """
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        if json.loads(text) != document:
            raise ValueError("it comes back changed: keys must be strings, and tuples lists")
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"this cannot be written as JSON: {error}") from error


def _digest(*parts: bytes | memoryview) -> str:
    state = hashlib.blake2b(digest_size=32)
    for part in parts:
        state.update(part)
    return state.hexdigest()


def _entry(array: np.ndarray) -> dict[str, Any]:
    """What the manifest says of one array."""
    head = f"{array.dtype.name}{array.shape}".encode()
    content = array.reshape(-1).view(np.uint8).data if array.size else b""
    return {"dtype": array.dtype.name, "shape": list(array.shape), "digest": _digest(head, content)}


def _plain(name: str, array: Any) -> np.ndarray:
    """The array as it is written: C-contiguous, native byte order, of a dtype that the format has."""
    if not isinstance(name, str) or name.startswith("__") or name.encode(errors="ignore").decode() != name:
        raise CheckpointError(
            f"an array is named {name!r}; give a string without surrogates that does not start with '__'", entry=name
        )
    if not isinstance(array, np.ndarray | np.generic) or isinstance(array, np.ma.MaskedArray):
        raise CheckpointError(f"{name!r} is a {type(array).__name__}; only NumPy arrays can be saved", entry=name)
    if array.dtype.newbyteorder("=").name not in _DTYPES:
        raise CheckpointError(
            f"{name!r} has dtype {array.dtype}, which cannot be saved (can be: {', '.join(sorted(_DTYPES))})",
            entry=name,
        )
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=None, subok=False)


def _flush(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_state(path: Path, arrays: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file(arrays, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _read(folder: Path, number: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A generation, with everything checked."""
    if folder.is_symlink():
        raise _corrupt(folder, "is a symbolic link; a generation is a folder of its own")
    manifest = _read_manifest(folder / MANIFEST)
    if manifest["generation"] != number:
        raise _corrupt(folder / MANIFEST, f"is of generation {manifest['generation']}", "generation")
    arrays = _read_state(folder / STATE, manifest["arrays"], manifest["bytes"])
    return arrays, manifest["meta"]


def _read_manifest(path: Path) -> dict[str, Any]:
    _regular(path)
    try:
        manifest = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, f"is not JSON ({error})") from error
    if not isinstance(manifest, dict) or not re.fullmatch(r"\d+\.\d+", str(manifest.get("format"))):
        raise _corrupt(path, "has no format version", "format")
    if int(manifest["format"].split(".")[0]) > int(FORMAT.split(".")[0]):
        raise CheckpointVersionError(
            f"{path} has format {manifest['format']}; this version of Thalweg reads {FORMAT}: update Thalweg",
            file=str(path),
            format=manifest["format"],
        )
    digest = manifest.pop("digest", None)
    try:
        same = digest == _digest(canonical(manifest))
    except CheckpointError:
        same = False
    if not same:
        raise _corrupt(path, "does not match its own digest", "digest")
    return manifest


def _read_state(path: Path, entries: dict[str, Any], size: int) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    _regular(path)
    if path.stat().st_size != size:
        raise _corrupt(path, f"has {path.stat().st_size} bytes; the manifest says {size}")
    arrays = {}
    try:
        with safe_open(path, framework="np") as file:
            found = set(file.keys())
            for name in sorted(found ^ set(entries)):
                where = "is missing" if name in entries else "is not in the manifest"
                raise _corrupt(path, f"entry {name!r} {where}", name)
            for name, entry in entries.items():
                array = np.array(file.get_tensor(name))
                if _entry(array) != entry:
                    raise _corrupt(path, f"entry {name!r} does not match its digest", name)
                arrays[name] = array
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise _corrupt(path, f"cannot be read ({error})") from error
    return arrays


def _regular(path: Path) -> None:
    if not os.path.lexists(path):
        raise _corrupt(path, "is missing")
    if path.is_symlink() or not path.is_file():
        raise _corrupt(path, "is not a regular file")


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _corrupt(path: Path, what: str, entry: str | None = None) -> CheckpointCorruptError:
    return CheckpointCorruptError(
        f"damaged checkpoint: {path} {what}; restore the folder from a copy, or load another generation",
        file=str(path),
        entry=entry,
    )
