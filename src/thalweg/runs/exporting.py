"""One checkpoint of a run as a file that NumPy reads: the variables by name, and everything else beside them."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointCorruptError, CheckpointError, RunError
from thalweg.runs.files import member_names, replacing
from thalweg.runs.folder import RunFolder
from thalweg.runs.position import Position


def export(run: Path, out: Path | None = None, *, iteration: int | None = None) -> Path:
    """Write a checkpoint as ``.npz``.

    Args:
        run: the run's folder; the run may be going on.
        out: the file, which must not be there yet; default: ``<run>-<iteration>.npz`` in the present folder.
        iteration: of which iteration; default: of the newest checkpoint.

    Returns:
        The file. It holds each variable under its name, the optimizer's arrays as ``optimizer/...``, and in
        ``meta`` (a text, JSON) the counters, random generators and hyperparameters.

    Raises:
        RunError: it is no run, there is no checkpoint of that iteration, or the file is there or cannot be written.
        CheckpointCorruptError: the checkpoint is damaged.

    Example:
        >>> from thalweg.runs.exporting import export
        >>> export(Path("no-such-run"))
        Traceback (most recent call last):
        ...
        thalweg.errors.RunError: no-such-run has no checkpoints; is it the folder of a run?
    """
    store = CheckpointStore(RunFolder(run).checkpoints)
    number, iteration = _find(store, run, iteration)
    arrays, meta, _ = store.load(number)
    out = out if out is not None else Path(f"{run.resolve().name}-{iteration}.npz")
    if out.exists():
        raise RunError(f"{out} is there already, and nothing is written over. Name another file, or remove it.")
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        name = name.removeprefix("variable/")
        # Whoever unpacks the archive with another program must not write outside of where they stand.
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            raise RunError(f"The checkpoint has an array named {name!r}, which is no name for a file in an archive.")
        if name in found:
            raise RunError(f"The checkpoint has two arrays that would be named {name!r} in an archive.")
        found[name] = array
    names = member_names(found, reserved=["meta"])
    members = {names[name]: array for name, array in found.items()}
    with replacing(out) as file:
        np.savez(file, meta=np.array(json.dumps(meta, sort_keys=True)), **members)
    return out


def _find(store: CheckpointStore, run: Path, wanted: int | None) -> tuple[int, int]:
    """The number of the newest checkpoint of an iteration, and that iteration."""
    found: dict[int, int] = {}
    damaged: list[CheckpointCorruptError] = []
    for number in store.generations():
        try:
            found[Position.from_meta(store.meta(number)).iteration] = number
        except CheckpointCorruptError as error:
            damaged.append(error)
        except CheckpointError:
            if number in store.generations():
                raise  # else the run has just removed an old one
    if not found and damaged:
        raise damaged[-1]
    if not found and RunFolder(run).history.is_file():
        raise RunError(
            f"The run {run} has no checkpoint yet, or they were removed. The study says how often one is made "
            "(output.checkpoint_every); there is one at the end of each block, and where a run is stopped."
        )
    if not found:
        raise RunError(f"{run} has no checkpoints; is it the folder of a run?")
    if wanted is not None and wanted not in found:
        there = ", ".join(map(str, sorted(found)))
        more = f" {damaged[-1]}" if damaged else ""
        raise RunError(f"{run} has no checkpoint of iteration {wanted}; there are those of {there}.{more}")
    newest = max(found.values()) if wanted is None else found[wanted]
    return newest, next(iteration for iteration, number in found.items() if number == newest)
