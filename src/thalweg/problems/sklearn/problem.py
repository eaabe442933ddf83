"""The kind of problem ``sklearn``: which pipeline, with which settings, predicts best."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from thalweg.errors import SearchError, StudyError, ThalwegError
from thalweg.problems.sklearn.data import BUNDLED, digest, load, split
from thalweg.problems.sklearn.estimators import (
    ESTIMATORS,
    SCORE_FUNCTIONS,
    make_pipeline,
    parameters_of,
    score_function,
)
from thalweg.problems.sklearn.metrics import (
    Kind,
    are_texts_of_numbers,
    check_metric,
    is_classifier,
    is_regressor,
)
from thalweg.runs.rewards import RewardProblem
from thalweg.runtime import Runtime
from thalweg.runtime.one_thread import one_thread
from thalweg.search.rewards import SampleReward
from thalweg.search.space_merging import Resolver
from thalweg.search.structured import StructuredVariable
from thalweg.search.values import canonical_json


class PipelineSettings(BaseModel):
    """The ``[problem]`` table.

    Args:
        data: one of scikit-learn's bundled sets (breast_cancer, diabetes, digits, iris, wine), or an ``.npz`` file with
            the arrays ``features``, shape (rows, columns), and ``labels``, shape (rows,).
        steps: the pipeline's steps, in order; each is a property of the value.
        space: JSON Schema of each step: an object whose ``kind`` names the estimator.
        start: the value that the search begins with.
        folds: of the cross-validation that candidates are searched with.
        held_out: share of the rows that the final choice is made on.
        test: share of the rows that only the final report uses.
        metric: a scorer of scikit-learn by name; higher is better. Default: its estimators' own, the accuracy or R².
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    data: str
    steps: list[str] = Field(min_length=1)
    space: dict[str, dict[str, Any]]
    start: dict[str, dict[str, Any]]
    folds: int = Field(default=5, ge=2, le=100)
    held_out: float = Field(default=0.2, ge=0.0, lt=1.0)
    test: float = Field(default=0.2, ge=0.0, lt=1.0)
    metric: str | None = None


