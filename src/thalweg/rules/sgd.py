"""Stochastic gradient descent: the text of gradient descent with the rate that minibatches are used to. ::

θ' = θ − η·g
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.base import NoSlots, Number, Rule
from thalweg.rules.gradient_descent import update
from thalweg.rules.ranges import nonnegative


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, the step in units of variable per unit of gradient"] = 0.01


sgd = Rule(
    name="sgd",
    doc=__doc__,
    slots=NoSlots,
    hyper=Hyper,
    update=update,
    conventions={
        "torch": {"learning_rate": 0.001},
        "keras": {"decay": "decoupled"},
        "optax": {},
        "mxnet": {"weight_decay": 1e-4},
        "pycmtensor": {"learning_rate": 0.001},
    },
    source="H. Robbins, S. Monro, A stochastic approximation method, 1951, eq. 8",
)
