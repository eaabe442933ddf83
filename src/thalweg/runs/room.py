"""The disk that a run will need, before anything is computed. ::

    checkpoints at once · bytes of one  +  (blocks + 1) · bytes of the model  +  bytes of the pictures
        +  bytes of the history
        +  kept sums at once · bytes of one        where output.checkpoint_shots has them kept

The history has a row for each iteration, in which the items of its batch are named. What a search writes besides, of
each candidate and evaluation, is not known here.

The model is kept after each block, and once more in the result. A sum over shots holds a gradient, which has the bytes
of the model; what a problem sums besides is not known here. Of n shots on w workers, which take about as long as each
other, the sums in the tree that wait for their other half are at most those of a beginning, one a level, and one beside
each shot in flight; while a larger one is written, its parts are still there; and the sum of the iteration before is
there until its checkpoint is::

    min(⌈n / 2⌉, ⌈log2 n⌉ + w)  +  min(⌈n / 2⌉, w)  +  1
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from thalweg.checkpoints.tensors import state_bytes
from thalweg.errors import RunError
from thalweg.optimizers import LocalOptimizer
from thalweg.runs.keeping import Retention
from thalweg.runs.kept_shots import SHOTS
from thalweg.runs.problem import Problem
from thalweg.runs.study import Study
from thalweg.runs.variables import as_arrays

PICTURES = 1 << 20
"""Bytes: all pictures of a run are reckoned with this."""

_MEMBER = 400
"""Bytes of an array in an .npz file besides its elements."""

_EMPTY, _ROW = 1 << 16, 300
"""Bytes of a history without iterations, and of an iteration in it besides its batch."""

_FASTEST = 1e-3
"""s that an iteration takes about at least, where a budget of seconds says how many there can be."""


@dataclass(frozen=True)
class Room:
    """What a run needs, and what there is.

    Args:
        checkpoints: how many are on the disk at once, at most.
        each: bytes of one, about.
        models: how many files hold the model: one a block, and the result.
        model: bytes of one of them, about.
        pictures: bytes of the pictures, at most.
        history: bytes of the history, about.
        sums: how many sums of finished items are on the disk at once, about.
        sum: bytes of one of them, about.
        there: bytes that the run's folder has already.
        free: bytes that the file system has left for us.
        folder: where that was asked.
    """

    checkpoints: int
    each: int
    models: int
    model: int
    pictures: int
    history: int
    sums: int
    sum: int
    there: int
    free: int
    folder: Path

    @property
    def needed(self) -> int:
        """Bytes in all."""
        kept = self.checkpoints * self.each + self.sums * self.sum
        return kept + self.models * self.model + self.pictures + self.history

    @property
    def line(self) -> tuple[str, str]:
        """For the plan that is printed before the work."""
        count = f"{self.checkpoints} checkpoints of {size(self.each)}" if self.checkpoints != 1 else "1 checkpoint"
        sums = f", {self.sums} sums of finished items" if self.sums else ""
        parts = f"{count}, {self.models} models{sums}, a history of {size(self.history)}"
        return "disk", f"{size(self.needed)} ({parts}); {size(self.free)} are free"

    def check(self) -> None:
        """Refuse a run that has no room.

        Raises:
            RunError: the file system has less room than is needed.
        """
        if self.needed - self.there > self.free:
            sums = f"{self.sums} sums of finished items of {size(self.sum)}, " if self.sums else ""
            more = "keep_every) and no sums (output.checkpoint_shots)" if self.sums else "keep_every)"
            if self.history > self.needed - self.history:
                more += "; most of it is the history, with a row for each iteration: fewer iterations need less"
            raise RunError(
                f"The run needs {size(self.needed)} of disk ({self.checkpoints} checkpoints of {size(self.each)} at "
                f"once, {self.models} models of {size(self.model)}, {sums}pictures, a history of {size(self.history)}"
                f"), and the file system of {self.folder} has {size(self.free)} free. Make room, write it elsewhere "
                f"(--out), or keep fewer checkpoints (output.keep, keep_best, {more}.",
                needed=self.needed,
                free=self.free,
            )


def room_for(study: Study, problem: Problem, optimizer: LocalOptimizer, folder: Path, *, workers: int = 1) -> Room:
    """What a run of ``study`` in ``folder`` will need; the folder need not be there yet.

    Args:
        study: what is to be run.
        problem: what it optimizes.
        optimizer: bound to the problem's variables.
        folder: where the run is to be, or is.
        workers: how many items are worked on at once.
    """
    data = {f"variable/{name}": array.nbytes for name, array in as_arrays(problem.variables).items()}
    state = {f"optimizer/{name}": array.nbytes for name, array in optimizer.state().arrays.items()}
    history = _history(study, problem)
    there = _bytes(folder, "checkpoints/*/*", "models/*", "figures/*", "result.npz", f"{SHOTS}/*/*/*")
    there += min(_bytes(folder, "run.sqlite*"), history)  # a search has more in it than was reckoned with
    where = folder.absolute()
    while not where.is_dir() and where != where.parent:
        where = where.parent
    return Room(
        checkpoints=Retention.of(study.settings.output).most(study.blocks),
        each=state_bytes({**data, **state}),
        models=len(study.blocks) + 1,
        model=sum(data.values()) + _MEMBER * len(data),
        pictures=PICTURES if study.settings.output.figures else 0,
        history=history,
        sums=_sums(study, problem, workers) if study.settings.output.checkpoint_shots else 0,
        sum=state_bytes(data),
        there=there,
        free=shutil.disk_usage(os.fspath(where)).free,
        folder=where,
    )


def _bytes(folder: Path, *patterns: str) -> int:
    return sum(file.stat().st_size for pattern in patterns for file in folder.glob(pattern) if file.is_file())


def _history(study: Study, problem: Problem) -> int:
    """Bytes of the history, in which every item of a batch takes its digits and a comma; and a little more, since
    pages are not full. Of iterations that a budget does not come to, it has none."""
    digits, budget = len(str(problem.items)) + 1, study.settings.budget
    left = math.inf if budget.seconds is None else budget.seconds / _FASTEST
    rows = 0.0
    for block in study.blocks:
        batch = block.batch_size or problem.items
        made = min(block.iterations, left, math.inf if budget.evaluations is None else budget.evaluations / batch)
        rows += made * (_ROW + digits * batch)
        left -= made
    return _EMPTY + int(rows * 9 / 8)


def _sums(study: Study, problem: Problem, workers: int) -> int:
    """How many kept sums are on the disk at once, about."""
    batch = max(block.batch_size or problem.items for block in study.blocks)
    depth, half = (batch - 1).bit_length(), (batch + 1) // 2
    return min(half, depth + workers) + min(half, workers) + 1


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
