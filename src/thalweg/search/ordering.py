"""One order of keys for one value, whoever wrote it.

Values with different orders of keys are the same (:func:`thalweg.search.digest_json`), so whoever makes a text of one,
such as a prompt, must be given the same order each time. It is the order in which the space draws the value: that of
the schema's properties, and that of a choice or a frozen part within these; by name where the space has no such value.
"""

from __future__ import annotations

from thalweg.errors import ValueMismatchError
from thalweg.search.space_compound import Branch, Distinct, Items, Record
from thalweg.search.space_nodes import Choice, Fixed, Json, Node, same


def ordered(node: Node, value: Json) -> Json:
    """A value with its keys in the order of its place in the space.

    Args:
        node: the place.
        value: any JSON value; it is not changed.

    Example:
        >>> from thalweg.search.ordering import ordered
        >>> from thalweg.search.space import Space
        >>> number = {"type": "number", "minimum": 0, "maximum": 1}
        >>> space = Space.of({"type": "object", "properties": {"z": number, "a": number}})
        >>> ordered(space.nodes["value"], {"a": 0.5, "z": 1.0})
        {'z': 1.0, 'a': 0.5}
    """
    if isinstance(node, Record) and isinstance(value, dict):
        parts = dict(node.parts())
        known = {key: ordered(part, value[key]) for key, part in parts.items() if key in value}
        return known | _by_name({key: item for key, item in value.items() if key not in parts})
    if isinstance(node, Items) and isinstance(value, list) and len(value) <= len(node.nodes):
        return [ordered(part, item) for part, item in zip(node.nodes, value, strict=False)]
    if isinstance(node, Distinct) and isinstance(value, list):
        return [_as_one_of(node.values, item) for item in value]
    if isinstance(node, Branch):
        branch = next((part for part in node.nodes if _has(part, value)), None)
        return ordered(branch, value) if branch is not None else _by_name(value)
    choices = node.values if isinstance(node, Choice) else (node.value,) if isinstance(node, Fixed) else ()
    return _as_one_of(choices, value)


def _has(node: Node, value: Json) -> bool:
    try:
        node.encode(value, {})
    except ValueMismatchError:
        return False
    return True


def _as_one_of(choices: tuple[Json, ...], value: Json) -> Json:
    """In the order of the choice that it is equal to."""
    choice = next((choice for choice in choices if same(choice, value)), None)
    return _like(choice, value) if choice is not None else _by_name(value)


def _like(model: Json, value: Json) -> Json:
    """In the order of an equal value; the numbers stay of their types."""
    if isinstance(value, dict):
        return {key: _like(item, value[key]) for key, item in model.items()}
    if isinstance(value, list):
        return [_like(one, item) for one, item in zip(model, value, strict=True)]
    return value


def _by_name(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _by_name(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_by_name(item) for item in value]
    return value
