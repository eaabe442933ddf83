"""Momentum: the step remembers the steps before it. ::

    v' = μ·v − η·g
    θ' = θ + v'

The learning rate is inside the buffer, as in the papers: a change of rate acts on new gradients only. With
``rate_in_buffer=False`` (PyTorch, Optax) the buffer holds gradients, v' = μ·v + g and θ' = θ − η·v', which is the
same as long as η stays the same.
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
    """θ + v', v' = μ·v − η·g."""
    velocity = h.momentum * slots.velocity - h.learning_rate * grad
    return param + velocity, Slots(velocity)


def update_outside(param: Array, grad: Array, slots: Slots, h: Hyper) -> tuple[Array, Slots]:
    """θ − η·v', v' = μ·v + g."""
    velocity = h.momentum * slots.velocity + grad
    return param - h.learning_rate * velocity, Slots(velocity)


momentum = Rule(
    name="momentum",
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
        "mxnet": {"weight_decay": 1e-4},
        "pycmtensor": {"learning_rate": 0.001},
    },
    source="B. Polyak, Some methods of speeding up the convergence of iteration methods, 1964; "
    "Sutskever et al., On the importance of initialization and momentum in deep learning, 2013, eq. 1-2",
)
