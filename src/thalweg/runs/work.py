"""What a run works with, before there is anything of it on the disk: problem, optimizer, where they compute, the room
that they will need."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.optimizers import LocalOptimizer
from thalweg.runs import rewarded
from thalweg.runs.problem import Problem
from thalweg.runs.room import Room, room_for
from thalweg.runs.study import Study
from thalweg.runs.tuning import build_optimizer
from thalweg.runtime import Dask, Runtime


@dataclass(frozen=True)
class Work:
    """What a run works with.

    Args:
        problem: what is optimized.
        optimizer: bound to its variables.
        runtime: where numeric work runs.
        room: the disk that the run will need.
        plan: lines (name, value with unit) about what it will need and can cost.
    """

    problem: Problem
    optimizer: LocalOptimizer
    runtime: Runtime
    room: Room
    plan: list[tuple[str, str]]

    @classmethod
    async def of(
        cls,
        study: Study,
        runtime: Runtime,
        folder: Path,
        stack: ExitStack,
        *,
        start: bool = True,
        begins: bool = True,
    ) -> Work:
        """Build what a study says.

        Args:
            study: the study.
            runtime: where numeric work runs.
            folder: where the run is to be, or is.
            stack: gives back what problem and optimizer hold, also if something is refused after they were built.
            start: it is to be worked with: have a cluster begin, and refuse keys that are not there.
            begins: refuse a start that the problem refuses, and a search with nothing to choose; of a run that goes on
                they are past.

        Raises:
            ThalwegError: the study or the problem was refused, or there is no room or no key for the run.
        """
        # What is built is given back also if its caller is cancelled meanwhile.
        problem = await runtime.run(_built, study, stack, begins)
        optimizer = await runtime.run(_bound, study, problem, stack, begins)
        if start and problem.rewarded:
            rewarded.check_keys(problem, optimizer)
        if start and isinstance(runtime, Dask):
            await runtime.start()
        room = await runtime.run(_room, study, problem, optimizer, folder, runtime.workers)
        return cls(
            problem, optimizer, runtime, room, await runtime.run(_plan, study, problem, optimizer, runtime, begins)
        )


def _built(study: Study, stack: ExitStack, begins: bool) -> Problem:
    problem = study.build_problem(begins=begins)
    stack.callback(problem.close)
    return problem


def _bound(study: Study, problem: Problem, stack: ExitStack, begins: bool) -> Any:
    optimizer = optimizer_of(study, problem, begins=begins)
    if problem.rewarded:
        stack.callback(rewarded.let_go, optimizer)
    return optimizer


def optimizer_of(study: Study, problem: Problem, *, begins: bool = True) -> Any:
    """The study's optimizer, bound to the problem's variables, with a look at these if the run begins there; where it
    has a model of its own, a relative folder for its answers starts at the study's."""
    settings = study.settings
    table, lm = settings.optimizer, settings.optimizer.get("lm")
    if isinstance(lm, dict) and isinstance(lm.get("cache"), str):
        table = {**table, "lm": {**lm, "cache": str(study.folder / lm["cache"])}}
    return build_optimizer(table, problem, settings.seed, study.blocks, settings.budget, begins=begins)


def _room(study: Study, problem: Problem, optimizer: LocalOptimizer, folder: Path, workers: int) -> Room:
    """Refuse a run that would fill the disk, before there is anything of it."""
    room = room_for(study, problem, optimizer, folder, workers=workers)
    room.check()
    return room


def _plan(study: Study, problem: Problem, optimizer: Any, runtime: Runtime, begins: bool) -> list[tuple[str, str]]:
    plan = problem.plan(runtime, study.iterations)
    if problem.rewarded:
        plan += rewarded.cost(study, problem, optimizer, begins=begins)
    return plan
