"""What a search space is made of: a tree of choices, each with a name that says where in the value it stands.

A node draws a JSON value by asking a *suggester* for plain numbers and choices, one at a time::

    float(name, low, high, log)     int(name, low, high, step, log)     categorical(name, choices)

Random draws, Optuna's trials and a replay of recorded answers are all suggesters. Whatever the answers are, the value
that comes out validates against the schema that the node was made of. ``encode`` is the way back: the answers that give
a value.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Protocol

import numpy as np

from thalweg.errors import ValueMismatchError

Json = Any  # None | bool | int | float | str | list[Json] | dict[str, Json]
Plain = bool | int | float | str | None


class Suggester(Protocol):
    """Who answers: a random generator, an optimizer's trial, or a record. Names are unique within a value."""

    def float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number with low ≤ x ≤ high."""

    def int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """One of low, low + step, ..., high."""

    def categorical(self, name: str, choices: Sequence[Plain]) -> Plain:
        """One of the choices."""


class Draws:
    """Independent draws: uniform between the bounds, or uniform in the logarithm."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Uniform in x or in log x."""
        u = float(self._rng.random())
        return math.exp(math.log(low) + u * (math.log(high) - math.log(low))) if log else low + u * (high - low)

    def int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Uniform over the values; with ``log``, each has the share that it has of the logarithmic axis."""
        if log:
            start, stop = math.log(low - 0.5), math.log(high + 0.5)
            return min(max(round(math.exp(start + float(self._rng.random()) * (stop - start))), low), high)
        return low + step * int(self._rng.integers((high - low) // step + 1))

    def categorical(self, name: str, choices: Sequence[Plain]) -> Plain:
        """Uniform over the choices."""
        return choices[int(self._rng.integers(len(choices)))]


class Recorded:
    """Answers that are known by name."""

    def __init__(self, answers: dict[str, Plain]) -> None:
        self._answers = answers

    def float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """The recorded number."""
        return float(self._answers[name])  # type: ignore[arg-type]  # what encode wrote under this name

    def int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """The recorded number."""
        return int(self._answers[name])  # type: ignore[arg-type]  # what encode wrote under this name

    def categorical(self, name: str, choices: Sequence[Plain]) -> Plain:
        """The recorded choice."""
        return self._answers[name]


def same(first: Json, second: Json) -> bool:
    """Whether two JSON values are equal as JSON Schema has it: 1 is 1.0, and true is not 1."""
    return bool(identity(first) == identity(second))


def identity(value: Json) -> Any:
    """Something hashable that two values share if they are equal as JSON Schema has it."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return ("array", tuple(identity(item) for item in value))
    if isinstance(value, dict):
        return ("object", frozenset((key, identity(item)) for key, item in value.items()))
    return value


def number_of(value: Json) -> float | int | None:
    """The value if it is a number, else None: a bool is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Node(abc.ABC):
    """A place in a value where something is to be chosen. ``name`` is its path, such as ``model.layers.0``."""

    name: str
    as_text: ClassVar[bool] = False  # whether its numbers are drawn as text

    @abc.abstractmethod
    def draw(self, suggester: Suggester) -> Json:
        """A new value, of the suggester's answers."""

    @abc.abstractmethod
    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """Add the answers that give this value.

        Raises:
            ValueMismatchError: no answers do.
        """

    @abc.abstractmethod
    def size(self) -> float:
        """How many values there are: an int, or infinity."""

    @abc.abstractmethod
    def at(self, index: int) -> Json:
        """Value number ``index`` of a finite node, counted from 0."""

    @abc.abstractmethod
    def about(self) -> str:
        """What can be chosen here, for people."""

    def parts(self) -> tuple[tuple[str, Node], ...]:
        """The nodes below, each with what it is here: a key, an index, a branch."""
        return ()

    def walk(self) -> Iterator[Node]:
        """This node and all below, in the order in which they are drawn."""
        yield self
        for _, part in self.parts():
            yield from part.walk()

    def refuse(self, value: Json) -> ValueMismatchError:
        """The error for a value that is none of this node's."""
        return ValueMismatchError(
            f"{self.name} is {_short(value)}, which the search space cannot express: it has {self.about()}.",
            path=self.name,
            value=value,
        )


@dataclass(frozen=True)
class Fixed(Node):
    """One value only. ``why`` is ``const`` or ``frozen``; ``reason`` says more to people, where that surprises."""

    value: Json
    why: str = "const"
    reason: str = field(default="", repr=False, compare=False)

    def draw(self, suggester: Suggester) -> Json:
        """A copy of the value."""
        return copied(self.value)

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """Nothing to add."""
        if not same(value, self.value):
            raise self.refuse(value)

    def size(self) -> float:
        """1."""
        return 1

    def at(self, index: int) -> Json:
        """The value."""
        return copied(self.value)

    def about(self) -> str:
        """For people."""
        why = f", frozen{self.reason and ': '}{self.reason}" if self.why == "frozen" else ""
        return f"always {_short(self.value)}{why}"


