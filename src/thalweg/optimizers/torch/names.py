"""Names of a PyTorch optimizer's parameters: all have one or none has, no two are the same, and whatever finds
parameters by name needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from thalweg.errors import OptimizerError

if TYPE_CHECKING:
    from thalweg.optimizers.torch.configured import ConfiguredTorchOptimizer as Configured


def agree(optimizer: Configured, named: bool) -> None:
    """Have param groups without parameters say of names what those with parameters say.

    Args:
        optimizer: the optimizer.
        named: whether its parameters have names.
    """
    for group in optimizer.param_groups:
        if not group["params"] and named:
            group["param_names"] = []
        elif not group["params"]:
            group.pop("param_names", None)


def check_names(optimizer: Configured, names: Sequence[str] | None, known: Sequence[str]) -> None:
    """Refuse names of further parameters that do not go with those that are there.

    Args:
        optimizer: the optimizer.
        names: of the further parameters; ``None`` if they have none.
        known: of the optimizer's parameters, or their numbers.

    Raises:
        OptimizerError: some parameters have names and others have not, or two have the same.
    """
    held = [group for group in optimizer.param_groups if group["params"]]
    if held and ("param_names" in held[0]) != (names is not None):
        raise OptimizerError(
            f"{optimizer.name}: either all parameters have names or none; give named_parameters() of all"
        )
    if not names:
        return
    twice = [name for name, times in Counter([*names, *known]).items() if times > 1]
    if twice:
        raise OptimizerError(f"{optimizer.name}: two parameters are named {twice[0]!r}; state is kept by name")


def check_hooks(optimizer: Configured, names: Sequence[str]) -> None:
    """Refuse groups and hooks that find parameters by name where no parameter has the name.

    Args:
        optimizer: the optimizer.
        names: of all parameters; empty if they have none.

    Raises:
        OptimizerError: the parameters have no names.
        HyperparameterError: a hook is for a name that none of them has.
    """
    hooks = optimizer._process_grad, optimizer._process_model
    by_name = [p.what for p in hooks if isinstance(p.hook, Mapping)]
    if not names and (optimizer._patterns or by_name):
        what = " and ".join([*(["groups"] if optimizer._patterns else []), *by_name])
        raise OptimizerError(
            f"{optimizer.name}: {what} find parameters by name, and these have none; give model.named_parameters()"
        )
    if names:
        for hook in hooks:
            hook.check_names(names)
