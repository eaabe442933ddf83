"""Items that fail for good are left out, and the sum is weighted for them.

::

    Σ_i r_i   ≈   n / (n − f) · Σ_{i that did not fail} r_i        f of n items have failed

What is left is added in the tree of all n items, so the bits depend on which items failed, and on nothing else. An
error of an item's own is what the task raises for it. What a dead worker takes with it is computed again, and an error
that meets all items (what they share cannot be made) is raised.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple

import numpy as np

from thalweg.errors import RunError
from thalweg.runtime.base import Item, ItemProgress, Result, Runtime
from thalweg.runtime.shared import concerns_all_items
from thalweg.runtime.tree import Absent, Kept, Pieces, Tree
from thalweg.runtime.where import here


class FailedItem(NamedTuple):
    """An item that was left out.

    Attributes:
        number: its place among the items, from 0.
        item: the item, as ``repr`` writes it.
        worker: who worked on it: a thread, or a worker of a cluster with its address.
        error: type and text of its error.
        traceback: where in the program that came from.
    """

    number: int
    item: str
    worker: str
    error: str
    traceback: str


class Tolerant(Generic[Item, Result]):
    """A task that returns what it is left with, instead of raising: its result, and the item if that failed.

    Args:
        task: the task.
        retries: how often an item that fails is tried again.

    Example:
        >>> from thalweg.runtime.failures import Tolerant
        >>> value, failed = Tolerant(lambda item: 1 / item)((3, 0))
        >>> type(value).__name__, failed[3]["error"]
        ('Absent', 'ZeroDivisionError: division by zero')
    """

    def __init__(self, task: Callable[[Item], Result], retries: int = 0) -> None:
        self._task = task
        self._retries = retries

    def __call__(self, numbered: tuple[int, Item]) -> tuple[Result | Absent, Pieces]:
        """Work on one item, which comes with its number."""
        number, item = numbered
        for left in reversed(range(self._retries + 1)):
            try:
                return self._task(item), Pieces()
            except Exception as error:
                if concerns_all_items(error):
                    raise
                if not left:
                    text = "".join(traceback.format_exception(error)).rstrip()
                    failed = FailedItem(number, repr(item), here(), _line(error), text)
                    return Absent(), Pieces({number: failed._asdict()})
        raise AssertionError("there is no try without an end")


async def map_reduce_without(
    runtime: Runtime,
    task: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    retries: int = 0,
    progress: ItemProgress | None = None,
    kept: Kept | None = None,
) -> tuple[Result, list[FailedItem]]:
    """The weighted sum of the items that did not fail, and those that did.

    Args:
        runtime: where the work runs.
        task: as for :meth:`~thalweg.runtime.Runtime.map_reduce`.
        items: the same.
        retries: how often an item that fails is tried again, by the same worker.
        progress: the same.
        kept: the same.

    Returns:
        The sum, with every number in it multiplied by n / (n − f), and the f items, in order.

    Raises:
        RunError: all items failed; or some did, and the sum holds what cannot be weighted: integers, or pieces that
            are put side by side.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.runtime import Local
        >>> from thalweg.runtime.failures import map_reduce_without
        >>> with Local(threads=2) as runtime:
        ...     total, failed = tw.wait(map_reduce_without(runtime, lambda x: {"loss": 6 / x}, [1, 0, 2]))
        >>> total, [item.item for item in failed]
        ({'loss': 13.5}, ['0'])
    """
    more: dict[str, Any] = {} if kept is None else {"kept": kept}
    tolerant = Tolerant(task, retries)
    value: Any
    value, entries = await runtime.map_reduce(tolerant, list(enumerate(items)), progress=progress, **more)
    failed = [FailedItem(**entries[number]) for number in sorted(entries)]
    if not failed:
        return value, []
    first = failed[0]
    if len(failed) == len(items):
        raise _told(f"All {len(items)} items failed, so there is no sum. The first", first)
    try:
        return weighted(value, len(items) / (len(items) - len(failed))), failed
    except RunError as error:
        raise _told(f"{len(failed)} of {len(items)} items failed, and {error} The first", first) from None


def weighted(tree: Tree, weight: float, *, path: str = "result") -> Tree:
    """A result with each of its numbers multiplied; arrays keep their dtype.

    Args:
        tree: the result; it is left as it is.
        weight: the factor, rounded to the dtype of each array.
        path: what the result is called in an error.

    Raises:
        RunError: it holds integers, or :class:`Pieces`.

    Example:
        >>> import numpy as np
        >>> from thalweg.runtime.failures import weighted
        >>> weighted({"loss": 3.0, "g": np.ones(2, np.float32)}, 1.5)
        {'loss': 4.5, 'g': array([1.5, 1.5], dtype=float32)}
    """
    if isinstance(tree, Pieces):
        raise RunError(f"{path} is made of pieces, of which some are missing now.")
    if isinstance(tree, dict):
        return {key: weighted(value, weight, path=f"{path}[{key!r}]") for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        parts = [weighted(value, weight, path=f"{path}[{i}]") for i, value in enumerate(tree)]
        return parts if isinstance(tree, list) else tuple(parts)
    if isinstance(tree, np.ndarray | np.generic) and tree.dtype.kind in "fc":
        with np.errstate(over="ignore", invalid="ignore"):  # whoever uses the sum checks that it is finite
            return np.multiply(tree, tree.dtype.type(weight))
    if isinstance(tree, float | complex):
        return tree * weight
    raise RunError(f"{path} holds integers, which cannot be weighted for those that are missing; return floats.")


def _told(what: str, first: FailedItem) -> RunError:
    error = RunError(
        f"{what}, item {first.item} on the {first.worker}: {first.error}", item=first.item, worker=first.worker
    )
    error.add_note("there it was:\n" + first.traceback)
    return error


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
