"""How far an optimization has come: the counts that schedules are functions of. ::

    begin_epoch()   epoch += 1, batch = 0         called by the loop
    begin_batch()   batch += 1                    called by the loop
    begin_step()    iteration += 1                called by the optimizer's step

0 means that nothing has been seen yet: during the first pass through the data the epoch is 1, during its
first mini-batch the batch is 1, and during the first step the iteration is 1.

:class:`OptimizationState` is what an optimizer owns and checks. :class:`Counts` are the same names around whatever
values there are, for schedules inside a compiled loop, where a count is not yet a number.
"""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from thalweg.errors import HyperparameterError
from thalweg.rules.arithmetic import maximum


@dataclass
class OptimizationState:
    """The counts of one optimization.

    Args:
        batch_size: how many items (shots, rows, samples) a mini-batch holds; 1 or more.
        curr_epoch: passes through the data begun.
        curr_batch: mini-batches begun in this epoch.
        curr_iter: steps begun in all; never reset by an epoch.

    Raises:
        HyperparameterError: a count is not an integer or is negative, or the batch size is not positive.

    Example:
        >>> from thalweg.schedules import OptimizationState
        >>> state = OptimizationState(batch_size=32)
        >>> state.begin_epoch(); state.begin_batch()
        >>> state.curr_epoch, state.curr_batch, state.curr_iter
        (1, 1, 0)
    """

    batch_size: int = 1
    curr_epoch: int = 0
    curr_batch: int = 0
    curr_iter: int = 0

    def __setattr__(self, name: str, value: Any) -> None:
        least = 1 if name == "batch_size" else 0
        try:
            count = operator.index(value)
        except TypeError:
            count = -1
        if isinstance(value, bool) or count < least:
            raise HyperparameterError(
                f"OptimizationState: {name} is {value!r}; give an integer, at least {least}",
                name=name,
                value=value,
            )
        super().__setattr__(name, count)

    def begin_epoch(self) -> None:
        """A pass through the data begins."""
        self.__dict__["curr_epoch"] += 1  # a count as they all were: not checked again, which takes longer than a step
        self.__dict__["curr_batch"] = 0

    def begin_batch(self) -> None:
        """A mini-batch begins."""
        self.__dict__["curr_batch"] += 1

    def begin_step(self) -> None:
        """An optimizer's step begins (the optimizer calls this itself)."""
        self.__dict__["curr_iter"] += 1

    @property
    def completed_epochs(self) -> int:
        """Passes through the data that are over."""
        return max(self.curr_epoch - 1, 0)

    @property
    def completed_iterations(self) -> int:
        """Steps that are over, seen from inside a step."""
        return max(self.curr_iter - 1, 0)

    def copy(self) -> OptimizationState:
        """The same counts in an object of their own."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy

    def get_config(self) -> dict[str, int]:
        """The counts as JSON."""
        return asdict(self)


class Counts(NamedTuple):
    """The counts of :class:`OptimizationState`, unchecked: of JAX, PyTorch, PyTensor or NumPy, traced or not. ::

        completed = max(current, 1) − 1

    A named tuple, so JAX takes it apart and puts it together by itself: it may be carried through ``lax.scan``.

    Args:
        batch_size: how many items a mini-batch holds.
        curr_epoch: passes through the data begun.
        curr_batch: mini-batches begun in this epoch.
        curr_iter: steps begun in all.

    Example:
        >>> import numpy as np
        >>> from thalweg.schedules import Counts, Exp
        >>> Exp(8.0, gamma=0.5)(Counts(curr_epoch=np.arange(4)))
        array([8., 8., 4., 2.])
    """

    batch_size: Any = 1
    curr_epoch: Any = 0
    curr_batch: Any = 0
    curr_iter: Any = 0

    @property
    def completed_epochs(self) -> Any:
        """Passes through the data that are over."""
        return maximum(self.curr_epoch, 1) - 1  # in this order an unsigned 0 does not wrap around

    @property
    def completed_iterations(self) -> Any:
        """Steps that are over, seen from inside a step."""
        return maximum(self.curr_iter, 1) - 1


State = OptimizationState | Counts
"""What a schedule is called with."""
