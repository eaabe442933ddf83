"""Whether a difference between contenders is more than luck: bootstrap intervals over the instances, paired.

The percentiles are moved outwards, since those of few samples are too near to each other::

    α/2  →  Φ( −√(n / (n−1)) · t_{n−1, 1−α/2} )

Source: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7, 1979; Hesterberg, What teachers
should know about the bootstrap, The American Statistician 69, 2015, section 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from scipy.stats import norm, t

RESAMPLES = 10_000
Interval = tuple[float, float]


def mean_interval(samples: Sequence[float], confidence: float = 0.95) -> Interval:
    """The interval of a mean. Two-sided; one sample gives no width."""
    values = np.array(samples, dtype=np.float64)
    count = len(values)
    if count == 1:
        return float(values[0]), float(values[0])
    drawn = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    share = float(norm.cdf(-math.sqrt(count / (count - 1)) * t.ppf((1 + confidence) / 2, count - 1)))
    low, high = np.quantile(values[drawn].mean(axis=1), [share, 1 - share])
    return float(low), float(high)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """The interval of the mean of ours − theirs, instance by instance."""
    return mean_interval([a - b for a, b in zip(ours, theirs, strict=True)])


def written(samples: Sequence[float]) -> str:
    """A mean with its interval."""
    low, high = mean_interval(samples)
    return f"{fmean(samples):.3g} [{low:.3g}, {high:.3g}]"
