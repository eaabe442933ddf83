"""The kind of problem ``program``: instructions and examples of a program that calls a language model."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from thalweg.errors import LanguageModelError, SearchError, StudyError
from thalweg.lm import LanguageModel, Prices, Spending, Usage
from thalweg.lm.before_paying import BEFORE_PAYING
from thalweg.problems.programs.data import deal, read_rows, records
from thalweg.problems.programs.examples import Shown
from thalweg.problems.programs.metrics import METRICS, score
from thalweg.problems.programs.program import Program
from thalweg.problems.programs.serving import ServedModel
from thalweg.problems.programs.settings import ModelSettings, ProgramBlock, ProgramSettings, StepSettings
from thalweg.problems.programs.steps import Outcome, Step
from thalweg.runs.problem import Progress
from thalweg.runs.rewards import RewardProblem
from thalweg.runtime import Runtime
from thalweg.search.budget import Spent
from thalweg.search.rewards import SampleReward
from thalweg.search.structured import StructuredVariable
from thalweg.search.values import Json, digest_json

SHOWN = 160
"""Characters of an input, an expected or a given value in the feedback."""


class ProgramProblem(RewardProblem):
    """Find instructions and examples with which a program answers best. ::

        r_i(v) = mean over the scored outputs of metric(expected, output of the program v on row i)

    A row that is among the examples is not shown when the program is asked about that row.

    Args:
        settings: the ``[problem]`` table.
        seed: of the three parts, unless the settings have their own, and of the requests.
        folder: where relative paths start.

    Raises:
        StudyError: data, fields and steps do not fit together.
        LanguageModelError: the model's settings are wrong.
        MissingExtraError: httpx is not installed, or the model that is to be served.
    """

    kind: ClassVar[str] = "program"
    Settings: ClassVar[type[BaseModel]] = ProgramSettings
    BlockSettings: ClassVar[type[BaseModel]] = ProgramBlock
    item_name: ClassVar[str] = "sample"

    def __init__(self, settings: ProgramSettings, seed: int, folder: Path = Path()) -> None:
        self._settings = settings
        self.program = Program([_step(table) for table in settings.steps])
        _check(settings, self.program)
        rows = records(read_rows(settings.data, folder), settings.fields)
        sizes = (settings.train, settings.held_out, settings.test)
        parts = deal(len(rows), sizes, seed if settings.split_seed is None else settings.split_seed)
        self.rows = [rows[index] for part in parts for index in part]
        self._digest = digest_json([digest_json(row) for row in rows])
        self._pools: dict[str, list[dict[str, Json]]] = {}
        self._shown: dict[str, Shown] = {}  # by step, of those that show examples
        self.items, self.held_out, self.test = sizes
        self._different = len(rows)
        self.variables = tuple(
            self._variable(step, table) for step, table in zip(self.program.steps, settings.steps, strict=True)
        )
        self._served: ServedModel | None = None
        if settings.lm.serve is not None:
            self._served = ServedModel(
                settings.lm.serve, folder=folder, threads=settings.lm.threads, slots=settings.lm.concurrency
            )
        self._folder = folder
        self._answers: Path | None = folder / settings.lm.cache if settings.lm.cache is not None else None
        self._seed = seed
        self._model: LanguageModel | None = None
        if self._served is None:
            self._model = self._connect(settings.lm.base_url, settings.lm.model)
        self.measure = settings.metric
        self.prices = Prices(settings.lm.price_prompt, settings.lm.price_completion)

    @classmethod
    def build(cls, settings: Any, blocks: list[Any], *, seed: int, folder: Path) -> ProgramProblem:
        """As :meth:`Problem.build <thalweg.runs.Problem.build>`."""
        return cls(settings, seed, folder)

    # -- the run -------------------------------------------------------------------------

    def use_folder(self, folder: Path) -> None:
        """Keep the model's answers in the run's folder, unless the study names another.

        Args:
            folder: the run's.
        """
        if self._answers is None:
            self._answers = folder / "answers"
            if self._model is not None:
                self._model.close()
                self._model = self._connect(self._settings.lm.base_url, self._settings.lm.model)

    def plan(self, runtime: Runtime, iterations: int) -> list[tuple[str, str]]:
        """The data, its parts, the model, and what one evaluation can cost."""
        lm = self._settings.lm
        where = f"{lm.serve}, served on this machine" if self._served is not None else f"{lm.model} at {lm.base_url}"
        lines = [
            ("data", f"{Path(self._settings.data).name}: {self._different} different rows"),
            ("parts", f"{self.items} to search with, {self.held_out} to choose with, {self.test} to report with"),
            ("metric", self.measure),
            ("model", where),
        ]
        if lm.api_key_env is not None and not os.environ.get(lm.api_key_env):
            lines.append(("key", f"missing: set the environment variable {lm.api_key_env}, or the run is refused"))
        present = {str(variable.name): variable.json() for variable in self.variables}
        most = max((self._usage(present, item) for item in range(self.items)), key=lambda usage: usage.tokens)
        text = f"at most {most.tokens:,} tokens with the present values"
        dearest = self.dearest()
        if dearest != present:
            most = max((self._usage(dearest, item) for item in range(self.items)), key=lambda usage: usage.tokens)
            text += f", {most.tokens:,} with the longest examples"
        lines.append(("an evaluation", text))
        return lines

    def check_key(self) -> None:
        """Raise unless the key for the model is there; a model that the run serves needs none.

        Raises:
            LanguageModelError: the environment has none.
        """
        if self._model is not None:
            self._model.check_key()

    async def prepare(self, runtime: Runtime, progress: Progress) -> None:
        """Start the model that is to be served, or look whether the key is there."""
        (await self._ready()).check_key()

    async def reward(self, values: dict[str, Any], item: int, runtime: Runtime) -> SampleReward:
        """The metric of the program's outputs on one row, with what was expected and what came.

        Raises:
            LanguageModelError: there was no answer; ``error.spent`` has what may have been paid.
        """
        model = await self._ready()
        row = self.rows[item]
        inputs = {name: row[name] for name in self.program.inputs}
        try:
            outcome = await self.program.run(model, self._without(values, row), inputs)
        except LanguageModelError as error:
            error.spent = self._spent(error.details["usage"])  # type: ignore[attr-defined]  # the run's budget reads it
            raise
        reward, feedback = self._judge(row, inputs, outcome)
        spent = self._spent(outcome.usage)
        return SampleReward(reward, feedback, tokens=spent.tokens, money=spent.money)

    def most(self, values: dict[str, Any], item: int) -> Spent:
        """The most that one evaluation can cost, all attempts that may be paid for included."""
        return self._spent(self._usage(values, item))

    def pays_after(self, noted: Callable[[], Awaitable[None]]) -> bool:
        """The model waits for it while it makes its own note."""
        BEFORE_PAYING.set(noted)
        return True

    def once(self, values: dict[str, Any], item: int) -> Spent:
        """The most that one evaluation can cost if no request breaks off."""
        return self._spent(self._usage(values, item, attempts=1))

    def dearest(self) -> dict[str, Any]:
        """The present instructions with the longest examples; instructions that a model writes can be longer."""
        values = {str(variable.name): variable.json() for variable in self.variables}
        for step, table in zip(self.program.steps, self._settings.steps, strict=True):
            pool = sorted(self._pools[step.name], key=step.length, reverse=True)
            values[step.name]["examples"] = pool[: table.examples]
        return values

    def decisive(self, table: dict[str, Any]) -> Any:
        """The parts of the data, the model, its requests without instructions and examples, which are the candidates',
        and the metric. How the model is reached, retried and paid for decides no reward; the address neither, as with
        answers that are kept."""
        settings, lm = self._settings, self._settings.lm
        steps = [
            {
                "name": step.name,
                "inputs": _in_order(step.inputs),
                "outputs": _in_order(step.outputs),
                "answer": step.answer,
                "max_tokens": step.max_tokens or lm.max_tokens,
                "constrain": lm.constrain and step.answer == "json",
            }
            for step in settings.steps
        ]
        model = {"serve": self._served.model} if self._served is not None else {"model": lm.model}
        parts = ("fields", "train", "held_out", "test", "split_seed", "expected", "metric")
        requests = {"temperature": lm.temperature, "limit_key": lm.limit_key, "extra": lm.extra}
        return {"steps": steps, **settings.model_dump(include=set(parts)), "lm": {**model, **requests}}

    def fingerprint(self) -> str:
        """The digest of all different rows."""
        return self._digest

    def concurrency(self, runtime: Runtime) -> int:
        """As many as the model is asked at once."""
        return self._settings.lm.concurrency

    def price_asking(self, engine: Any) -> None:
        """Give a rewriting engine that has no model of its own the bounds of the program's."""
        if getattr(engine, "kind", "") == "rewrite" and engine.model is None:
            engine.pricing = self._bounding()

    def equip(self, engine: Any) -> None:
        """Give a rewriting engine that has no model of its own the program's."""
        if getattr(engine, "kind", "") == "rewrite" and engine.model is None:
            engine.model = self.model

    def summary(self) -> dict[str, Any]:
        """What the model was asked in this process, and what is known of requests that were never answered."""
        if self._model is None:
            return {}
        counts, used = self._model.counts, self._model.spending
        found: dict[str, Any] = {
            "requests": counts.sent,
            "requests_retried": counts.retried,
            "answers_from_disk": counts.cached,
            "prompt_tokens": used.used.prompt,
            "completion_tokens": used.used.completion,
            "requests_lost": used.lost,
        }
        if self._model.cache is not None:
            found["requests_lost"] = self._model.cache.lost()[0]  # those of killed processes are among them
        return {"language_model": found}

    def close(self) -> None:
        """End the server, and give the answers' file back."""
        if self._model is not None:
            self._model.close()
        if self._served is not None:
            self._served.close()

    # -- the model -----------------------------------------------------------------------

    @property
    def model(self) -> LanguageModel:
        """The model that the program calls; starts its server if it has to.

        Raises:
            EndpointError: the server does not start.
        """
        if self._served is not None and (self._model is None or not self._served.base_url):
            url = self._served.start()
            before = self._model
            self._model = self._connect(url, self._served.model)
            if before is not None:
                before.close()
        assert self._model is not None
        return self._model

    async def _ready(self) -> LanguageModel:
        if self._served is None or (self._served.base_url and self._model is not None):
            return self.model
        return await asyncio.to_thread(lambda: self.model)

    def _connect(self, base_url: str | None, name: str | None) -> LanguageModel:
        lm: ModelSettings = self._settings.lm
        assert base_url is not None
        assert name is not None
        return LanguageModel(
            base_url,
            name,
            api_key_env=lm.api_key_env,
            timeout=lm.timeout,
            retries=lm.retries,
            paid_retries=lm.paid_retries,
            concurrency=lm.concurrency,
            temperature=lm.temperature,
            max_tokens=lm.max_tokens,
            seed=self._seed,
            limit_key=lm.limit_key,
            constrain=lm.constrain,
            spending=Spending(prices=Prices(lm.price_prompt, lm.price_completion)),
            cache=self._answers,
            extra=lm.extra,
        )

    # -- inside --------------------------------------------------------------------------

    def _judge(self, row: dict[str, Json], inputs: dict[str, Json], outcome: Outcome) -> tuple[float, str]:
        asked = ", ".join(f"{name} = {_short(value)}" for name, value in inputs.items())
        cut = "; it was cut off at max_tokens" if outcome.truncated else ""
        if outcome.outputs is None:
            return 0.0, f"for {asked}: {outcome.fault}{cut}"
        rewards, faults = [], []
        for output, field in self._settings.expected.items():
            expected, got = row[field], outcome.outputs[output]
            reward = score(self._settings.metric, expected, got)
            rewards.append(reward)
            if reward < 1.0:
                faults.append(f"{output} should be {_short(expected)} and was {_short(got)}")
        return sum(rewards) / len(rewards), f"for {asked}: {'; '.join(faults)}{cut}" if faults else ""

    def _usage(self, values: dict[str, Any], item: int, attempts: int | None = None) -> Usage:
        """The bound of one evaluation."""
        inputs = {name: self.rows[item][name] for name in self.program.inputs}
        return self.program.most(self._bounding(), values, inputs, attempts=attempts)

    def _bounding(self) -> LanguageModel:
        """A model for bounds, without a server, too."""
        return self._model or self._connect("http://127.0.0.1/v1", "bound")

    def _spent(self, usage: Usage) -> Spent:
        return Spent(tokens=usage.tokens, money=self.prices.money(usage))

    def _variable(self, step: Step, table: StepSettings) -> StructuredVariable:
        pool: list[dict[str, Json]] = []
        if table.examples:
            shown = Shown(step, self.program.known_before(step), self._settings.expected)
            self._shown[step.name] = shown
            missing = shown.missing(self._settings.fields)
            if missing:
                raise StudyError(
                    f"problem.steps: {step.name} is to show examples, and the data has no {', '.join(missing)}. "
                    "Examples are rows of the data; say examples = 0 for this step, or add to problem.fields and "
                    "problem.expected."
                )
            pool = [shown.example(row) for row in self.rows[: self._settings.examples_from or self.items][: self.items]]
        self._pools[step.name] = pool
        try:
            return step.variable(table.instructions, pool=pool, most=table.examples, description=table.description)
        except SearchError as error:
            raise StudyError(f"problem.steps: {step.name}: {error}") from error

    def _without(self, values: dict[str, Any], row: dict[str, Json]) -> dict[str, Any]:
        """The values without examples that are the row itself: nobody learns from a task that shows its own answer."""
        others = dict(values)
        for name, shown in self._shown.items():
            own = shown.inputs(row)
            examples = [example for example in values[name].get("examples", []) if example["inputs"] != own]
            others[name] = {**values[name], "examples": examples}
        return others


