"""Numbers as a state holds them and a step takes them, which has to be in their range whoever uses them. ::

without float64    high + low in float32, of which a snapshot carries 14 digits: 1e-60 is 0, 1e39 is infinite
in a step          rounded to the parameter's dtype; XLA may take what is subnormal there as 0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.lowering import jax as lowering
from thalweg.lowering.jax import DType
from thalweg.lowering.pairs import Pair, split
from thalweg.rules.base import Rule


def check(rule: Rule, values: Mapping[str, Any], kinds: Iterable[DType] = ()) -> None:
    """Refuse numbers of which a state, or a step of these parameters, would hold something outside their range.

    Args:
        rule: whose they are.
        values: checked hyperparameters by name, all of them or some; schedules among them are not looked at.
        kinds: the dtypes of the parameters' states that they are for.

    Raises:
        HyperparameterError: there is such a one.
    """
    numbers = {name: value for name, value in values.items() if not callable(value)}
    for kind in kinds:
        rule.check_rounded(numbers, kind)
        for name, value in numbers.items():
            _refuse_outside(rule, name, value, _flushed(value, kind), f"where XLA computes in {kind}", "")
    if lowering.has_float64():
        return
    for name, value in numbers.items():
        held = lowering.as_float(Pair(*split(value)))
        _refuse_outside(rule, name, value, held, "in float32, which is all that JAX has here", _SWITCH)


def differences(
    rule: Rule, tables: Sequence[Mapping[str, Any]], places: Sequence[int], kinds: Sequence[DType]
) -> list[str]:
    """The same of numbers that were saved: what :func:`check` says of each.

    Args:
        rule: whose they are.
        tables: for each group its hyperparameters, the optimizer's own first.
        places: for each parameter its group.
        kinds: for each the dtype of its state.

    Returns:
        A text for each number that cannot be held.
    """
    found: list[str] = []
    for group, table in enumerate(tables):
        for name, value in table.items():
            owners = [place if name in tables[place] else 0 for place in places]
            mine = {kind for owner, kind in zip(owners, kinds, strict=True) if owner == group}
            try:
                check(rule, {name: value}, mine)
            except HyperparameterError as error:
                found.append(str(error))
    return found


def _flushed(value: Any, kind: DType) -> Any:
    rounded = np.asarray(value, np.float64).astype(kind).astype(np.float64)
    return np.where(np.abs(rounded) < float(np.finfo(kind).tiny), 0.0, rounded)


_SWITCH = ", or switch float64 on (jax.config.update('jax_enable_x64', True), before anything else)"


def _refuse_outside(rule: Rule, name: str, value: Any, held: Any, where: str, advice: str) -> None:
    interval = rule.hyperparameters[name].interval
    bad = np.argwhere(~interval.holds(np.asarray(held)))
    if not len(bad):
        return
    index = tuple(map(int, bad[0]))
    given, becomes = (float(np.asarray(one)[index]) for one in (value, held))
    raise HyperparameterError(
        f"{rule.name}: {name}{list(index) if index else ''} = {given!r} becomes {becomes!r} {where}, outside its range "
        f"{interval}; use another value{advice}",
        owner=rule.name,
        name=name,
        value=given,
    )
