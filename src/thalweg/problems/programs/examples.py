"""Rows of the data as examples of a step. ::

an input    the row's field of this name; if a step before gives it, what is expected of that step
an output   what is expected of it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from thalweg.problems.programs.steps import Step
from thalweg.search.values import Json


class Shown:
    """How a step shows rows of the data.

    Args:
        step: the step.
        before: the outputs of the steps before it.
        expected: of each output that the data has labels for, in which field they are.

    Example:
        >>> from thalweg.problems.programs import Step
        >>> from thalweg.problems.programs.examples import Shown
        >>> text = {"type": "string"}
        >>> judge = Step("judge", inputs={"text": text, "topic": text}, outputs={"answer": text})
        >>> shown = Shown(judge, before=["topic"], expected={"topic": "label", "answer": "answers"})
        >>> shown.example({"text": "a goal", "label": "sport", "answers": ["yes", "y"]})
        {'inputs': {'text': 'a goal', 'topic': 'sport'}, 'outputs': {'answer': 'yes'}}
    """

    def __init__(self, step: Step, before: Iterable[str], expected: Mapping[str, str]) -> None:
        self._given = set(before) & expected.keys()  # of several answers that are right, one is gone on with
        self._inputs = {name: expected[name] if name in self._given else name for name in step.inputs}
        self._outputs = {name: expected.get(name) for name in step.outputs}

    def missing(self, fields: Iterable[str]) -> list[str]:
        """The inputs and outputs that the data has nothing for."""
        known = set(fields)
        return [name for name, field in {**self._inputs, **self._outputs}.items() if field not in known]

    def inputs(self, row: Mapping[str, Json]) -> dict[str, Json]:
        """The inputs of a row."""
        return {n: first(row[field]) if n in self._given else row[field] for n, field in self._inputs.items()}

    def example(self, row: Mapping[str, Json]) -> dict[str, Json]:
        """A row, if nothing is :meth:`missing`."""
        outputs: dict[str, Any] = {
            name: first(row[field]) for name, field in self._outputs.items() if field is not None
        }
        return {"inputs": self.inputs(row), "outputs": outputs}


def first(value: Json) -> Json:
    """Of several expected values, the one that an example shows."""
    return value[0] if isinstance(value, list) and value else value
