"""AdaGrad: each element's rate falls with the root of all its squared gradients. ::

    a' = a + g²
    θ' = θ − η·g / (√a' + ε)

ε is outside the root (the paper's δ, and PyTorch), where it disturbs a gradient of size |g| by ε/|g| only;
inside the root, √(a' + ε) (``epsilon_form="inside"``: Optax, Keras, PyCMTensor, MXNet), the floor is √ε, which
stops small gradients altogether.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.arithmetic import sqrt
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import nonnegative, positive


class Slots(NamedTuple):
    """The state."""

    sum_of_squares: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, the first step's size in the variable's unit"] = 0.01
    epsilon: Annotated[Number, positive, "ε, in the gradient's unit (inside the root: its square); bounds the rate"] = (
        1e-8
    )
    initial_accumulator: Annotated[Number, nonnegative, "a at the start, in the gradient's unit squared"] = 0.0


def start(param: Array, h: Hyper) -> Slots:
    """Put ``initial_accumulator`` everywhere."""
    return Slots(h.initial_accumulator)


def update(param: Array, grad: Array, slots: Slots, h: Hyper) -> tuple[Array, Slots]:
    """θ − η·g / (√a' + ε), a' = a + g²."""
    total = slots.sum_of_squares + grad * grad
    return param - h.learning_rate * grad / (sqrt(total) + h.epsilon), Slots(total)


def update_inside(param: Array, grad: Array, slots: Slots, h: Hyper) -> tuple[Array, Slots]:
    """θ − η·g / √(a' + ε), a' = a + g²."""
    total = slots.sum_of_squares + grad * grad
    return param - h.learning_rate * grad / sqrt(total + h.epsilon), Slots(total)


adagrad = Rule(
    name="adagrad",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    start=start,
    update=update,
    initial={"initial_accumulator": "it is where the sum of squares starts; learning_rate may be a schedule"},
    options={"epsilon_form": ("outside", "inside")},
    variant=lambda epsilon_form: {"update": update if epsilon_form == "outside" else update_inside},
    conventions={
        "torch": {"epsilon": 1e-10},
        "keras": {
            "epsilon_form": "inside",
            "learning_rate": 0.001,
            "epsilon": 1e-7,
            "initial_accumulator": 0.1,
            "decay": "decoupled",
        },
        "optax": {"epsilon_form": "inside", "epsilon": 1e-7, "initial_accumulator": 0.1},
        "mxnet": {"epsilon_form": "inside", "learning_rate": 0.1, "epsilon": 1e-6, "weight_decay": 1e-5},
        "pycmtensor": {"epsilon_form": "inside", "learning_rate": 1.0},
    },
    source="Duchi, Hazan, Singer, Adaptive subgradient methods, JMLR 12, 2011, figure 1 (H = δI + diag s)",
)
