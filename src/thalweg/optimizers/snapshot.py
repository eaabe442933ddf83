"""An optimizer's state as data: arrays and JSON, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class OptimizerSnapshot:
    """What ``optimizer.state()`` returns and ``optimizer.restore()`` takes: copies.

    Args:
        arrays: the rule's state, ``"slots/<slot>/<variable>"`` → an array of the variable's shape and dtype.
        meta: counters, hyperparameters, what the variables look like and what the hooks are; JSON.
    """

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
