"""Nesterov's momentum: the gradient is used as if it were taken where momentum is about to lead. ::

    v' = μ·v − η·g
    θ' = θ + μ·v' − η·g

θ is the point ahead, where gradients are taken; this is the paper's method after a change of variables
(Bengio et al.), and what the other libraries compute. With ``rate_in_buffer=False`` (PyTorch, Optax) the buffer
holds gradients, v' = μ·v + g and θ' = θ − η·(g + μ·v'), which is the same as long as η stays the same.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative


class Slots(NamedTuple):
    """The state."""

    velocity: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, the step in units of variable per unit of gradient"] = 0.01
    momentum: Annotated[Number, fraction, "μ, the part of the last step that is kept"] = 0.9


def update(param: Array, grad: Array, slots: Slots, h: Hyper) -> tuple[Array, Slots]:
    """θ + μ·v' − η·g, v' = μ·v − η·g."""
    step = h.learning_rate * grad
    velocity = h.momentum * slots.velocity - step
    return param + h.momentum * velocity - step, Slots(velocity)


def update_outside(param: Array, grad: Array, slots: Slots, h: Hyper) -> tuple[Array, Slots]:
    """θ − η·(g + μ·v'), v' = μ·v + g."""
    velocity = h.momentum * slots.velocity + grad
    return param - h.learning_rate * (grad + h.momentum * velocity), Slots(velocity)


nesterov = Rule(
    name="nesterov",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    update=update,
    options={"rate_in_buffer": (True, False)},
    variant=lambda rate_in_buffer: {"update": update if rate_in_buffer else update_outside},
    conventions={
        "torch": {"rate_in_buffer": False, "learning_rate": 0.001},
        "keras": {"decay": "decoupled"},
        "optax": {"rate_in_buffer": False},
        "pycmtensor": {"learning_rate": 0.001},
    },
    source="Sutskever et al., 2013, eq. 3-4; Bengio et al., Advances in optimizing recurrent networks, 2012, eq. 7",
)
