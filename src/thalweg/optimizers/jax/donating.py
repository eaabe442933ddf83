"""A compiled step that gives the memory of what it was given to its results, and says which arrays share it.

XLA refuses that before it changes anything, and knows numbers instead of names. Who looks only then slows no step down.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax

from thalweg.errors import ParameterError
from thalweg.optimizers.jax.leaves import name_of


class Donating:
    """A step, compiled; it has the methods of what ``jax.jit`` returns.

    Args:
        compiled: ``compiled(params, grads, state)``, from ``jax.jit``, which donates ``params`` and ``state``.
        owner: the optimizer's name, for messages.
    """

    def __init__(self, compiled: Any, owner: str) -> None:
        functools.update_wrapper(self, compiled)
        self._compiled, self._owner = compiled, owner
        self.lower, self.trace, self.eval_shape = compiled.lower, compiled.trace, compiled.eval_shape
        self.clear_cache, self._cache_size = compiled.clear_cache, compiled._cache_size

    def __call__(self, params: Any, grads: Any, state: Any) -> Any:
        """One step.

        Raises:
            ParameterError: two arrays of these, not both of ``grads``, are the same memory; nothing was changed.
        """
        try:
            return self._compiled(params, grads, state)
        except jax.errors.JaxRuntimeError as error:
            shared = _shared(params, grads, state)
            if shared is None:
                raise
            raise ParameterError(
                f"{self._owner}: {shared[0]} and {shared[1]} are the same array in memory, and jitted_step gives that "
                "of params and state to its results. Nothing was changed: clone one (jnp.array(x, copy=True)), or use "
                "step",
                leaves=shared,
            ) from error


def _shared(params: Any, grads: Any, state: Any) -> tuple[str, str] | None:
    """What two arrays of the same memory are called, of which one is donated."""
    known: dict[Any, tuple[str, str]] = {}
    for what, tree in (("params", params), ("state", state), ("grads", grads)):
        for name, place in _places(tree):
            before = known.setdefault(place, (what, name))
            if before != (what, name) and (before[0], what) != ("grads", "grads"):
                return f"{before[1]!r} of {before[0]}", f"{name!r} of {what}"
    return None


def _places(tree: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of a tree by name, and where they are."""
    for path, array in jax.tree.flatten_with_path(tree)[0]:
        if isinstance(array, jax.Array) and array.size and not array.is_deleted():
            several = len(array.sharding.device_set) > 1
            yield name_of(path), id(array) if several else array.unsafe_buffer_pointer()
