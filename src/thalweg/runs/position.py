"""Where a run is, as a checkpoint knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.errors import RunError


@dataclass(frozen=True)
class Position:
    """Where a run is: after how many committed steps, and what decides the next batch.

    Args:
        iteration: committed steps in the whole run; as many rows has the history.
        block: index of the block.
        block_iteration: committed steps in this block.
        selection: :meth:`~thalweg.runs.selection.Selection.state` after the last committed step; None before the
            first block.
        misfit: the loss an item of the last committed step, before it; None before the first step, and where
            version 0.1 wrote the checkpoint.
    """

    iteration: int = 0
    block: int = 0
    block_iteration: int = 0
    selection: dict[str, Any] | None = None
    misfit: float | None = None

    def meta(self) -> dict[str, Any]:
        """What a checkpoint says of it."""
        return {
            "iteration": self.iteration,
            "block": self.block,
            "block_iteration": self.block_iteration,
            "selection": self.selection,
            "misfit": self.misfit,
            "history": self.iteration,
        }

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Position:
        """The position that a checkpoint says.

        Raises:
            RunError: it says none: it is no checkpoint of a run.

        Example:
            >>> from thalweg.runs.position import Position
            >>> Position.from_meta(Position(3, 0, 3, {"count": 3}, 0.5).meta()).iteration
            3
        """
        counts = [meta.get(name) for name in ("iteration", "block", "block_iteration")]
        selection, misfit = meta.get("selection"), meta.get("misfit")
        good = all(type(count) is int and count >= 0 for count in counts)
        if not good or not isinstance(selection, dict | None) or type(misfit) not in (float, int, type(None)):
            raise RunError(f"A checkpoint is of no run: it has {sorted(meta)}, and says no place in one.")
        iteration, block, block_iteration = (int(count) for count in counts if count is not None)
        return cls(iteration, block, block_iteration, selection, misfit)
