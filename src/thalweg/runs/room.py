"""The disk that a run will need, before anything is computed. ::

checkpoints at once · bytes of one  +  (blocks + 1) · bytes of the model  +  bytes of the pictures

The model is kept after each block, and once more in the result.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from thalweg.checkpoints.tensors import state_bytes
from thalweg.errors import RunError
from thalweg.optimizers import LocalOptimizer
from thalweg.runs.keeping import Retention
from thalweg.runs.problem import Problem
from thalweg.runs.study import Study
from thalweg.runs.variables import as_arrays

PICTURES = 1 << 20
"""Bytes: all pictures of a run are reckoned with this."""

_MEMBER = 400
"""Bytes of an array in an .npz file besides its elements."""


@dataclass(frozen=True)
class Room:
    """What a run needs, and what there is.

    Args:
        checkpoints: how many are on the disk at once, at most.
        each: bytes of one, about.
        models: how many files hold the model: one a block, and the result.
        model: bytes of one of them, about.
        pictures: bytes of the pictures, at most.
        there: bytes that the run's folder has already.
        free: bytes that the file system has left for us.
        folder: where that was asked.
    """

    checkpoints: int
    each: int
    models: int
    model: int
    pictures: int
    there: int
    free: int
    folder: Path

    @property
    def needed(self) -> int:
        """Bytes in all."""
        return self.checkpoints * self.each + self.models * self.model + self.pictures

    @property
    def line(self) -> tuple[str, str]:
        """For the plan that is printed before the work."""
        count = f"{self.checkpoints} checkpoints of {size(self.each)}" if self.checkpoints != 1 else "1 checkpoint"
        return "disk", f"{size(self.needed)} ({count}, {self.models} models); {size(self.free)} are free"

    def check(self) -> None:
        """Refuse a run that has no room.

        Raises:
            RunError: the file system has less room than is needed.
        """
        if self.needed - self.there > self.free:
            raise RunError(
                f"The run needs {size(self.needed)} of disk ({self.checkpoints} checkpoints of {size(self.each)} at "
                f"once, {self.models} models of {size(self.model)}, pictures), and the file system of {self.folder} "
                f"has {size(self.free)} free. Make room, write it elsewhere (--out), or keep fewer checkpoints "
                "(output.keep, keep_best, keep_every).",
                needed=self.needed,
                free=self.free,
            )


def room_for(study: Study, problem: Problem, optimizer: LocalOptimizer, folder: Path) -> Room:
    """What a run of ``study`` in ``folder`` will need; the folder need not be there yet."""
    data = {f"variable/{name}": array.nbytes for name, array in as_arrays(problem.variables).items()}
    state = {f"optimizer/{name}": array.nbytes for name, array in optimizer.state().arrays.items()}
    counted = ("checkpoints/*/*", "models/*", "figures/*", "result.npz")
    there = sum(file.stat().st_size for what in counted for file in folder.glob(what) if file.is_file())
    where = folder.absolute()
    while not where.is_dir() and where != where.parent:
        where = where.parent
    return Room(
        checkpoints=Retention.of(study.settings.output).most(study.blocks),
        each=state_bytes({**data, **state}),
        models=len(study.blocks) + 1,
        model=sum(data.values()) + _MEMBER * len(data),
        pictures=PICTURES if study.settings.output.figures else 0,
        there=there,
        free=shutil.disk_usage(os.fspath(where)).free,
        folder=where,
    )


def size(count: int) -> str:
    """Bytes as a person reads them.

    Example:
        >>> from thalweg.runs.room import size
        >>> size(812), size(4_300_000), size(78_000_000_000)
        ('812 B', '4.1 MiB', '72.6 GiB')
    """
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
