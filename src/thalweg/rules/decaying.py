"""Weight decay around a rule, in the same pass. ::

    coupled      g := g + λ·θ          before the rule: the gradient of ½λ‖θ‖² is added (PyTorch, MXNet)
    decoupled    θ := (1 − η·λ)·θ      before the rule, past its state (AdamW, Keras)

With rules that divide by the gradient's size the two are different things: coupled decay is divided, too. A rule
that has a ``weight_decay`` of its own (LAMB, Schedule-Free AdamW) is left as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.declaring import Hyperparameter
from thalweg.rules.keeping import kept_with_rule
from thalweg.rules.ranges import nonnegative
from thalweg.rules.wrapping import with_scalars

FORMS = ("coupled", "decoupled")
WEIGHT_DECAY = Hyperparameter(
    "weight_decay",
    0.0,
    nonnegative,
    "λ, the pull towards zero: in units of gradient per unit of variable (coupled), or per unit of η (decoupled)",
)


@kept_with_rule
def decayed(rule: Rule) -> Rule:
    """``rule`` with a hyperparameter ``weight_decay``, 0 by default, and an option ``decay``.

    Args:
        rule: any rule with a learning rate.

    Returns:
        The rule with decay, the same object each time; ``rule`` itself if it has a ``weight_decay`` or no
        ``learning_rate``. Around :func:`~thalweg.rules.averaged` and :func:`~thalweg.rules.lookahead` it goes inside.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules import decayed, sgd
        >>> rule = decayed(sgd)
        >>> x = np.array([1.0, -2.0])
        >>> rule.step(x, np.zeros(2), rule.init(x), rule.hyper(learning_rate=0.1, weight_decay=0.5))[0]
        array([ 0.95, -1.9 ])

    Source: I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019, algorithms 1 and 2.
    """
    if "weight_decay" in rule.hyperparameters or "learning_rate" not in rule.hyperparameters:
        return rule
    if rule.inside is not None:  # what is around a rule looks at the model, not at what decay makes of it first
        inner, wrap = rule.inside
        made = wrap(decayed(inner))
        named = {name: getattr(rule, name) for name in ("name", "doc", "source", "conventions")}
        return replace(made.with_defaults(**{n: h.default for n, h in rule.hyperparameters.items()}), **named)

    def variant(*, decay: str, **options: Any) -> dict[str, Any]:
        return _fields(rule.form(**options) if options else rule, decay)

    return replace(
        rule,
        **_fields(rule, rule.decay),
        options={**rule.options, "decay": (rule.decay, *(form for form in FORMS if form != rule.decay))},
        variant=variant,
        chosen={**rule.chosen, "decay": rule.decay},
    )


def _fields(inner: Rule, form: str) -> dict[str, Any]:
    """What differs from the rule without decay."""

    def values(t: Number, h: Any) -> tuple[Number, Number]:
        return h.weight_decay, 1 - h.learning_rate * h.weight_decay

    update, measure = (_coupled if form == "coupled" else _decoupled)(inner)
    return {
        **with_scalars(inner, (WEIGHT_DECAY,), ("weight_decay", "kept"), values),
        "slots": inner.slots,
        "start": inner.start,
        "update": update,
        "measure": measure if inner.measure is not None else None,
        "carried": inner.carried,
        "carry": inner.carry,
        "inside": (inner, decayed),
    }


def _coupled(inner: Rule) -> tuple[Any, Any]:
    update, measure = inner.update, inner.measure

    def update_coupled(param: Array, grad: Array, slots: Any, h: Any) -> Any:
        return update(param, grad + h.weight_decay * param, slots, h)

    def measure_coupled(param: Array, grad: Array, slots: Any, h: Any) -> Any:
        return measure(param, grad + h.weight_decay * param, slots, h)  # type: ignore[misc]

    return update_coupled, measure_coupled


def _decoupled(inner: Rule) -> tuple[Any, Any]:
    update, measure = inner.update, inner.measure

    def update_decoupled(param: Array, grad: Array, slots: Any, h: Any) -> Any:
        return update(h.kept * param, grad, slots, h)

    def measure_decoupled(param: Array, grad: Array, slots: Any, h: Any) -> Any:
        return measure(h.kept * param, grad, slots, h)  # type: ignore[misc]

    return update_decoupled, measure_decoupled
