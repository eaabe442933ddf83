"""Update rules, each written once as plain arithmetic.

``rule.init`` and ``rule.step`` are the pure face; ``thalweg.lowering`` compiles the same text into one fused
in-place pass, and ``thalweg.optimizers`` binds it to Variables.
"""

from __future__ import annotations

from thalweg.rules.adadelta import adadelta
from thalweg.rules.adagrad import adagrad
from thalweg.rules.adam import adam
from thalweg.rules.adamax import adamax
from thalweg.rules.adamw import adamw
from thalweg.rules.amsgrad import amsgrad
from thalweg.rules.averaging import averaged
from thalweg.rules.base import NoSlots, Rule
from thalweg.rules.decaying import decayed
from thalweg.rules.declaring import Hyperparameter
from thalweg.rules.gradient_descent import gradient_descent
from thalweg.rules.lamb import lamb
from thalweg.rules.lion import lion
from thalweg.rules.lookahead import lookahead
from thalweg.rules.momentum import momentum
from thalweg.rules.nadam import nadam
from thalweg.rules.nesterov import nesterov
from thalweg.rules.radam import radam
from thalweg.rules.ranges import Interval
from thalweg.rules.rmsprop import rmsprop
from thalweg.rules.rprop import rprop
from thalweg.rules.schedule_free_adamw import schedule_free_adamw
from thalweg.rules.sgd import sgd

registry: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        gradient_descent,
        sgd,
        momentum,
        nesterov,
        adagrad,
        rmsprop,
        adadelta,
        adam,
        amsgrad,
        adamw,
        adamax,
        nadam,
        radam,
        lion,
        rprop,
        lamb,
        schedule_free_adamw,
    )
}
"""The rules by name. Adding a rule is its file and its row here; every backend and every test then has it."""

__all__ = [
    "Hyperparameter",
    "Interval",
    "NoSlots",
    "Rule",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "amsgrad",
    "averaged",
    "decayed",
    "gradient_descent",
    "lamb",
    "lion",
    "lookahead",
    "momentum",
    "nadam",
    "nesterov",
    "radam",
    "registry",
    "rmsprop",
    "rprop",
    "schedule_free_adamw",
    "sgd",
]
