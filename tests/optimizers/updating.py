"""Steps of an updater, for the tests."""

from typing import Any

import numpy as np


def step(update: Any, key: str) -> float:
    """The rate of a step of one weight."""
    weight = np.zeros(1)
    update(key, np.ones(1), weight)
    return -float(weight[0])
