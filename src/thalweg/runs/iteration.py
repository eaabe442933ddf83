"""One iteration, a committed step, as the history of a run has it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class IterationRecord:
    """One committed step.

    Args:
        iteration: from 1.
        block: from 0.
        epoch: passes through the data that were begun.
        items: number of items in the batch.
        loss: the batch's loss before the step; the table has 0 for −0, as SQLite has none.
        metrics: finite numbers by name: those of the feedback, of the problem after the step, and of the
            optimizer.
        batch: the indices of the items.
        seconds: since the run began, at the end of the step.
    """

    iteration: int
    block: int
    epoch: int
    items: int
    loss: float
    batch: tuple[int, ...]
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def misfit(self) -> float:
        """The loss an item, which can be compared between batches of different sizes."""
        return self.loss / self.items
