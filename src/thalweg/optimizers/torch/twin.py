"""The snapshot that all backends share, of a PyTorch optimizer.

It is taken and restored by a twin: a ``LocalOptimizer`` with the same rule, settings, groups and state over variables
of the same names, whose format it is. What it refuses is refused here, in its words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from thalweg.errors import OptimizerError
from thalweg.graph import Variable
from thalweg.lowering.torch import AS_NUMPY, COMPUTED_IN
from thalweg.optimizers import persistence
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.optimizers.torch.checks import as_numpy
from thalweg.optimizers.torch.grouping import Grouping, as_it_is, as_saved
from thalweg.optimizers.torch.state import copied
from thalweg.schedules import OptimizationState

if TYPE_CHECKING:
    from thalweg.optimizers.torch.configured import ConfiguredTorchOptimizer as Configured


def take(optimizer: Configured) -> OptimizerSnapshot:
    """A snapshot.

    Raises:
        OptimizerError: the parameters have no names, or have not made the same number of steps; or gradients are
            gathered of some of them only.
    """
    _check_names(optimizer)
    grouping = as_it_is(optimizer)
    twin, rows, listing = _twin(optimizer, grouping), grouping.rows, optimizer._listing()
    steps = {label: optimizer.state[p]["step"] if optimizer.state.get(p) else 0 for p, label, _ in listing}
    if len(set(steps.values())) > 1:
        least, most = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
        raise OptimizerError(
            f"{optimizer.name}: {least!r} has made {steps[least]} steps and {most!r} {steps[most]}; a snapshot has one "
            "count for all parameters. state_dict() keeps one for each"
        )
    without = [label for param, label, _ in listing if optimizer._micro and param not in optimizer._gathered]
    if without:
        raise OptimizerError(
            f"{optimizer.name}: {optimizer._micro} of {optimizer._accumulate} gradients are gathered for the coming "
            f"step, and {without[0]!r} had none; a snapshot has a sum for each parameter, and a sum of zero would move "
            "it: take the snapshot after the step, or use state_dict()"
        )
    twin._updates = next(iter(steps.values()))
    rule, names = optimizer.rule, optimizer.rule.carried_names
    start = tuple(rule.carried()) if rule.carried else ()
    carried: dict[int, tuple[float, ...]] = {}
    for (param, label, group), parameter in zip(listing, twin._parameters, strict=True):
        state = optimizer.state.get(param)
        if state:
            parameter.set_slots({name: as_numpy(state[name]) for name in rule.slot_names})
            numbers = tuple(state[name] for name in names)
            if carried.setdefault(rows[group], numbers) != numbers:
                raise OptimizerError(f"{optimizer.name}: {label!r} has another past than the others of its group")
        if optimizer._micro:
            parameter.accumulate(as_numpy(optimizer._gathered[param]), first=True)
    if names:
        twin._carried = np.array([carried.get(row, start) for row in range(len(twin.groups) + 1)], np.float64)
    twin._skipped, twin._zeroed, twin._micro = optimizer._skipped, optimizer._zeroed, optimizer._micro
    persistence.set_counts(twin.optimization_state, optimizer._optimization_state.get_config())
    return twin.state()


def restore(optimizer: Configured, snapshot: OptimizerSnapshot) -> None:
    """Put a snapshot in place.

    Raises:
        StateMismatchError: it does not fit; nothing was changed.
        OptimizerError: the parameters have no names.
    """
    twin, grouping = _restored(optimizer, snapshot)
    # Nothing below can fail.
    rule, rows = optimizer.rule, grouping.rows
    optimizer._settings = twin.hyperparameters
    for pattern, place in zip(optimizer._patterns, grouping.patterns, strict=True):
        if place:
            pattern.settings.clear()
            pattern.settings.update(twin.groups[place - 1].settings)
    tables = [twin.hyperparameters, *({**twin.hyperparameters, **group.settings} for group in twin.groups)]
    for index, table in enumerate(optimizer.param_groups):
        if not table["params"]:  # a snapshot says nothing of it
            continue
        values = tables[rows[index]]
        optimizer._scheduled[index] = {name: value for name, value in values.items() if callable(value)}
        counts = OptimizationState(**twin.optimization_state.get_config())
        present = optimizer._spelling.read(optimizer._spelling.shown(values), {}, counts, optimizer.name)
        table.update(optimizer._spelling.shown(present._asdict()))
    carried = twin._carried_numbers()
    optimizer.state.clear()
    for (param, _, group_index), parameter in zip(optimizer._listing(), twin._parameters, strict=True):
        if twin._updates:
            slots = {name: torch.from_numpy(array) for name, array in parameter.slots().items()}
            row = [] if carried is None else carried[rows[group_index]].tolist()
            state = {"step": twin._updates, **slots, **dict(zip(rule.carried_names, row, strict=True))}
            optimizer.state[param] = copied(optimizer, param, state)
    optimizer._gathered = {
        param: torch.from_numpy(np.array(parameter.accumulated)).to(param.device)
        for (param, _, _), parameter in zip(optimizer._listing(), twin._parameters, strict=True)
        if twin._micro and parameter.accumulated is not None
    }
    optimizer._skipped, optimizer._zeroed, optimizer._micro = twin._skipped, twin._zeroed, twin._micro
    persistence.set_counts(optimizer._optimization_state, twin.optimization_state.get_config())


def _restored(optimizer: Configured, snapshot: OptimizerSnapshot) -> tuple[LocalOptimizer, Grouping]:
    """A twin that a snapshot was put into, and how param groups are its groups."""
    _check_names(optimizer)
    grouping = as_saved(optimizer, snapshot) or as_it_is(optimizer)  # which says what does not fit
    twin = _twin(optimizer, grouping)
    twin.restore(snapshot)
    return twin, grouping


def _check_names(optimizer: Configured) -> None:
    if not all("param_names" in group for group in optimizer.param_groups):
        raise OptimizerError(
            f"{optimizer.name}: a snapshot is by name, and the parameters have none; make the optimizer of "
            "model.named_parameters(), or use state_dict()"
        )


def _twin(optimizer: Configured, grouping: Grouping) -> LocalOptimizer:
    """A ``LocalOptimizer`` with the same settings and no steps."""
    kind = type("Twin", (LocalOptimizer,), {"rule": optimizer._base_rule, "__doc__": "See _twin."})
    variables = []
    for param, label, _ in optimizer._listing():
        data = (
            np.zeros(param.shape, AS_NUMPY[COMPUTED_IN[param.dtype]]) if optimizer.state.get(param) else as_numpy(param)
        )
        variables.append(Variable(data, name=label, needs_grad=True))
    twin: LocalOptimizer = kind(
        variables,
        convention=optimizer._convention,
        groups=grouping.tables,
        wrap=optimizer._wrap,
        accumulate=optimizer._accumulate,
        nonfinite=optimizer._nonfinite,
        process_grad=optimizer._process_grad.hook,
        process_model=optimizer._process_model.hook,
        **optimizer.rule.chosen,
        **grouping.base,
    )
    return twin
