"""The figures of runs: checkpoints, the loop's own cost, sums on a cluster, work on two threads."""

from __future__ import annotations

import operator
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import checkpoint_cost
from benchmarks.contest import Options, contest, peers
from benchmarks.demo import Demo
from benchmarks.figures import Figure, Target

CONTENDERS = {"thalweg": "checkpoint_thalweg", "torch": "checkpoint_torch", "numpy": "checkpoint_numpy"}
NOTES = (
    "Checkpoints: float32 arrays written to a new place and forced to the disk, and read again just after (from the "
    "page cache, so reading is what checking costs). Thalweg's have a BLAKE2 digest of every array, which torch.save "
    "and np.save have not: a damaged file is noticed.",
    checkpoint_cost.NOTE,
    "Bookkeeping: a whole iteration of the loop on a problem that does nothing (selection, propose, feedback, step, "
    "history on its way to the disk, the display of a terminal, position), less feedback and step alone.",
    "Cluster: two worker processes of this machine; the sum as map_reduce makes it, and as Client.submit makes it, one "
    "call a task and one an addition, in turns: the same tree, workers and connection.",
    "Efficiency: the demo's gradient, 8 shots, on one thread over twice the same on two.",
)


def figures(options: Options) -> list[Figure]:
    """Measure everything, ``--quick`` smaller."""
    from thalweg.runtime import Local

    found = _checkpoints(options)
    with Local(threads=2) as both:
        demo = Demo(options, both)
        found.append(checkpoint_cost.cost(options, demo))
        if options.whole:
            found.append(checkpoint_cost.whole_cost(options, demo))
        efficiency = _efficiency(options, demo, both)
    return [*found, _bookkeeping(options), _cluster(options), efficiency]


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
    from rich.console import Console

    import thalweg as tw
    from thalweg.runs import Feedback, Problem, Run, Study
    from thalweg.runs.live import LiveDisplay

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
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
            display = LiveDisplay(Console(file=nowhere, force_terminal=True, width=100, height=40))
            outcome = tw.wait(Run(study, out=Path(folder) / "run", display=display).execute())
            seconds = outcome.summary["seconds_by_part"]["blocks"] / steps
        samples.append((seconds - tw.wait(alone())) * 1e6)
    return Figure(
        "bookkeeping of an iteration", tuple(samples), unit="µs", target=Target(high=50.0), judged=not options.quick
    )


def _cluster(options: Options) -> Figure:
    """A map_reduce of trivial tasks beside the same tree submitted by hand, in turns on the same workers."""
    import thalweg as tw
    from thalweg.runtime import Dask

    count = 100 if options.quick else 1000
    items = [float(i) for i in range(count)]

    with Dask(workers=2) as runtime:
        tw.wait(runtime.map_reduce(abs, items[:50]))  # the workers have imported everything
        client = runtime._client  # the same cluster and connection for both
        ours, by_hand = [], []
        for turn in range(options.rounds):
            options.say(f"cluster: round {turn + 1} of {options.rounds}")
            works = [
                (ours, lambda: tw.wait(runtime.map_reduce(abs, items))),
                (by_hand, lambda turn=turn: _submitted(client, items, turn)),
            ]
            totals = set()
            for seconds, work in works if turn % 2 else reversed(works):
                began = time.perf_counter()
                totals.add(work())
                seconds.append(time.perf_counter() - began)
            assert len(totals) == 1, f"the sums differ: {totals}"
    ratios = tuple(mine / theirs for mine, theirs in zip(ours, by_hand, strict=True))
    note = f"{median(ours):.2f} s and {median(by_hand):.2f} s"
    return Figure(
        f"map_reduce of {count} trivial tasks ÷ by hand",
        ratios,
        target=Target(high=1.2),
        judged=not options.quick,
        note=note,
    )


def _submitted(client: Any, items: list[float], turn: int) -> float:
    """The sum as somebody writes it who has Dask only: one submit a task, one an addition."""
    level = [client.submit(abs, item, key=f"by-hand-{turn}-{i}") for i, item in enumerate(items)]
    height = 0
    while len(level) > 1:
        height += 1
        above = [
            client.submit(operator.add, level[i], level[i + 1], key=f"by-hand-{turn}-{height}-{i}")
            for i in range(0, len(level) - 1, 2)
        ]
        level = above + level[len(level) - len(level) % 2 :]
    total: float = level[0].result()
    return total


def _efficiency(options: Options, demo: Demo, both: Any) -> Figure:
    import thalweg as tw
    from thalweg.runtime import Local

    problem = demo.problem()
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
