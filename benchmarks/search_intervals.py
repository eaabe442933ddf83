"""Whether a difference between contenders is more than luck: bootstrap intervals over the seeds, paired."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

RESAMPLES = 10_000
Interval = tuple[float, float]


def mean_interval(samples: Sequence[float], confidence: float = 0.95) -> Interval:
    """The percentile bootstrap interval of a mean. Two-sided; one sample gives no width.

    Source: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7, 1979.
    """
    values = np.array(samples, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """The interval of the mean of ours − theirs, seed by seed."""
    return mean_interval([a - b for a, b in zip(ours, theirs, strict=True)])


def written(samples: Sequence[float]) -> str:
    """A mean with its interval."""
    low, high = mean_interval(samples)
    return f"mean {fmean(samples):.3g} [{low:.3g}, {high:.3g}]"
