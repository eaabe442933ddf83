"""One step of a program: from inputs by schema to outputs by schema, through instructions, examples and a model.

::

    system      the instructions
    user        an example's inputs         ┐ for each example
    assistant   its outputs                 ┘
    user        the inputs
    assistant → the outputs

A step is the fixed part, data without a state; instructions and examples are a value, ``{"instructions": text,
"examples": [{"inputs": {...}, "outputs": {...}}, ...]}``, which a search changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from thalweg.errors import AnswerError, StudyError
from thalweg.lm import LanguageModel, Message, Usage
from thalweg.search.schemas import standardize_schema
from thalweg.search.structured import StructuredVariable
from thalweg.search.values import Json, canonical_json, copy_json

LONGEST_OF_A_TOKEN = 16
"""Bytes that a token of an output counts with where a later step's prompt is bounded before it is known."""


@dataclass(frozen=True)
class Outcome:
    """What a step or a program gave.

    Args:
        outputs: by name; None if the answer was no value of the schema.
        fault: what was wrong with it then, in words.
        usage: what the model's answers cost when they were received.
        truncated: whether an answer was cut off.
    """

    outputs: dict[str, Json] | None
    fault: str
    usage: Usage
    truncated: bool = False


class Step:
    """One call of a language model.

    Args:
        name: of the step, and of its variable.
        inputs: JSON schema of each input, by name.
        outputs: JSON schema of each output, by name.
        answer: ``"text"`` if the answer is the only output, a string, as it stands; ``"json"`` if it is an object of
            the outputs, which the server is asked to constrain and which is validated.
        max_tokens: of the answer; None for the model's own.

    Raises:
        StudyError: the parts do not fit together.
        SchemaError: a schema is none.

    Example:
        >>> from thalweg.problems.programs import Step
        >>> step = Step("judge", inputs={"text": {"type": "string"}}, outputs={"label": {"type": "string"}})
        >>> step.messages({"instructions": "Is it food? Yes or No.", "examples": []}, {"text": "an olive"})
        [{'role': 'system', 'content': 'Is it food? Yes or No.'}, {'role': 'user', 'content': 'an olive'}]
    """

    def __init__(
        self,
        name: str,
        *,
        inputs: dict[str, dict[str, Any]],
        outputs: dict[str, dict[str, Any]],
        answer: Literal["text", "json"] = "text",
        max_tokens: int | None = None,
    ) -> None:
        if not name.isidentifier():
            raise StudyError(f"A step is called {name!r}; give letters, digits and _, and no digit first.")
        if not inputs or not outputs:
            raise StudyError(f"The step {name!r} needs at least one input and one output.")
        if answer not in ("text", "json"):
            raise StudyError(f"The step {name!r} has answer = {answer!r}; it is 'text' or 'json'.")
        self.name = name
        self.inputs = {key: standardize_schema(schema) for key, schema in inputs.items()}
        self.outputs = {key: standardize_schema(schema) for key, schema in outputs.items()}
        if answer == "text" and [schema.get("type") for schema in self.outputs.values()] != ["string"]:
            raise StudyError(
                f"The step {name!r} answers with text, so it has one output, of type string; it has {list(outputs)}. "
                "Say answer = 'json' for others."
            )
        self.answer = answer
        self.max_tokens = max_tokens

    @property
    def outputs_schema(self) -> dict[str, Any]:
        """The schema of all outputs together."""
        return _record(self.outputs)

    def variable(
        self,
        instructions: str,
        examples: Sequence[dict[str, Json]] = (),
        *,
        pool: Sequence[dict[str, Json]] = (),
        most: int = 0,
        description: str | None = None,
    ) -> StructuredVariable:
        """The trainable variable of this step.

        Args:
            instructions: where they begin.
            examples: those that are shown at the beginning, ``{"inputs": {...}, "outputs": {...}}``.
            pool: what examples can be chosen from; without it any that fit the schemas are allowed.
            most: how many can be shown.
            description: what the step is for, in words.

        Raises:
            ValueMismatchError: an example does not fit the step's schemas.
        """
        one = {"inputs": _record(self.inputs), "outputs": self.outputs_schema}
        items = {"enum": [copy_json(example) for example in pool]} if pool else _record(one)
        most = max(most, len(examples))
        shown: dict[str, Any] = {"type": "array", "items": items, "maxItems": most, "uniqueItems": True}
        schema = _record(
            {"instructions": {"type": "string", "minLength": 1, "maxLength": 4000}, "examples": shown}
            if most
            else {"instructions": {"type": "string", "minLength": 1, "maxLength": 4000}, "examples": {"const": []}}
        )
        value = {"instructions": instructions, "examples": [copy_json(example) for example in examples]}
        return StructuredVariable(value, schema, name=self.name, description=description)

    def messages(self, value: dict[str, Any], inputs: dict[str, Json]) -> list[Message]:
        """What the model is sent.

        Args:
            value: instructions and examples.
            inputs: by name; others than the step's are left out.
        """
        messages: list[Message] = [{"role": "system", "content": value["instructions"]}]
        for example in value.get("examples", []):
            messages.append({"role": "user", "content": self._asked(example["inputs"])})
            messages.append({"role": "assistant", "content": self._answered(example["outputs"])})
        return [*messages, {"role": "user", "content": self._asked(inputs)}]

    async def run(
        self, model: LanguageModel, value: dict[str, Any], inputs: dict[str, Json], *, sample: int = 0
    ) -> Outcome:
        """Ask the model.

        Raises:
            LanguageModelError: there was no answer. One that does not fit the schema is an outcome.
        """
        messages = self.messages(value, inputs)
        if self.answer == "text":
            answer = await model.complete(messages, sample=sample, max_tokens=self.max_tokens)
            (name,) = self.outputs
            return Outcome({name: answer.text}, "", answer.charged, answer.truncated)
        try:
            found = await model.structured(messages, self.outputs_schema, sample=sample, max_tokens=self.max_tokens)
        except AnswerError as error:
            if "fault" not in error.details:
                raise
            last = error.details["answers"][-1]
            fault = f"the answer {last.text[:100]!r} does not fit: {error.details['fault']}"
            return Outcome(None, fault, error.details["usage"], last.truncated)
        return Outcome(found.value, "", found.usage)

    def most(
        self, model: LanguageModel, value: dict[str, Any], inputs: dict[str, Json], *, attempts: int | None = None
    ) -> Usage:
        """The most that :meth:`run` can cost; ``attempts`` as :meth:`LanguageModel.most` has it."""
        messages = self.messages(value, inputs)
        if self.answer == "text":
            return model.most(messages, max_tokens=self.max_tokens, attempts=attempts)
        return model.most_structured(messages, self.outputs_schema, max_tokens=self.max_tokens, attempts=attempts)

    def longest(self, model: LanguageModel) -> dict[str, Json]:
        """Outputs as long as they can be, for the bounds of the steps after this one."""
        text = "x" * (LONGEST_OF_A_TOKEN * (self.max_tokens or model.max_tokens))
        return dict.fromkeys(self.outputs, text)

    def length(self, example: dict[str, Any]) -> int:
        """Bytes of an example in a prompt."""
        texts = (self._asked(example["inputs"]), self._answered(example["outputs"]))
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)

    def _asked(self, inputs: dict[str, Json]) -> str:
        if len(self.inputs) == 1:
            (name,) = self.inputs
            return _written(inputs[name])
        return "\n".join(f"{name}: {_written(inputs[name])}" for name in self.inputs)

    def _answered(self, outputs: dict[str, Json]) -> str:
        if self.answer == "text":
            (name,) = self.outputs
            return _written(outputs[name])
        return canonical_json({name: outputs[name] for name in self.outputs})

    def __repr__(self) -> str:
        return f"Step({self.name!r}: {', '.join(self.inputs)} → {', '.join(self.outputs)})"


def _record(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _written(value: Json) -> str:
    return value if isinstance(value, str) else canonical_json(value)
