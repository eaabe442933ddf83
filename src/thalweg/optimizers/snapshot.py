"""An optimizer's state as data: arrays and JSON, nothing else; also on the disk, from any backend for any other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.errors import CheckpointError
from thalweg.optimizers.parameters import mismatch

_DATA = "variables/"


OF_UPDATER = "it is of a get_updater, which keeps a state and counts for each key: load it with one"


@dataclass(frozen=True)
class OptimizerSnapshot:
    """What ``optimizer.state()`` returns and ``optimizer.restore()`` takes: copies.

    Args:
        arrays: the rule's state, ``"slots/<slot>/<variable>"`` → an array of the variable's shape and dtype.
        meta: counters, hyperparameters, what the variables look like and what the hooks are; JSON.

    Example:
        >>> import tempfile
        >>> import torch
        >>> import thalweg as tw
        >>> from thalweg.optimizers import OptimizerSnapshot
        >>> from thalweg.optimizers.torch import TorchOptimizer
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> there = TorchOptimizer([("w", w)], tw.Adam(learning_rate=0.5))
        >>> w.grad = torch.ones(2)
        >>> there.step()
        >>> x = tw.Variable(w.detach().numpy().copy(), name="w", needs_grad=True)
        >>> here = tw.Adam(x)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     there.snapshot().save(folder)
        ...     here.restore(OptimizerSnapshot.load(folder))
        >>> here.iterations, here.learning_rate
        (1, 0.5)
    """

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]

    def save(
        self, path: str | os.PathLike[str], *, keep: int = 2, data: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Write it as a new generation of a checkpoint folder, in the format of ``optimizer.dump``.

        Args:
            path: a folder.
            keep: how many generations stay there, at least 1.
            data: the variables' data by name, where they are to be saved, too.

        Raises:
            CheckpointError: it cannot be written; earlier generations are untouched.
        """
        from thalweg.checkpoints import CheckpointStore, whole  # not when thalweg is imported: few processes save

        keep = whole(keep, "keep", 1)  # before anything is written
        _check_path(path)
        store = CheckpointStore(path)
        store.save(
            {**self.arrays, **{f"{_DATA}{name}": array for name, array in (data or {}).items()}},
            {"optimizer": self.meta},
        )
        store.prune(keep)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, generation: int | None = None) -> OptimizerSnapshot:
        """Read what :meth:`save`, or ``dump`` of an optimizer, has written.

        Args:
            path: the folder.
            generation: which generation, by default the newest.

        Returns:
            The snapshot, without the variables' data.

        Raises:
            CheckpointError: there is none, or it cannot be read, or is damaged.
            StateMismatchError: it is no optimizer's.
        """
        return read(path, generation)[0]


def read(path: str | os.PathLike[str], generation: int | None) -> tuple[OptimizerSnapshot, dict[str, np.ndarray]]:
    """What :meth:`OptimizerSnapshot.save` wrote.

    Args:
        path: the folder.
        generation: which, or ``None`` for the newest.

    Returns:
        The snapshot, and the data by variable name.

    Raises:
        CheckpointError: there is none, or it cannot be read, or is damaged.
        StateMismatchError: it is no optimizer's.
    """
    from thalweg.checkpoints import CheckpointStore

    _check_path(path)
    arrays, meta, number = CheckpointStore(path).load(generation)
    if not isinstance(meta.get("optimizer"), dict):
        fault = OF_UPDATER if "updater" in meta else "it holds no optimizer state"
        raise mismatch([fault], f"generation {number} in {os.fspath(path)}")
    data = {name.removeprefix(_DATA): array for name, array in arrays.items() if name.startswith(_DATA)}
    rest = {name: array for name, array in arrays.items() if not name.startswith(_DATA)}
    return OptimizerSnapshot(rest, meta["optimizer"]), data


def _check_path(path: Any) -> None:
    if not isinstance(path, str | os.PathLike):
        raise CheckpointError(f"the folder is given as {path!r}; give its path, a string or a pathlib.Path")
