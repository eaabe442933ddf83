"""One form for one value, whoever wrote it: that in which the space draws it.

The same value can be written in several ways: with other orders of keys, ``1`` for ``1.0``, without an optional
property that has a default. Digests would tell these apart, so a start or a model's proposal would be tried, and paid
for, beside the point that it is; and whoever makes a text of a value, such as a prompt, must be given the same one each
time. In the normal form

- keys are in the order of the schema's properties, and of a choice or a frozen part within these;
- numbers have the types of their places and choices;
- optional properties that are missing have their defaults.

What the space cannot express stays as it is, with keys by name.
"""

from __future__ import annotations

from thalweg.errors import ValueMismatchError
from thalweg.search.space_compound import Branch, Distinct, Items, Record
from thalweg.search.space_nodes import Json, Node, Plain, Recorded, copied, same


def normal_form(node: Node, value: Json) -> Json:
    """A value as its place in the space would draw it: ``decode(encode(value))``, and part by part where that fails.

    Args:
        node: the place.
        value: any JSON value; it is not changed.

    Example:
        >>> from thalweg.search.normal_form import normal_form
        >>> from thalweg.search.space import Space
        >>> number = {"type": "number", "minimum": 0, "maximum": 1}
        >>> space = Space.of({"type": "object", "properties": {"z": number, "a": number}})
        >>> normal_form(space.nodes["value"], {"a": 0.5, "z": 1})
        {'z': 1.0, 'a': 0.5}
    """
    if isinstance(node, Record) and isinstance(value, dict):
        return _record(node, value)
    if isinstance(node, Items) and isinstance(value, list) and len(value) <= len(node.nodes):
        return [normal_form(part, item) for part, item in zip(node.nodes, value, strict=False)]
    if isinstance(node, Distinct) and isinstance(value, list):
        return [_as_one_of(node.values, item) for item in value]
    if isinstance(node, Branch):
        branch = next((part for _, part in node.in_turn(value) if _answers(part, value) is not None), None)
        return normal_form(branch, value) if branch is not None else _by_name(value)
    answers = _answers(node, value)
    return node.draw(Recorded(answers)) if answers is not None else _by_name(value)


def _record(node: Record, value: dict[str, Json]) -> dict[str, Json]:
    found = {}
    defaults = dict(node.defaults)
    for key, part in node.parts():
        if key in value:
            found[key] = normal_form(part, value[key])
        elif key in defaults and _answers(part, defaults[key]) is not None:
            found[key] = normal_form(part, defaults[key])
    return {**found, **_by_name({key: item for key, item in value.items() if key not in node.keys})}


def _answers(node: Node, value: Json) -> dict[str, Plain] | None:
    """The answers that give the value here; None if none do."""
    answers: dict[str, Plain] = {}
    try:
        node.encode(value, answers)
    except ValueMismatchError:
        return None
    return answers


def _as_one_of(choices: tuple[Json, ...], value: Json) -> Json:
    """The choice that it is equal to."""
    choice = next(([choice] for choice in choices if same(choice, value)), None)
    return copied(choice[0]) if choice is not None else _by_name(value)


def _by_name(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _by_name(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_by_name(item) for item in value]
    return value
