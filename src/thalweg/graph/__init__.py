"""The adjoint graph: Variables flow through Operators, gradients flow back."""

from thalweg.graph.call import Call
from thalweg.graph.dot_product import AdjointCheck, check_adjoint
from thalweg.graph.executor import run_blocking, use_executor
from thalweg.graph.graph import Graph
from thalweg.graph.node import Node
from thalweg.graph.operator import Operator
from thalweg.graph.taylor import GradientCheck, check_gradient
from thalweg.graph.variable import Variable
from thalweg.graph.waiting import wait

__all__ = [
    "AdjointCheck",
    "Call",
    "GradientCheck",
    "Graph",
    "Node",
    "Operator",
    "Variable",
    "check_adjoint",
    "check_gradient",
    "run_blocking",
    "use_executor",
    "wait",
]
