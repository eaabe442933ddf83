"""Lookahead: every k steps the weights go part of the way from where they were to where they have come. ::

    every k-th step:   θ' := s + α·(θ' − s),   s' = θ'

A wrapper: around any rule, as one slot and one text more in the same pass. What is done to a model after a step
(``process_model``) is done to the θ' of these steps as well, and s is what has become of it: the step after a
synchronization begins there, and takes it for s. So s never leaves the set that the model is kept in. Of a parameter of
16 bits it is the rounded model, as in Optax.
"""

from __future__ import annotations

from typing import Any

from thalweg.errors import RuleError
from thalweg.rules.arithmetic import floor, if_number, where
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.declaring import Hyperparameter
from thalweg.rules.keeping import kept_with_rule
from thalweg.rules.ranges import Interval, counts
from thalweg.rules.wrapping import around, with_carried, with_scalars, with_slot

share = Interval(0.0, 1.0, closed_low=False)
EXTRA = (
    Hyperparameter("sync_period", 6.0, counts, "k, the steps between two synchronizations"),
    Hyperparameter("slow_step_size", 0.5, share, "α, the part of the way that is gone"),
)
CARRIED = ("resumes", "synced")
"""Whether the step before ended with a synchronization, and whether this one does: 1 or 0."""

ARRAY = -1.0
"""In their place where k is an array, which a number cannot hold: what the count and the k of whoever asks say."""


def due(t: Number, period: Number) -> Number:
    """Whether step t ends with a synchronization."""
    periods = t / period
    return where(floor(periods) >= periods, 1.0, 0.0)


@kept_with_rule
def lookahead(rule: Rule) -> Rule:
    """``rule`` with a slow copy of the parameter, and hyperparameters ``sync_period`` and ``slow_step_size``.

    Args:
        rule: any rule that does not compute from the parameter where the model is to be evaluated.

    Returns:
        The wrapped rule, the same object each time.

    Raises:
        RuleError: the rule does that, as Schedule-Free; the wrapper would move the parameter under it.

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
    TensorFlow Addons. With a ``process_model`` it is what Optax computes if both kinds of weights are projected after
    each step.
    """
    if rule.derived:
        raise RuleError(
            f"rule {rule.name!r} computes from the parameter where to evaluate the model, and lookahead would move the "
            "parameter: take the rule without it, or another rule (adamw) with it"
        )

    def advance(t: Number, h: Any, carried: Any) -> tuple[Number, Number]:
        return carried.synced, if_number(h.sync_period, due(t, h.sync_period), ARRAY)

    def values(t: Number, h: Any, carried: Any) -> tuple[Number, Number, Number, Number]:
        resumes = where(carried.resumes < 0.0, due(t - 1, h.sync_period), carried.resumes)
        return resumes, due(t, h.sync_period), h.slow_step_size, 0.0

    def after(param: Array, new: Array, slow: Array, h: Any) -> tuple[Array, Array]:
        begun = where(h.resumes > h.never, param, slow)
        synced = begun + h.slow_step_size * (new - begun)
        now = h.sync > h.never
        return where(now, synced, new), where(now, synced, begun)

    fields = {
        **with_scalars(rule, EXTRA, ("resumes", "sync", "slow_step_size", "never"), values, carrying=True),
        **with_carried(rule, CARRIED, advance),
        **with_slot(rule, "slow", after),
        "lagged": rule.lagged | {"sync_period"},
    }
    return around(rule, fields, lookahead)
