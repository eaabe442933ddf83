"""What a checkpoint after every iteration costs a run, in percent of its wall time.

Within one run that writes a checkpoint after every second iteration, so that what is compared are neighbours::

    iteration     1   2   3   4   5   6          t₃: the copy of the state, and the write beside it
    checkpoint after  ×       ×       ×          t₂, t₄: nothing of it

    cost = t₃ / ((t₂ + t₄) / 2) − 1,   then t₅ with t₄ and t₆, ...

An iteration of the head study takes seconds, so that slow drifts of the machine are in neighbours alike. It would not
do if a write went on into the iteration after next: that is looked at, and then there is no value.

``--whole`` measures it over whole runs besides, which takes ten times as long. Both runs make the same n iterations; t₁
has a checkpoint after each, t₀ one at the end, which is why the difference is that of n − 1 checkpoints::

    cost = (t₁ − t₀) / t₀ · n / (n − 1)

The order changes from round to round.
"""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

from benchmarks.contest import Options
from benchmarks.demo import Demo
from benchmarks.figures import Figure, Target

NOTE = (
    "Cost of checkpoints: iterations of one run of the demo beside which a checkpoint is written, each against its two "
    "neighbours beside which none is. With --whole also whole runs, with a checkpoint after every iteration and with "
    "one at the end, in turns. The problem is prepared once: its simulated data has no checkpoints."
)
TARGET = Target(high=5.0)


def cost(options: Options, demo: Demo) -> Figure:
    """Iterations with a checkpoint against their neighbours; a pair each round."""
    from thalweg.runs import QuietDisplay

    options.say("cost of checkpoints: preparing the problem")
    seconds: list[float] = []
    late: list[int] = []

    class Looking(QuietDisplay):
        def iteration(self, record: Any) -> None:
            options.say(f"cost of checkpoints: iteration {record.iteration} of {iterations}")
            seconds.append(record.seconds)
            writes = any(thread.name == "thalweg-checkpoint" for thread in threading.enumerate())
            if writes and record.iteration % 2:  # one that began before this iteration
                late.append(record.iteration)

    iterations = 2 * options.rounds + 2
    demo.run(iterations=iterations, every=2, display=Looking())
    taken = [later - earlier for earlier, later in pairwise(seconds)]  # of iterations 2, 3, ...
    samples = [100.0 * (2.0 * taken[k] / (taken[k - 1] + taken[k + 1]) - 1.0) for k in range(1, len(taken) - 1, 2)]
    note = f"iterations of {sum(taken) / len(taken):.2f} s"
    if late and not options.quick:
        samples, note = [], f"a write took longer than iteration {late[0]}: use --whole"
    return Figure(
        "a checkpoint after every iteration",
        tuple(samples),
        unit="%",
        target=TARGET,
        note=note,
        judged=not options.quick,
    )


def whole_cost(options: Options, demo: Demo) -> Figure:
    """Whole runs with a checkpoint after every iteration against those with one at the end; a pair each round."""
    iterations = 4 if options.quick else 8
    samples = []
    for turn in range(options.rounds):
        taken = {}
        for every in (1, iterations) if turn % 2 else (iterations, 1):
            options.say(f"cost of checkpoints, whole runs: round {turn + 1} of {options.rounds}, every {every}")
            taken[every] = demo.run(iterations=iterations, every=every)
        with_all, with_one = taken[1], taken[iterations]
        samples.append(100.0 * (with_all - with_one) / with_one * iterations / (iterations - 1))
    return Figure(
        "a checkpoint after every iteration, whole runs",
        tuple(samples),
        unit="%",
        target=TARGET,
        note=f"of the time of {iterations} iterations",
        judged=not options.quick,
    )
