"""Pictures of a search: how good the best candidate was known to be, iteration by iteration."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from thalweg.runs.compared import compared, compared_from, level_of
from thalweg.runs.deciding import DECIDED, fingerprint_of, key_of
from thalweg.runs.history import History
from thalweg.runs.ledger import REUSED, SEARCH


def draw_search(path: Path, history: History) -> None:
    """Draw the best candidate's mean reward with its confidence bounds, and every candidate that was tried.

    Args:
        path: a ``.png``, ``.svg`` or ``.pdf``.
        history: of the run.
    """
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    plot_search(figure.subplots(), history)
    figure.savefig(path, dpi=150)


def plot_search(axes: Axes, history: History) -> None:
    """The same, into axes."""
    columns, facts = history.iterations(), history.facts()
    iterations = columns["iteration"]
    if "best" in columns and np.isfinite(columns["best"]).any():
        low, best, high = (compared(columns, facts, name) for name in ("best_low", "best", "best_high"))
        axes.step(iterations, best, where="post", label="best so far")
        if np.any(low < high):
            band = f"its bounds{level_of(facts)}"
            axes.fill_between(iterations, low, high, step="post", alpha=0.25, label=band, zorder=1)
    means = candidate_means(history)
    if means:
        tried = np.array([(iteration, mean) for iteration, mean, _ in means.values()])
        axes.scatter(tried[:, 0], tried[:, 1], s=14, color="0.55", label="a candidate", zorder=2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("iteration")
    axes.set_ylabel("mean reward")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)  # above, where no candidate is
    axes.grid(alpha=0.3)


def candidate_means(history: History) -> dict[int, tuple[int, float, int]]:
    """Each candidate's iteration, mean reward in the search, and number of samples, without failed ones and those whose
    scores are not compared any more. Candidates with equal values have the same rewards, as in the search."""
    facts = history.facts()
    first, _ = compared_from(facts)
    fingerprint = fingerprint_of(facts.get(DECIDED, {}))
    tried = [one for one in history.candidates() if one["number"] >= first]
    keys = {one["number"]: key_of(fingerprint, one["values"]) for one in tried}
    rewards: dict[str, dict[int, float]] = {key: {} for key in keys.values()}
    failed: set[str] = set()
    for row in history.evaluations():
        if row.stage not in (SEARCH, REUSED) or row.candidate < first or row.key not in rewards:
            continue  # or of other settings, under a number that was given again after the run died
        if row.reward is not None:
            rewards[row.key][row.item] = row.reward
        elif row.status == "failed":
            failed.add(row.key)
    return {
        one["number"]: (one["iteration"], math.fsum(found[item] for item in sorted(found)) / len(found), len(found))
        for one in tried
        if (found := rewards[keys[one["number"]]]) and keys[one["number"]] not in failed
    }
