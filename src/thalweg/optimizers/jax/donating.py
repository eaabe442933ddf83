"""A compiled step that gives the memory of what it was given to its results, and says which arrays share it.

XLA refuses that before it changes anything, and knows numbers instead of names. Who looks only then slows no step down.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax

from thalweg.errors import ParameterError, ThalwegError
from thalweg.optimizers.jax.leaves import name_of
from thalweg.optimizers.jax.refused import tell


class Donating:
    """A step, compiled; it has the methods of what ``jax.jit`` returns. A copy of it, also elsewhere, compiles anew.

    Args:
        step: ``step(params, grads, state)``, which is to give the memory of ``params`` and ``state`` to its results.
        owner: the optimizer's name, for messages.
        check: ``check(params, grads, state)``, which raises what the step would if JAX had taken them.
    """

    __wrapped__: Any

    def __init__(self, step: Any, owner: str, check: Any) -> None:
        functools.update_wrapper(self, step)
        self._owner, self._check = owner, check

    @functools.cached_property
    def _compiled(self) -> Any:
        return jax.jit(self.__wrapped__, donate_argnums=(0, 2))

    def __getstate__(self) -> dict[str, Any]:
        """All but what is compiled, which copied has no ``lower``, and computes with what it was copied from."""
        return {name: value for name, value in vars(self).items() if name != "_compiled"}

    def __call__(self, params: Any, grads: Any, state: Any) -> Any:
        """One step.

        Raises:
            ParameterError: two arrays of these, not both of ``grads``, are the same memory, or one is deleted;
                nothing was changed.
            ThalwegError: what ``check`` raises for what JAX does not take.
        """
        try:
            return self._compiled(params, grads, state)
        except ThalwegError:
            raise
        except Exception as error:
            shared = _shared(params, grads, state) if isinstance(error, jax.errors.JaxRuntimeError) else None
            if shared is not None:
                raise ParameterError(
                    f"{self._owner}: {shared[0]} and {shared[1]} are the same array in memory, and jitted_step gives "
                    "that of params and state to its results. Nothing was changed: clone one (jnp.array(x, "
                    "copy=True)), or use step",
                    leaves=shared,
                ) from error
            tell(self._owner, error, {"params": params, "grads": grads, "state": state})
            if isinstance(error, TypeError | ValueError):
                self._check(params, grads, state)
            raise

    @property
    def lower(self) -> Any:
        """That of the compiled function, as are the others here."""
        return self._compiled.lower

    @property
    def trace(self) -> Any:  # noqa: D102
        return self._compiled.trace

    @property
    def eval_shape(self) -> Any:  # noqa: D102
        return self._compiled.eval_shape

    @property
    def clear_cache(self) -> Any:  # noqa: D102
        return self._compiled.clear_cache

    @property
    def _cache_size(self) -> Any:
        return self._compiled._cache_size


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
