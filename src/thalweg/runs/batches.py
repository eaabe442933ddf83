"""The runtime that a problem is given for one batch: items are counted, failed ones left out, finished sums kept.

What becomes of an item that fails for good is the study's to say (``on_failed_shot``), and it is the same for every
problem whose feedback is a :meth:`~thalweg.runtime.Runtime.map_reduce`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from thalweg.errors import RunError
from thalweg.graph import Variable
from thalweg.runs.kept_shots import KeptShots
from thalweg.runtime import Runtime, Watched
from thalweg.runtime.base import Item, ItemProgress, Result
from thalweg.runtime.failures import FailedItem, map_reduce_without

FAILED_ITEMS = "failed_items"
"""The metric that counts the items of a batch that were left out."""


class BatchRuntime:
    """A runtime for the feedback of one batch after the other.

    Args:
        runtime: where the work runs.
        watcher: told of each finished item.
        reweight: whether an item that fails for good is left out, and the sum weighted for it.
        shots: where finished sums are kept; by default they are not.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.runs.batches import BatchRuntime
        >>> from thalweg.runtime import Local
        >>> with Local(threads=1) as local:
        ...     runtime = BatchRuntime(local, lambda done, total: None, reweight=True)
        ...     runtime.begin(1, 0, ())
        ...     total = tw.wait(runtime.map_reduce(lambda x: 6 / x, [1, 0, 2]))
        >>> total, [item.item for item in runtime.failed]
        (13.5, ['0'])
    """

    def __init__(
        self, runtime: Runtime, watcher: ItemProgress, *, reweight: bool = False, shots: KeptShots | None = None
    ) -> None:
        self._runtime = Watched(runtime, watcher)
        self._retries = getattr(runtime, "retries", 0)
        self._reweight = reweight
        self._shots = shots
        self._iteration = self._block = 0
        self._variables: Sequence[Variable] = ()
        self._calls = 0
        self._busy = False
        self._failed: dict[str, FailedItem] = {}

    @property
    def workers(self) -> int:
        """How many tasks run at once."""
        return self._runtime.workers

    @property
    def retries(self) -> int:
        """How often a failed item is tried again."""
        return int(self._retries)

    @property
    def keeps(self) -> bool:
        """Whether finished sums are kept, so that :meth:`forget` has something to do."""
        return self._shots is not None

    @property
    def failed(self) -> list[FailedItem]:
        """The items that were left out since :meth:`begin`, each once, in order."""
        return sorted(self._failed.values()) if self._failed else []

    def begin(self, iteration: int, block: int, variables: Sequence[Variable]) -> None:
        """The feedback for the step ``iteration`` of ``block`` comes now, at the variables' present values."""
        self._iteration, self._block, self._variables = iteration, block, variables
        self._calls = 0
        self._failed = {}

    async def map_reduce(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        progress: ItemProgress | None = None,
        kept: Any = None,
    ) -> Result:
        """As :meth:`~thalweg.runtime.Runtime.map_reduce`.

        Raises:
            RunError: also when all items failed, when a sum cannot be weighted for those that did, or when two calls
                at once would have to keep their sums apart.
        """
        if self._shots is None or kept is not None:
            return await self._work(task, items, progress, kept)
        if self._busy:
            raise RunError(
                "Two sums over items are asked for at the same time, and output.checkpoint_shots keeps one after the "
                "other: await each map_reduce before the next in `feedback`, or leave checkpoint_shots out."
            )
        self._busy = True
        try:
            number, self._calls = self._calls, self._calls + 1
            kept = await self._runtime.run(self._kept, self._shots, number, items)
            return await self._work(task, items, progress, kept)
        finally:
            self._busy = False

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """As :meth:`~thalweg.runtime.Runtime.run`."""
        return await self._runtime.run(function, *args)

    async def forget(self) -> None:
        """The step is made, and no checkpoint of it is: what was kept for it goes."""
        if self._shots is not None:
            await self._runtime.run(partial(self._shots.forget, self._iteration, only=True))

    def _kept(self, shots: KeptShots, number: int, items: Sequence[Any]) -> Any:
        variables = {str(variable.name): np.asarray(variable.data) for variable in self._variables}
        what = "without failed items" if self._reweight else ""
        return shots.call(self._iteration, self._block, number, variables, items, what)

    async def _work(
        self, task: Callable[[Item], Result], items: Sequence[Item], progress: ItemProgress | None, kept: Any
    ) -> Result:
        if not self._reweight:
            return await self._runtime.map_reduce(task, items, progress=progress, kept=kept)
        total, failed = await map_reduce_without(
            self._runtime, task, items, retries=self.retries, progress=progress, kept=kept
        )
        for item in failed:
            self._failed.setdefault(item.item, item)
        return total
