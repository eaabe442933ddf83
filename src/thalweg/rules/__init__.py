"""Update rules, each written once as plain arithmetic.

``rule.init`` and ``rule.step`` are the pure face; ``thalweg.lowering`` compiles the same text into one fused
in-place pass, and ``thalweg.optimizers`` binds it to Variables.
"""

from __future__ import annotations

from thalweg.rules.adadelta import adadelta
from thalweg.rules.adagrad import adagrad
from thalweg.rules.adam import adam
from thalweg.rules.adamax import adamax
from thalweg.rules.base import Hyperparameter, NoSlots, Rule
from thalweg.rules.gradient_descent import gradient_descent
from thalweg.rules.momentum import momentum
from thalweg.rules.nesterov import nesterov
from thalweg.rules.ranges import Interval
from thalweg.rules.rmsprop import rmsprop
from thalweg.rules.sgd import sgd

__all__ = [
    "Hyperparameter",
    "Interval",
    "NoSlots",
    "Rule",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "gradient_descent",
    "momentum",
    "nesterov",
    "rmsprop",
    "sgd",
]
