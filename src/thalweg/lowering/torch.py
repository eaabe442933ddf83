"""The PyTorch lowering: a rule's text in native operations, for one tensor at a time, in place. ::

    θ, slots := update(θ, g, slots, h)        under no_grad; h in double precision, rounded to the state's dtype

The text is the one that every backend runs; its names find PyTorch's by the tensors. State is float64 for float64
parameters and float32 for all others: a parameter of bfloat16 or float16 is computed with in float32 and rounded when
it is written. :mod:`thalweg.lowering.torch_units` does the same for many tensors, in native operations or with the
compiled pass of the NumPy lowering.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    MissingExtraError,
    ParameterError,
    StateMismatchError,
)
from thalweg.lowering.batch import UNBOUNDED
from thalweg.lowering.buffers import make_state
from thalweg.rules.base import Rule
from thalweg.rules.elementwise import refuse_other_shapes
from thalweg.rules.trying import explain, fitting, terms, unpacked

try:
    import torch as torch  # others of ours have it from here, so that a missing one names the extra
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingExtraError(
        "this needs PyTorch, which is not installed; install it with: pip install 'thalweg[torch]'", extra="torch"
    ) from error

COMPUTED_IN: dict[torch.dtype, torch.dtype] = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}
"""The dtypes that a parameter may have, and for each the one that its state has and the text computes in."""

AS_NUMPY: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}


FAULTS = (AttributeError, TypeError, ValueError, NameError, RuntimeError)
"""What PyTorch, and Python, raise in a text that is wrong, besides all that they raise otherwise."""


def computed_in(param: torch.Tensor, owner: str) -> torch.dtype:
    """The dtype of a parameter's state, in which its rule is computed.

    Args:
        param: the parameter.
        owner: whose parameter it is, for the message.

    Returns:
        float64 for float64, else float32.

    Raises:
        ParameterError: it is of another dtype.

    Example:
        >>> import torch
        >>> from thalweg.lowering.torch import computed_in
        >>> computed_in(torch.zeros(2, dtype=torch.bfloat16), "adam")
        torch.float32
    """
    if param.dtype not in COMPUTED_IN:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in COMPUTED_IN)
        raise ParameterError(f"{owner}: the parameter's dtype is {param.dtype}; {known} can be updated")
    return COMPUTED_IN[param.dtype]


def init(rule: Rule, param: torch.Tensor, hyper: Any = None) -> Any:
    """The state before the first step.

    Args:
        rule: the rule.
        param: the parameter, float64, float32, bfloat16 or float16, on any device.
        hyper: the hyperparameters, numbers or NumPy arrays of the parameter's shape, by default their defaults; a few
            rules' state depends on them.

    Returns:
        ``rule.slots`` of new tensors like ``param``, of float64 or float32 (see :func:`computed_in`).

    Raises:
        ParameterError: the parameter is of another dtype.
        HyperparameterError: a hyperparameter is out of its range, or an array of another shape.

    Example:
        >>> import torch
        >>> from thalweg.lowering.torch import init
        >>> from thalweg.rules import momentum
        >>> init(momentum, torch.ones(2, dtype=torch.bfloat16))
        Slots(velocity=tensor([0., 0.]))
    """
    kind = computed_in(param, rule.name)
    checked = rule.check(rule.hyper() if hyper is None else hyper)
    refuse_other_shapes(rule.name, checked._asdict(), param.shape)
    each = type(checked)(*(as_tensor(v, kind, param.device) if np.ndim(v) else v for v in checked))
    with torch.no_grad():
        values = rule.beginning(param.detach().to(kind), each)
        rows = empty_rows(param, kind, len(rule.slot_names))
        for row, value in zip(rows, values, strict=True):
            put(row, value)
    return rule.slots(*rows)


def empty_rows(param: torch.Tensor, kind: torch.dtype, count: int) -> list[torch.Tensor]:
    """Memory for state: like the parameter, and staggered where compiled loops will run over it."""
    if kind == param.dtype and compiled_fault(param) is None:
        rows = make_state(count, param.detach().numpy())
        return [torch.from_numpy(row[: param.numel()]).view(param.shape) for row in rows]
    with torch.no_grad():
        return [torch.empty_like(param, dtype=kind, requires_grad=False) for _ in range(count)]


def put(target: torch.Tensor, value: Any) -> None:
    """Write a tensor or a number into a tensor."""
    if isinstance(value, torch.Tensor):
        target.copy_(value)
    else:
        target.fill_(value)


def rounded(rule: Rule, scalars: Any, kind: torch.dtype, device: torch.device | str = "cpu") -> Any:
    """Scalars as the text is to use them: Python floats that the state's dtype holds exactly, and tensors of it.

    Args:
        rule: the rule.
        scalars: from ``rule.scalars``, in double precision: numbers, and arrays where a hyperparameter is one.
        kind: float32 or float64.
        device: where the tensors are to be.

    Returns:
        The same named tuple. Python floats promote no tensor.

    Raises:
        HyperparameterError: a scalar is too large for the dtype.
    """
    dtype = AS_NUMPY[kind]
    with np.errstate(over="ignore"):
        if not any(isinstance(value, np.ndarray) for value in scalars):
            values = np.array(scalars, np.float64).astype(dtype).tolist()
        else:
            values = [v.astype(dtype, order="C") if np.ndim(v) else float(dtype.type(v)) for v in scalars]
    if not all(math.isfinite(value) if isinstance(value, float) else np.isfinite(value).all() for value in values):
        raise HyperparameterError(
            f"{rule.name}: with {scalars} what the rule computes from its hyperparameters does not fit into "
            f"{dtype.name}; use smaller values",
            owner=rule.name,
        )
    return type(scalars)(*(v if isinstance(v, float) else torch.from_numpy(v).to(device) for v in values))


def as_tensor(array: np.ndarray, kind: torch.dtype, device: torch.device) -> torch.Tensor:
    """A new tensor of an array of hyperparameters, of float32 or float64."""
    return torch.from_numpy(array.astype(AS_NUMPY[kind], order="C")).to(device)


def concluded(rule: Rule, param: torch.Tensor, grad: torch.Tensor, slots: Any, scalars: Any) -> Any:
    """Scalars completed with the rule's sums over the tensor, in double precision; as they are if it has none.

    Args:
        rule: the rule.
        param: the parameter.
        grad: its gradient.
        slots: its state.
        scalars: from ``rule.scalars``.

    Returns:
        The scalars of this tensor.

    Raises:
        HyperparameterError: a scalar is too large for the dtype.
    """
    if rule.measure is None or rule.conclude is None:
        return scalars
    kind = COMPUTED_IN[param.dtype]
    try:
        with torch.no_grad():
            h = rounded(rule, scalars, kind, param.device)
            measured = terms(rule, rule.measure(param.to(kind), grad.to(kind), slots, h), param.shape)
            sums = tuple(_summed(term, param) for term in measured)
        return rule.conclude(scalars, sums)
    except FAULTS as error:
        explain(rule, error, np.ones(2), torch.ones(2, dtype=kind))
        raise


def _summed(term: Any, param: torch.Tensor) -> float:
    """The sum over the parameter's elements; a number is a term of each."""
    if not isinstance(term, torch.Tensor):
        term = torch.tensor(float(term), dtype=torch.float64)
    return float(torch.sum(term.expand(param.shape), dtype=torch.float64))


