"""Nodes with nodes below: objects, arrays, arrays without repetition, and branches of which one is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass

from thalweg.errors import ValueMismatchError
from thalweg.search.space_nodes import Json, Node, Plain, Suggester, copied, number_of, same


@dataclass(frozen=True)
class Record(Node):
    """An object: every property that the schema declares, in its order."""

    keys: tuple[str, ...]
    nodes: tuple[Node, ...]
    defaults: tuple[tuple[str, Json], ...] = ()  # what a missing optional property stands for

    def draw(self, suggester: Suggester) -> Json:
        """An object."""
        return {key: node.draw(suggester) for key, node in zip(self.keys, self.nodes, strict=True)}

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The answers of the properties; one that is missing stands for its default."""
        if not isinstance(value, dict) or any(key not in self.keys for key in value):
            raise self.refuse(value)
        defaults = dict(self.defaults)
        for key, node in zip(self.keys, self.nodes, strict=True):
            if key not in value and key not in defaults:
                raise self.refuse(value)
            node.encode(value[key] if key in value else defaults[key], answers)

    def size(self) -> float:
        """The product."""
        return _product([node.size() for node in self.nodes])

    def at(self, index: int) -> Json:
        """The last property runs fastest."""
        return dict(zip(self.keys, _unranked(self.nodes, index), strict=True))

    def parts(self) -> tuple[tuple[str, Node], ...]:
        """The properties."""
        return tuple(zip(self.keys, self.nodes, strict=True))

    def about(self) -> str:
        """For people."""
        return f"an object of {', '.join(self.keys) or 'nothing'}"


@dataclass(frozen=True)
class Items(Node):
    """An array: a length, then as many items. Item i has a node of its own, so its name is its place."""

    shortest: int
    nodes: tuple[Node, ...]  # as many as the longest has
    prefix: int = 0  # so many items have schemas of their own; the others are alike

    @property
    def longest(self) -> int:
        """The most items."""
        return len(self.nodes)

    @property
    def length_name(self) -> str:
        """The name of the choice of the length."""
        return f"{self.name}.length"

    def draw(self, suggester: Suggester) -> Json:
        """An array."""
        length = self.longest
        if self.shortest < self.longest:
            length = suggester.int(self.length_name, self.shortest, self.longest, step=1, log=False)
        return [node.draw(suggester) for node in self.nodes[:length]]

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The length, and the answers of the items."""
        if not isinstance(value, list) or not self.shortest <= len(value) <= self.longest:
            raise self.refuse(value)
        if self.shortest < self.longest:
            answers[self.length_name] = len(value)
        for node, item in zip(self.nodes, value, strict=False):
            node.encode(item, answers)

    def size(self) -> float:
        """The sum over the lengths of the products."""
        total: float = 0
        product: float = 1
        for length in range(self.longest + 1):
            if length:
                product = _product([product, self.nodes[length - 1].size()])
            if length >= self.shortest:
                total += product
        return total

    def at(self, index: int) -> Json:
        """Short ones first."""
        for length in range(self.shortest, self.longest + 1):
            count = int(_product([node.size() for node in self.nodes[:length]]))
            if index < count:
                return _unranked(self.nodes[:length], index)
            index -= count
        raise IndexError(index)

    def parts(self) -> tuple[tuple[str, Node], ...]:
        """The items."""
        return tuple((str(k), node) for k, node in enumerate(self.nodes))

    def about(self) -> str:
        """For people."""
        return f"{_span(self.shortest, self.longest)} items"


@dataclass(frozen=True)
class Distinct(Node):
    """An array of items that are all different. Item i is one of those that are left, so every answer is allowed."""

    shortest: int
    longest: int
    values: tuple[Json, ...]

    @property
    def length_name(self) -> str:
        """The name of the choice of the length."""
        return f"{self.name}.length"

    def draw(self, suggester: Suggester) -> Json:
        """An array."""
        length = self.longest
        if self.shortest < self.longest:
            length = suggester.int(self.length_name, self.shortest, self.longest, step=1, log=False)
        left = list(self.values)
        drawn = []
        for k in range(length):
            place = suggester.categorical(f"{self.name}.{k}", tuple(range(len(left)))) if len(left) > 1 else 0
            drawn.append(copied(left.pop(int(place or 0))))
        return drawn

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The length, and the place of each item among those that are left."""
        if not isinstance(value, list) or not self.shortest <= len(value) <= self.longest:
            raise self.refuse(value)
        if self.shortest < self.longest:
            answers[self.length_name] = len(value)
        left = list(self.values)
        for k, item in enumerate(value):
            places = [place for place, choice in enumerate(left) if same(choice, item)]
            if not places:
                raise self.refuse(value)
            if len(left) > 1:
                answers[f"{self.name}.{k}"] = places[0]
            left.pop(places[0])

    def size(self) -> float:
        """The sum over the lengths of n·(n−1)·..."""
        return sum(math.perm(len(self.values), length) for length in range(self.shortest, self.longest + 1))

    def at(self, index: int) -> Json:
        """Short ones first."""
        for length in range(self.shortest, self.longest + 1):
            count = math.perm(len(self.values), length)
            if index < count:
                left = list(self.values)
                drawn = []
                for k in range(length):
                    count //= len(self.values) - k
                    place, index = divmod(index, count)
                    drawn.append(copied(left.pop(place)))
                return drawn
            index -= count
        raise IndexError(index)

    def about(self) -> str:
        """For people."""
        return f"{_span(self.shortest, self.longest)} different items of {len(self.values)}"


