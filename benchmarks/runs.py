"""The figures of runs: checkpoints, the loop's own cost, work on two threads."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import checkpoint_cost
from benchmarks.contest import Options, contest, peers
from benchmarks.figures import Figure, Target

CONTENDERS = {"thalweg": "checkpoint_thalweg", "torch": "checkpoint_torch", "numpy": "checkpoint_numpy"}
NOTES = (
    "Checkpoints: float32 arrays written to a new place and forced to the disk, and read again just after (from the "
    "page cache, so reading is what checking costs). Thalweg's have a BLAKE2 digest of every array, which torch.save "
    "and np.save have not: a damaged file is noticed.",
    checkpoint_cost.NOTE,
    "Bookkeeping: a whole iteration of the loop on a problem that does nothing (selection, propose, feedback, step, "
    "history on its way to the disk, display, position), less feedback and step alone.",
    "Efficiency: the demo's gradient, 8 shots, on one thread over twice the same on two.",
)


def figures(options: Options) -> list[Figure]:
    """Measure everything, ``--quick`` smaller."""
    return [*_checkpoints(options), checkpoint_cost.cost(options), _bookkeeping(options), _efficiency(options)]


def _checkpoints(options: Options) -> list[Figure]:
    count, size = (4, 1 << 18) if options.quick else (8, 1 << 23)
    gigabytes = count * size * 4 / 1e9
    found = []
    for what in ("write", "read"):
        options.say(f"checkpoint, {what}")
        settings = {"count": count, "size": size, "what": what, "folder": tempfile.gettempdir()}
        outcomes = contest(CONTENDERS, settings, options)
        ours = outcomes["thalweg"]
        lines = peers(outcomes, scale=lambda s: gigabytes / s, better=lambda mine, theirs: mine / theirs)
        samples = tuple(gigabytes / s for s in ours.samples)
        title = f"checkpoint of {gigabytes:.2f} GB, {what}"
        found.append(Figure(title, samples, unit="GB/s", peers=lines, note=ours.problem))
    return found


def _bookkeeping(options: Options) -> Figure:
    from pydantic import BaseModel

    import thalweg as tw
    from thalweg.runs import Feedback, Problem, Run, Study

    class Nothing(BaseModel, extra="forbid"):
        pass

    class Still(Problem):
        """A variable of one number, and gradients that are there already."""

        kind, Settings, BlockSettings, items = "still", Nothing, Nothing, 1

        def __init__(self) -> None:
            self.x = tw.Variable(np.zeros(1), name="x", needs_grad=True)
            self.variables = (self.x,)
            self.answer = Feedback(1.0, {"x": np.zeros(1)})

        @classmethod
        def build(cls, settings: Any, blocks: Any, *, seed: int, folder: Path) -> Still:
            return cls()

        async def feedback(self, batch: Any, runtime: Any) -> Feedback:
            return self.answer

    steps = 300 if options.quick else 3000
    study = Study.from_document(
        {
            "title": "nothing",
            "problem": {"kind": "still"},
            "optimizer": {"kind": "sgd"},
            "blocks": [{"iterations": steps}],
            "output": {"figures": False, "checkpoint_every": steps},
        },
        kinds={"still": Still},
    )

    async def alone() -> float:
        problem = Still()
        optimizer = tw.SGD(problem.x)
        began = time.perf_counter()
        for _ in range(steps):
            await optimizer.apply(await problem.feedback(None, None))
        return (time.perf_counter() - began) / steps

    samples = []
    for turn in range(options.rounds):
        options.say(f"bookkeeping: round {turn + 1} of {options.rounds}")
        with tempfile.TemporaryDirectory() as folder:
            outcome = tw.wait(Run(study, out=Path(folder) / "run").execute())
            seconds = outcome.summary["seconds_by_part"]["blocks"] / steps
        samples.append((seconds - tw.wait(alone())) * 1e6)
    return Figure(
        "bookkeeping of an iteration", tuple(samples), unit="µs", target=Target(high=50.0), judged=not options.quick
    )


def _efficiency(options: Options) -> Figure:
    import thalweg as tw
    from thalweg.runs import Study
    from thalweg.runs.shipped import find_study
    from thalweg.runtime import Local

    study = Study.load(find_study("inclusion" if options.quick else "head"))
    with Local(threads=2) as both:
        problem = study.build_problem()
        tw.wait(problem.prepare(both, lambda done, total, text: None))
        tw.wait(problem.begin_block(len(study.blocks) - 1))
        batch = np.arange(min(8, problem.items))
        tw.wait(problem.feedback(batch, both))
        samples = []
        for turn in range(options.rounds):
            options.say(f"efficiency: round {turn + 1} of {options.rounds}")
            seconds = []
            for threads in (1, 2):
                with Local(threads=threads) as runtime:
                    work = partial(problem.feedback, batch, runtime)
                    began = time.perf_counter()
                    tw.wait(work())
                    seconds.append(time.perf_counter() - began)
            samples.append(seconds[0] / (2 * seconds[1]))
    return Figure(
        "efficiency of shots on two threads", tuple(samples), target=Target(low=0.9), judged=not options.quick
    )