def computed(
    rule: Rule, param: torch.Tensor, grad: torch.Tensor, slots: Sequence[torch.Tensor], h: Any
) -> tuple[Any, list[Any]]:
    """What the text makes of a tensor and its state, of which it changes nothing.

    Args:
        rule: the rule.
        param: the parameter.
        grad: its gradient.
        slots: its state, ``rule.slots``.
        h: the scalars, from :func:`concluded` and :func:`rounded`.

    Returns:
        The new parameter and the new slots, of the parameter's shape, or numbers.

    Raises:
        RuleError: the text returns something else than the new parameter and as many slots as the rule has, or cannot
            be computed with tensors.
    """
    with torch.no_grad():
        kind = COMPUTED_IN[param.dtype]
        old = param.to(kind)  # the parameter itself, if it is of that dtype
        try:
            new, moved = unpacked(rule, rule.update(old, grad.to(kind), slots, h))
            fitting(rule, new, moved, old.shape)
            # What the text returns as it got it would be overwritten before it is read.
            return new, [_apart(value, (old, *slots)) for value in moved]
        except FAULTS as error:
            explain(rule, error, np.ones(2), torch.ones(2, dtype=kind))
            raise


def update_(
    rule: Rule,
    param: torch.Tensor,
    grad: torch.Tensor,
    slots: Sequence[torch.Tensor],
    h: Any,
    limits: tuple[float, float] = UNBOUNDED,
) -> None:
    """The update itself, in place: of what is given nothing is checked any more.

    Args:
        rule: the rule.
        param: the parameter.
        grad: its gradient.
        slots: its state, ``rule.slots``.
        h: the scalars, from :func:`concluded` and :func:`rounded`.
        limits: between which bounds the parameter is kept.

    Raises:
        RuleError: the text returns something else than the new parameter and as many slots as the rule has, or cannot
            be computed with tensors.
    """
    with torch.no_grad():
        new, values = computed(rule, param, grad, slots, h)
        if limits != UNBOUNDED:
            new = torch.clamp(new, *limits)
        put(param, new)
        for slot, value in zip(slots, values, strict=True):
            put(slot, value)


def _apart(value: Any, held: Sequence[torch.Tensor]) -> Any:
    if not isinstance(value, torch.Tensor):
        return float(value)
    if value._is_view() or any(value is tensor for tensor in held):
        return value.clone()
    return value


