"""An exponential moving average of the parameters beside them, for evaluating the model. ::

    ā' = d·ā + (1 − d)·θ'               ā starts at the parameter before the first step

A wrapper: around any rule, as one slot and one text more in the same pass. The parameter itself goes its way as
without it; ``eval_params`` gives ā.
"""

from __future__ import annotations

from typing import Any

from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.declaring import Hyperparameter
from thalweg.rules.keeping import kept_with_rule
from thalweg.rules.ranges import fraction
from thalweg.rules.wrapping import around, with_scalars, with_slot

EXTRA = (Hyperparameter("ema_decay", 0.999, fraction, "d, the part of the average that is kept"),)


@kept_with_rule
def averaged(rule: Rule) -> Rule:
    """``rule`` with a moving average of the parameter, and a hyperparameter ``ema_decay``.

    Args:
        rule: any rule.

    Returns:
        The wrapped rule, the same object each time.

    Raises:
        TypeError: the rule already says where to evaluate the model.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules import averaged, sgd
        >>> rule = averaged(sgd)
        >>> x = np.array([1.0])
        >>> x, state = rule.step(x, np.array([100.0]), rule.init(x), rule.hyper(ema_decay=0.5))
        >>> x, state.average
        (array([0.]), array([0.5]))

    Source: B. Polyak, A. Juditsky, Acceleration of stochastic approximation by averaging, 1992, with the weights of
    an exponential average. Keras's ``use_ema`` starts one step later, at the parameter after the first step.
    """
    if rule.evaluate is not None:
        raise TypeError(f"rule {rule.name!r} already evaluates the model elsewhere than at its parameter")

    def values(t: Number, h: Any) -> tuple[Number, Number]:
        return h.ema_decay, 1 - h.ema_decay

    def after(param: Array, new: Array, average: Array, h: Any) -> tuple[Array, Array]:
        return new, h.ema_decay * average + h.one_minus_ema_decay * new

    def evaluate(param: Array, slots: Any, h: Any) -> Array:
        return slots.average

    fields = {
        **with_scalars(rule, EXTRA, ("ema_decay", "one_minus_ema_decay"), values),
        **with_slot(rule, "average", after),
        "evaluate": evaluate,
    }
    return around(rule, fields, averaged)
