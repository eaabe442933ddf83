"""Generate: a step of a program as an operator of the graph.

Inputs come in as a structured variable, outputs go out as one; instructions and examples are a trainable structured
variable of the operator. None of them has a gradient: what improves them is a reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from thalweg.errors import AnswerError
from thalweg.graph import Operator
from thalweg.lm import LanguageModel
from thalweg.problems.programs.steps import Step
from thalweg.search.structured import StructuredVariable
from thalweg.search.values import Json


class Generate(Operator):
    """Has a language model make outputs of inputs.

    Args:
        model: who answers.
        inputs: JSON schema of each input, by name.
        outputs: JSON schema of each output, by name.
        instructions: what the model is told first.
        examples: shown to it, ``{"inputs": {...}, "outputs": {...}}``.
        pool: what a search may choose examples from.
        most: how many examples it may show.
        answer: ``"text"`` if the answer is the only output as it stands, ``"json"`` if it is an object of the outputs.
        max_tokens: of the answer; None for the model's own.
        name: of the operator and of its variable.

    Attributes:
        variable: instructions and examples, trainable.

    Raises:
        AnswerError: (when called) an answer does not fit the outputs' schema.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.lm import LanguageModel
        >>> from thalweg.lm.stub import Stub
        >>> from thalweg.problems.programs import Generate
        >>> from thalweg.search import StructuredVariable
        >>> text = {"type": "string"}
        >>> question = StructuredVariable({"text": "a b"}, {"type": "object", "properties": {"text": text}})
        >>> with Stub() as stub:
        ...     generate = Generate(
        ...         LanguageModel(stub.url, "stub"), inputs={"text": text}, outputs={"turned": text},
        ...         instructions="Turn it around.", name="turn",
        ...     )
        ...     tw.wait(generate(question)).json()
        {'turned': 'b a'}
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        inputs: dict[str, dict[str, Any]],
        outputs: dict[str, dict[str, Any]],
        instructions: str,
        examples: Sequence[dict[str, Json]] = (),
        pool: Sequence[dict[str, Json]] = (),
        most: int = 0,
        answer: Literal["text", "json"] = "text",
        max_tokens: int | None = None,
        name: str = "generate",
    ) -> None:
        super().__init__(name=name)
        self.model = model
        self.step = Step(name, inputs=inputs, outputs=outputs, answer=answer, max_tokens=max_tokens)
        self.variable = self.step.variable(instructions, examples, pool=pool, most=most)

    async def __call__(self, inputs: StructuredVariable) -> Any:
        """The outputs of some inputs, with the present instructions and examples."""
        return await super().__call__(inputs, self.variable)

    async def forward(self, inputs: StructuredVariable, variable: StructuredVariable) -> StructuredVariable:
        """Ask the model."""
        outcome = await self.step.run(self.model, variable.json(), inputs.json())
        if outcome.outputs is None:
            raise AnswerError(f"{self.name}: {outcome.fault}.", usage=outcome.usage)
        return StructuredVariable(outcome.outputs, self.step.outputs_schema, name=f"{self.name}_outputs")

    def adjoint(self, grad: Any, inputs: StructuredVariable, variable: StructuredVariable) -> tuple[None, None]:
        """There is no gradient."""
        return None, None
