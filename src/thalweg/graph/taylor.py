"""check_gradient: the Taylor test of a gradient.

Along a direction d the remainders

    R₀(h) = |f(x + h d) − f(x)|              falls like h
    R₁(h) = |f(x + h d) − f(x) − h ⟨g, d⟩|   falls like h² if g is the gradient, and like h if it is not

so their slopes in a log-log plot over halved steps are 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from thalweg.errors import GraphError
from thalweg.graph.arrays import describe, inner, is_complex, is_single, like, rounding, shape_of, to_numpy
from thalweg.graph.variable import Variable, refuse_grad
from thalweg.graph.waiting import wait

# A remainder below this many units of rounding of the values it is a difference of says nothing.
_NOISE = 100.0


@dataclass(frozen=True)
class GradientCheck:
    """Result of :func:`check_gradient`; true if the test passed.

    Attributes:
        slopes: of the remainders without and with the gradient, about 1 and 2; NaN where the remainders are
            at rounding level.
        steps: the step sizes h.
        remainders: R₀ and R₁ at each step.
        exact: whether R₁ is at rounding level throughout (as for a linear function).
        tolerance: by how much the second slope may fall short of 2.
    """

    slopes: tuple[float, float]
    steps: tuple[float, ...]
    remainders: tuple[tuple[float, ...], tuple[float, ...]]
    exact: bool
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the second slope is 2 (or more, where the curvature vanishes), or the remainder is just rounding."""
        return self.exact or self.slopes[1] >= 2 - self.tolerance

    @property
    def error(self) -> float:
        """By how much the second slope falls short of 2."""
        return 0.0 if self.exact else max(0.0, 2 - self.slopes[1]) if self.slopes[1] > -math.inf else math.inf

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        first, second = self.slopes
        found = "remainder at rounding level" if self.exact else f"slope {second:.3f} (expected 2)"
        return f"gradient: {'ok' if self.ok else 'WRONG'}, {found}; without the gradient slope {first:.3f}"


def check_gradient(
    f: Callable[..., Variable | Awaitable[Variable]],
    *variables: Variable,
    direction: Any = None,
    rng: np.random.Generator | None = None,
    steps: Sequence[float] | None = None,
    tolerance: float = 0.1,
) -> GradientCheck:
    """Test a gradient by the rate at which a first-order Taylor expansion gets better.

    Args:
        f: maps the variables to a Variable with one real number; a function or a coroutine function.
        variables: leaves with floating point data, at the point to test. Data, gradients (also of other
            leaves that f uses) and versions are as before afterwards, also after an exception.
        direction: an array like the variable's data (a sequence of arrays for several variables), in the
            data's unit; by default uniformly random, scaled to the root mean square of the data (1 where that
            is 0).
        rng: source of the direction; ``np.random.default_rng(0)`` by default.
        steps: step sizes h, falling; by default halvings from 1e-2 in double, from 0.1 in single precision.
        tolerance: by how much the slope may fall short of 2.

    Returns:
        The result, which is true if the test passed.

    Raises:
        GraphError: f is not a real scalar Variable, or a variable is no leaf.

    Example:
        >>> import numpy as np
        >>> from thalweg.graph import Operator, Variable, check_gradient
        >>> class LogSum(Operator):
        ...     def forward(self, x):
        ...         return Variable(np.log(np.sum(np.exp(x.data))))
        ...     def adjoint(self, grad, x):
        ...         return grad * np.exp(x.data) / np.sum(np.exp(x.data))
        >>> bool(check_gradient(LogSum(), Variable(np.array([0.1, 1.0, -0.5]))))
        True

    Source: Farrell, Ham, Funke and Rognes, SIAM J. Sci. Comput. 35 (2013) C369, section 4.1.
    """
    if not variables:
        raise GraphError("check_gradient needs at least one variable to differentiate by: check_gradient(f, x)")
    for variable in variables:
        if variable._node is not None:
            raise GraphError(f"check_gradient got {variable!r}, which is no leaf; pass its as_parameter()")
        refuse_grad(variable.data, variable.name)
        if variable.dtype is None:
            raise GraphError(f"check_gradient got {variable!r}, whose data is no array")
    rng = np.random.default_rng(0) if rng is None else rng
    directions = _directions(variables, direction, rng)
    coarsest = max(rounding(v.data) for v in variables)
    if steps is None:
        steps = [1e-2 * 0.5**k for k in range(10)] if coarsest < 1e-10 else [0.1 * 0.5**k for k in range(6)]
    if len(steps) < 3 or any(not 0 < b < a for a, b in pairwise(steps)):
        raise GraphError(f"check_gradient needs at least three falling, positive steps, got {list(steps)}")
    before = [(v, v._data, v._counter, v._counter[0], v.grad, v._needs_grad) for v in variables]
    others: list[tuple[Variable, Any]] = []
    try:
        return wait(_taylor(f, variables, directions, tuple(steps), tolerance, others))
    finally:
        for leaf, grad in others:
            leaf.grad = grad
        for variable, data, counter, count, grad, needs_grad in before:
            counter[0] = count
            variable._data, variable._counter, variable.grad = data, counter, grad
            variable._needs_grad = needs_grad


