"""Shelves: the places of a value where examples stand, and how good each example is.

A shelf is an array of different items from a list (``items: {"enum": [...]}, uniqueItems, maxItems``) within objects.
An example is known by its place in that list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.search.space import Space, Values
from thalweg.search.space_compound import Distinct, Record
from thalweg.search.space_merging import Resolver
from thalweg.search.space_nodes import Node, identity
from thalweg.search.values import Json, copy_json


@dataclass(frozen=True)
class Shelf:
    """A place for examples: where it is, what can stand there, how many."""

    variable: str
    path: tuple[str, ...]
    examples: tuple[Json, ...]
    shortest: int
    longest: int


def find_shelves(space: Space) -> list[Shelf]:
    """The places for examples in a space, in its order.

    Example:
        >>> from thalweg.search.shelves import find_shelves
        >>> from thalweg.search.space import Space
        >>> shown = {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "maxItems": 2}
        >>> space = Space.of({"type": "object", "properties": {"examples": shown}}, name="step")
        >>> [(shelf.variable, shelf.path, len(shelf.examples), shelf.longest) for shelf in find_shelves(space)]
        [('step', ('examples',), 3, 2)]
    """
    return [shelf for name, node in space.nodes.items() for shelf in _shelves(name, (), node)]


def put(values: Values, shelf: Shelf, picked: Sequence[int]) -> None:
    """Put examples into values, which are changed in place.

    Args:
        values: by variable.
        shelf: where.
        picked: the examples' places in its list.
    """
    examples = [copy_json(shelf.examples[index]) for index in picked]
    if not shelf.path:
        values[shelf.variable] = examples
        return
    value = values[shelf.variable]
    for key in shelf.path[:-1]:
        value = value.setdefault(key, {})
    value[shelf.path[-1]] = examples


def known(shelf: Shelf, values: Values) -> list[int]:
    """The examples that stand on a shelf, by their places in its list; others than those of the list are left out."""
    value = values[shelf.variable]
    for key in shelf.path:
        value = value.get(key, []) if isinstance(value, dict) else []
    places = {identity(example): place for place, example in enumerate(shelf.examples)}
    return [places[identity(example)] for example in value if identity(example) in places]


def entries(space: Space, shelf: Shelf) -> list[int | None]:
    """Which example each entry of the schema's list is, by its place on the shelf: equal entries are one example.

    Example:
        >>> from thalweg.search.shelves import entries, find_shelves
        >>> from thalweg.search.space import Space
        >>> shown = {"type": "array", "items": {"enum": ["a", "b", "a", "c"]}, "uniqueItems": True, "maxItems": 2}
        >>> space = Space.of({"type": "object", "properties": {"examples": shown}}, name="step")
        >>> entries(space, find_shelves(space)[0])
        [0, 1, 0, 2]
    """
    resolver = Resolver(space.schemas[shelf.variable])
    part = resolver.plain(space.schemas[shelf.variable], shelf.variable)
    for key in shelf.path:
        part = resolver.plain(part.get("properties", {}).get(key, {}), shelf.variable)
    items = resolver.plain(part.get("items", {}), shelf.variable)
    places = {identity(example): place for place, example in enumerate(shelf.examples)}
    return [places.get(identity(entry)) for entry in items.get("x-pool", items.get("enum", list(shelf.examples)))]


def credit(number: int, told: Sequence[tuple[Sequence[int], float]]) -> NDArray[np.float64]:
    """What came of showing each example: Σ (r − r̄) / (n + 1) over the n candidates that showed it.

    Args:
        number: of examples.
        told: for each candidate, what it showed and its reward.

    Example:
        >>> from thalweg.search.shelves import credit
        >>> credit(3, [([0, 1], 1.0), ([1], 0.0)]).tolist()
        [0.25, 0.0, 0.0]
    """
    mean = math.fsum(reward for _, reward in told) / max(len(told), 1)
    sums, counts = np.zeros(number), np.zeros(number)
    for shown, reward in told:
        for index in shown:
            sums[index] += reward - mean
            counts[index] += 1
    return np.asarray(sums / (counts + 1))


def softmax_order(rng: np.random.Generator, scores: NDArray[np.float64], temperature: float) -> list[int]:
    """All examples, drawn one after the other, each with probability ∝ exp(score / temperature) of those left.

    Example:
        >>> import numpy as np
        >>> from thalweg.search.shelves import softmax_order
        >>> softmax_order(np.random.default_rng(0), np.array([0.0, 5.0, 2.0]), 0.1)
        [1, 2, 0]
    """
    keys = scores / temperature + rng.gumbel(size=len(scores))
    return [int(index) for index in np.argsort(-keys, kind="stable")]


def _shelves(variable: str, path: tuple[str, ...], node: Node) -> list[Shelf]:
    if isinstance(node, Distinct):
        return [Shelf(variable, path, node.values, node.shortest, node.longest)] if node.longest else []
    parts = node.parts() if isinstance(node, Record) else ()
    return [shelf for key, part in parts for shelf in _shelves(variable, (*path, key), part)]
