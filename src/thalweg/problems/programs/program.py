"""A program: steps one after the other, each of which adds its outputs to what is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thalweg.errors import LanguageModelError, StudyError
from thalweg.lm import LanguageModel, Usage
from thalweg.problems.programs.steps import Outcome, Step
from thalweg.search.values import Json


class Program:
    """A chain of steps.

    Args:
        steps: in their order; a step's inputs are fields of the record that the program is given, or outputs of steps
            before.

    Raises:
        StudyError: there is no step, or two share a name or an output.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.lm import LanguageModel
        >>> from thalweg.lm.stub import Stub
        >>> from thalweg.problems.programs import Program, Step
        >>> text = {"type": "string"}
        >>> turn = Step("turn", inputs={"text": text}, outputs={"turned": text})
        >>> again = Step("again", inputs={"turned": text}, outputs={"result": text})
        >>> program = Program([turn, again])
        >>> value = {"instructions": "Turn it around.", "examples": []}
        >>> with Stub() as stub:
        ...     model = LanguageModel(stub.url, "stub")
        ...     outcome = tw.wait(program.run(model, {"turn": value, "again": value}, {"text": "a b c"}))
        >>> outcome.outputs
        {'turned': 'c b a', 'result': 'a b c'}
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        names = [step.name for step in self.steps]
        outputs = [name for step in self.steps for name in step.outputs]
        if not names or len(set(names)) != len(names) or len(set(outputs)) != len(outputs):
            raise StudyError(
                f"A program needs steps with names and outputs of their own; it has the steps {names} with the outputs "
                f"{outputs}."
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The fields that the program has to be given."""
        known: set[str] = set()
        needed: dict[str, None] = {}
        for step in self.steps:
            needed |= dict.fromkeys(name for name in step.inputs if name not in known)
            known |= step.outputs.keys()
        return tuple(needed)

    def known_before(self, step: Step) -> tuple[str, ...]:
        """The outputs of the steps before one."""
        steps = self.steps[: self.steps.index(step)]
        return tuple(name for one in steps for name in one.outputs)

    async def run(
        self, model: LanguageModel, values: dict[str, Any], record: dict[str, Json], *, sample: int = 0
    ) -> Outcome:
        """Run all steps.

        Args:
            model: who answers.
            values: instructions and examples by step.
            record: the inputs by name.
            sample: which draw of the model's answers, from 0.

        Returns:
            The outputs of all steps; None as soon as an answer does not fit.

        Raises:
            LanguageModelError: there was no answer; ``details["usage"]`` has what was paid until then.
        """
        known = dict(record)
        usage = Usage()
        truncated = False
        for step in self.steps:
            inputs = {name: known[name] for name in step.inputs}
            try:
                outcome = await step.run(model, values[step.name], inputs, sample=sample)
            except LanguageModelError as error:
                error.details["usage"] = usage + error.details.get("usage", Usage())
                raise
            usage += outcome.usage
            truncated = truncated or outcome.truncated
            if outcome.outputs is None:
                return Outcome(None, f"step {step.name}: {outcome.fault}", usage, truncated)
            known |= outcome.outputs
        return Outcome({name: known[name] for step in self.steps for name in step.outputs}, "", usage, truncated)

    def most(
        self, model: LanguageModel, values: dict[str, Any], record: dict[str, Json], *, attempts: int | None = None
    ) -> Usage:
        """The most that :meth:`run` can cost.

        Args:
            model: who answers.
            values: instructions and examples by step.
            record: the inputs by name.
            attempts: of each request; None stands for as many as may be paid for.
        """
        known = dict(record)
        total = Usage()
        for step in self.steps:
            total += step.most(model, values[step.name], {name: known[name] for name in step.inputs}, attempts=attempts)
            known |= step.longest(model)
        return total
