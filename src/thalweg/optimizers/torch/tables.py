"""What is given to a PyTorch optimizer to optimize, in whichever form, as param groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from thalweg.errors import OptimizerError, ParameterError

Params = Iterable[torch.Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, torch.Tensor]]
"""Parameters, tables of them, or pairs of name and parameter."""


def tables(params: Any) -> list[dict[str, Any]]:
    """Param groups of what was given.

    Args:
        params: parameters, pairs of name and parameter, or tables with ``params`` that hold either.

    Returns:
        Tables with ``params``, a list of what was given as tensors, and ``param_names``, if there are names; one
        without parameters has them (none) if others have.

    Raises:
        ParameterError: it is no such thing, or has no order.
        OptimizerError: there is nothing, or only some in a table have names.
    """
    if isinstance(params, torch.Tensor | torch.nn.Module | Mapping) or not isinstance(params, Iterable):
        raise ParameterError(
            f"got a {type(params).__name__} to optimize; give model.named_parameters(), or a list of tensors or tables"
        )
    several: list[Any] = list(params)
    if not several:
        raise OptimizerError("there is no parameter to optimize; give at least one")
    groups = several if isinstance(several[0], dict) else [{"params": several}]
    found = [_table(group) for group in groups]
    for table in found if any("param_names" in table for table in found) else ():
        if not table["params"]:
            table["param_names"] = []
    return found


def _table(group: Any) -> dict[str, Any]:
    if not isinstance(group, dict) or "params" not in group:
        raise ParameterError(f"a param group is a {type(group).__name__}; give tables with 'params'")
    given = group["params"]
    if isinstance(given, set | frozenset):
        raise ParameterError("a param group holds a set, which has no order; give a list of parameters")
    members = [given] if isinstance(given, torch.Tensor) else list(given)
    pairs = [member for member in members if isinstance(member, tuple) and len(member) == 2]
    if pairs and len(pairs) != len(members):
        raise OptimizerError("a param group has parameters with names and others without; give all of them names")
    if not pairs:
        return {**group, "params": members}
    return {**group, "params": [tensor for _, tensor in pairs], "param_names": [str(name) for name, _ in pairs]}
