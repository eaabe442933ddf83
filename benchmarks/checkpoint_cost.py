"""What a checkpoint after every iteration costs a run, in percent of its wall time.

::

    cost = (t₁ − t₀) / t₀ · n / (n − 1)

Both runs make the same n iterations of the head study; t₁ has a checkpoint after each, t₀ one at the end, which is why
the difference is that of n − 1 checkpoints. The order changes from round to round. The problem is prepared once: its
simulated data takes longer than the iterations, and has no checkpoints.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.contest import Options
from benchmarks.figures import Figure, Target

NOTE = (
    "Cost of checkpoints: whole runs of the same study, prepared once, with a checkpoint after every iteration and "
    "with one at the end, in turns."
)


def cost(options: Options) -> Figure:
    """Measure it; ``--quick`` on a small study, whose iterations are too short to be judged."""
    import thalweg as tw
    from thalweg.problems.waves import WaveProblem
    from thalweg.runs import Run, Study
    from thalweg.runs.shipped import find_study
    from thalweg.runtime import Local

    class Prepared(WaveProblem):
        """The same problem in every run."""

        made: Prepared | None = None
        ready = False

        @classmethod
        def build(cls, settings: Any, blocks: Any, *, seed: int, folder: Path) -> Any:
            if cls.made is None:
                cls.made = super().build(settings, blocks, seed=seed, folder=folder)
            return cls.made

        async def prepare(self, runtime: Any, progress: Any) -> None:
            if not self.ready:
                await super().prepare(runtime, progress)
                self.ready = True

    iterations = 4 if options.quick else 8
    study = Study.load(find_study("inclusion" if options.quick else "head"))
    document = {**study.document, "blocks": [{**study.document["blocks"][0], "iterations": iterations}]}

    def seconds(runtime: Local, every: int, folder: str) -> float:
        output = {"figures": False, "checkpoint_every": every}
        made = Study.from_document({**document, "output": output}, folder=study.folder, kinds={"waves": Prepared})
        outcome = tw.wait(Run(made, out=Path(folder) / "run", runtime=runtime).execute())
        return float(outcome.summary["seconds_by_part"]["blocks"])

    samples = []
    with Local(threads=2) as runtime:
        for turn in range(options.rounds + 1):
            options.say(f"cost of checkpoints: round {turn} of {options.rounds}" if turn else "cost of checkpoints")
            taken = {}
            for every in (1, iterations) if turn % 2 else (iterations, 1):
                with tempfile.TemporaryDirectory() as folder:
                    taken[every] = seconds(runtime, every, folder)
            if turn:  # the first one prepares the problem and compiles
                with_all, with_one = taken[1], taken[iterations]
                samples.append(100.0 * (with_all - with_one) / with_one * iterations / (iterations - 1))
    return Figure(
        "a checkpoint after every iteration",
        tuple(samples),
        unit="%",
        target=Target(high=5.0),
        note=f"of the time of {iterations} iterations",
        judged=not options.quick,
    )
