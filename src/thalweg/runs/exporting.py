"""One checkpoint of a run as a file that other programs read: the variables by name. Arrays go into an ``.npz`` file
for NumPy, with everything else beside them; the values of a search are JSON, as ``result.json`` has them."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointCorruptError, CheckpointError, RunError
from thalweg.runs.files import json_text, member_names, replacing
from thalweg.runs.folder import RunFolder
from thalweg.runs.position import Position

_VARIABLE = "variable/"
_SEARCH = "optimizer/search"  # what a search knows


def export(run: Path, out: Path | None = None, *, iteration: int | None = None) -> Path:
    """Write a checkpoint as ``.npz``, or that of a search as ``.json``.

    Args:
        run: the run's folder; the run may be going on.
        out: the file, ``.npz`` or of a search ``.json``, which must not be there yet; default:
            ``<run>-<iteration>`` with that ending, in the present folder.
        iteration: of which iteration; default: of the newest checkpoint.

    Returns:
        The file. It holds each variable under its name, the optimizer's arrays as ``optimizer/...``, and in
        ``meta`` (a text, JSON) the counters, random generators and hyperparameters. That of a search holds the values
        that were best then, by variable, as ``result.json`` has those that were chosen.

    Raises:
        RunError: it is no run, there is no checkpoint of that iteration, or the file is called otherwise, is there, or
            cannot be written.
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
    searched = _SEARCH in arrays
    suffix = ".json" if searched else ".npz"
    out = out if out is not None else Path(f"{run.resolve().name}-{iteration}{suffix}")
    if out.suffix != suffix:
        what = "The values of a search are written as JSON" if searched else "Arrays are written for NumPy"
        raise RunError(f"{what}, and {out} is no name for that: let it end with {suffix}, such as {out.stem}{suffix}.")
    if out.exists():
        raise RunError(f"{out} is there already, and nothing is written over. Name another file, or remove it.")
    if searched:
        _write_values(out, arrays)
        return out
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        name = name.removeprefix(_VARIABLE)
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


def _write_values(out: Path, arrays: dict[str, Any]) -> None:
    values = {}
    for name, array in arrays.items():
        if name.startswith(_VARIABLE):
            try:
                values[name.removeprefix(_VARIABLE)] = json.loads(array.tobytes())
            except (ValueError, RecursionError) as error:
                raise RunError(f"What the checkpoint has of {name.removeprefix(_VARIABLE)!r} is no JSON.") from error
    with replacing(out) as file:
        file.write(json_text(values)[0])


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
