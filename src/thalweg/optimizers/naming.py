"""What an optimizer is given to optimize, and the names that its state goes by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.graph import Variable
from thalweg.optimizers.showing import shown
from thalweg.rules.base import Rule
from thalweg.rules.namespaces import library_of

_INSTEAD = {
    "numpy": "give Variables: tw.Variable(array, name='x', needs_grad=True)",
    "torch": "give PyTorch's parameters to thalweg.optimizers.torch.TorchOptimizer(parameters, optimizer)",
    "jax": "give JAX's arrays to thalweg.optimizers.jax.JaxOptimizer(optimizer)",
    "pytensor": "give PyTensor's variables to update(cost, params), and all of them where the optimizer is made",
}
"""What whoever gives other libraries' arrays wants, by library."""


def listed(variables: Any, rule: Rule) -> tuple[tuple[Variable, ...], list[str]]:
    """Variables with their names.

    Args:
        variables: a Variable, or a sequence of them.
        rule: the rule that will update them, for messages.

    Returns:
        The variables, and the names that their state goes by.

    Raises:
        OptimizerError: there is none, or something else; or several and one has no name, or two have the same.
    """
    if isinstance(variables, np.ndarray):
        raise OptimizerError(f"got an array to optimize; {_INSTEAD['numpy']}")
    if not isinstance(variables, Variable | Iterable):
        name = next(iter(rule.hyperparameters), "name")
        raise OptimizerError(
            f"got {shown(variables)}, to optimize; give Variables first, and hyperparameters by keyword: {name}=..."
        )
    several = (variables,) if isinstance(variables, Variable) else tuple(variables)
    return several, _names(several)


def _names(variables: Sequence[Any]) -> list[str]:
    """The names that state goes by; a single variable may do without."""
    if not variables:
        raise OptimizerError("there is no variable to optimize; give at least one")
    for variable in variables:
        if not isinstance(variable, Variable):
            raise OptimizerError(f"got a {type(variable).__name__} to optimize; {_INSTEAD[library_of(variable)]}")
    if len(variables) == 1:
        return [variables[0].name or "variable"]
    names = [variable.name for variable in variables]
    for index, name in enumerate(names):
        if not name:
            raise OptimizerError(f"variable {index} of {len(names)} has no name; state is kept by name, so give it one")
        if names.index(name) != index:
            raise OptimizerError(f"two variables are named {name!r}; state is kept by name, so give each its own")
    return [str(name) for name in names]


def by_position(kind: str, rule: Rule, positional: Sequence[Any]) -> HyperparameterError:
    """The error for what was given after the variables without a name.

    Args:
        kind: the optimizer's class.
        rule: its rule.
        positional: what was given.
    """
    if any(isinstance(value, Variable) for value in positional):
        return HyperparameterError(f"{kind} takes several variables as a list: {kind}([x, y], ...)")
    name = next(iter(rule.hyperparameters), "name")
    return HyperparameterError(
        f"{kind} takes hyperparameters by keyword, and was given {' and '.join(map(shown, positional))}, after the "
        f"variables; write {name}={positional[0] if isinstance(positional[0], int | float) else '...'}",
        name=name,
        value=positional[0],
    )