async def _taylor(
    f: Callable[..., Any],
    variables: tuple[Variable, ...],
    directions: list[Any],
    steps: tuple[float, ...],
    tolerance: float,
    others: list[tuple[Variable, Any]],
) -> GradientCheck:
    start = [v._data for v in variables]
    for variable in variables:
        variable._needs_grad, variable.grad = True, None
    base, value = await _evaluate(f, variables)
    if base.needs_grad:
        leaves = [node.op for node in base.graph if isinstance(node.op, Variable) and node.op not in variables]
        others.extend((leaf, leaf.grad) for leaf in leaves)
        await base.adjoint()
    gradients = [v.grad for v in variables]
    unit = max(rounding(a) for a in [base.data, *start])
    zeroth, first, floors = [], [], []
    for variable in variables:
        variable._needs_grad = False  # nothing needs recording from here on
    for h in steps:
        linear = 0.0
        for variable, x, d, g in zip(variables, start, directions, gradients, strict=True):
            moved = x + like(x, h * to_numpy(d))
            variable.data = moved
            if g is not None:  # ⟨g, what was really added⟩: rounding of x + h d is no error of the gradient
                linear += inner(g, _wide(moved) - _wide(x))
        there = (await _evaluate(f, variables))[1]
        zeroth.append(abs(there - value))
        first.append(abs(there - value - linear))
        floors.append(_NOISE * unit * max(abs(value), abs(there), abs(linear)))
    finite = all(math.isfinite(r) for r in (value, *zeroth, *first))
    usable = [r > floor for r, floor in zip(first, floors, strict=True)]
    slope = _slope(steps, first, usable)
    return GradientCheck(
        slopes=(_slope(steps, zeroth, [r > floor for r, floor in zip(zeroth, floors, strict=True)]), slope),
        steps=steps,
        remainders=(tuple(zeroth), tuple(first)),
        exact=finite and math.isnan(slope),
        tolerance=tolerance,
    )


def _slope(steps: Sequence[float], remainders: list[float], usable: list[bool]) -> float:
    """Return the slope over the three smallest steps with remainders above rounding, NaN if there are fewer than 2."""
    points = [(math.log(h), math.log(r)) for h, r, good in zip(steps, remainders, usable, strict=True) if good][-3:]
    if len(points) < 2:
        return math.nan
    x, y = np.array(points).T
    return float(np.dot(x - x.mean(), y - y.mean()) / np.dot(x - x.mean(), x - x.mean()))


async def _evaluate(f: Callable[..., Any], variables: tuple[Variable, ...]) -> tuple[Variable, float]:
    result = f(*variables)
    if hasattr(result, "__await__"):
        result = await result
    if not isinstance(result, Variable) or not is_single(result.data) or is_complex(result.dtype):
        got = repr(result) if isinstance(result, Variable) else describe(result)
        raise GraphError(f"check_gradient needs a function that returns a Variable with one real number, got {got}")
    return result, float(to_numpy(result.data).reshape(()))


def _directions(variables: tuple[Variable, ...], given: Any, rng: np.random.Generator) -> list[Any]:
    if given is not None:
        directions = list(given) if len(variables) > 1 else [given]
        shapes = [np.shape(d) for d in directions]
        if shapes != [shape_of(v.data) for v in variables]:
            raise GraphError(f"the direction has shapes {shapes}, the variables {[v.shape for v in variables]}")
        return directions
    directions = []
    for variable in variables:
        data = to_numpy(variable.data)
        direction = rng.uniform(-1, 1, data.shape)
        if is_complex(data.dtype):
            direction = direction + 1j * rng.uniform(-1, 1, data.shape)
        scale = math.sqrt(inner(data, data) / max(1, data.size))
        directions.append(direction * (scale or 1.0))
    return directions


def _wide(data: Any) -> Any:
    array = to_numpy(data)
    return array.astype(np.result_type(array.dtype, np.float64))
