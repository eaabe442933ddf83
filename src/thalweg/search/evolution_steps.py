"""Mutation and crossover that know types: a value stays a point of its space, whatever its shape.

A *site* is a place of a value where something can change: a number, a choice, a branch, a list. A mutation changes one
site; a crossover takes each part from one parent or the other, and cuts lists of different length anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from thalweg.errors import ValueMismatchError
from thalweg.search.space_compound import Branch, Distinct, Items, Record
from thalweg.search.space_nodes import Choice, Draws, Grid, Json, Node, Real, Whole, copied, same

RESAMPLED = 0.1  # the share of mutations of a number that draw it anew
STEPS = (-2.5, -0.5)  # log10 of the step's standard deviation, as a share of the axis: fine ones and coarse ones
COPIED = 0.5  # the share of insertions that copy an item of the list
BLENDED = 0.25  # the share of crossovers of floats that go between the parents

Path = tuple[str | int, ...]
Site = tuple[Path, Node]


def sites(node: Node, value: Json, path: Path = ()) -> list[Site]:
    """The places of a value where something can change."""
    if isinstance(node, Record):
        return [site for key, part in node.parts() for site in sites(part, value[key], (*path, key))]
    if isinstance(node, Branch):
        label, _ = node.branch_of(value)
        return [(path, node), *sites(node.nodes[node.labels.index(label)], value, path)]
    if isinstance(node, Items):
        inner = [site for k, part in enumerate(node.nodes[: len(value)]) for site in sites(part, value[k], (*path, k))]
        return [(path, node), *inner] if _list_moves(node, value) else inner
    if isinstance(node, Distinct):
        return [(path, node)] if _list_moves(node, value) else []
    return [(path, node)] if node.size() > 1 else []


def mutated(node: Node, value: Json, rng: np.random.Generator) -> Json:
    """The value with one site changed; the value itself if there is none. Nothing is changed in place."""
    found = sites(node, value)
    if not found:
        return copied(value)
    path, place = found[int(rng.integers(len(found)))]
    return _replaced(value, path, _changed(place, _at(value, path), rng))


def crossed(node: Node, first: Json, second: Json, rng: np.random.Generator) -> Json:
    """A value of two: each part from one parent or the other."""
    if isinstance(node, Record):
        return {key: crossed(part, first[key], second[key], rng) for key, part in node.parts()}
    if isinstance(node, Branch):
        one, other = node.branch_of(first)[0], node.branch_of(second)[0]
        if one == other:
            return crossed(node.nodes[node.labels.index(one)], first, second, rng)
    if isinstance(node, Items):
        return _crossed_items(node, first, second, rng)
    if isinstance(node, Distinct):
        return _crossed_distinct(node, first, second, rng)
    if isinstance(node, Real) and rng.random() < BLENDED:
        begin, end = node.to_unit(first), node.to_unit(second)
        return node.from_unit(begin + float(rng.random()) * (end - begin))
    return copied(first if rng.random() < 0.5 else second)


# -- one site ---------------------------------------------------------------------------------


def _changed(node: Node, value: Json, rng: np.random.Generator) -> Json:
    for kind, change in CHANGES:
        if isinstance(node, kind):
            return change(node, value, rng)
    return copied(value)


def _reflected(u: float) -> float:
    """Into 0 to 1, as by mirrors at both ends."""
    u = math.fmod(abs(u), 2.0)
    return 2.0 - u if u > 1.0 else u


def _step(rng: np.random.Generator) -> float:
    return float(rng.normal() * 10.0 ** rng.uniform(*STEPS))


def _changed_real(node: Real, value: float, rng: np.random.Generator) -> Json:
    if rng.random() < RESAMPLED:
        return node.draw(Draws(rng))
    return node.from_unit(_reflected(node.to_unit(value) + _step(rng)))


def _changed_integer(node: Whole | Grid, value: Json, rng: np.random.Generator) -> Json:
    """A neighbor, or farther: always another value."""
    low, step = (node.low, node.step) if isinstance(node, Whole) else (node.low, 1)
    count = int(node.size())
    answers: dict[str, Any] = {}
    node.encode(value, answers)
    now = (int(answers[node.name]) - low) // step
    if rng.random() < RESAMPLED:
        new = int(rng.integers(count - 1))
        return node.at(new + (new >= now))
    if node.log:
        ends = math.log(low), math.log(low + step * (count - 1))
        u = _reflected((math.log(low + step * now) - ends[0]) / (ends[1] - ends[0]) + _step(rng))
        new = round((math.exp(ends[0] + u * (ends[1] - ends[0])) - low) / step)
    else:
        new = round(_reflected(now / (count - 1) + _step(rng)) * (count - 1))
    if new == now:
        new = now + 1 if now == 0 or (now < count - 1 and rng.random() < 0.5) else now - 1
    return node.at(new)


def _changed_choice(node: Choice, value: Json, rng: np.random.Generator) -> Json:
    """Another choice."""
    others = [choice for choice in node.values if not same(choice, value)]
    return copied(others[int(rng.integers(len(others)))])


def _changed_branch(node: Branch, value: Json, rng: np.random.Generator) -> Json:
    """Another branch. What the two have in common is kept."""
    now = node.labels.index(node.branch_of(value)[0])
    new = int(rng.integers(len(node.nodes) - 1))
    other = node.nodes[new + (new >= now)]
    drawn = other.draw(Draws(rng))
    if isinstance(other, Record) and isinstance(value, dict):
        for key, part in other.parts():
            if key in value and _fits(part, value[key]):
                drawn[key] = copied(value[key])
    return drawn


def _fits(node: Node, value: Json) -> bool:
    try:
        node.encode(value, {})
    except ValueMismatchError:
        return False
    return True


# -- lists ------------------------------------------------------------------------------------


def _list_moves(node: Items | Distinct, value: list[Json]) -> list[str]:
    """What can be done to a list as a whole."""
    prefix = node.prefix if isinstance(node, Items) else 0
    movable = len(value) - prefix
    moves = []
    if len(value) < node.longest and len(value) >= prefix:
        moves.append("insert")
    if len(value) > node.shortest and movable > 0:
        moves.append("delete")
    if movable > 1:
        moves.append("swap")
    if isinstance(node, Distinct) and value and len(value) < len(node.values):
        moves.append("replace")
    return moves


def _changed_list(node: Items | Distinct, value: list[Json], rng: np.random.Generator) -> Json:
    moves = _list_moves(node, value)
    move = moves[int(rng.integers(len(moves)))]
    new = copied(value)
    first = node.prefix if isinstance(node, Items) else 0
    if move == "insert":
        place = int(rng.integers(first, len(new) + 1))
        new.insert(place, _new_item(node, new, place, rng))
    elif move == "delete":
        new.pop(int(rng.integers(first, len(new))))
    elif move == "swap":
        one, other = (first + int(k) for k in rng.choice(len(new) - first, 2, replace=False))
        new[one], new[other] = new[other], new[one]
    else:
        place = int(rng.integers(len(new)))
        new[place] = _new_item(node, new, place, rng)
    return new


def _new_item(node: Items | Distinct, value: list[Json], place: int, rng: np.random.Generator) -> Json:
    if isinstance(node, Distinct):
        left = [choice for choice in node.values if not any(same(choice, item) for item in value)]
        return copied(left[int(rng.integers(len(left)))])
    if len(value) > node.prefix and rng.random() < COPIED:
        return copied(value[int(rng.integers(node.prefix, len(value)))])
    return node.nodes[place].draw(Draws(rng))


def _crossed_items(node: Items, first: list[Json], second: list[Json], rng: np.random.Generator) -> Json:
    """Item by item; or the beginning of one and the end of the other, cut anywhere, if the length allows it."""
    if rng.random() < 0.5 and len(first) >= node.prefix and len(second) >= node.prefix:
        cut, begin = (int(rng.integers(node.prefix, len(one) + 1)) for one in (first, second))
        if node.shortest <= cut + len(second) - begin <= node.longest:
            return copied(first[:cut]) + copied(second[begin:])
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    common = [crossed(part, one, other, rng) for part, one, other in zip(node.nodes, longer, shorter, strict=False)]
    return common + (copied(longer[len(shorter) :]) if rng.random() < 0.5 else [])


def _crossed_distinct(node: Distinct, first: list[Json], second: list[Json], rng: np.random.Generator) -> Json:
    """The beginning of one, then what the other has besides, as long as one of them."""
    length = len(first if rng.random() < 0.5 else second)
    one, other = (first, second) if rng.random() < 0.5 else (second, first)
    new = copied(one[: int(rng.integers(len(one) + 1))])
    for item in [*other, *one]:
        if len(new) < length and not any(same(item, kept) for kept in new):
            new.append(copied(item))
    return new[:length]


CHANGES: tuple[tuple[Any, Callable[[Any, Any, np.random.Generator], Json]], ...] = (
    (Real, _changed_real),
    ((Whole, Grid), _changed_integer),
    (Choice, _changed_choice),
    (Branch, _changed_branch),
    ((Items, Distinct), _changed_list),
)


def _at(value: Json, path: Path) -> Json:
    for step in path:
        value = value[step]
    return value


def _replaced(value: Json, path: Path, new: Json) -> Json:
    """A copy of the value with another part at the path."""
    whole = {"": copied(value)}
    place: Any = whole
    steps: Path = ("", *path)
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = new
    return whole[""]
