"""A user's own arrays, from ``.npz`` files."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import StudyError

_ARRAY, _ARCHIVE = b"\x93NUMPY", b"PK"  # how an .npy and an .npz file begin


def read_array(folder: Path, path: str, key: str) -> NDArray[Any]:
    """Return the array ``key`` of the ``.npz`` file at ``path``, which if relative starts at ``folder``.

    Raises:
        StudyError: when the file or the array is missing, damaged, not numeric or not finite.
    """
    full = folder / path
    try:
        if full.exists() and not full.is_file():
            raise StudyError(f"{full} is no file; give the path of an .npz file.")  # a pipe would wait for ever
        with full.open("rb") as stream:
            begins = stream.read(len(_ARRAY))
        if begins == _ARRAY:
            raise StudyError(f"{full} is a single array; save it with np.savez(path, {key}=array).")
        if not begins.startswith(_ARCHIVE):
            raise StudyError(f"{full} cannot be read: it is no .npz file; make one with np.savez(path, {key}=array).")
        with np.load(full, allow_pickle=False) as archive:
            names = sorted(archive.files)
            array = archive[key] if key in names else None
    except FileNotFoundError:
        raise StudyError(f"There is no file {full}.") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        # NumPy advises to load objects unsafely; that is not passed on.
        reason = f"{key!r} holds Python objects, or no array" if "allow_pickle" in str(error) else error
        raise StudyError(f"{full} cannot be read as an .npz file of numbers: {reason}") from error
    if array is None:
        raise StudyError(f"{full} holds no array {key!r}; it holds {', '.join(names)}.")
    if array.dtype.kind not in "fiub":
        raise StudyError(f"{key!r} in {full} must hold real numbers, got {array.dtype}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise StudyError(f"{key!r} in {full} holds NaN or infinity.")
    return np.asarray(array)


def array_digest(array: NDArray[Any]) -> str:
    """A digest of an array: its shape, dtype and numbers."""
    found = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
