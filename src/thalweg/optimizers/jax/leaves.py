"""The arrays of a JAX pytree by name, and what they and their gradients must be before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    MissingGradientError,
    OptimizerError,
    ParameterError,
)
from thalweg.lowering.jax import DType, computed_in
from thalweg.rules.spelling import nearest


@dataclass(frozen=True)
class Leaves:
    """The parameters of a pytree.

    Args:
        names: their names: the keys, indices and attributes that lead there, joined by dots.
        arrays: the parameters, in the same order.
        kinds: for each the dtype of its state, in which its rule is computed.
        structure: the pytree's structure.
    """

    names: tuple[str, ...]
    arrays: tuple[Any, ...]
    kinds: tuple[DType, ...]
    structure: Any

    def by_name(self, values: Any) -> dict[str, Any]:
        """Values in the order of the leaves, by name."""
        return dict(zip(self.names, values, strict=True))

    def tree(self, values: Any) -> Any:
        """Values in the order of the leaves, as a pytree of this structure."""
        return jax.tree.unflatten(self.structure, list(values))


def is_traced(*trees: Any) -> bool:
    """Whether any leaf is a value inside a JAX transformation."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def is_array(leaf: Any) -> bool:
    """Whether it is an array that JAX takes as it is, of whatever dtype; a masked one has values that are none."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and not isinstance(leaf, np.ma.MaskedArray)


def read(params: Any) -> Leaves:
    """The arrays of a pytree of parameters.

    Args:
        params: a pytree of arrays of float64, float32, bfloat16 or float16; a single array is named ``"variable"``.

    Returns:
        The arrays with their names.

    Raises:
        OptimizerError: there is none, or two have the same name.
        ParameterError: a leaf is no array of such a dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> from thalweg.optimizers.jax.leaves import read
        >>> read({"dense": {"bias": jnp.zeros(2)}, "layers": [jnp.zeros(3)]}).names
        ('dense.bias', 'layers.0')
    """
    pairs, structure = jax.tree.flatten_with_path(params)
    if not pairs:
        raise OptimizerError("there is no parameter to optimize: the pytree has no leaf; give at least one array")
    named = [(name_of(path), array) for path, array in pairs]
    seen: set[str] = set()
    for name, _ in named:
        if name in seen:
            raise OptimizerError(f"two parameters are named {name!r}; state is kept by name, so give each its own")
        seen.add(name)
    kinds = tuple(_kind(name, array) for name, array in named)
    return Leaves(tuple(name for name, _ in named), tuple(array for _, array in named), kinds, structure)


def name_of(path: Any) -> str:
    """The keys of a path in a pytree, joined by dots."""
    # As keystr(path, simple=True, separator=".") of newer versions of JAX
    return ".".join(str(next((getattr(k, a) for a in _OF_KEYS if hasattr(k, a)), k)) for k in path) or "variable"


_OF_KEYS = ("key", "idx", "name")
"""Where the keys of a path have what they are called: of dictionaries, of sequences, of attributes."""


def _kind(name: str, array: Any) -> DType:
    try:
        if isinstance(array, jax.Array) and not isinstance(array.dtype, np.dtype):  # of keys, of which NumPy has none
            raise ParameterError(
                f"parameter {name!r}: the parameter's dtype is {array.dtype}, of random keys, and no float; keep them "
                "apart from the parameters",
                got=str(array.dtype),
            )
        return computed_in(array, f"parameter {name!r}")
    except ParameterError as error:
        error.details["variable"] = name
        raise


def gradients(grads: Any, leaves: Leaves, iteration: int | str = "") -> tuple[Any, ...]:
    """The gradients of the parameters, in their order.

    Args:
        grads: a pytree of the parameters' structure.
        leaves: the parameters.
        iteration: the step's number, for messages, if it is known.

    Returns:
        The arrays.

    Raises:
        MissingGradientError: a parameter has none.
        OptimizerError: one belongs to no parameter (naming the nearest), or the containers are others.
        GradientShapeError: a gradient's shape is not its parameter's, even if it would broadcast.
        GradientDtypeError: one is no array, or its dtype is neither its parameter's nor that of its parameter's state.
    """
    pairs, structure = jax.tree.flatten_with_path(grads)
    found = {name_of(path): array for path, array in pairs}
    for name in found:
        if name not in leaves.names:
            guess = nearest(name, leaves.names)
            question = f"; did you mean {guess!r}?" if guess else ""
            raise OptimizerError(f"grads holds {name!r}, and params has no parameter of that name{question}", name=name)
    for name in leaves.names:
        if name not in found:
            raise MissingGradientError(
                f"parameter {name!r}: there is no gradient in grads; give one for every parameter (zeros, if need be)",
                variable=name,
            )
    if structure != leaves.structure:
        raise OptimizerError(
            f"grads has the same names in other containers: {structure}, and params is {leaves.structure}; "
            "give a pytree of the very structure, as jax.grad returns it"
        )
    for name, array, param, kind in zip(leaves.names, found.values(), leaves.arrays, leaves.kinds, strict=True):
        _fit(array, param, kind, f"parameter {name!r}{f', iteration {iteration}' if iteration else ''}", name)
    return tuple(found.values())


def _fit(grad: Any, param: Any, kind: DType, where: str, name: str) -> None:
    if not is_array(grad):
        raise GradientDtypeError(f"{where}: the gradient is a {type(grad).__name__}; give an array", variable=name)
    if grad.shape != param.shape:
        raise GradientShapeError(
            f"{where}: the gradient has shape {grad.shape}, the parameter {param.shape}; gradients are never broadcast",
            variable=name,
            got=grad.shape,
            expected=param.shape,
        )
    if grad.dtype not in (param.dtype, kind):
        raise GradientDtypeError(
            f"{where}: the gradient has dtype {grad.dtype}, the parameter {param.dtype}; convert it yourself, so that "
            "nothing is rounded unseen",
            variable=name,
            got=str(grad.dtype),
            expected=str(param.dtype),
        )
