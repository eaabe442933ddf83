"""Optimizers: a rule with schedules and hooks, bound to Variables."""

from __future__ import annotations

from thalweg.optimizers.adadelta import Adadelta
from thalweg.optimizers.adagrad import AdaGrad
from thalweg.optimizers.adam import Adam
from thalweg.optimizers.adamax import Adamax
from thalweg.optimizers.base import Optimizer
from thalweg.optimizers.building import build, registry
from thalweg.optimizers.gradient_descent import GradientDescent
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.momentum import Momentum
from thalweg.optimizers.nesterov import Nesterov
from thalweg.optimizers.rmsprop import RMSProp
from thalweg.optimizers.settings import Scheduled, Setting
from thalweg.optimizers.sgd import SGD
from thalweg.optimizers.snapshot import OptimizerSnapshot

__all__ = [
    "SGD",
    "AdaGrad",
    "Adadelta",
    "Adam",
    "Adamax",
    "GradientDescent",
    "LocalOptimizer",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "OptimizerSnapshot",
    "RMSProp",
    "Scheduled",
    "Setting",
    "build",
    "registry",
]
