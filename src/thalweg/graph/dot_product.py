"""check_adjoint: the dot-product test of an operator's adjoint.

For random x and y, ⟨J x, y⟩ = ⟨x, J* y⟩ must hold to rounding, J being the operator (if it is linear) or its
Jacobian.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from thalweg.errors import GraphError
from thalweg.graph.arrays import differentiable, inner, like, own, random_like, rounding, shape_of, to_numpy
from thalweg.graph.call import Call
from thalweg.graph.executor import run_blocking
from thalweg.graph.operator import Operator
from thalweg.graph.signature import signature_of, wants_call
from thalweg.graph.variable import Variable
from thalweg.graph.waiting import wait

# Default tolerance by the unit roundoff of the coarsest array involved: double, single, half precision.
_TOLERANCES = ((1e-15, 1e-12), (1e-6, 1e-5), (math.inf, 1e-2))


@dataclass(frozen=True)
class AdjointCheck:
    """Result of :func:`check_adjoint`; true if the test passed.

    Attributes:
        operator: the operator's name.
        forward_product: ⟨J x, y⟩.
        adjoint_product: ⟨x, J* y⟩.
        error: their difference, divided by ‖J x‖ ‖y‖.
        tolerance: the largest error that passes.
    """

    operator: str
    forward_product: float
    adjoint_product: float
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return (
            f"adjoint of {self.operator}: {'ok' if self.ok else 'WRONG'}, error {self.error:.1e} "
            f"(limit {self.tolerance:.0e}); <Jx, y> = {self.forward_product:.15g}, "
            f"<x, J*y> = {self.adjoint_product:.15g}"
        )


def check_adjoint(
    operator: Operator,
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    rng: np.random.Generator | None = None,
    tolerance: float | None = None,
) -> AdjointCheck:
    """Test an operator's adjoint by dot products with random arrays.

    error = |⟨J x, y⟩ − ⟨x, J* y⟩| ÷ (‖J x‖ ‖y‖)

    An operator with a ``tangent(*directions, *args, **kwargs)`` is tested at ``args``: J is its Jacobian
    there. One without must be linear in the Variables under test; their data then only says which shape and
    dtype to draw. Inner products are real parts of sums in at least double precision.

    Args:
        operator: the operator to test.
        args: what to call it with. Variables that need a gradient are under test; if there are none, all with
            floating point data are. They are copied: neither data, nor gradients, nor versions change.
        kwargs: further arguments, by name.
        rng: source of x and y; ``np.random.default_rng(0)`` by default.
        tolerance: largest error that passes; by default 1e-12, 1e-5 or 1e-2 for double, single and half
            precision.

    Returns:
        The result, which is true if the test passed.

    Raises:
        GraphError: there is nothing to test, or the operator is neither linear nor has a tangent.

    Example:
        >>> import numpy as np
        >>> from thalweg.graph import Operator, Variable, check_adjoint
        >>> class Difference(Operator):
        ...     def forward(self, x):
        ...         return Variable(np.diff(x.data))
        ...     def adjoint(self, grad, x):
        ...         return -np.diff(grad, prepend=0.0, append=0.0)
        >>> check_adjoint(Difference(), Variable(np.zeros(10))).ok
        True

    Source: Claerbout, Earth Soundings Analysis: Processing versus Inversion (1992), the dot-product test.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    held = [v for v in getattr(operator, "__dict__", {}).values() if isinstance(v, Variable)]
    grads = [v.grad for v in held]
    try:
        return wait(_check(operator, args, dict(kwargs or {}), rng, tolerance))
    finally:  # an adjoint that runs a nested adjoint adds to the operator's own Variables
        for variable, grad in zip(held, grads, strict=True):
            variable.grad = grad


async def _check(
    operator: Operator,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    rng: np.random.Generator,
    tolerance: float | None,
) -> AdjointCheck:
    given = _variables(operator, args, kwargs)
    tested = [v.needs_grad for v in given]
    if not any(tested):
        tested = [v.dtype is not None and differentiable(v.dtype) for v in given]
    if not any(tested):
        raise GraphError(
            f"check_adjoint of {operator.name!r}: no Variable with floating point data among the arguments"
        )
    x = [random_like(v.data, rng) if test else None for v, test in zip(given, tested, strict=True)]
    has_tangent = hasattr(operator, "tangent")
    inputs = [v.as_parameter() if test else v.detach() for v, test in zip(given, tested, strict=True)]
    if not has_tangent:
        _assign(inputs, x)
    args, kwargs = _replaced(operator, args, kwargs, inputs)
    outputs = _tuple(await operator(*args, **kwargs))
    active = [slot for slot, output in enumerate(outputs) if output._node is not None]
    if not active:
        raise GraphError(f"check_adjoint of {operator.name!r}: no output has floating point data")
    if has_tangent:
        tangents = await _tangent(operator, x, args, kwargs, outputs)
        image = [tangents[slot] for slot in active]
    else:
        image = [outputs[slot].data for slot in active]
        await _refuse_nonlinear(operator, args, kwargs, inputs, x, image, active, rng)
    y = [random_like(outputs[slot].data, rng) for slot in active]
    product = await _Pairing(y)(*(outputs[slot] for slot in active))
    await product.adjoint()

    pairs = [(d, v.grad) for d, v in zip(x, inputs, strict=True) if d is not None]
    forward = sum(inner(a, b) for a, b in zip(image, y, strict=True))
    adjoint = sum(inner(d, g) for d, g in pairs)
    norm = math.sqrt(sum(inner(a, a) for a in image)) * math.sqrt(sum(inner(b, b) for b in y))
    difference = abs(forward - adjoint)
    error = difference / norm if norm > 0 else 0.0 if difference == 0 else math.inf
    if tolerance is None:
        coarsest = max(rounding(a) for a in [*image, *(d for d, _ in pairs)])
        tolerance = next(limit for bound, limit in _TOLERANCES if coarsest <= bound)
    return AdjointCheck(operator.name, forward, adjoint, math.inf if math.isnan(error) else error, tolerance)


