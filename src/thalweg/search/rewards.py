"""Rewards: how good a value is, as one number or for each sample with words. Higher is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thalweg.errors import SearchError


@dataclass(frozen=True)
class SampleReward:
    """What one sample says about a value.

    Args:
        reward: how good it is there, finite; higher is better.
        feedback: what is wrong, in words, for people and language models.
        tokens: what finding out took, of prompts and answers together.
        money: what it cost, in the currency of the price list.
        sample: which sample it is, from 0, for a :class:`~thalweg.search.Search` that is told rewards from Python and
            may see a sample again: a fold, a row. Without it, each one counts as another sample. A run knows it.

    Raises:
        SearchError: a number is not finite, or negative where it cannot be, or no integer, or the feedback is no text.

    Example:
        >>> from thalweg.search import SampleReward
        >>> SampleReward(0.5, "the units are missing")
        SampleReward(reward=0.5, feedback='the units are missing', tokens=0, money=0.0)
    """

    reward: float
    feedback: str = ""
    tokens: int = 0
    money: float = 0.0
    sample: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reward", finite(self.reward, "the reward of a sample"))
        if not isinstance(self.feedback, str):
            raise SearchError(f"the feedback of a sample is a {type(self.feedback).__name__}; expected text.")
        object.__setattr__(self, "tokens", _count(self.tokens, "the tokens of a sample are"))
        object.__setattr__(self, "money", finite(self.money, "the money of a sample"))
        if self.money < 0:
            raise SearchError(f"the money of a sample is {self.money!r}; expected at least 0.")
        if self.sample is not None:
            object.__setattr__(self, "sample", _count(self.sample, "the number of a sample is", or_none=True))


@dataclass(frozen=True)
class Reward:
    """How good a value is: one number, and what each sample said.

    Args:
        value: the number that is to become larger, finite. A :class:`~thalweg.search.Search` takes the mean of the
            samples only, if there are any.
        samples: the samples that it was found from, if they are told apart.

    Raises:
        SearchError: the value is not finite, or a sample is none.

    Example:
        >>> from thalweg.search import Reward, SampleReward
        >>> reward = Reward.of([SampleReward(1.0), SampleReward(0.0, "the units are missing")])
        >>> reward.value, reward.feedback
        (0.5, ('the units are missing',))
        >>> float(Reward.of(3)), Reward.of(3).samples
        (3.0, ())
    """

    value: float
    samples: tuple[SampleReward, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", finite(self.value, "the reward"))
        object.__setattr__(self, "samples", tuple(self.samples))
        for index, sample in enumerate(self.samples):
            if not isinstance(sample, SampleReward):
                raise SearchError(f"sample {index} of a reward is a {type(sample).__name__}; expected a SampleReward.")

    @classmethod
    def of(cls, reward: Reward | float | Sequence[SampleReward]) -> Reward:
        """A reward from one, from a number, or from samples, whose mean is the value.

        Raises:
            SearchError: it is none of these, not finite, or there are no samples.
        """
        if isinstance(reward, Reward):
            return reward
        if isinstance(reward, list | tuple):
            if not reward:
                raise SearchError("the reward has no samples; give at least one, or a number.")
            whole = cls(0.0, tuple(reward))
            return cls(math.fsum(sample.reward for sample in whole.samples) / len(whole.samples), whole.samples)
        return cls(finite(reward, "the reward"))

    @property
    def feedback(self) -> tuple[str, ...]:
        """What the samples said in words; those that said nothing are left out."""
        return tuple(sample.feedback for sample in self.samples if sample.feedback)

    def __float__(self) -> float:
        return self.value


def finite(value: Any, what: str) -> float:
    """A number as a finite float.

    Raises:
        SearchError: it is no number, a boolean, NaN or infinite.

    Example:
        >>> import numpy as np
        >>> from thalweg.search.rewards import finite
        >>> finite(np.float32(0.5), "the reward")
        0.5
    """
    number = _plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise SearchError(f"{what} is {value!r}; expected a number, higher is better.")
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise SearchError(
            f"{what} is {number!r}; expected a finite number. An evaluation that failed has no reward: the reward of "
            "a problem raises an error then, and a Search from Python is told with Search.fail."
        )
    return number


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's; anything else as it is."""
    single = isinstance(value, np.ndarray) and value.ndim == 0
    return value.item() if single or isinstance(value, np.generic) else value


def _count(value: Any, what: str, *, or_none: bool = False) -> int:
    number = _plain(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        expected = "an integer of at least 0" + (", or None" if or_none else "")
        raise SearchError(f"{what} {value!r}; expected {expected}.")
    return int(number)
