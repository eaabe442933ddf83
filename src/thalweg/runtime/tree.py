"""Sums that do not depend on who was first: a binary tree that is fixed by the items' indices.

Floating-point addition is not associative, so a sum in order of arrival has different bits from run to run.
Here the results r_0, r_1, ... are added level by level in adjacent pairs, and a lone last one moves up
unchanged::

    level 0   r0   r1   r2   r3   r4
               \\  /      \\  /      |
    level 1   r0+r1     r2+r3     r4
                  \\      /         |
    level 2    (r0+r1)+(r2+r3)    r4
                          \\      /
    level 3      ((r0+r1)+(r2+r3))+r4

The shape depends on the number of items alone. Two partial results are added as soon as both are there, so
about log2(n) of them, plus those that finished out of order, are alive at any time.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from thalweg.errors import RunError

Tree = Any
"""A result: an array, a number, or dicts, lists and tuples of them (the same structure for every item)."""


class Pieces(dict[int, Any]):
    """Results that are put side by side instead of added: the sum of two is their union.

    Each item returns one piece under its own number, and the sum holds all of them.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.runtime import Local, Pieces
        >>> def square(i):
        ...     return Pieces({i: i * i})
        >>> with Local(threads=2) as runtime:
        ...     tw.wait(runtime.map_reduce(square, range(3))) == {0: 0, 1: 1, 2: 4}
        True
    """


class Absent:
    """The result of an item that was left out: added to anything it changes nothing.

    Example:
        >>> from thalweg.runtime.tree import Absent, add_trees
        >>> add_trees({"loss": Absent()}, {"loss": 2.0})
        {'loss': 2.0}
    """


class TreeReduction:
    """The sum of ``count`` results that arrive in any order, with the same bits whatever the order.

    Args:
        count: number of results, at least 1.
        keep: told of each partial sum that has to wait for its partner, and of the last, as
            ``keep(level, index, sum)``, before anybody else sees it; what it raises, :meth:`put` raises.

    Raises:
        RunError: there is nothing to add.

    Thread-safe: :meth:`put` may be called from many threads; the additions run outside of the lock.

    Example:
        >>> from thalweg.runtime import TreeReduction
        >>> reduction = TreeReduction(3)
        >>> for index, value in [(2, 1.0), (0, 1e16), (1, -1e16)]:
        ...     reduction.put(index, value)
        >>> reduction.result()
        1.0
    """

    def __init__(self, count: int, *, keep: Callable[[int, int, Tree], None] | None = None) -> None:
        if count < 1:
            raise RunError("There is nothing to reduce: the list of items is empty; give at least one.")
        self._keep = keep
        self._sizes = [count]
        while self._sizes[-1] > 1:
            self._sizes.append((self._sizes[-1] + 1) // 2)
        self._waiting: dict[tuple[int, int], tuple[Tree, bool]] = {}
        self._lock = threading.Lock()
        self._result: Tree = None
        self._done = False

    @property
    def alive(self) -> int:
        """Number of partial results that wait for their partner."""
        return len(self._waiting)

    @property
    def depth(self) -> int:
        """Number of levels above the items, ⌈log2(count)⌉."""
        return len(self._sizes) - 1

    def put(self, index: int, value: Tree) -> None:
        """Hand in the result of item ``index`` (each index once), and add what can be added now.

        Raises:
            RunError: the results of two items have different structures, shapes or dtypes.
        """
        self._put(0, index, value, owned=False, kept=False)  # a result belongs to the task that returned it

    def restore(self, level: int, index: int, value: Tree) -> None:
        """Hand in a partial sum that ``keep`` was told of before, instead of the items below it."""
        self._put(level, index, value, owned=True, kept=True)

    def _put(self, level: int, index: int, value: Tree, *, owned: bool, kept: bool) -> None:
        while True:
            with self._lock:
                while level < self.depth and index ^ 1 >= self._sizes[level]:
                    level, index = level + 1, index >> 1
                partner = self._waiting.pop((level, index ^ 1), None) if level < self.depth else None
                if partner is None and (kept or self._keep is None):
                    if level == self.depth:
                        self._result, self._done = value, True
                    else:
                        self._waiting[level, index] = (value, owned)
                    return
            if partner is None:
                assert self._keep is not None
                self._keep(level, index, value)  # as long as nobody else can add into it
                kept = True
                continue
            mine = (value, owned)
            (left, left_owned), (right, _) = (partner, mine) if index & 1 else (mine, partner)
            value, owned, kept = add_trees(left, right, into_left=left_owned), True, False
            level, index = level + 1, index >> 1

    def result(self) -> Tree:
        """The sum, once all results were handed in.

        Raises:
            RunError: some are missing.
        """
        if not self._done:
            raise RunError("The reduction is not complete: some items have not handed in their result.")
        return self._result


class Kept(Protocol):
    """Keeps partial sums of one map_reduce somewhere that survives the process."""

    def sums(self, count: int) -> Mapping[tuple[int, int], Tree]:
        """What is there, by level and index in the tree of ``count`` items; none of them lies below another."""

    def keep(self, level: int, index: int, value: Tree) -> None:
        """Keep one; may be called from any thread, and from several at once. The value may change afterwards."""


def begin_reduction(count: int, kept: Kept | None) -> tuple[TreeReduction, list[int]]:
    """A reduction that goes on with the sums that were kept, and the items that are left to do, in order.

    Raises:
        RunError: there is nothing to add.

    Example:
        >>> from thalweg.runtime.tree import begin_reduction
        >>> class Memory(dict):
        ...     def sums(self, count):
        ...         return self
        ...     def keep(self, level, index, value):
        ...         self[level, index] = value
        >>> reduction, left = begin_reduction(5, Memory({(1, 0): 3.0}))
        >>> left
        [2, 3, 4]
    """
    reduction = TreeReduction(count, keep=kept.keep if kept is not None else None)
    done: set[int] = set()
    for (level, index), value in kept.sums(count).items() if kept is not None else ():
        reduction.restore(level, index, value)
        done.update(below(level, index, count))
    return reduction, [index for index in range(count) if index not in done]


def below(level: int, index: int, count: int) -> range:
    """The items that a partial sum holds."""
    return range(index << level, min((index + 1) << level, count))


def add_trees(left: Tree, right: Tree, *, into_left: bool = False, path: str = "result") -> Tree:
    """Add two results elementwise.

    Args:
        into_left: write sums of arrays into the arrays of ``left``; only for whoever owns them.
        path: what the results are called in an error.

    Raises:
        RunError: structures, shapes or dtypes differ, or there is something that cannot be added.

    Example:
        >>> import numpy as np
        >>> from thalweg.runtime import add_trees
        >>> add_trees({"loss": 1.0, "g": np.ones(2)}, {"loss": 2.0, "g": np.ones(2)})
        {'loss': 3.0, 'g': array([2., 2.])}
    """
    if isinstance(left, Absent) or isinstance(right, Absent):
        return copy.deepcopy(right if isinstance(left, Absent) else left)  # a sum is nobody else's
    if isinstance(left, Pieces) and isinstance(right, Pieces):
        if left.keys() & right.keys():
            raise RunError(f"Two items have both returned the pieces {sorted(left.keys() & right.keys())} of {path}.")
        return Pieces({**left, **right})
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            raise _differ(path, f"the keys {sorted(map(str, left))}", f"the keys {sorted(map(str, right))}")
        return {k: add_trees(left[k], right[k], into_left=into_left, path=f"{path}[{k!r}]") for k in left}
    if isinstance(left, (list, tuple)) and type(left) is type(right):
        if len(left) != len(right):
            raise _differ(path, f"{len(left)} entries", f"{len(right)} entries")
        pairs = enumerate(zip(left, right, strict=True))
        added = [add_trees(a, b, into_left=into_left, path=f"{path}[{i}]") for i, (a, b) in pairs]
        return added if isinstance(left, list) else tuple(added)
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return _add_arrays(left, right, into_left=into_left, path=path)
    if _is_number(left) and _is_number(right):
        with np.errstate(over="ignore", invalid="ignore"):  # whoever uses the sum checks that it is finite
            return left + right
    raise _differ(path, f"a {type(left).__name__}", f"a {type(right).__name__}")


def _add_arrays(left: np.ndarray, right: np.ndarray, *, into_left: bool, path: str) -> np.ndarray:
    if left.shape != right.shape or left.dtype != right.dtype or left.dtype.kind not in "iufc":
        raise _differ(path, f"{left.dtype} of shape {left.shape}", f"{right.dtype} of shape {right.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        total = left if into_left else np.empty_like(left)
        np.add(left, right, out=total)
        return total


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex, np.number)) and not isinstance(value, bool)


def _differ(path: str, left: str, right: str) -> RunError:
    return RunError(
        f"The results of two items cannot be added: {path} is {left} for one and {right} for another. "
        "A task must return the same structure of numeric NumPy arrays and numbers for every item."
    )
