"""The figures of searching without a language model: what is reached in few evaluations, and what asking costs.

``python -m benchmarks search`` reports instances that no engine was made with. ``python -m benchmarks.search
development`` runs those that engines may be made with; see `benchmarks.contenders.search_job`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import fmean, median
from typing import Any, NamedTuple

from benchmarks.contenders.search_job import STREAMS
from benchmarks.contest import Options, Outcome, contest
from benchmarks.figures import Figure, Peer, Target, number, table
from benchmarks.machine import cores
from benchmarks.search_intervals import difference, written

INSTANCES = "held-out"  # what the figures are of
EVALUATIONS = 60
NESTED_EVALUATIONS = 150
COUNT = 30  # instances of a task
DIGITS_COUNT = 10  # searches for a pipeline
DEVELOPMENT_COUNT = 10
NOTES = (
    "Each search has 60 evaluations (150 of nested values) of a loss, and is repeated with 30 instances of its task "
    "(10 of digits), each with a place of the optimum, a start and a seed of its own; all contenders have the same "
    "ones. What is shown is the mean of the best losses. Intervals are 95 % bootstrap intervals of a mean over the "
    "instances, paired in differences; 'no worse' is missed if all of the interval of the difference is above 0, "
    "'better' if not all of it is below.",
    "The instances are held out: no engine, option or threshold was chosen by them, but by development instances of "
    "ackley, rosenbrock, network and digits; all other tasks are held out altogether.",
    "Functions of 8 numbers: the optimum is drawn from the inner half of each axis (ackley on ±32.768, rosenbrock on "
    "±5) or the inner 80 % (rastrigin on ±5.12 and ellipsoid on ±5, condition 1e6, both turned; griewank on ±600, levy "
    "on ±10, steps on ±10, 2 wide), the start from all of it. mixed has 3 floats, a rate, 2 integers, a kind and a "
    "flag. Thalweg and Optuna score the start first; nevergrad has none and begins in the middle.",
    "Digits: the space of studies/digits-search.toml, mean error in 3 folds of all rows; no start. Network: edit "
    "distance to a list of layers with their settings, an optional rate and a set of tricks. Formula: a sum of "
    "products that a table is of. Program: the phases of a kiln, of which some repeat steps. nevergrad has no lists of "
    "changing length.",
    "Overhead: processor time of a whole evaluation of a loss that costs nothing, 8 floats, against Optuna's own "
    "study.optimize, in turns.",
)
FUNCTIONS = ("ackley", "rosenbrock", "rastrigin", "griewank", "levy", "ellipsoid", "steps", "mixed")
NESTED = ("network", "formula", "program")
NAMED = ("ackley", "rosenbrock")  # in the targets, by name
DEVELOPMENT = ("ackley", "rosenbrock", "network", "digits")
PARTS = (*FUNCTIONS, "digits", *NESTED, "overhead")
RANDOM, NGOPT = "random search", "nevergrad NGOpt"


class Contender(NamedTuple):
    """Who takes part: a module of `benchmarks.contenders`, and which of Thalweg's engines it is."""

    module: str
    engine: str = ""

    @property
    def ours(self) -> bool:
        return self.module in ("search_thalweg", "search_random")


AUTO, TPE, CMA_ES, EVOLUTION = (
    (f"Thalweg {kind}", Contender("search_thalweg", kind)) for kind in ("auto", "tpe", "cma_es", "evolution")
)
OTHERS = {
    RANDOM: Contender("search_random"),
    NGOPT: Contender("search_nevergrad"),
    "Optuna TPE": Contender("search_optuna_tpe"),
    "Optuna CMA-ES": Contender("search_optuna_cma"),
}


class Below(Target):
    """A value below a limit, not at it."""

    def met(self, value: float) -> bool:
        return value < self.high

    def __str__(self) -> str:
        return f"< {number(self.high)}"


def figures(options: Options) -> list[Figure]:
    """Measure everything, or ``--only`` some parts; each is told as soon as it is there. ``--quick`` with fewer
    evaluations and instances, and judges only what is exact."""
    return _parts(options, INSTANCES, [part for part in PARTS if part in (options.only or PARTS)])


