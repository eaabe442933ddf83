"""What a language model may rewrite of a value, and how it is asked.

All that a schema leaves free is rewritten, except places for examples, which are chosen and not invented: arrays whose
items are an enum of objects. The model is shown what was tried with its rewards, worst first, what single samples said
about the best, and the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from thalweg.lm import Message
from thalweg.search.values import Json, canonical_json, copy_json

Path = tuple[str | int, ...]

LONGEST = 4000
"""Characters of one tried value that are shown."""

REMARK = 300
"""Characters of one remark that are shown."""

LONG_REWARD, LONG_REMARK = -1.234e-300, "\U0001f600" * REMARK
"""As long as they can be, in bytes, too."""


@dataclass(frozen=True)
class Tried:
    """A value that was tried.

    Args:
        number: the candidate's.
        part: what of it can be rewritten.
        reward: what it was worth; None if it failed.
        feedback: what single samples said.
    """

    number: int
    part: Json
    reward: float | None
    feedback: tuple[str, ...]


@dataclass(frozen=True)
class RewriteCounts:
    """What became of asking.

    Args:
        accepted: candidates that are the model's.
        repaired: answers that did not fit and were sent back.
        repeated: attempts after the first of a candidate.
        replaced: candidates of the search without a model.
    """

    accepted: int = 0
    repaired: int = 0
    repeated: int = 0
    replaced: int = 0

    def __add__(self, other: RewriteCounts) -> RewriteCounts:
        return RewriteCounts(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


def rewritable(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of what may be rewritten; None if that is nothing.

    Args:
        schema: a standardized schema.

    Example:
        >>> from thalweg.search.rewritten import rewritable
        >>> properties = {"text": {"type": "string"}, "kind": {"const": "a"}}
        >>> rewritable({"type": "object", "properties": properties})["properties"]
        {'text': {'type': 'string'}}
    """
    if "const" in schema or ("enum" in schema and len(schema["enum"]) < 2) or _is_shelf(schema):
        return None
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return copy_json(schema)  # type: ignore[no-any-return]  # a dict goes in
    parts = {key: rewritable(part) for key, part in properties.items()}
    kept = {key: part for key, part in parts.items() if part is not None}
    if not kept:
        return None
    rest = {
        key: value for key, value in schema.items() if key not in ("properties", "required", "additionalProperties")
    }
    return {**copy_json(rest), "properties": kept, "required": list(kept), "additionalProperties": False}


def part_of(value: Json, schema: dict[str, Any]) -> Json:
    """What of a value the schema of :func:`rewritable` speaks of.

    Example:
        >>> from thalweg.search.rewritten import part_of
        >>> part_of({"text": "a", "examples": [1]}, {"type": "object", "properties": {"text": {"type": "string"}}})
        {'text': 'a'}
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not isinstance(value, dict):
        return copy_json(value)  # type: ignore[no-any-return]  # JSON
    return {key: part_of(value[key], part) for key, part in properties.items() if key in value}


def put_into(value: Json, part: Json, schema: dict[str, Any]) -> Json:
    """A value with the part replaced.

    Example:
        >>> from thalweg.search.rewritten import put_into
        >>> schema = {"type": "object", "properties": {"text": {"type": "string"}}}
        >>> put_into({"text": "a", "examples": [1]}, {"text": "b"}, schema)
        {'text': 'b', 'examples': [1]}
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not isinstance(value, dict) or not isinstance(part, dict):
        return copy_json(part)  # type: ignore[no-any-return]  # JSON
    merged: dict[str, Any] = copy_json(value)
    for key, inner in properties.items():
        if key in part:
            merged[key] = put_into(value.get(key), part[key], inner)
    return merged


def question(name: str, schema: dict[str, Any], history: Sequence[Tried], remarks: int) -> list[Message]:
    """The messages that ask for a better value.

    Args:
        name: the variable's.
        schema: of what may be rewritten.
        history: what was tried, worst first; the last is the best.
        remarks: how many pieces of feedback of the best are shown.
    """
    about = schema.get("description")
    lines = [f'You improve the setting "{name}" of a program' + (f": {about}" if about else ".")]
    lines.append("Values that were tried, the worst first; a higher reward is better:")
    for tried in history:
        reward = "it failed" if tried.reward is None else f"reward {tried.reward:.4g}"
        lines.append(f"- {reward}: {canonical_json(tried.part)[:LONGEST]}")
    said = [text for text in history[-1].feedback if text][:remarks] if history else []
    if said:
        lines.append("What went wrong with the last of them, on single samples:")
        lines += [f"- {' '.join(text.split())[:REMARK]}" for text in said]
    lines.append(
        "Write one new value that should get a higher reward: different from all above, general rather than about "
        "single samples, of the same form. Answer with its JSON and nothing else."
    )
    system = "You tune programs. You answer with JSON."
    return [{"role": "system", "content": system}, {"role": "user", "content": "\n".join(lines)}]


def first_question(name: str, schema: dict[str, Any], present: Json) -> list[Message]:
    """As :func:`question`, before anything was told: the present value, without a reward."""
    messages = question(name, schema, [Tried(0, present, 0.0, ())], 0)
    text = messages[-1]["content"].replace("- reward 0: ", "- the present value, not scored yet: ", 1)
    return [*messages[:-1], {"role": "user", "content": text}]


def change_texts(value: Json, schema: dict[str, Any], change: Callable[[Path, str], str]) -> Json:
    """A value with its free texts changed: strings that are not chosen from a list.

    Args:
        value: fits the schema.
        schema: a standardized schema.
        change: from where a text is and what it is to what it becomes.

    Example:
        >>> from thalweg.search.rewritten import change_texts
        >>> schema = {"properties": {"a": {"type": "string"}, "b": {"enum": ["x", "y"]}}}
        >>> change_texts({"a": "x", "b": "x"}, schema, lambda path, text: text.upper())
        {'a': 'X', 'b': 'x'}
    """
    return _changed(value, schema, change, ())


def _changed(value: Json, schema: dict[str, Any], change: Callable[[Path, str], str], path: Path) -> Json:
    if isinstance(value, str):
        chosen = {"enum", "const", "x-pool", "oneOf", "anyOf", "$ref"} & schema.keys()
        return value if chosen or schema.get("type") != "string" else change(path, value)
    if isinstance(value, dict):
        inner = schema.get("properties", {})
        return {key: _changed(part, inner.get(key, {}), change, (*path, key)) for key, part in value.items()}
    if isinstance(value, list):
        items = schema.get("items")
        known = items if isinstance(items, dict) else {}
        return [_changed(part, known, change, (*path, index)) for index, part in enumerate(value)]
    return value


def _is_shelf(schema: dict[str, Any]) -> bool:
    items = schema.get("items")
    return isinstance(items, dict) and any(isinstance(value, dict) for value in items.get("enum", ()))
