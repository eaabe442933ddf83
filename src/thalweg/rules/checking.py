"""What a rule's pure face is given, checked before anything is computed: parameter, gradient, state, step number."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    ParameterError,
    StateMismatchError,
)
from thalweg.rules.ranges import is_masked


def native(param: Any, owner: str) -> np.ndarray:
    """A parameter in the machine's byte order.

    Args:
        param: what was given.
        owner: the rule's name, for the message.

    Returns:
        An array of float32 or float64, the parameter itself if it is one already.

    Raises:
        ParameterError: it is not a NumPy array of float32 or float64.
    """
    if not isinstance(param, np.ndarray | np.generic) or is_masked(param):
        raise ParameterError(f"{owner}: the parameter is a {type(param).__name__}; give a NumPy array")
    array = np.asarray(param)
    if array.dtype.newbyteorder("=") not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ParameterError(f"{owner}: the parameter's dtype is {array.dtype}; float32 and float64 can be updated")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def fitting_gradient(grad: Any, param: np.ndarray, owner: str) -> np.ndarray:
    """A gradient that fits its parameter.

    Args:
        grad: what was given.
        param: the parameter, from :func:`native`.
        owner: the rule's name, for the message.

    Returns:
        An array of the parameter's shape and dtype, in any byte order.

    Raises:
        GradientShapeError: its shape is another one.
        GradientDtypeError: it is not a NumPy array, or its dtype is another one.
    """
    if np.shape(grad) != param.shape:
        raise GradientShapeError(f"{owner}: gradient of shape {np.shape(grad)}, parameter {param.shape}")
    if not isinstance(grad, np.ndarray | np.generic) or is_masked(grad):
        raise GradientDtypeError(f"{owner}: the gradient is a {type(grad).__name__}; give a NumPy array")
    gradient = np.asarray(grad)
    if gradient.dtype.newbyteorder("=") != param.dtype:
        raise GradientDtypeError(f"{owner}: gradient of dtype {gradient.dtype}, parameter {param.dtype}")
    return gradient


def check_state(state: Any, expected: type[Any], slot_names: Sequence[str], param: np.ndarray, owner: str) -> None:
    """Refuse a state that does not belong to a rule and its parameter.

    Args:
        state: what was given.
        expected: the rule's named tuple: slots, then what is carried.
        slot_names: the names of the slots.
        param: the parameter, from :func:`native`.
        owner: the rule's name, for the message.

    Raises:
        StateMismatchError: it is another rule's, or of another shape or dtype.
    """
    if not isinstance(state, expected):
        raise StateMismatchError(f"{owner}: the state is a {type(state)}; give what init or step returned")
    for name, slot in zip(slot_names, state, strict=False):
        if is_masked(slot):
            raise StateMismatchError(f"{owner}: slot {name} is a masked array; give its data")
        if not isinstance(slot, np.ndarray | np.generic) or slot.shape != param.shape:
            raise StateMismatchError(f"{owner}: slot {name} is {np.shape(slot)}, parameter {param.shape}")
        if slot.dtype.newbyteorder("=") != param.dtype:
            raise StateMismatchError(f"{owner}: slot {name} is {slot.dtype}, parameter {param.dtype}")


def step_number(t: Any, owner: str) -> int:
    """The number of a step as an integer.

    Args:
        t: what was given.
        owner: the rule's name, for the message.

    Returns:
        The number, at least 1.

    Raises:
        StateMismatchError: it is no such integer.
    """
    try:
        count = operator.index(t)
    except TypeError:
        count = 0
    if count < 1:
        raise StateMismatchError(f"{owner}: t is {t!r}; steps are counted in integers from 1")
    return count


def in_dtype(scalars: Any, hyper: Any, dtype: Any, owner: str) -> Any:
    """The scalars of a step as a text uses them.

    Args:
        scalars: what the rule prepared, a named tuple.
        hyper: the hyperparameters that it did so from, for the message.
        dtype: the parameter's.
        owner: the rule's name, for the message.

    Returns:
        The named tuple, its values rounded.

    Raises:
        HyperparameterError: one is too large for the dtype.
    """
    with np.errstate(over="ignore"):
        h = type(scalars)(*map(dtype.type, scalars))
    if not all(np.isfinite(value).all() for value in h):
        message = f"{owner}: with {hyper} what the rule computes from them does not fit into {dtype}"
        raise HyperparameterError(f"{message}; use smaller values", owner=owner)
    return h
