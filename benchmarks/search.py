"""The figures of searching without a language model: what is reached in few evaluations, and what asking costs."""

from __future__ import annotations

import tempfile
from statistics import fmean, median
from typing import Any

from benchmarks.contest import Options, Outcome, contest
from benchmarks.figures import Figure, Peer, Target, number
from benchmarks.search_intervals import difference, written

THALWEG = "thalweg"
RANDOM = "random search"
EVALUATIONS = 60
SEEDS = 10
NOTES = (
    "Each search has 60 evaluations (150 of networks) of a loss, and is repeated with 10 seeds; what is shown of "
    "Thalweg is the mean of the best losses, of the others the median, with the means behind. Intervals are 95 % "
    "bootstrap intervals of a mean over the seeds, paired in differences; 'no worse' is missed if all of the interval "
    "of the difference is above 0, 'better' if not all of it is below.",
    "Ackley on ±32.768 and Rosenbrock on ±5, 8 dimensions: the optimum is drawn from the inner half of each axis, the "
    "start from all of it, both anew for each seed. Thalweg and Optuna score the start first; nevergrad has none and "
    "begins in the middle.",
    "Digits: the space of studies/digits-search.toml, mean error in 3 folds of all rows. Networks: edit distance to a "
    "list of layers with their settings, an optional rate and a set of tricks: nested, conditional, of any length.",
    "Overhead: a whole evaluation of a loss that costs nothing, 8 floats, against Optuna's own study.optimize.",
)


class Below(Target):
    """A value below a limit, not at it."""

    def met(self, value: float) -> bool:
        return value < self.high

    def __str__(self) -> str:
        return f"< {number(self.high)}"


def figures(options: Options) -> list[Figure]:
    """Measure everything; ``--quick`` with fewer evaluations and seeds, and judges only what cannot depend on them."""
    found = [*_functions(options), *_digits(options), *_networks(options)]
    return [*found, *(_overhead(options, kind) for kind in ("tpe", "cma_es"))]


def _functions(options: Options) -> list[Figure]:
    found: list[Figure] = []
    for name in ("ackley", "rosenbrock"):
        title = f"{name}, 8 dimensions"
        contenders = {THALWEG: "search_thalweg", RANDOM: "search_random", "nevergrad NGOpt": "search_nevergrad"}
        contenders |= {"Optuna TPE": "search_optuna_tpe", "Optuna CMA-ES": "search_optuna_cma"}
        outcomes = _search(contenders, {"task": name, "engine": "auto"}, options)
        found += _compared(title, outcomes, options, better_than=RANDOM, no_worse_than="nevergrad NGOpt")
        for kind in ("tpe", "cma_es"):
            engines = {THALWEG: "search_thalweg", RANDOM: "search_random"}
            both = _search(engines, {"task": name, "engine": kind}, options)
            found += _compared(f"{title}, {kind}", both, options, better_than=RANDOM)[1:]
    return found


def _digits(options: Options) -> list[Figure]:
    contenders = {THALWEG: "search_thalweg", RANDOM: "search_random", "Optuna TPE": "search_optuna_tpe"}
    contenders |= {"nevergrad NGOpt": "search_nevergrad"}
    with tempfile.TemporaryDirectory() as cache:
        settings = {"task": "digits", "engine": "tpe", "cache": cache, "rows": 300 if options.quick else None}
        outcomes = _search(contenders, settings, options)
        found = _compared("digits, error, tpe", outcomes, options, no_worse_than=RANDOM)
        found += _identical("digits, trials of tpe that are not Optuna's", outcomes)
        auto = _search({THALWEG: "search_thalweg"}, {**settings, "engine": "auto"}, options)
    return [*found, _reached("digits, error, auto", auto)]


def _networks(options: Options) -> list[Figure]:
    contenders = {THALWEG: "search_thalweg", RANDOM: "search_random", "Optuna TPE": "search_optuna_tpe"}
    outcomes = _search(contenders, {"task": "network", "engine": "evolution"}, options, evaluations=150)
    return _compared("networks, evolution", outcomes, options, better_than=RANDOM)


