"""Pictures of a search: how good the best candidate was known to be, iteration by iteration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.runs.history import History


def draw_search(path: Path, history: History) -> None:
    """Draw the best candidate's mean reward with its confidence band, and every candidate that was tried.

    Args:
        path: a ``.png``, ``.svg`` or ``.pdf``.
        history: of the run.
    """
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    plot_search(figure.subplots(), history)
    figure.savefig(path, dpi=150)


def plot_search(axes: Axes, history: History) -> None:
    """The same, into axes."""
    columns = history.iterations()
    iterations = columns["iteration"]
    means = candidate_means(history)
    if means:
        tried = np.array([(iteration, mean) for iteration, mean, _ in means.values()])
        axes.scatter(tried[:, 0], tried[:, 1], s=14, color="0.55", label="a candidate", zorder=2)
    if "best" in columns and np.isfinite(columns["best"]).any():
        axes.fill_between(
            iterations, columns["best_low"], columns["best_high"], step="post", alpha=0.25, label="its confidence band"
        )
        axes.step(iterations, columns["best"], where="post", label="best so far")
    axes.set_xlabel("iteration")
    axes.set_ylabel("mean reward")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)


def candidate_means(history: History) -> dict[int, tuple[int, float, int]]:
    """Each candidate's first iteration, mean reward in the search, and number of samples, without failed ones."""
    rewards: dict[int, dict[int, float]] = {}
    began: dict[int, int] = {}
    keys: dict[str, dict[int, float]] = {}
    failed: set[int] = set()
    for row in history.evaluations():
        if row.stage != "search":
            continue
        began.setdefault(row.candidate, row.iteration)
        if row.reward is not None:
            rewards.setdefault(row.candidate, keys.setdefault(row.key, {}))[row.item] = row.reward
        elif row.status == "failed":
            failed.add(row.candidate)
    return {
        number: (began[number], float(np.mean(list(found.values()))), len(found))
        for number, found in sorted(rewards.items())
        if number not in failed
    }