class NoBlockSettings(BaseModel):
    """Blocks have no keys of this problem's."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PipelineProblem(RewardProblem):
    """Choose a pipeline by cross-validation. ::

        r_i(v) = score of the pipeline v on fold i, fitted on the other folds

    Args:
        settings: the ``[problem]`` table.
        seed: of the split into parts and folds, and of the estimators' random states.

    Raises:
        StudyError: data, space and steps do not fit together.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.problems.sklearn import PipelineProblem
        >>> from thalweg.runtime import Local
        >>> kind = {"type": "object", "properties": {"kind": {"const": "k_neighbors_classifier"}}}
        >>> settings = PipelineProblem.Settings(
        ...     data="iris", steps=["model"], space={"model": kind}, start={"model": {"kind": "k_neighbors_classifier"}}
        ... )
        >>> problem = PipelineProblem(settings, seed=0)
        >>> with Local(threads=1) as runtime:
        ...     found = tw.wait(problem.reward({"pipeline": settings.start}, 0, runtime))
        >>> found.reward > 0.8
        True

    While a pipeline is evaluated BLAS and OpenMP have one thread: pipelines run side by side, and their bits do not
    depend on how many cores there are.
    """

    kind: ClassVar[str] = "sklearn"
    Settings: ClassVar[type[BaseModel]] = PipelineSettings
    BlockSettings: ClassVar[type[BaseModel]] = NoBlockSettings
    item_name: ClassVar[str] = "fold"

    def __init__(self, settings: PipelineSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        if sorted(settings.steps) != sorted(settings.space) or len(set(settings.steps)) != len(settings.steps):
            raise StudyError(
                f"problem.space has the steps {sorted(settings.space)}, and problem.steps says {settings.steps}; each "
                "step has one schema."
            )
        parts = split(settings.data, settings.folds, settings.held_out, settings.test, seed)
        self.items = len(parts.folds)
        self.held_out = len(parts.held_out)
        self.test = len(parts.test)
        schema = {
            "type": "object",
            "properties": settings.space,
            "required": list(settings.steps),
            "additionalProperties": False,
        }
        try:
            variable = StructuredVariable(
                settings.start, schema, name="pipeline", description="a scikit-learn pipeline"
            )
            make_pipeline(settings.start, settings.steps, seed)
            self._kinds = _check_kinds(variable.schema(), settings, load(settings.data).classes)
        except SearchError as error:
            raise StudyError(f"problem.space or problem.start: {error}") from error
        self.measure = settings.metric or _own_metric(settings.start, settings.steps)
        self.variables = (variable,)

    @classmethod
    def build(cls, settings: Any, blocks: list[Any], *, seed: int, folder: Path) -> PipelineProblem:
        """As :meth:`Problem.build <thalweg.runs.Problem.build>`."""
        if settings.data not in BUNDLED:
            try:
                path = (folder / settings.data).resolve()
            except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that lead to each other
                said = str(error).rstrip(".")
                raise StudyError(f"problem.data: {settings.data!r} cannot be read: {said}.") from error
            settings = settings.model_copy(update={"data": str(path)})
        return cls(settings, seed)

    def objections(self) -> Iterable[tuple[ThalwegError, tuple[str, ...]]]:
        """What is wrong with the metric and the estimators, of which a run that goes on has candidates all the same."""
        settings = self._settings
        parts = split(settings.data, settings.folds, settings.held_out, settings.test, self._seed)
        try:
            check_metric(settings.metric, load(settings.data), parts, self._kinds)
        except StudyError as error:
            return [(error, ("problem",))]
        return []

    def decisive(self, table: dict[str, Any]) -> Any:
        """The steps, the parts of the data and the metric; what is in the data has a digest of its own."""
        return self._settings.model_dump(include={"steps", "folds", "held_out", "test", "metric"})

    def fingerprint(self) -> str:
        """The digest of the data."""
        return digest(load(self._settings.data))

    def plan(self, runtime: Runtime, iterations: int) -> list[tuple[str, str]]:
        """The data, its parts and the metric."""
        data = load(self._settings.data)
        rows, columns = data.features.shape
        kind = f"{len(set(data.labels.tolist()))} classes" if data.classes else "regression"
        parts = split(
            self._settings.data, self._settings.folds, self._settings.held_out, self._settings.test, self._seed
        )
        held, tested = (sum(map(len, chunks)) for chunks in (parts.held_out, parts.test))
        return [
            ("data", f"{Path(self._settings.data).stem}: {rows} rows, {columns} columns, {kind}"),
            (
                "parts",
                f"{len(parts.search)} rows in {self.items} folds, {held} to choose with, {tested} to report with",
            ),
            ("metric", self.measure),
        ]

    async def reward(self, values: dict[str, Any], item: int, runtime: Runtime) -> SampleReward:
        """The pipeline's score on one fold, or on one chunk of the held-out or test rows."""
        settings = self._settings
        text = canonical_json(values["pipeline"])
        task = partial(
            _score,
            settings.data,
            (settings.folds, settings.held_out, settings.test, self._seed),
            tuple(settings.steps),
            settings.metric,
            text,
        )
        return SampleReward(await runtime.map_reduce(task, [item]))


def _score(
    data: str,
    parts: tuple[int, float, float, int],
    steps: tuple[str, ...],
    metric: str | None,
    text: str,
    item: int,
) -> float:
    """The task that runs in a thread or on a worker."""
    _prepare_process()
    labelled, rows = load(data), split(data, *parts).rows(int(item))
    value, labels = json.loads(text), labelled.labels
    pipeline = make_pipeline(value, steps, parts[-1])
    if is_regressor(value[steps[-1]]["kind"]) and are_texts_of_numbers(labels):
        labels = labels.astype(np.float64)  # not all read texts as numbers
    fit, score = rows
    with one_thread():
        pipeline.fit(labelled.features[fit], labels[fit])
        if metric is None:
            return float(pipeline.score(labelled.features[score], labels[score]))
        return _scored(metric, pipeline, labelled.features[score], labels[score])


def _scored(metric: str, pipeline: Any, features: NDArray[np.float64], labels: NDArray[Any]) -> float:
    """The metric of a fitted pipeline; where it has none there, that is what failed."""
    from sklearn.metrics import get_scorer

    try:
        found = float(get_scorer(metric)(pipeline, features, labels))
    except (AttributeError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:300].rstrip(".")
        names = ", ".join(type(part).__name__ for _, part in pipeline.steps)
        raise SearchError(
            f"problem.metric: {metric!r} cannot be computed for the pipeline of {names}: {said}."
        ) from error
    if not math.isfinite(found):
        there = np.unique(labels)
        few = ", ".join(map(str, there[:5].tolist())) + (" …" if len(there) > 5 else "")
        raise SearchError(f"problem.metric: {metric!r} is {found} on {len(labels)} rows, whose labels are {few}.")
    return found


