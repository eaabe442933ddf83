"""What is set in a param group in vain: what a rule reads at the first step only, arrays that it needs twice, and
numbers where a schedule says what they are. And what comes too late: a step after one that was left in its middle."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thalweg.errors import OptimizerError
from thalweg.optimizers.settings import is_lagged_array, lagged, same
from thalweg.optimizers.telling import level_of_user

if TYPE_CHECKING:
    from thalweg.optimizers.torch.configured import ConfiguredTorchOptimizer as Configured


def refuse_lagged(optimizer: Configured, hypers: Mapping[int, Any]) -> None:
    """Refuse arrays that were set, or left, since the last step, which the coming one needs as they were.

    Args:
        optimizer: the optimizer.
        hypers: the hyperparameters of the coming step by param group.

    Raises:
        HyperparameterError: there is such an array.
    """
    for group, hyper in hypers.items():
        now = {name: getattr(hyper, name) for name in optimizer.rule.lagged}
        known = optimizer._lagged.get(group, now)
        for name, value in now.items() if _begun(optimizer, group) else ():
            if is_lagged_array(known[name], value) and not same(known[name], value):
                raise lagged(optimizer.rule, name)
        optimizer._lagged[group] = now


def tell(optimizer: Configured, hypers: Mapping[int, Any]) -> None:
    """Say once that something was set, by a scheduler maybe, that is read at a parameter's first step only.

    Args:
        optimizer: the optimizer.
        hypers: the hyperparameters of the coming step by param group.
    """
    rule = optimizer.rule
    for group, hyper in hypers.items():
        now = {name: getattr(hyper, name) for name in rule.initial}
        known = optimizer._initial.setdefault(group, now) if _begun(optimizer, group) else now
        optimizer._initial[group] = known
        late = [name for name, value in known.items() if not same(value, now[name])]
        if late and "late" not in optimizer._told:
            optimizer._told.add("late")
            warnings.warn(
                f"{optimizer.name}: {late[0]} of a param group was changed, and {rule.name} reads it at a "
                "parameter's first step only, as PyTorch's own does: it changes nothing after that; "
                f"{rule.initial[late[0]]}",
                stacklevel=level_of_user(),
            )


def refuse_broken(optimizer: Configured) -> None:
    """Refuse to go on after a step in whose middle memory ran out, say, and which had nothing to go back to.

    Args:
        optimizer: the optimizer.

    Raises:
        OptimizerError: there was one, and no state was loaded since.
    """
    if optimizer._broken:
        raise OptimizerError(
            f"{optimizer.name}: the step before was left in its middle by {optimizer._broken}, so parameters and state "
            "may not belong together; load parameters and state as they were saved (load_state_dict)",
            name=optimizer.name,
        )


def tell_overwritten(optimizer: Configured) -> None:
    """Say once that a number was set, by a scheduler maybe, where a schedule of ours says what it is.

    Args:
        optimizer: the optimizer, after its first step.
    """
    if "overwritten" in optimizer._told:
        return
    for group, shown in optimizer._shown.items():
        table = optimizer.param_groups[group]
        optimizer._spelling.move(table)
        now, said = (optimizer._spelling.elements(of, optimizer._scheduled[group]) for of in (table, shown))
        other = [what for what in said if what in now and not (callable(now[what]) or same(now[what], said[what]))]
        if other:
            optimizer._told.add("overwritten")
            warnings.warn(
                f"{optimizer.name}: {other[0]} of a param group was set to {now[other[0]]!r}, and a schedule of the "
                "recipe's says what it is: what was set, by a scheduler of PyTorch's maybe, changes nothing. Take one "
                "of the two; a recipe with a number follows PyTorch's schedulers",
                stacklevel=level_of_user(),
            )
            return


def _begun(optimizer: Configured, group: int) -> bool:
    return any(optimizer.state.get(param) for param in optimizer.param_groups[group]["params"])
