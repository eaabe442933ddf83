"""Which items (shots, rows, samples) an iteration takes.

With N items and at most b of them an iteration, one pass through the data takes K = ⌈N / b⌉ iterations:

- ``all``: every item, K = 1
- ``every``: iteration k takes the items k mod K, k mod K + K, k mod K + 2K, ...
- ``random``: each pass draws a new permutation and deals it into K batches, so no item comes twice before all
  had their turn, and none is left out

The batches of a pass differ by one item at most, so the last one is neither dropped nor small. Batches are
sorted: the sum over a batch then does not depend on the order of the draw.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RunError
from thalweg.runs.settings import GenericBlock

Indices = NDArray[np.int64]

_STREAM = 0x5E1EC7  # keeps this generator apart from those that a problem draws from the same seed


@dataclass(frozen=True)
class Batch:
    """What one iteration works on.

    Args:
        items: indices in increasing order, int64, shape (n,).
        begins_epoch: whether a new pass through all items begins with it.
    """

    items: Indices
    begins_epoch: bool


class Selection:
    """The batches of one block, one after the other.

    Args:
        kind: ``"all"``, ``"every"`` or ``"random"``.
        items: number of items, at least 1.
        batch_size: most items a batch; None means all.
        seed: the study's seed.
        block: the block's index. It has a generator of its own, so changing the length of one block leaves
            the batches of the others as they are.

    Raises:
        RunError: a number is out of its range.

    Example:
        >>> from thalweg.runs import Selection
        >>> selection = Selection("every", items=5, batch_size=2)
        >>> [selection.next().items.tolist() for _ in range(4)]
        [[0, 3], [1, 4], [2], [0, 3]]
        >>> selection = Selection("random", items=5, batch_size=2, seed=3)
        >>> one_pass = [selection.next().items.tolist() for _ in range(3)]
        >>> sorted(sum(one_pass, []))
        [0, 1, 2, 3, 4]
    """

    def __init__(self, kind: str, *, items: int, batch_size: int | None = None, seed: int = 0, block: int = 0) -> None:
        if kind not in _SELECTORS:
            raise RunError(f"selection is {kind!r}; it must be one of {', '.join(_SELECTORS)}.")
        if items < 1:
            raise RunError(f"The problem has {items} items; a batch needs at least one.")
        if batch_size is not None and not 1 <= batch_size <= items:
            raise RunError(f"batch_size is {batch_size}; with {items} items it must be between 1 and {items}.")
        self.kind = kind
        self.items = items
        self.batches = 1 if batch_size is None else math.ceil(items / batch_size)
        self._generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM, block)))
        self._count = 0
        self._now = dict(self._generator.bit_generator.state)
        self._before: dict[str, Any] = {}  # the generator's state before the present pass was dealt
        self._dealt: list[Indices] = []

    @classmethod
    def of(cls, block: GenericBlock, index: int, *, items: int, seed: int) -> Selection:
        """That of a study's block.

        Args:
            block: the block.
            index: its index.
            items: number of items of the problem.
            seed: the study's.

        Raises:
            RunError: a number is out of its range.
        """
        return cls(block.selection, items=items, batch_size=block.batch_size, seed=seed, block=index)

    def next(self) -> Batch:
        """The next batch."""
        place = self._count % self.batches
        if place == 0:
            self._deal()
        self._count += 1
        return Batch(self._dealt[place], begins_epoch=place == 0)

    def state(self) -> dict[str, Any]:
        """Everything that decides the batches to come, as JSON values.

        It is small whatever the number of items: a pass is dealt again from the generator's state before it.
        Cheap enough to be asked for after every step.
        """
        between = self._count % self.batches == 0
        return {
            "kind": self.kind,
            "items": self.items,
            "batches": self.batches,
            "count": self._count,
            "generator": dict(self._now if between else self._before),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state` was asked for; all or nothing.

        Raises:
            RunError: the state is that of another selection, or damaged.

        Example:
            >>> from thalweg.runs import Selection
            >>> a, b = (Selection("random", items=9, batch_size=2, seed=1) for _ in range(2))
            >>> _ = a.next(), a.next()
            >>> b.restore(a.state())
            >>> a.next().items.tolist() == b.next().items.tolist()
            True
        """
        mine = {"kind": self.kind, "items": self.items, "batches": self.batches}
        if any(state.get(key) != value for key, value in mine.items()):
            saved = {key: state.get(key) for key in mine}
            raise RunError(
                f"The saved selection is {saved}, and the study's is {mine}: they do not fit together. While a block "
                "goes on, its selection, its batch_size and the number of items stay; change them for a block that has "
                "not begun, or go on from where this one begins (--iteration)."
            )
        try:
            count = operator.index(state["count"])
            if count < 0:
                raise ValueError(f"{count} batches taken")
            generator = np.random.default_rng()
            generator.bit_generator.state = state["generator"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"The saved state of the selection is damaged: {error}.") from error
        self._count, self._generator = count, generator
        self._now = dict(generator.bit_generator.state)
        if count % self.batches:
            self._deal()

    def _deal(self) -> None:
        self._before = self._now
        self._dealt = _SELECTORS[self.kind](self.items, self.batches, self._generator)
        if self.kind == "random":  # reading a state takes as long as dealing a pass
            self._now = dict(self._generator.bit_generator.state)


def _all(items: int, batches: int, generator: np.random.Generator) -> list[Indices]:
    return [np.arange(items, dtype=np.int64)]


def _every(items: int, batches: int, generator: np.random.Generator) -> list[Indices]:
    return [np.arange(offset, items, batches, dtype=np.int64) for offset in range(batches)]


def _random(items: int, batches: int, generator: np.random.Generator) -> list[Indices]:
    order = generator.permutation(items).astype(np.int64)
    return [np.sort(batch) for batch in np.array_split(order, batches)]


_SELECTORS: dict[str, Callable[[int, int, np.random.Generator], list[Indices]]] = {
    "all": _all,
    "every": _every,
    "random": _random,
}
