"""One evaluation, a candidate on a sample, or one asking of an engine, as the history of a run has it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from thalweg.errors import RunError


@dataclass(frozen=True)
class Evaluation:
    """A job and what came of it: a row of the table ``evaluations``.

    Args:
        id: counts from 1.
        iteration: of the run, in which it was used first.
        candidate: number of the candidate that it was made for.
        key: see :class:`Job`.
        item: the sample.
        stage: ``"search"``, ``"final"``, or ``"ask"``: no evaluation, but an engine that pays for what it asked. Its
            candidate is the first that was asked for, its item and reward are 0. Or ``"reused"``: none either, but a
            result of before the search began anew, which this candidate is judged by, for nothing.
        status: ``"begun"``, ``"done"``, ``"failed"``, ``"lost"`` (begun by a process that died), or ``"void"`` (failed
            in a run that was given up over its failures, or in a final choice; made again when the run goes on).
        reward: of a ``done`` one; higher is better.
        feedback: what the problem said about it.
        tokens: what it cost; of ``begun`` and ``lost`` ones the most that it can have cost.
        money: the same, in the currency of the price list.
        seconds: how long it took, s.
        error: why it failed.
    """

    id: int
    iteration: int
    candidate: int
    key: str
    item: int
    stage: str
    status: str
    reward: float | None = None
    feedback: str = ""
    tokens: int = 0
    money: float = 0.0
    seconds: float = 0.0
    error: str = ""

    def __post_init__(self) -> None:
        counts = (self.id, self.iteration, self.candidate, self.item, self.tokens)
        texts = (self.key, self.stage, self.status, self.feedback, self.error)
        numbers = (self.money, self.seconds, *(() if self.reward is None else (self.reward,)))
        if not (
            all(type(count) is int and count >= 0 for count in counts)
            and all(isinstance(text, str) for text in texts)
            and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
        ):
            raise RunError(f"Evaluation {self.id!r:.40} is damaged: a field is not what it should be.")
        if (self.reward is not None) != (self.status == "done") or self.status not in (
            "begun",
            "done",
            "failed",
            "lost",
            "void",
        ):
            raise RunError(f"Evaluation {self.id} is {self.status!r} with the reward {self.reward!r}: it is damaged.")
        if self.reward == 0.0:  # SQLite has no −0, and a run that goes on must see the bits that it saw before
            object.__setattr__(self, "reward", 0.0)

    def cells(self) -> tuple[Any, ...]:
        """The fields in their order, as the table has them."""
        found: tuple[Any, ...] = _CELLS(self)  # several times as fast as astuple, which copies
        return found

    @property
    def ended(self) -> bool:
        """Whether there is a result, good or bad."""
        return self.status in ("done", "failed")


_CELLS: Any = attrgetter(*(field.name for field in fields(Evaluation)))
