"""Thalweg fits models to data whatever the feedback looks like.

Variables flow through Operators, feedback flows back, an Optimizer turns it into an update, a Run makes the whole
thing survive. By convention ``import thalweg as tw``.
"""

from thalweg import errors, optimizers, rules, schedules, transforms
from thalweg.errors import ThalwegError
from thalweg.graph import Call, Graph, Node, Operator, Variable, check_adjoint, check_gradient, wait
from thalweg.optimizers import (
    SGD,
    Adadelta,
    AdaGrad,
    Adam,
    Adamax,
    GradientDescent,
    LocalOptimizer,
    Momentum,
    Nesterov,
    Optimizer,
    RMSProp,
)
from thalweg.schedules import OptimizationState

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AdaGrad",
    "Adadelta",
    "Adam",
    "Adamax",
    "Call",
    "GradientDescent",
    "Graph",
    "LocalOptimizer",
    "Momentum",
    "Nesterov",
    "Node",
    "Operator",
    "OptimizationState",
    "Optimizer",
    "RMSProp",
    "ThalwegError",
    "Variable",
    "__version__",
    "check_adjoint",
    "check_gradient",
    "errors",
    "optimizers",
    "rules",
    "schedules",
    "transforms",
    "wait",
]
