"""Thalweg fits models to data whatever the feedback looks like.

Variables flow through Operators, feedback flows back, an Optimizer turns it into an update, a Run makes the whole
thing survive. By convention ``import thalweg as tw``.
"""

from thalweg import errors, optimizers, rules, schedules, transforms
from thalweg.errors import ThalwegError
from thalweg.graph import Call, Graph, Node, Operator, Variable, check_adjoint, check_gradient, wait
from thalweg.optimizers import (
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
    LocalOptimizer,
    Momentum,
    Nadam,
    Nesterov,
    Optimizer,
    RAdam,
    RMSProp,
    Rprop,
    ScheduleFreeAdamW,
    get_learning_rate,
    get_momentum,
    get_updater,
    normalized_gradient,
)
from thalweg.schedules import OptimizationState

__version__ = "0.1.0"

__all__ = [
    "LAMB",
    "SGD",
    "AMSGrad",
    "AdaGrad",
    "Adadelta",
    "Adam",
    "AdamW",
    "Adamax",
    "Call",
    "GradientDescent",
    "Graph",
    "Lion",
    "LocalOptimizer",
    "Momentum",
    "Nadam",
    "Nesterov",
    "Node",
    "Operator",
    "OptimizationState",
    "Optimizer",
    "RAdam",
    "RMSProp",
    "Rprop",
    "ScheduleFreeAdamW",
    "ThalwegError",
    "Variable",
    "__version__",
    "check_adjoint",
    "check_gradient",
    "errors",
    "get_learning_rate",
    "get_momentum",
    "get_updater",
    "normalized_gradient",
    "optimizers",
    "rules",
    "schedules",
    "transforms",
    "wait",
]