@lru_cache(maxsize=1)
def _prepare_process() -> None:
    from sklearn.exceptions import ConvergenceWarning

    # A setting with which a model does not converge has its score, which says it all. Not around each fit: filters
    # belong to the process, and fits run side by side.
    warnings.filterwarnings("ignore", category=ConvergenceWarning)


def _own_metric(start: dict[str, Any], steps: list[str]) -> str:
    """What pipelines like this one score by if nothing else is said."""
    kinds = [start[step]["kind"] for step in steps if start[step]["kind"] != "none"]
    return "accuracy" if kinds and is_classifier(kinds[-1]) else "R²"


def _check_kinds(schema: dict[str, Any], settings: PipelineSettings, classes: bool) -> list[Kind]:
    """All estimators that a pipeline's schema has; refuse estimators and parameters that are none before hours are
    spent on the others."""
    found: list[Kind] = []
    resolver = Resolver(schema)
    for step in settings.steps:
        for branch in _branches(resolver, schema["properties"][step], step):
            properties = branch.get("properties", {})
            for name in _listed(resolver, properties.get("kind", {}), f"{step}.kind"):
                if not isinstance(name, str) or name not in ESTIMATORS:
                    raise SearchError(f"{step}: there is no estimator {name!r}; known: {', '.join(sorted(ESTIMATORS))}")
                known = parameters_of(name)
                unknown = sorted(properties.keys() - {"kind"} - known)
                if unknown:
                    raise SearchError(f"{step}: {name} has no parameter {unknown[0]!r}")
                if "score_func" in known:
                    given = "score_func" in properties
                    scores = _listed(resolver, properties["score_func"], f"{step}.score_func") if given else None
                    _check_scores(f"{step}: {name}", scores, classes)
                _check_place(step, name, settings.steps)
                listed = {key: _listed(resolver, part, f"{step}.{key}") for key, part in properties.items()}
                start = settings.start[step]  # it may have more than its schema says
                found.append((step, name, {**{key: [start[key]] for key in start if start["kind"] == name}, **listed}))
    return found


def _check_place(step: str, name: str, steps: list[str]) -> None:
    """Refuse what predicts before the last step, and what does not as the last: each such pipeline would fail."""
    predicts = name != "none" and (is_classifier(name) or is_regressor(name))
    if predicts and step != steps[-1]:
        order = [*(other for other in steps if other != step), step]
        raise SearchError(f"{step}: {name} predicts, so it is the last step; write steps = {json.dumps(order)}")
    if not predicts and step == steps[-1]:
        raise SearchError(
            f"{step}: {name} predicts nothing, and {step} is the last step: a pipeline ends with a classifier or a "
            "regressor"
        )


def _branches(resolver: Resolver, schema: Any, name: str) -> Iterator[dict[str, Any]]:
    """The schemas of a union's branches, and of theirs, each with what stands beside them."""
    plain = resolver.plain(schema, name)
    if "oneOf" not in plain and "anyOf" not in plain:
        yield plain
        return
    for branch in resolver.alternatives(plain, name):
        yield from _branches(resolver, branch, f"{name}[]")


def _listed(resolver: Resolver, schema: Any, name: str) -> list[Any]:
    """The values that a schema names: none, unless it names all."""
    found: list[Any] = []
    for branch in _branches(resolver, schema, name):
        values = [branch["const"]] if "const" in branch else list(branch.get("enum", ()))
        if not values:
            return []
        found += values
    return found


def _check_scores(what: str, names: list[Any] | None, classes: bool) -> None:
    """Refuse score functions that there are not, and those of classes where numbers are predicted; None is the
    estimator's own."""
    if names == []:
        raise SearchError(
            f"{what} needs a score_func that is named: a const or an enum of {', '.join(SCORE_FUNCTIONS)}"
        )
    for name in names or ["f_classif"]:
        score_function(name, 0)
        if not classes and "regression" not in name:
            own = ", its own," if names is None else ""
            raise SearchError(
                f"{what} would score features by {name}{own} which is of classes, and the labels of the data are "
                "numbers; say a score_func, such as 'f_regression'"
            )
