"""Optimizers: a rule, schedules and hooks, bound to Variables."""

from __future__ import annotations

from thalweg.optimizers.base import Optimizer
from thalweg.optimizers.building import build
from thalweg.optimizers.current import get_learning_rate, get_momentum
from thalweg.optimizers.groups import Group
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.named import (
    LAMB,
    SGD,
    Adadelta,
    AdaGrad,
    Adam,
    Adamax,
    AdamW,
    AMSGrad,
    GradientDescent,
    Lion,
    Momentum,
    Nadam,
    Nesterov,
    RAdam,
    RMSProp,
    Rprop,
    ScheduleFreeAdamW,
    registry,
)
from thalweg.optimizers.normalizing import normalized_gradient
from thalweg.optimizers.settings import Scheduled
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.optimizers.updater import get_updater

__all__ = [
    "LAMB",
    "SGD",
    "AMSGrad",
    "AdaGrad",
    "Adadelta",
    "Adam",
    "AdamW",
    "Adamax",
    "GradientDescent",
    "Group",
    "Lion",
    "LocalOptimizer",
    "Momentum",
    "Nadam",
    "Nesterov",
    "Optimizer",
    "OptimizerSnapshot",
    "RAdam",
    "RMSProp",
    "Rprop",
    "ScheduleFreeAdamW",
    "Scheduled",
    "build",
    "get_learning_rate",
    "get_momentum",
    "get_updater",
    "normalized_gradient",
    "registry",
]