def _search(
    contenders: dict[str, str], settings: dict[str, Any], options: Options, evaluations: int = EVALUATIONS
) -> dict[str, Outcome]:
    """One round for each seed."""
    options.say(f"{settings['task']}, {settings['engine']}")
    seeds = list(range(2 if options.quick else SEEDS))
    count = 6 if options.quick else evaluations
    full = {"evaluations": count, "seeds": seeds, "threads": 1, **settings}
    # random search is ours: it is there with --no-peers, too
    mine = {name: module for name, module in contenders.items() if name in (THALWEG, RANDOM)}
    others = {name: module for name, module in contenders.items() if name not in mine}
    always = Options(quick=options.quick, rounds=options.rounds, peers=True, say=options.say)
    outcomes = contest(mine, full, always, rounds=len(seeds))
    if not options.peers:
        return outcomes | {name: Outcome(name, problem="left out (--no-peers)") for name in others}
    return outcomes | (contest(others, full, always, rounds=len(seeds)) if others else {})


def _reached(title: str, outcomes: dict[str, Outcome]) -> Figure:
    """The best losses, with the peers' beside them."""
    ours, *others = outcomes.values()
    lines = []
    for other in others:
        note = other.problem or f"{written(other.samples)}; ours − theirs {_span(ours, other)}"
        lines.append(Peer(other.title, other.samples, note=note))
    note = ours.problem or written(ours.samples)
    return Figure(
        f"{title}: best loss", ours.samples, target=Target(text="is told"), note=note, peers=tuple(lines), choose=fmean
    )


def _compared(
    title: str, outcomes: dict[str, Outcome], options: Options, *, better_than: str = "", no_worse_than: str = ""
) -> list[Figure]:
    found = [_reached(title, outcomes)]
    ours = outcomes[THALWEG]
    for other, better in ((better_than, True), (no_worse_than, False)):
        if not other or not ours.samples or not outcomes[other].samples:
            continue
        low, high = difference(ours.samples, outcomes[other].samples)
        what = "better than" if better else "no worse than"
        value = high if better else low
        target = Below(high=0.0) if better else Target(high=0.0)
        note = f"{'upper' if better else 'lower'} end of the interval [{low:.3g}, {high:.3g}] of ours − theirs"
        found.append(Figure(f"{title}: {what} {other}", (value,), target=target, judged=not options.quick, note=note))
    return found


def _span(ours: Outcome, other: Outcome) -> str:
    low, high = difference(ours.samples, other.samples)
    return f"[{low:.3g}, {high:.3g}]"


def _identical(title: str, outcomes: dict[str, Outcome]) -> list[Figure]:
    ours, theirs = outcomes[THALWEG], outcomes["Optuna TPE"]
    if ours.problem or theirs.problem:
        return []
    pairs = zip(ours.rounds, theirs.rounds, strict=True)
    unlike = sum(a != b for mine, other in pairs for a, b in zip(mine["tried"], other["tried"], strict=True))
    note = f"of {sum(len(one['tried']) for one in ours.rounds)}"
    return [Figure(title, (float(unlike),), target=Target(high=0.0), note=note)]


def _overhead(options: Options, kind: str) -> Figure:
    peer = {"tpe": "search_optuna_tpe", "cma_es": "search_optuna_cma"}[kind]
    settings = {"overhead": True, "engine": kind, "evaluations": 20 if options.quick else 300, "threads": 1}
    settings["seeds"] = list(range(options.rounds))
    options.say(f"overhead, {kind}")
    outcomes = contest({THALWEG: "search_thalweg", "Optuna": peer}, settings, options)
    ours, theirs = outcomes.values()
    title = f"overhead of an evaluation, {kind}, ours / Optuna's"
    if not ours.samples or not theirs.samples:
        problem = ours.problem or theirs.problem
        return Figure(
            title, tuple(1e3 * s for s in ours.samples), unit="ms", target=Target(text="is told"), note=problem
        )
    ratio = median(ours.samples) / median(theirs.samples)
    note = f"{number(1e3 * fmean(ours.samples))} ms against {number(1e3 * fmean(theirs.samples))} ms"
    line = Peer(theirs.title, (1.0,))
    return Figure(title, (ratio,), target=Target(high=1.2), judged=not options.quick, note=note, peers=(line,))