@dataclass(frozen=True)
class Real(Node):
    """A float in low ≤ x ≤ high."""

    low: float
    high: float
    log: bool = False

    def draw(self, suggester: Suggester) -> Json:
        """A float. exp(log(high)) may be one rounding off high, so the bounds are kept here."""
        return min(max(float(suggester.float(self.name, self.low, self.high, log=self.log)), self.low), self.high)

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The number itself."""
        number = number_of(value)
        if number is None or not self.low <= number <= self.high:
            raise self.refuse(value)
        answers[self.name] = float(number)

    def to_unit(self, value: float) -> float:
        """Where in the interval: 0 at low, 1 at high, in the logarithm if that is the scale."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def from_unit(self, u: float) -> float:
        """The float at u of the interval."""
        if self.log:
            x = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            x = self.low + u * (self.high - self.low)
        return min(max(x, self.low), self.high)

    def size(self) -> float:
        """Infinite."""
        return math.inf

    def at(self, index: int) -> Json:
        """There is no counting these."""
        raise ValueMismatchError(f"{self.name} is continuous: its values cannot be counted.", path=self.name)

    def about(self) -> str:
        """For people."""
        return f"{self.low:g} to {self.high:g}" + (", log scale" if self.log else "")


@dataclass(frozen=True)
class Whole(Node):
    """An integer: low, low + step, ..., high."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def draw(self, suggester: Suggester) -> Json:
        """An int."""
        return int(suggester.int(self.name, self.low, self.high, step=self.step, log=self.log))

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The number itself."""
        number = number_of(value)
        if number is None or number != int(number) or not self.low <= number <= self.high:
            raise self.refuse(value)
        if (int(number) - self.low) % self.step:
            raise self.refuse(value)
        answers[self.name] = int(number)

    def size(self) -> float:
        """How many integers."""
        return (self.high - self.low) // self.step + 1

    def at(self, index: int) -> Json:
        """In ascending order."""
        return self.low + index * self.step

    def about(self) -> str:
        """For people."""
        step = f" in steps of {self.step}" if self.step != 1 else ""
        return f"integers {self.low} to {self.high}{step}" + (", log scale" if self.log else "")


@dataclass(frozen=True)
class Grid(Node):
    """Multiples k·unit, low ≤ k ≤ high. The suggester chooses k, so the product never drifts: 3·0.1 is 0.3."""

    unit: Decimal
    low: int
    high: int
    integer: bool = False
    log: bool = False

    def value(self, k: int) -> Json:
        """The number nearest to k·unit, as one would write it."""
        exact = self.unit * k
        return int(exact) if self.integer else float(exact)

    def draw(self, suggester: Suggester) -> Json:
        """A multiple."""
        return self.value(int(suggester.int(self.name, self.low, self.high, step=1, log=self.log)))

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The factor k."""
        number = number_of(value)
        if number is None or not math.isfinite(number):
            raise self.refuse(value)
        k = round(Decimal(repr(number)) / self.unit)
        if not self.low <= k <= self.high or self.value(k) != number:
            raise self.refuse(value)
        answers[self.name] = k

    def size(self) -> float:
        """How many multiples."""
        return self.high - self.low + 1

    def at(self, index: int) -> Json:
        """In ascending order."""
        return self.value(self.low + index)

    def about(self) -> str:
        """For people."""
        first, last = self.value(self.low), self.value(self.high)
        return f"multiples of {self.unit} from {first:g} to {last:g}" + (", log scale" if self.log else "")


@dataclass(frozen=True)
class Choice(Node):
    """One of several values. ``labels`` are what the suggester is asked for: the values, where they are plain."""

    values: tuple[Json, ...]
    labels: tuple[Plain, ...]

    def draw(self, suggester: Suggester) -> Json:
        """A copy of one of them."""
        return copied(self.values[self.labels.index(suggester.categorical(self.name, self.labels))])

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The label."""
        for choice, label in zip(self.values, self.labels, strict=True):
            if same(choice, value):
                answers[self.name] = label
                return
        raise self.refuse(value)

    def size(self) -> float:
        """How many choices."""
        return len(self.values)

    def at(self, index: int) -> Json:
        """In the schema's order."""
        return copied(self.values[index])

    def about(self) -> str:
        """For people."""
        shown = [_short(value) for value in self.values[:8]]
        return " | ".join(shown) + (f" | ... ({len(self.values)})" if len(self.values) > len(shown) else "")


def copied(value: Json) -> Json:
    """A deep copy of a JSON value."""
    if isinstance(value, list):
        return [copied(item) for item in value]
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return value


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
