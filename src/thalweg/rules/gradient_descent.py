"""Gradient descent: the step is the learning rate times the gradient. ::

    θ' = θ − η·g

With the default η = 1 the gradient itself (or what ``process_grad`` made of it) is the step, in the
variable's own unit, as in Stride.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.base import Array, NoSlots, Number, Rule
from thalweg.rules.ranges import nonnegative


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, the step in units of variable per unit of gradient"] = 1.0


def update(param: Array, grad: Array, slots: NoSlots, h: Hyper) -> tuple[Array, NoSlots]:
    """θ − η·g."""
    return param - h.learning_rate * grad, slots


gradient_descent = Rule(
    name="gradient_descent",
    doc=__doc__,
    slots=NoSlots,
    hyper=Hyper,
    update=update,
    source="A. Cauchy, Méthode générale pour la résolution des systèmes d'équations simultanées, 1847",
)