def _parts(options: Options, instances: str, names: Sequence[str]) -> list[Figure]:
    """The figures of some tasks, and of the overhead."""
    found: list[Figure] = []
    for name in names:
        if name in FUNCTIONS:
            part = _functions(options, instances, [name])
        elif name in NESTED:
            part = _nested(options, instances, [name])
        elif name == "digits":
            part = _digits(options, instances)
        else:
            part = [_overhead(options, kind) for kind in ("tpe", "cma_es")]
        options.say(f"{name}:\n\n{table(part)}\n")
        found += part
    return found


def _functions(options: Options, instances: str, names: Sequence[str]) -> list[Figure]:
    outcomes = _search(dict([AUTO]) | OTHERS, names, {"instances": instances}, options)
    named = [name for name in names if name in NAMED]
    more = _search(dict([TPE, CMA_ES]), named, {"instances": instances}, options)
    found: list[Figure | None] = []
    for name in names:
        every = outcomes[name] | more.get(name, {})
        found.append(_reached(f"{name}: best loss", every))
        for kind, one in every.items():
            if kind not in OTHERS:
                what = f"{name}, {kind.removeprefix('Thalweg ')}"
                found.append(_judged(what, one, every[RANDOM], options, better=True))
        if name in named:
            found.append(_judged(f"{name}, auto", every[AUTO[0]], every[NGOPT], options, better=False))
    return [figure for figure in found if figure is not None]


def _digits(options: Options, instances: str) -> list[Figure]:
    # The two that have the same pipelines are far from each other: the errors of the first are known to the second.
    contenders = dict([TPE, AUTO]) | {name: OTHERS[name] for name in (NGOPT, RANDOM, "Optuna TPE")}
    with tempfile.TemporaryDirectory() as cache:
        settings = {"instances": instances, "cache": cache, "rows": 300 if options.quick else None}
        outcomes = _search(contenders, ["digits"], settings, options, count=DIGITS_COUNT)["digits"]
    found = [_reached("digits: best error", outcomes)]
    found += [
        _judged(f"digits, {kind}", outcomes[f"Thalweg {kind}"], outcomes[RANDOM], options, better=False)
        for kind in ("tpe", "auto")
    ]
    found.append(_identical(outcomes[TPE[0]], outcomes["Optuna TPE"]))
    return [figure for figure in found if figure is not None]


def _nested(options: Options, instances: str, names: Sequence[str]) -> list[Figure]:
    contenders = dict([EVOLUTION]) | {name: OTHERS[name] for name in (RANDOM, "Optuna TPE")}
    every = _search(contenders, names, {"instances": instances}, options, evaluations=NESTED_EVALUATIONS)
    found: list[Figure | None] = []
    for name, outcomes in every.items():
        found.append(_reached(f"{name}: best loss", outcomes))
        found.append(_judged(f"{name}, evolution", outcomes[EVOLUTION[0]], outcomes[RANDOM], options, better=True))
    return [figure for figure in found if figure is not None]


def _search(
    contenders: dict[str, Contender],
    tasks: Sequence[str],
    settings: dict[str, Any],
    options: Options,
    *,
    evaluations: int = EVALUATIONS,
    count: int = COUNT,
) -> dict[str, dict[str, Outcome]]:
    """Outcomes by task and contender, one round for each instance.

    No time is taken, so as many processes search at once as there are cores: one for each task and contender, the peers
    first, which take longest.
    """
    if options.quick or settings["instances"] == "development":
        count = 2 if options.quick else DEVELOPMENT_COUNT
    full = {"evaluations": 6 if options.quick else evaluations, "threads": 1, **settings}
    quiet = Options(quick=options.quick, rounds=options.rounds, peers=True)

    def sit(place: tuple[str, str]) -> Outcome:
        name, task = place
        contender = contenders[name]
        if not options.peers and not contender.ours:
            return Outcome(name, problem="left out (--no-peers)")
        mine = {**full, "engine": contender.engine, "jobs": [[task, index] for index in range(count)]}
        one = contest({name: contender.module}, mine, quiet, rounds=count)[name]
        options.say(f"{task}, {name}: {one.problem or 'done'}")
        return one if len(one.rounds) == count else replace(one, rounds=[])

    places = [(name, task) for name in reversed(contenders) for task in tasks]
    with ThreadPoolExecutor(cores()) as pool:
        outcomes = dict(zip(places, pool.map(sit, places), strict=True))
    return {task: {name: outcomes[name, task] for name in contenders} for task in tasks}


