"""``process_grad`` and ``process_model`` on tensors: what :mod:`thalweg.optimizers.pipeline` does with arrays."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from thalweg.errors import HyperparameterError
from thalweg.graph import wait
from thalweg.optimizers.pipeline import Pipeline
from thalweg.transforms import ParameterTransform, Transform, TreeTransform, bounds

Tensors = Mapping[str, torch.Tensor]


def run_all(pipeline: Pipeline, tensors: Tensors, params: Tensors) -> dict[str, torch.Tensor]:
    """What the callables of a hook make of the tensors of all parameters, which stay as they are.

    A transform of ours gets the tensor itself, a user's callable a copy, so that it may do what it likes.

    Args:
        pipeline: the hook.
        tensors: gradients or data by the parameters' names.
        params: the parameters' data by name, for transforms that look at them.

    Returns:
        The results by name; the very tensors where there is nothing to do.

    Raises:
        HyperparameterError: a callable returned something of another type, shape, dtype or device.
    """
    results = dict(tensors)
    if pipeline.hook is None or not results:
        return results
    if isinstance(pipeline.hook, Mapping):  # by name: each its own, none of them on all together
        for name in results:
            for step in pipeline.steps(name):
                results[name] = _one(pipeline.what, step, name, results[name], params[name])
        return results
    for step in pipeline.steps(next(iter(results))):
        if isinstance(step, TreeTransform):
            found = step(results)
            results = {
                name: _checked(pipeline.what, step, name, found.get(name), given) for name, given in results.items()
            }
        else:
            for name in results:
                results[name] = _one(pipeline.what, step, name, results[name], params[name])
    return results


def _one(what: str, step: Any, name: str, tensor: torch.Tensor, param: torch.Tensor) -> torch.Tensor:
    if isinstance(step, ParameterTransform):
        return _checked(what, step, name, step(tensor, param), tensor)
    found = step(tensor if isinstance(step, Transform) else tensor.clone())
    if inspect.isawaitable(found):
        found = wait(found)
    return _checked(what, step, name, found, tensor)


def _checked(what: str, step: Any, name: str, found: Any, given: torch.Tensor) -> torch.Tensor:
    if not isinstance(found, torch.Tensor):
        got = f"a {type(found).__name__}"
    elif found.shape != given.shape:
        got = f"shape {tuple(found.shape)}"
    elif (found.dtype, found.device, found.layout) != (given.dtype, given.device, given.layout):
        got = f"{found.dtype} on {found.device} of layout {found.layout}"
    else:
        if what == "process_grad" and type(step) is bounds:
            # They are made for models; in a gradient they would put a number where infinity must be noticed.
            return torch.where(torch.isfinite(given), found, given)
        return found.detach()
    raise HyperparameterError(
        f"{what} of parameter {name!r}: {step!r} returned {got}; it must return a tensor of shape "
        f"{tuple(given.shape)} and {given.dtype} on {given.device}",
        name=what,
        variable=name,
    )
