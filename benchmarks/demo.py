"""The demo's study, whose problem is prepared once for all that is measured with it: simulating its data takes long."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.contest import Options


class Demo:
    """The head study, on two threads; with ``--quick`` a small one.

    Args:
        options: from the command line.
        runtime: where its work runs.
    """

    def __init__(self, options: Options, runtime: Any) -> None:
        from thalweg.problems.waves import WaveProblem
        from thalweg.runs import Study
        from thalweg.runs.shipped import find_study

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

        self._kinds = {"waves": Prepared}
        self._runtime = runtime
        self._study = Study.load(find_study("inclusion" if options.quick else "head"))

    def run(self, *, iterations: int, every: int, display: Any = None) -> float:
        """Run so many iterations with a checkpoint every so many; the seconds that they took."""
        import thalweg as tw
        from thalweg.runs import Run

        with tempfile.TemporaryDirectory() as folder:
            study = self._first(iterations, {"checkpoint_every": every})
            run = Run(study, out=Path(folder) / "run", runtime=self._runtime, display=display)
            return float(tw.wait(run.execute()).summary["seconds_by_part"]["blocks"])

    def problem(self) -> Any:
        """The problem, prepared."""
        import thalweg as tw

        problem = self._first(1, {}).build_problem()
        tw.wait(problem.prepare(self._runtime, lambda done, total, text: None))
        tw.wait(problem.begin_block(0))
        return problem

    def _first(self, iterations: int, output: dict[str, Any]) -> Any:
        """The study with its first block only: an iteration takes as long in every block."""
        from thalweg.runs import Study

        document = self._study.document
        blocks = [{**document["blocks"][0], "iterations": iterations}]
        changed = {**document, "blocks": blocks, "output": {"figures": False, **output}}
        return Study.from_document(changed, folder=self._study.folder, kinds=self._kinds)