def _reached(title: str, outcomes: dict[str, Outcome]) -> Figure:
    """The mean of the best losses, with the peers' beside it."""
    ours, *others = outcomes.values()
    lines = [Peer(other.title, other.samples, note=other.problem or _beside(ours, other)) for other in others]
    note = ours.problem or written(ours.samples)
    return Figure(title, ours.samples, note=f"{ours.title}: {note}", peers=tuple(lines), choose=fmean)


def _beside(ours: Outcome, other: Outcome) -> str:
    if not ours.samples:
        return written(other.samples)
    differences = [a - b for a, b in zip(ours.samples, other.samples, strict=True)]
    better = sum(one < 0.0 for one in differences)
    return (
        f"{written(other.samples)}; ours − theirs {written(differences)}, ours better in {better} of {len(differences)}"
    )


def _judged(what: str, ours: Outcome, other: Outcome, options: Options, *, better: bool) -> Figure | None:
    """Whether a difference is better than 0, or no worse, with 95 % confidence; None if the peer is not here."""
    title = f"{what}: {'better' if better else 'no worse'} than {other.name}"
    if not ours.samples:
        return Figure(title, (), note=ours.problem)
    if not other.samples:
        return None
    low, high = difference(ours.samples, other.samples)
    target = Below(high=0.0) if better else Target(high=0.0)
    note = f"{'upper' if better else 'lower'} end of the interval [{low:.3g}, {high:.3g}] of ours − theirs"
    return Figure(title, (high if better else low,), target=target, judged=not options.quick, note=note)


def _identical(ours: Outcome, theirs: Outcome) -> Figure | None:
    title = "digits, trials of tpe that are not Optuna's"
    if ours.problem:
        return Figure(title, (), note=ours.problem)
    if theirs.problem:
        return None
    pairs = zip(ours.rounds, theirs.rounds, strict=True)
    unlike = sum(a != b for mine, other in pairs for a, b in zip(mine["tried"], other["tried"], strict=True))
    note = f"of {sum(len(one['tried']) for one in ours.rounds)}"
    return Figure(title, (float(unlike),), target=Target(high=0.0), note=note)


def _overhead(options: Options, kind: str) -> Figure:
    """Ratios of turns that were next to each other, since how fast a machine is changes within minutes."""
    peer = {"tpe": "search_optuna_tpe", "cma_es": "search_optuna_cma"}[kind]
    settings = {"instances": INSTANCES, "jobs": [["rosenbrock", k] for k in range(options.rounds)]}
    settings |= {"overhead": True, "engine": kind, "evaluations": 20 if options.quick else 300, "threads": 1}
    options.say(f"overhead, {kind}")
    outcomes = contest({"Thalweg": "search_thalweg", "Optuna": peer}, settings, options)
    ours, theirs = outcomes.values()
    title = f"overhead of an evaluation, {kind}, ours / Optuna's"
    if not ours.samples or not theirs.samples:
        milliseconds = tuple(1e3 * s for s in ours.samples)
        return Figure(title.rpartition(",")[0], milliseconds, unit="ms", note=ours.problem or theirs.problem)
    ratios = tuple(a / b for a, b in zip(ours.samples, theirs.samples, strict=True))
    note = f"{number(1e3 * median(ours.samples))} ms against {number(1e3 * median(theirs.samples))} ms"
    return Figure(title, ratios, target=Target(high=1.2), judged=not options.quick, note=note)


def main() -> None:
    """The figures of some tasks, on one set of instances."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=main.__doc__)
    parser.add_argument("instances", choices=["development", *STREAMS])
    parser.add_argument("tasks", nargs="*", help="all by default", metavar="task")
    given = parser.parse_args()
    known = PARTS[:-1]
    names = given.tasks or (DEVELOPMENT if given.instances == "development" else known)
    if not set(names) <= set(known):
        parser.error(f"the tasks are {', '.join(known)}")
    options = Options(say=lambda text: print(text, file=sys.stderr, flush=True))
    print(table(_parts(options, given.instances, names)))


if __name__ == "__main__":
    main()
