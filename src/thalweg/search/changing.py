"""One thing changed without a model: what a rewriting search falls back to, and whether it leaves anything to try.

::

    examples     others on a shelf, drawn by softmax of what came of showing them
    a variable   its texts recombined of what was tried, or all else that the space leaves open drawn anew
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any

import numpy as np

from thalweg.errors import ValueMismatchError
from thalweg.search.recombining import recombined
from thalweg.search.rewritten import Path, change_texts, part_of, put_into
from thalweg.search.shelves import Shelf, credit, known, put, softmax_order
from thalweg.search.space import Space, Values
from thalweg.search.values import copy_json, digest_json

DRAWS = 100  # attempts to find something new
COUNTED = 1000  # so many values are gone through to see whether one of them is new
TEMPERATURE = 0.05  # of the choice of examples, in the unit of the reward


def other_examples(
    shelf: Shelf,
    base: Values,
    told: Sequence[tuple[Values, float]],
    rng: np.random.Generator,
    seen: Set[str],
    refusal: Callable[[Values], str | None] | None = None,
) -> Values | None:
    """Values with other examples on a shelf; None if every choice that was drawn is there already, or refused.

    Args:
        shelf: where.
        base: what is changed.
        told: values that were tried, with their rewards.
        rng: where the choices come from.
        seen: digests of what is there already.
        refusal: why the variables refuse what the schemas allow, if they do.
    """
    scores = credit(len(shelf.examples), [(known(shelf, values), reward) for values, reward in told])
    for attempt in range(DRAWS):
        length = int(rng.integers(_fewest(shelf), shelf.longest + 1))
        values = _shown(base, shelf, softmax_order(rng, scores, TEMPERATURE * (1 + attempt / 10))[:length])
        if digest_json(values) not in seen and (refusal is None or refusal(values) is None):
            return values
    return None


def any_values(
    space: Space, rng: np.random.Generator, seen: Set[str], refusal: Callable[[Values], str | None] | None = None
) -> Values | None:
    """Any new values of a space, if possible some that the variables accept; None if there are none.

    Args:
        space: what is searched.
        rng: where the choices come from.
        seen: digests of what is there already.
        refusal: why the variables refuse what the schemas allow, if they do.
    """
    found = drawn = space.unseen(seen, rng)
    passed = set(seen)
    for _ in range(DRAWS):
        if drawn is None or refusal is None or refusal(drawn) is None:
            break
        passed.add(digest_json(drawn))
        drawn = space.unseen(passed, rng)
    return found if drawn is None else drawn


def other_values(
    space: Space,
    base: Values,
    name: str,
    tried: Sequence[Values],
    rng: np.random.Generator,
    seen: Set[str],
    refusal: Callable[[Values], str | None] | None = None,
) -> Values | None:
    """Values with a variable changed; None if nothing new was found.

    Args:
        space: what is searched.
        base: what is changed, in the space's normal form.
        name: the variable's.
        tried: what texts are recombined of, in the same form.
        rng: where the choices come from.
        seen: digests of what is there already.
        refusal: why the variables refuse what the schemas allow, if they do.
    """
    schema = space.schemas[name]
    pool: dict[Path, list[str]] = {}

    def collect(path: Path, text: str) -> str:
        pool.setdefault(path, []).append(text)
        return text

    for values in tried:
        change_texts(values[name], schema, collect)
    present: dict[Path, str] = {}
    change_texts(base[name], schema, present.setdefault)
    for attempt in range(DRAWS):
        chosen = list(present)[int(rng.integers(len(present)))] if present else None

        def change(path: Path, text: str, attempt: int = attempt, chosen: Path | None = chosen) -> str:
            text = present.get(path, text)
            if attempt % 2 or path != chosen:
                return text
            return recombined(rng, text, pool.get(path, []), finely=attempt >= DRAWS // 4)

        # Texts are recombined, and every other time all else is drawn anew.
        value = space.sample(rng)[name] if attempt % 2 else base[name]
        values = {**copy_json(base), name: change_texts(value, schema, change)}
        try:
            space.check(values)
        except ValueMismatchError:
            continue
        if digest_json(values) not in seen and (refusal is None or refusal(values) is None):
            return values
    return None


def all_seen(space: Space, base: Values, changed: Shelf | tuple[str, dict[str, Any]], seen: Set[str]) -> bool:
    """Whether nothing new can be made of values by changing one thing. Only what has few values is gone through.

    Args:
        space: what is searched.
        base: what is changed.
        changed: a shelf, or a variable's name with the schema of what of it may be rewritten.
        seen: digests of what is there already.

    Example:
        >>> from thalweg.search.changing import all_seen
        >>> from thalweg.search.space import Space
        >>> from thalweg.search.values import digest_json
        >>> space = Space.of({"type": "object", "properties": {"mode": {"enum": ["a", "b"]}}}, name="step")
        >>> tried = [{"step": {"mode": "a"}}, {"step": {"mode": "b"}}]
        >>> part = {**space.schemas["step"], "additionalProperties": False}
        >>> all_seen(space, tried[0], ("step", part), {digest_json(values) for values in tried})
        True
    """
    found = _with_examples(base, changed) if isinstance(changed, Shelf) else _with_values(space, base, *changed)
    counted = 0
    for values in found:
        counted += 1
        if counted > COUNTED or digest_json(values) not in seen:
            return False
    return counted > 0


def _with_examples(base: Values, shelf: Shelf) -> Iterator[Values]:
    for length in range(_fewest(shelf), shelf.longest + 1):
        for picked in itertools.permutations(range(len(shelf.examples)), length):
            yield _shown(base, shelf, picked)


def _with_values(space: Space, base: Values, name: str, part: dict[str, Any]) -> Iterator[Values]:
    """Nothing where there is more than what the space has: free text, say."""
    node = space.nodes[name]
    if _is_listed(part):
        for index in range(int(node.size())):
            yield {**base, name: put_into(base[name], part_of(node.at(index), part), part)}


def _is_listed(schema: dict[str, Any]) -> bool:
    """Whether a schema is a choice of listed values, an integer, or an object of such."""
    if "const" in schema or "enum" in schema:
        return True
    if schema.get("type") == "object" and schema.get("additionalProperties") is False:
        return all(_is_listed(inner) for inner in schema.get("properties", {}).values())
    return schema.get("type") in ("boolean", "integer", "null")


def _shown(base: Values, shelf: Shelf, picked: Sequence[int]) -> Values:
    values: Values = copy_json(base)
    put(values, shelf, picked)
    return values


def _fewest(shelf: Shelf) -> int:
    return max(shelf.shortest, min(1, shelf.longest))
