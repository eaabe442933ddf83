"""An exponential moving average of the model beside it, for evaluating. ::

    ā' = d·ā + (1 − d)·θ'               ā starts at the parameter before the first step

θ' is the model after a step: after the rule, and after whatever is done to it then (``process_model``). So an average
of models that stay in a convex set stays there, too, and is the one that users of PyTorch and Optax compute in a loop.

A wrapper: around any rule, as one slot and one text more in the same pass. That pass knows θ' one step later only, as
the parameter that it begins with, and folds it in then. Until that is done it is pending, which ``evaluate`` knows::

    slot:      a' = a + w₋·(θ − a)                w₋: the 1 − d of the step before, 0 in the first
    evaluate:  ā' = a' + w·(θ' − a')              w = 1 − d of the step that was made

The parameter itself goes its way as without it; ``eval_params`` gives ā'.
"""

from __future__ import annotations

from typing import Any

from thalweg.errors import RuleError
from thalweg.rules.arithmetic import if_number, where
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.declaring import Hyperparameter
from thalweg.rules.keeping import kept_with_rule
from thalweg.rules.ranges import fraction
from thalweg.rules.wrapping import around, with_carried, with_scalars, with_slot

EXTRA = (Hyperparameter("ema_decay", 0.999, fraction, "d, the part of the average that is kept"),)
CARRIED = ("folding", "pending")
"""The 1 − d of the step before, and of this one."""

ARRAY = -1.0
"""In their place where d is an array, which a number cannot hold: the 1 − d of whoever asks."""


@kept_with_rule
def averaged(rule: Rule) -> Rule:
    """``rule`` with a moving average of the model, and a hyperparameter ``ema_decay``.

    Args:
        rule: any rule.

    Returns:
        The wrapped rule, the same object each time.

    Raises:
        RuleError: the rule already says where to evaluate the model.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules import averaged, sgd
        >>> rule = averaged(sgd)
        >>> x, h = np.array([1.0]), rule.hyper(learning_rate=0.01, ema_decay=0.5)
        >>> x, state = rule.step(x, np.array([300.0]), rule.init(x), h)
        >>> x, rule.evaluate(x, state, h)
        (array([-2.]), array([-0.5]))
        >>> x = np.maximum(x, 0.0)  # what is done to the model is what is averaged
        >>> rule.evaluate(x, state, h)
        array([0.5])

    Source: B. Polyak, A. Juditsky, Acceleration of stochastic approximation by averaging, 1992, with the weights of
    an exponential average. ``torch.optim.swa_utils.get_ema_multi_avg_fn`` computes the same if the averaged model is
    updated once before the first step; Keras's ``use_ema`` starts one step later, at the parameter after the first.
    """
    if rule.evaluate is not None:
        raise RuleError(f"rule {rule.name!r} already evaluates the model elsewhere than at its parameter")

    def advance(t: Number, h: Any, carried: Any) -> tuple[Number, Number]:
        return carried.pending, if_number(h.ema_decay, 1 - h.ema_decay, ARRAY)

    def values(t: Number, h: Any, carried: Any) -> tuple[Number]:
        return (where(carried.folding < 0.0, 1 - h.ema_decay, carried.folding),)

    def after(param: Array, new: Array, average: Array, h: Any) -> tuple[Array, Array]:
        return new, average + h.folding * (param - average)

    def evaluate(param: Array, state: Any, h: Any) -> Array:
        away = param - state.average
        return state.average + where(state.pending < 0.0, (1 - h.ema_decay) * away, state.pending * away)

    fields = {
        **with_scalars(rule, EXTRA, ("folding",), values, carrying=True),
        **with_carried(rule, CARRIED, advance),
        **with_slot(rule, "average", after),
        "evaluate": evaluate,
        "lagged": rule.lagged | {"ema_decay"},
    }
    return around(rule, fields, averaged)
