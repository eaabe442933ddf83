"""What every optimizer is, whatever feedback it takes: it proposes points and takes feedback on them."""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.graph import Variable
from thalweg.optimizers.snapshot import OptimizerSnapshot


class Optimizer(abc.ABC):
    """The face that runs know. Gradient optimizers stand behind it as :class:`LocalOptimizer`.

    Args:
        name: a name of the user's choice.
        description: what it is for, for reports.
    """

    name: str = ""
    description: str = ""

    def __init__(self, *, name: str, description: str) -> None:
        self.name = name
        self.description = description

    @property
    @abc.abstractmethod
    def variables(self) -> tuple[Variable, ...]:
        """The variables that it changes."""

    @property
    @abc.abstractmethod
    def iterations(self) -> int:
        """How many steps it has made."""

    @abc.abstractmethod
    async def propose(self) -> list[dict[str, np.ndarray]]:
        """The points on which it wants feedback: for each, the variables' values by name."""

    @abc.abstractmethod
    async def apply(self, feedback: Any) -> Variable | tuple[Variable, ...]:
        """Take the feedback and change the variables."""

    @abc.abstractmethod
    def state(self) -> OptimizerSnapshot:
        """A copy of everything besides the variables' data that decides the next step."""

    @abc.abstractmethod
    def restore(self, snapshot: OptimizerSnapshot) -> None:
        """Continue from a snapshot; all of it is checked before anything changes."""

    @abc.abstractmethod
    def dump(self, path: str | os.PathLike[str]) -> None:
        """Save the state and the variables' data."""

    @abc.abstractmethod
    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from what :meth:`dump` saved."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """How it was configured, as JSON."""

    @classmethod
    @abc.abstractmethod
    def from_config(
        cls, config: Mapping[str, Any], variables: Variable | Sequence[Variable] | None = None
    ) -> Optimizer:
        """An optimizer configured as ``config`` says."""