def _step(table: StepSettings) -> Step:
    return Step(
        table.name, inputs=table.inputs, outputs=table.outputs, answer=table.answer, max_tokens=table.max_tokens
    )


def _check(settings: ProgramSettings, program: Program) -> None:
    """Refuse what does not fit together, before anything is read."""
    if settings.metric not in METRICS:
        raise StudyError(
            f"problem.metric is {settings.metric!r}; there are {', '.join(METRICS)}, and what was registered with "
            "thalweg.problems.programs.register_metric."
        )
    missing = [name for name in program.inputs if name not in settings.fields]
    if missing:
        raise StudyError(
            f"problem.fields has no {', '.join(missing)}, which the steps take as inputs; it has "
            f"{', '.join(settings.fields)}."
        )
    outputs = {name for step in program.steps for name in step.outputs}
    for output, field in settings.expected.items():
        if output not in outputs:
            raise StudyError(
                f"problem.expected.{output}: no step has this output; there are {', '.join(sorted(outputs))}."
            )
        if field not in settings.fields:
            raise StudyError(
                f"problem.expected.{output} is the field {field!r}, which problem.fields does not have; it has "
                f"{', '.join(settings.fields)}."
            )


def _in_order(schemas: dict[str, Any]) -> str:
    """Fields with their schemas, in the order of the prompt."""
    return json.dumps([[name, schema] for name, schema in schemas.items()], sort_keys=True)


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 20]}...{text[-15:]}"
