"""What a run is, in three lines: how many items, how many iterations, and where they are computed."""

from __future__ import annotations

from thalweg.runs.problem import Problem
from thalweg.runs.study import Study
from thalweg.runs.telling import several
from thalweg.runtime import Dask, Local, Runtime


def outline(study: Study, problem: Problem, runtime: Runtime) -> list[tuple[str, str]]:
    """Lines (name, value) that begin the plan of a run.

    Args:
        study: what is to be run.
        problem: the one that was built of it.
        runtime: where its work is to run; it need not have begun.
    """
    blocks = len(study.blocks)
    return [
        ("items", f"{problem.items} {several(problem.item_name)}"),
        ("iterations", f"{study.iterations} in {blocks} block{'s' if blocks > 1 else ''}"),
        _place(runtime),
    ]


def _place(runtime: Runtime) -> tuple[str, str]:
    count = runtime.workers
    if isinstance(runtime, Local):
        return "threads", str(count)
    if isinstance(runtime, Dask) and runtime.scheduler is not None:
        return "workers", f"those of the cluster at {runtime.scheduler}"
    return "workers", f"{count} process{'es' if count > 1 else ''}" if isinstance(runtime, Dask) else str(count)
