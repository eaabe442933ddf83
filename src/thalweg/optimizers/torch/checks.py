"""What PyTorch's parameters and gradients must be before anything is changed."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from thalweg.errors import GradientDtypeError, GradientShapeError, NonFiniteGradientError, ParameterError
from thalweg.lowering.torch import COMPUTED_IN
from thalweg.optimizers.gradients import refusal


def usable(param: Any, label: str) -> None:
    """Refuse what cannot be updated in place.

    Args:
        param: what was given as a parameter.
        label: its name or number, for messages.

    Raises:
        ParameterError: it is no dense leaf tensor of float64, float32, bfloat16 or float16, has no data (yet), belongs
            to inference mode, or elements of it share memory.
    """
    fault = None
    if not isinstance(param, torch.Tensor):
        fault = f"is a {type(param).__name__}"
    elif isinstance(param, torch.nn.parameter.UninitializedParameter):
        fault = "has no shape yet (run the model once before the optimizer is made)"
    elif param.layout != torch.strided:
        fault = f"is of layout {param.layout}"
    elif param.device.type == "meta":
        fault = "is on the meta device, where nothing has values (model.to_empty(device=...), then initialize it)"
    elif param.dtype not in COMPUTED_IN:
        fault = f"is of {param.dtype}"
    elif not param.is_leaf:
        fault = "is no leaf: it was computed from other tensors, which are what can be optimized"
    elif param.is_inference():
        fault = "was made in inference mode, where autograd cannot see updates"
    elif _overlaps_itself(param):
        fault = "is a view whose elements share memory (clone it first)"
    if fault is not None:
        raise ParameterError(
            f"parameter {label!r} {fault}; dense leaf tensors of float64, float32, bfloat16 or float16 can be updated "
            "in place",
            variable=label,
            got=str(getattr(param, "dtype", type(param).__name__)),
        )


def fitting(grad: torch.Tensor, param: torch.Tensor, label: str, iteration: int) -> None:
    """Refuse a gradient that does not fit its parameter.

    Args:
        grad: the gradient.
        param: the parameter.
        label: its name or number, for messages.
        iteration: the step's number, for messages.

    Raises:
        GradientShapeError: its shape is another one.
        GradientDtypeError: its dtype or layout is another one, or it is on another device.
    """
    where = f"parameter {label!r}, iteration {iteration}"
    details = {"variable": label, "iteration": iteration}
    if grad.layout != torch.strided:
        raise GradientDtypeError(
            f"{where}: the gradient is of layout {grad.layout}; give dense ones (sparse=False in an Embedding)",
            **details,
            got=str(grad.layout),
        )
    if grad.shape != param.shape:
        raise GradientShapeError(
            f"{where}: the gradient has shape {tuple(grad.shape)}, the parameter {tuple(param.shape)}; "
            "gradients are never broadcast",
            **details,
            got=tuple(grad.shape),
            expected=tuple(param.shape),
        )
    if grad.dtype != param.dtype or grad.device != param.device:
        raise GradientDtypeError(
            f"{where}: the gradient is of {grad.dtype} on {grad.device}, the parameter of {param.dtype} on "
            f"{param.device}; convert it yourself, so that nothing is rounded unseen",
            **details,
            got=str(grad.dtype),
            expected=str(param.dtype),
        )


def not_finite(
    grad: torch.Tensor, raw: torch.Tensor, label: str, iteration: int, *, gathered: int = 1
) -> NonFiniteGradientError:
    """The error for a gradient that holds NaN or infinity.

    Args:
        grad: the gradient as it would have been used.
        raw: what it was before ``process_grad``.
        label: the parameter's name or number.
        iteration: the step's number.
        gathered: of how many micro-batches it is the mean.

    Returns:
        The error, naming parameter, iteration, how many, and the first index.
    """
    seen, before = as_numpy(grad), as_numpy(raw)
    return refusal(seen, seen if raw is grad else before, label, iteration, gathered=gathered)


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy as a NumPy array, 16 bits as float32."""
    dense = tensor.detach().to("cpu", COMPUTED_IN[tensor.dtype], copy=True)
    found: np.ndarray = dense.contiguous().resolve_neg().numpy()
    return found


class Footprint:
    """Where several parameters lie in memory.

    Args:
        params: the parameters.
        labels: their names or numbers, for messages.

    Raises:
        ParameterError: two of them share memory: each would be updated by the other's gradient, too.
    """

    def __init__(self, params: Sequence[torch.Tensor], labels: Sequence[str]) -> None:
        spans = sorted((*_span(param), index) for index, param in enumerate(params) if _has_memory(param))
        self._lows = [low for low, _, _ in spans]
        self._reach = list(itertools.accumulate((high for _, high, _ in spans), max))
        for place, (low, _, index) in enumerate(spans):
            if place == 0 or self._reach[place - 1] <= low:
                continue
            for _, high, other in spans[:place]:
                if high > low and _share(params[index], params[other]):
                    first, second = sorted((index, other))
                    what = "are the same tensor" if params[first] is params[second] else "share memory"
                    raise ParameterError(
                        f"parameters {labels[first]!r} and {labels[second]!r} {what}; each would be updated by the "
                        "other's gradient, too: give one of them only, or clone one",
                        variables=[labels[first], labels[second]],
                    )

    def may_touch(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor may share memory with any of the parameters."""
        if not _has_memory(tensor):
            return False
        low, high = _span(tensor)
        place = bisect.bisect_left(self._lows, high)
        return place > 0 and self._reach[place - 1] > low


def _has_memory(tensor: torch.Tensor) -> bool:
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    return plain and tensor.device.type != "meta" and tensor.numel() > 0


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The addresses of the first byte and of the one after the last; PyTorch has no negative strides."""
    start = tensor.data_ptr()
    if tensor.is_contiguous():
        return start, start + tensor.numel() * tensor.element_size()
    reach = sum(stride * (length - 1) for stride, length in zip(tensor.stride(), tensor.shape, strict=True))
    return start, start + (reach + 1) * tensor.element_size()


def _share(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether an element is at the same address in both; decided by address and strides, nothing is read."""
    if one.device != other.device:
        return False
    try:
        return bool(np.shares_memory(_shell(one), _shell(other), max_work=10_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _shell(tensor: torch.Tensor) -> np.ndarray:
    """An array of bytes at a tensor's place, of any device: to be asked where it is, never what it holds."""
    width = tensor.element_size()
    interface = {
        "data": (tensor.data_ptr(), True),
        "shape": tuple(tensor.shape),
        "strides": tuple(stride * width for stride in tensor.stride()),
        "typestr": f"|V{width}",
        "version": 3,
    }
    return np.asarray(SimpleNamespace(__array_interface__=interface))


def _overlaps_itself(tensor: torch.Tensor) -> bool:
    if tensor.is_contiguous():
        return False
    reach = 1
    for stride, length in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach = stride * (length - 1) + reach
    return False
