"""The model that a run ended with, known by its digest.

The summary has it. Where the summary is damaged or gone it is that of the last checkpoint, which is taken before
anything else is written at an end, or of ``result.npz``; but only if the history says that the run has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointError, RunError
from thalweg.runs.digest import model_digest
from thalweg.runs.folder import RunFolder
from thalweg.runs.position import Position
from thalweg.runs.record import BEGINNINGS, ENDINGS, RunRecord


def ended_digest(record: RunRecord) -> str | None:
    """The digest of the model that a run ended with.

    Args:
        record: the run.

    Returns:
        64 hexadecimal digits; None while it runs, where it was killed, or where nothing says it any more.
    """
    if record.status not in ENDINGS:
        return None
    found = record.summary.get("digest")
    if isinstance(found, str):
        return found
    lifecycle = [event["kind"] for event in record.events if event["kind"] in (*ENDINGS, *BEGINNINGS)]
    if not lifecycle or lifecycle[-1] not in ENDINGS:  # a process that left at once has written no result
        return None
    arrays, iteration = _newest(record)
    if arrays and iteration == record.done and "best" not in record.iterations:  # a search chooses after its last one
        return model_digest(arrays)
    return result_digest(record.folder, arrays)


def _newest(record: RunRecord) -> tuple[dict[str, np.ndarray], int]:
    """The variables of the newest checkpoint that is whole, and its iteration."""
    store = CheckpointStore(record.folder.checkpoints)
    with suppress(OSError):
        for number in reversed(store.generations()):
            with suppress(CheckpointError, RunError):
                arrays, meta, _ = store.load(number)
                variables = {n.removeprefix("variable/"): a for n, a in arrays.items() if n.startswith("variable/")}
                return variables, Position.from_meta(meta).iteration
    return {}, 0


def result_digest(folder: RunFolder, names: Iterable[str]) -> str | None:
    """The digest of what ``result.npz`` has under the variables' names; None if it has not all of them."""
    names = list(names)
    try:
        with open(folder.result, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return model_digest({name: file[name] for name in names}) if names else None
    except Exception:  # whatever a damaged archive makes NumPy raise
        return None
