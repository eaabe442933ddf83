"""Answers that fit a JSON schema.

::

    request with response_format = json_schema       → the server constrains the answer
      refused by the server                          → the schema in words, at the end of the last message
    answer → JSON → validated here, whoever constrained it
      does not fit                                   → one more message with what is wrong, then an error

Local validation is what counts: servers constrain a subset of JSON Schema, and an answer may be cut off.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from thalweg.errors import AnswerError, LanguageModelError, MissingExtraError
from thalweg.lm.answers import Answer
from thalweg.lm.fitting import validator_class, value_fault
from thalweg.lm.requests import Message
from thalweg.lm.spending import Usage

NAME = "answer"
LONGEST_FAULT = 400
"""Bytes of what is wrong that are sent back."""


@dataclass(frozen=True)
class Structured:
    """A value that fits its schema, and the answers that it took.

    Args:
        value: the JSON value.
        answers: all of them, the last is the one that fits; the others were repaired.
    """

    value: Any
    answers: tuple[Answer, ...]

    @property
    def usage(self) -> Usage:
        """All that may have been paid for them, when they were received."""
        return sum((answer.charged for answer in self.answers), Usage())

    @property
    def repairs(self) -> int:
        """How many answers did not fit."""
        return len(self.answers) - 1


def response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """The part of a request that asks the server to constrain the answer.

    Example:
        >>> from thalweg.lm.structured import response_format
        >>> response_format({"type": "boolean"})
        {'type': 'json_schema', 'json_schema': {'name': 'answer', 'strict': True, 'schema': {'type': 'boolean'}}}
    """
    return {"type": "json_schema", "json_schema": {"name": NAME, "strict": True, "schema": schema}}


def instructed(messages: Sequence[Message], schema: dict[str, Any]) -> list[Message]:
    """The messages with the schema in words, for a server that constrains nothing."""
    text = (
        "Answer with one JSON value and nothing else, no explanation and no code fence. It must fit this JSON Schema:\n"
        + json.dumps(schema, ensure_ascii=False)
    )
    last = messages[-1]
    return [*messages[:-1], {"role": last["role"], "content": f"{last['content']}\n\n{text}"}]


def repairing(messages: Sequence[Message], answer: Answer, fault: str) -> list[Message]:
    """The messages that ask for a repaired answer."""
    text = f"That is no valid answer: {fault}. Answer again, with the corrected JSON value and nothing else."
    return [*messages, {"role": "assistant", "content": answer.text}, {"role": "user", "content": text}]


def objection(refusal: Callable[[Any], str | None] | None, value: Any) -> str | None:
    """Why a value is refused that fits its schema, as a part of a message; None if it is not."""
    fault = None if refusal is None else refusal(value)
    if fault is None:
        return None
    return fault.rstrip(".").encode("utf-8", "replace")[:LONGEST_FAULT].decode("utf-8", "ignore")


class Validator:
    """Reads JSON values that fit a schema out of texts, as searches take it (:mod:`thalweg.lm.fitting`).

    Args:
        schema: a JSON Schema, draft 2020-12.

    Raises:
        LanguageModelError: it is none.
        MissingExtraError: jsonschema is not installed.

    Example:
        >>> from thalweg.lm.structured import Validator
        >>> read = Validator({"type": "object", "properties": {"label": {"enum": ["Yes", "No"]}}})
        >>> read('```json\\n{"label": "Yes"}\\n```')
        {'label': 'Yes'}
        >>> read('{"label": "yes"}')
        Traceback (most recent call last):
        ValueError: at label: 'yes' is not one of ['Yes', 'No']
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            jsonschema = import_module("jsonschema")
        except ImportError as error:
            raise MissingExtraError(
                "jsonschema is not installed, and answers are to fit a schema. Install it: pip install 'thalweg[lm]'."
            ) from error
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise LanguageModelError(f"The schema of the answer is none: {error.message}.") from error
        self._validator = validator_class()(schema)

    def __call__(self, text: str) -> Any:
        """The value in a text: all of it, or the first JSON object or array in it that fits.

        Raises:
            ValueError: there is none that fits; says why, for people and models.
        """
        faults = []
        for value in _values(text):
            fault = self._fault(value)
            if fault is None:
                return value
            faults.append(fault)
        raise ValueError(faults[0] if faults else "it is not JSON")

    def _fault(self, value: Any) -> str | None:
        fault = value_fault(value)  # first: no message about it could be sent, either
        if fault is not None:
            return fault
        errors = sorted(self._validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
        if not errors:
            return None
        path = ".".join(map(str, errors[0].absolute_path))
        return (f"at {path}: " if path else "") + str(errors[0].message)[:300]


def cannot(answers: Sequence[Answer], fault: str, max_tokens: int) -> AnswerError:
    """The error after the last repair."""
    cut = f" It was cut off at max_tokens = {max_tokens}; raise that." if answers[-1].truncated else ""
    return AnswerError(
        f"The model's answer does not fit, also after {len(answers) - 1} repairs: {fault}. It was "
        f"{answers[-1].text[:200]!r}.{cut} Otherwise say in the prompt what is expected, or ask a larger model.",
        usage=sum((answer.charged for answer in answers), Usage()),
        answers=tuple(answers),
        fault=fault,
    )


def _values(text: str) -> list[Any]:
    """The JSON values that a text may mean, the likeliest first."""
    try:
        return [_loads(text)]
    except (ValueError, RecursionError):
        pass
    decoder = json.JSONDecoder(parse_constant=_constant, parse_float=_finite)
    found: list[Any] = []
    place = 0
    while len(found) < 8:
        starts = [start for start in (text.find(mark, place) for mark in "{[") if start >= 0]
        if not starts:
            return found
        place = min(starts)
        try:
            value, place = decoder.raw_decode(text, place)
            found.append(value)
        except (ValueError, RecursionError):
            place += 1
    return found


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_constant, parse_float=_finite)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value
