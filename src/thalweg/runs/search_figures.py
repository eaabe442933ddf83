"""Pictures of a search: how good the best candidate was known to be, iteration by iteration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from thalweg.runs.compared import ScoredOn, compared, compared_from, level_of
from thalweg.runs.deciding import DECIDED, fingerprint_of, key_of
from thalweg.runs.history import History
from thalweg.runs.ledger import REUSED, SEARCH
from thalweg.runs.telling import several


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
    iterations, on = columns["iteration"], ScoredOn.of(facts)
    few = np.zeros(len(iterations), bool)  # where the best is of some of the samples: others may have been harder
    if "best_samples" in columns and on.search is not None:
        few = columns["best_samples"] < on.search
    if "best" in columns and np.isfinite(columns["best"]).any():
        low, best, high = (compared(columns, facts, name) for name in ("best_low", "best", "best_high"))
        (line,) = axes.step(iterations, np.where(few, np.nan, best), where="post", label="best so far")
        if few.any():
            label, same = f"on some {several(on.item_name)}", line.get_color()
            axes.step(iterations, np.where(few, best, np.nan), ":", color=same, where="post", label=label)
        if np.any(low < high):
            band = f"its bounds{level_of(facts)}"
            axes.fill_between(iterations, low, high, step="post", alpha=0.25, label=band, zorder=1)
    whole, partly = apart(candidate_means(history), on.search)
    if len(whole):
        axes.scatter(whole[:, 0], whole[:, 1], s=14, color="0.55", label="a candidate", zorder=2)
    if len(partly):
        label = f"one on some {several(on.item_name)}"
        axes.scatter(partly[:, 0], partly[:, 1], s=14, facecolors="none", edgecolors="0.55", label=label, zorder=2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("iteration")
    axes.set_ylabel(on.reward)
    ncols, size = (3 if few.any() else 2, "small") if len(partly) else (3, "medium")
    above = (0.5, 1.0)  # where no candidate is
    axes.legend(loc="lower center", bbox_to_anchor=above, ncols=ncols, fontsize=size, frameon=False)
    axes.grid(alpha=0.3)


def apart(means: dict[int, tuple[int, float, int]], samples: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Iterations and means of the candidates that were scored on all samples, and of those on some; shapes (n, 2). A
    mean over some is no match for one over all: they may have been the easy ones.

    Args:
        means: of :func:`candidate_means`.
        samples: how many there are; None if that is not known: then all count as scored on all.
    """
    found: tuple[list[tuple[int, float]], list[tuple[int, float]]] = [], []
    for iteration, mean, count in means.values():
        found[samples is not None and count < samples].append((iteration, mean))
    return np.reshape(found[0], (-1, 2)), np.reshape(found[1], (-1, 2))


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
