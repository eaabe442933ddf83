"""What JAX would not take, by name: looked for only once it has refused, so that no step is slowed down by it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from thalweg.errors import ParameterError, StateMismatchError, ThalwegError
from thalweg.optimizers.jax.leaves import name_of

_Method = TypeVar("_Method", bound=Callable[..., Any])
_TREES = ("params", "grads", "state")


def telling(method: _Method) -> _Method:
    """A method of an optimizer that tells which of the arrays that it was given JAX has refused.

    Args:
        method: some of its arguments are called ``params``, ``grads`` and ``state``.

    Returns:
        The method, which raises the errors of :func:`tell`, too.
    """
    signature = inspect.signature(method)

    @functools.wraps(method)
    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except ThalwegError:
            raise
        except Exception as error:
            given = signature.bind(self, *args, **kwargs).arguments
            tell(self.name, error, {what: given[what] for what in _TREES if what in given})
            raise

    return told  # type: ignore[return-value]


def tell(owner: str, error: Exception, given: dict[str, Any]) -> None:
    """Raise ours in place of an error of JAX's about something that it was given, if that is found.

    Args:
        owner: the optimizer's name.
        error: what was raised.
        given: the pytrees, by what they are.

    Raises:
        ParameterError: an array is deleted.
        StateMismatchError: something in the state is no array of JAX's.
    """
    if "delete" in str(error):  # "has been deleted": one that is out of memory may have deleted them just now
        for what, name, leaf in _leaves(given):
            if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted():
                raise ParameterError(
                    f"{owner}: {name!r} of {what} is deleted: jitted_step (or another function that donates) has given "
                    "its memory to its results. Go on with what that returned, or give it copies of what is still "
                    f"needed: jax.tree.map(jax.numpy.copy, {what})",
                    leaf=name,
                ) from error
    if isinstance(error, TypeError | ValueError):
        for _, name, leaf in _leaves({"state": given.get("state")}):
            if not _taken(leaf):
                raise StateMismatchError(
                    f"{owner}: {name} of the state is a {type(leaf).__name__}"
                    f"{f' of {leaf.dtype}' if hasattr(leaf, 'dtype') else ''}, which JAX does not take; give what init "
                    "or step returned"
                ) from error


def _leaves(given: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for what, tree in given.items():
        for path, leaf in jax.tree.flatten_with_path(tree)[0]:
            yield what, name_of(path), leaf


def _taken(leaf: Any) -> bool:
    try:
        jax.eval_shape(lambda value: value, leaf)
    except (TypeError, ValueError):
        return False
    return not isinstance(leaf, jax.ShapeDtypeStruct)
