"""Lookahead: every k steps the weights go part of the way from where they were to where they have come. ::

    every k-th step:   s' = s + α·(θ' − s),   θ' := s'

A wrapper: around any rule, as one slot and one text more in the same pass.
"""

from __future__ import annotations

from typing import Any

from thalweg.rules.arithmetic import floor, where
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.declaring import Hyperparameter
from thalweg.rules.keeping import kept_with_rule
from thalweg.rules.ranges import Interval, counts
from thalweg.rules.wrapping import around, with_scalars, with_slot

share = Interval(0.0, 1.0, closed_low=False)
EXTRA = (
    Hyperparameter("sync_period", 6.0, counts, "k, the steps between two synchronizations"),
    Hyperparameter("slow_step_size", 0.5, share, "α, the part of the way that is gone"),
)


@kept_with_rule
def lookahead(rule: Rule) -> Rule:
    """``rule`` with a slow copy of the parameter, and hyperparameters ``sync_period`` and ``slow_step_size``.

    Args:
        rule: any rule.

    Returns:
        The wrapped rule, the same object each time.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules import lookahead, sgd
        >>> rule = lookahead(sgd)
        >>> h = rule.hyper(learning_rate=1.0, sync_period=2, slow_step_size=0.5)
        >>> x = np.array([0.0]); state = rule.init(x)
        >>> for t in (1, 2):
        ...     x, state = rule.step(x, np.array([-1.0]), state, h, t=t)
        >>> x
        array([1.])

    Source: M. Zhang, J. Lucas, G. Hinton, J. Ba, Lookahead optimizer: k steps forward, 1 step back, NeurIPS 2019,
    algorithm 1. ``optax.lookahead`` computes the same with the same names, and has no defaults; ours are those of
    TensorFlow Addons.
    """

    def values(t: Number, h: Any) -> tuple[Number, Number, Number]:
        periods = t / h.sync_period
        return where(floor(periods) >= periods, 1.0, 0.0), h.slow_step_size, 0.0

    def after(param: Array, new: Array, slow: Array, h: Any) -> tuple[Array, Array]:
        synced = slow + h.slow_step_size * (new - slow)
        due = h.sync > h.never
        return where(due, synced, new), where(due, synced, slow)

    fields = {
        **with_scalars(rule, EXTRA, ("sync", "slow_step_size", "never"), values),
        **with_slot(rule, "slow", after),
    }
    return around(rule, fields, lookahead)
