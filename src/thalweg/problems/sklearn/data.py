"""Labelled data for pipelines, and its three parts: to search with, to choose with, to report with."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import MissingExtraError, StudyError

try:
    from lzma import LZMAError
except ImportError:  # a Python that was made without it says so of a file that needs it
    LZMAError = zlib.error  # type: ignore[misc, assignment]

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""The data sets that scikit-learn carries."""

_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")  # of a zip file, also of an empty one
_SAID = 150  # characters of what scikit-learn says about rows that cannot be dealt


@dataclass(frozen=True, eq=False)  # told apart by identity, which caches go by
class Labelled:
    """Features and labels.

    Args:
        features: float64, shape (rows, columns), finite.
        labels: of any kind for classification; float64 for regression; shape (rows,).
        classes: whether the labels are classes.
    """

    features: NDArray[np.float64]
    labels: NDArray[Any]
    classes: bool


@dataclass(frozen=True)
class Parts:
    """Row indices: ``folds`` of the part that is searched with, and chunks of the other two.

    Args:
        folds: (rows to fit, rows to score) of each fold.
        held_out: chunks that the final choice is made on; fitted is ``search``.
        test: chunks of the report; fitted is ``search`` and all of ``held_out``.
        search: all rows that the folds are made of.
    """

    folds: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]
    held_out: tuple[NDArray[np.int64], ...]
    test: tuple[NDArray[np.int64], ...]
    search: NDArray[np.int64]

    def rows(self, item: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows to fit and to score for a sample: folds first, then held-out, then test chunks."""
        if item < len(self.folds):
            return self.folds[item]
        item -= len(self.folds)
        if item < len(self.held_out):
            return self.search, self.held_out[item]
        return np.sort(np.concatenate([self.search, *self.held_out])), self.test[item - len(self.held_out)]


def load(name: str) -> Labelled:
    """A bundled data set by name, or an ``.npz`` file with ``features`` and ``labels`` by its path.

    Raises:
        StudyError: there is no such data, or it cannot be used.
        MissingExtraError: scikit-learn is not installed.
    """
    if name in BUNDLED:
        return _load(name, None)
    try:
        status = Path(name).stat()
    except (OSError, ValueError):
        return _load(name, None)
    return _load(name, (status.st_mtime_ns, status.st_size, status.st_ino))  # read again if it has changed


def digest(data: Labelled) -> str:
    """A digest of the data: rewards are of these rows and of no others."""
    found = hashlib.blake2b(digest_size=16)
    for array in (data.features, data.labels):
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@lru_cache(maxsize=4)
def _load(name: str, version: tuple[int, int, int] | None) -> Labelled:
    if name in BUNDLED:
        try:
            from sklearn import datasets
        except ImportError as error:
            raise MissingExtraError(
                'Pipelines of scikit-learn need scikit-learn; install it with: pip install "thalweg[sklearn]"'
            ) from error
        features, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
        return Labelled(np.asarray(features, np.float64), labels, classes=name != "diabetes")
    path = Path(name)
    try:
        with path.open("rb") as opened:  # is_zipfile of a path takes one that cannot be opened for no zip file
            begins, ends = opened.read(4) in _BEGINNINGS, zipfile.is_zipfile(opened)
            if not ends:
                raise StudyError(
                    f"problem.data: {path} is no .npz file. Save its arrays as one: np.savez(path, features=..., "
                    "labels=...), features of shape (rows, columns)."
                )
            if not begins:  # np.load takes it for something else
                raise StudyError(
                    f"problem.data: {path} is damaged, or no .npz file: its first bytes are not those of one."
                )
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                names = sorted(file.files)
                arrays = {key: file[key] for key in ("features", "labels") if key in names}
    except StudyError:
        raise
    except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError) as error:
        raise StudyError(
            f"problem.data: {path} is damaged: {str(error).rstrip('.') or 'it ends too early'}."
        ) from error
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: encrypted, or compressed in another way
        if "allow_pickle" in str(error):
            raise StudyError(
                f"problem.data: {path} holds an array of Python objects, which are not read. Save features as numbers, "
                "and labels as numbers or text (labels.astype(str))."
            ) from None
        if isinstance(error, OSError | RuntimeError) and not isinstance(error, FileNotFoundError):
            why = getattr(error, "strerror", None) or str(error).rstrip(".")
            raise StudyError(f"problem.data: {path} cannot be read: {why}.") from error
        raise StudyError(
            f"problem.data: {name!r} is neither one of {', '.join(BUNDLED)} nor an .npz file that can be read: {error}."
        ) from error
    if arrays.keys() != {"features", "labels"}:
        raise StudyError(f"problem.data: {path} must hold the arrays features and labels; it has {names}.")
    features, labels = arrays["features"], arrays["labels"]
    if not (isinstance(features, np.ndarray) and isinstance(labels, np.ndarray)):  # what is no array is read as bytes
        raise StudyError(
            f"problem.data: {path} has features or labels that are no arrays; save them with np.savez(path, "
            "features=..., labels=...)."
        )
    if features.ndim != 2 or labels.shape != features.shape[:1] or features.dtype.kind not in "fiub":
        raise StudyError(
            f"problem.data: {path} has features {features.shape} {features.dtype} and labels {labels.shape}; they must "
            "be numbers of shape (rows, columns), and one label a row."
        )
    if not np.isfinite(features).all() or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
        raise StudyError(f"problem.data: {path} holds NaN or infinity.")
    if len(labels) and (labels == labels[0]).all():
        raise StudyError(f"problem.data: all labels in {path} are {labels[0]}, so there is nothing to predict.")
    return Labelled(np.asarray(features, np.float64), labels, classes=labels.dtype.kind != "f")


def split(name: str, folds: int, held_out: float, test: float, seed: int) -> Parts:
    """Deal the rows into their parts; classes are spread evenly.

    Args:
        name: of the data.
        folds: of the cross-validation; as many chunks have the other parts.
        held_out: share of the rows, 0 ≤ held_out < 1.
        test: the same.
        seed: decides who goes where.

    Raises:
        StudyError: a part would have too few rows.
    """
    return _split(name, load(name), folds, held_out, test, seed)


@lru_cache(maxsize=4)
def _split(name: str, data: Labelled, folds: int, held_out: float, test: float, seed: int) -> Parts:
    from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

    if held_out + test >= 1.0:
        raise StudyError(
            f"problem.held_out = {held_out} and problem.test = {test} leave no rows to search with; together they have "
            "to be less than 1.",
            path="problem.held_out",
        )
    rows = np.arange(len(data.labels))
    sizes = np.random.SeedSequence(seed, spawn_key=(0x5811,)).generate_state(4)

    def take(rows: NDArray[np.int64], count: int, state: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if count == 0:
            return rows, rows[:0]
        labels = data.labels[rows] if data.classes else None
        rest, taken = train_test_split(rows, test_size=count, random_state=int(state), stratify=labels)
        return np.sort(rest), np.sort(taken)

    def deal(rows: NDArray[np.int64], state: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        kind = StratifiedKFold if data.classes else KFold
        folder = kind(n_splits=folds, shuffle=True, random_state=int(state))
        return [(rows[fit], rows[score]) for fit, score in folder.split(rows, data.labels[rows])]

    try:
        rest, tested = take(rows, round(test * len(rows)), sizes[0])
        search, held = take(rest, round(held_out * len(rows)), sizes[1])
        chunks = [tuple(score for _, score in deal(part, sizes[2])) if len(part) else () for part in (held, tested)]
        return Parts(tuple(deal(search, sizes[3])), chunks[0], chunks[1], search)
    except ValueError as error:
        said = str(error)
        hint = "Take fewer folds, or other shares."
        if name not in BUNDLED and data.labels.dtype.kind in "iu":
            hint += " Integer labels are classes; if they are numbers to predict, save them as float64."
        raise StudyError(
            f"The data {name!r} has {len(rows)} rows, which cannot be dealt into {folds} folds with held_out = "
            f"{held_out} and test = {test}: {said if len(said) <= _SAID else said[:_SAID] + ' …'} {hint}",
            path="problem.folds",
        ) from error