class _Pairing(Operator):
    """⟨y, outputs⟩, so that one adjoint run seeds all outputs at once."""

    def __init__(self, weights: list[Any]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, *outputs: Variable) -> Variable:
        return Variable(float(sum(inner(w, o.data) for w, o in zip(self.weights, outputs, strict=True))))

    def adjoint(self, grad: Any, *outputs: Variable) -> tuple[Any, ...]:
        return tuple(own(weight) for weight in self.weights)


def _variables(operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Variable]:
    """Return the Variable inputs in gradient order."""
    values = [*args, *(kwargs[name] for name in signature_of(operator).keyword_order(kwargs))]
    return [value for value in values if isinstance(value, Variable)]


def _replaced(
    operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Variable]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with other Variables in the place of the ones that are there."""
    fresh = iter(inputs)
    new_args = tuple(next(fresh) if isinstance(value, Variable) else value for value in args)
    names = signature_of(operator).keyword_order(kwargs)
    return new_args, {n: next(fresh) if isinstance(kwargs[n], Variable) else kwargs[n] for n in names}


def _assign(inputs: list[Variable], values: list[Any]) -> None:
    for variable, value in zip(inputs, values, strict=True):
        if value is not None:
            variable.data = value


def _tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


async def _tangent(
    operator: Any, x: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any], outputs: tuple[Variable, ...]
) -> list[Any]:
    """Return the Jacobian times x, one array per output."""
    method = operator.tangent
    if wants_call(method):
        recorded = next(output._node for output in outputs if output._node is not None).call.payload
        assert recorded is not None
        method = partial(method, call=Call(args, kwargs, recorded[2], {}))
    if operator.blocking and not inspect.iscoroutinefunction(operator.tangent):
        result = await run_blocking(partial(method, *x, *args, **kwargs))
    else:
        result = method(*x, *args, **kwargs)
    if hasattr(result, "__await__"):
        result = await result
    tangents = list(_tuple(result))
    if len(tangents) != len(outputs):
        raise GraphError(
            f"tangent of {operator.name!r} returned {len(tangents)} arrays for {len(outputs)} outputs; return one each"
        )
    for slot, (tangent, output) in enumerate(zip(tangents, outputs, strict=True)):
        if output._node is None:
            continue
        if tangent is None:
            tangents[slot] = like(output.data, np.zeros(output.shape or ()))
        elif shape_of(tangent) != output.shape:
            raise GraphError(
                f"tangent {slot} of {operator.name!r} has shape {shape_of(tangent)}, expected {output.shape} like the "
                "output"
            )
    return tangents


async def _refuse_nonlinear(
    operator: Operator,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    inputs: list[Variable],
    x: list[Any],
    image: list[Any],
    active: list[int],
    rng: np.random.Generator,
) -> None:
    """Raise unless F(a x + z) = a F(x) + F(z)."""
    a = 0.375  # exact in every binary format
    z = [None if v is None else random_like(v, rng) for v in x]
    separate = [v.detach() for v in inputs]
    args, kwargs = _replaced(operator, args, kwargs, separate)
    _assign(separate, z)
    of_z = _tuple(await operator(*args, **kwargs))
    _assign(separate, [None if v is None else a * v + w for v, w in zip(x, z, strict=True)])
    of_both = _tuple(await operator(*args, **kwargs))
    deviation = size = 0.0
    for slot, of_x in zip(active, image, strict=True):
        expected = a * to_numpy(of_x) + to_numpy(of_z[slot].data)
        difference = to_numpy(of_both[slot].data) - expected
        deviation += inner(difference, difference)
        size += inner(expected, expected)
    relative = math.sqrt(deviation / size) if size > 0 else 0.0
    if not relative <= 1e3 * math.sqrt(len(image)) * max(
        rounding(v) for v in [*image, *(v for v in x if v is not None)]
    ):
        raise GraphError(
            f"check_adjoint of {operator.name!r}: it is not linear (F(a x + z) differs from a F(x) + F(z) by "
            f"{relative:.1e}) and has no tangent. Give it a method tangent(*directions, *args, **kwargs) that returns "
            "its Jacobian times the directions, or use check_gradient on a scalar function of it",
            operator=operator.name,
            deviation=relative,
        )