@dataclass(frozen=True)
class Branch(Node):
    """One of several alternatives, with what belongs to it: a conditional part of the space."""

    labels: tuple[str, ...]
    nodes: tuple[Node, ...]
    disjoint: bool = True  # whether no value belongs to two of them

    def draw(self, suggester: Suggester) -> Json:
        """A value of the branch that was chosen."""
        label = suggester.categorical(self.name, self.labels)
        return self.nodes[self.labels.index(str(label))].draw(suggester)

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The first branch that has the value, of those :meth:`in_turn`."""
        label, found = self.branch_of(value)
        answers[self.name] = label
        answers.update(found)

    def branch_of(self, value: Json) -> tuple[str, dict[str, Plain]]:
        """The first branch that has the value, with the answers within."""
        for label, node in self.in_turn(value):
            answers: dict[str, Plain] = {}
            try:
                node.encode(value, answers)
            except ValueMismatchError:
                continue
            return label, answers
        raise self.refuse(value)

    def in_turn(self, value: Json) -> list[tuple[str, Node]]:
        """The branches in the order in which they are asked for a value: for a number, those that would draw it as
        text come last."""
        number = number_of(value) is not None
        return sorted(self.parts(), key=lambda part: number and part[1].as_text)

    def size(self) -> float:
        """The sum; at most that, if branches overlap."""
        return sum(node.size() for node in self.nodes)

    def at(self, index: int) -> Json:
        """One branch after the other."""
        for node in self.nodes:
            count = int(node.size())
            if index < count:
                return node.at(index)
            index -= count
        raise IndexError(index)

    def parts(self) -> tuple[tuple[str, Node], ...]:
        """The branches."""
        return tuple(zip(self.labels, self.nodes, strict=True))

    def about(self) -> str:
        """For people."""
        return f"one of {' | '.join(self.labels)}"


def _product(sizes: list[float]) -> float:
    """The product, in which 0 · ∞ is 0; exact for ints."""
    if any(size == 0 for size in sizes):
        return 0
    if any(math.isinf(size) for size in sizes):
        return math.inf
    return math.prod(int(size) for size in sizes)


def _unranked(nodes: tuple[Node, ...], index: int) -> list[Json]:
    """The combination number ``index``; the last node runs fastest."""
    drawn = []
    for node in reversed(nodes):
        index, rest = divmod(index, int(node.size()))
        drawn.append(node.at(rest))
    return drawn[::-1]


def _span(shortest: int, longest: int) -> str:
    return str(longest) if shortest == longest else f"{shortest} to {longest}"