def step_(
    rule: Rule,
    param: torch.Tensor,
    grad: torch.Tensor,
    slots: Any,
    scalars: Any,
    *,
    limits: tuple[float, float] = UNBOUNDED,
) -> None:
    """One update of one tensor, in place.

    Args:
        rule: the rule.
        param: the parameter, in the variable's own unit; it is updated where it lies, whether autograd follows it or
            not.
        grad: its gradient, of the same shape and dtype; it is not changed.
        slots: from :func:`init`, updated in place.
        scalars: from ``rule.scalars(hyper, t, carried)``, in double precision, numbers or arrays like the parameter.
        limits: lower and upper bound that the parameter is kept between.

    Raises:
        ParameterError: the parameter is not of float64, float32, bfloat16 or float16.
        GradientShapeError: the gradient's shape is another one.
        GradientDtypeError: the gradient's dtype is another one.
        StateMismatchError: the state is another rule's, or of another shape or dtype.
        HyperparameterError: a scalar is too large for the dtype, or an array of another shape.

    Example:
        >>> import torch
        >>> from thalweg.lowering.torch import init, step_
        >>> from thalweg.rules import adam
        >>> x, slots = torch.tensor([1.0, 2.0]), init(adam, torch.zeros(2))
        >>> hyper = adam.hyper(learning_rate=0.1)
        >>> step_(adam, x, torch.tensor([0.5, -0.5]), slots, adam.scalars(hyper, 1))
        >>> x
        tensor([0.9000, 2.1000])
    """
    kind = computed_in(param, rule.name)
    if grad.shape != param.shape:
        raise GradientShapeError(
            f"{rule.name}: gradient of shape {tuple(grad.shape)}, parameter {tuple(param.shape)}; nothing is broadcast"
        )
    if grad.dtype != param.dtype or grad.layout != torch.strided:
        raise GradientDtypeError(
            f"{rule.name}: gradient of {grad.dtype} and {grad.layout}, parameter of {param.dtype} and {param.layout}"
        )
    if not isinstance(slots, rule.slots):
        raise StateMismatchError(f"{rule.name}: the state is a {type(slots).__name__}; give what init returned")
    for name, slot in zip(rule.slot_names, slots, strict=True):
        if slot.shape != param.shape or slot.dtype != kind:
            raise StateMismatchError(
                f"{rule.name}: slot {name} is {tuple(slot.shape)} {slot.dtype}; expected {tuple(param.shape)} {kind}"
            )
    refuse_other_shapes(rule.name, scalars._asdict(), param.shape)
    complete = rounded(rule, concluded(rule, param, grad, slots, scalars), kind, param.device)
    update_(rule, param, grad, slots, complete, limits)


def evaluate(rule: Rule, param: torch.Tensor, state: Any, hyper: Any) -> torch.Tensor:
    """Where the model is to be evaluated: for Schedule-Free and EMA not where the parameter is.

    Args:
        rule: the rule.
        param: the parameter.
        state: its state, ``rule.state``: the slots, then the numbers that the rule carries from step to step.
        hyper: its hyperparameters, checked.

    Returns:
        A new tensor like ``param``, of its dtype; a copy for rules that evaluate where they store.

    Raises:
        HyperparameterError: a hyperparameter is an array of another shape.

    Example:
        >>> import torch
        >>> from thalweg.lowering.torch import evaluate, init, step_
        >>> from thalweg.rules import averaged, sgd
        >>> rule = averaged(sgd)
        >>> hyper = rule.hyper(learning_rate=1.0, ema_decay=0.75)
        >>> x = torch.tensor([1.0]); slots = init(rule, x, hyper)
        >>> carried = rule.advance(hyper, 1, None)
        >>> step_(rule, x, torch.tensor([4.0]), slots, rule.scalars(hyper, 1, carried))
        >>> x, evaluate(rule, x, rule.state(*slots, *carried), hyper)
        (tensor([-3.]), tensor([0.]))
    """
    with torch.no_grad():
        if rule.evaluate is None:
            return param.detach().clone()
        kind = computed_in(param, rule.name)
        refuse_other_shapes(rule.name, hyper._asdict(), param.shape)
        found: torch.Tensor = rule.evaluate(param.detach().to(kind), state, rounded(rule, hyper, kind, param.device))
        return found.to(param.dtype, copy=True)


def compiled_fault(tensor: torch.Tensor) -> str | None:
    """In words, why the compiled pass cannot work on a tensor where it lies; ``None`` if it can.

    Args:
        tensor: a parameter.

    Returns:
        What is in the way, to be put after "it".
    """
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return f"is a {type(tensor).__name__}, which may mean something else than its memory holds"
    if tensor.device.type != "cpu":
        return f"is on {tensor.device}"
    if tensor.dtype not in AS_NUMPY:
        return f"is of {tensor.dtype}"
    if tensor.layout != torch.strided or not tensor.is_contiguous():
        return "is not contiguous"
    if tensor.is_neg() or tensor.data_ptr() % tensor.element_size():
        return "is a negative view, or not aligned"
    return None
