"""The optimizer of a study: checked when the study is read, made when the problem is there, changed between
blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from thalweg import optimizers
from thalweg.errors import HyperparameterError
from thalweg.optimizers import LocalOptimizer
from thalweg.optimizers.pipeline import build_hook
from thalweg.optimizers.settings import checked, from_config
from thalweg.rules.base import Rule
from thalweg.runs.bounding import bounds_faults
from thalweg.runs.search_tuning import KINDS, build_search, model_faults, search_faults
from thalweg.runs.validation import Fault, meant, refusing, show, study_error, unknown_key
from thalweg.schedules import OptimizationState

if TYPE_CHECKING:
    from thalweg.runs.problem import Problem
    from thalweg.runs.rewards import RewardProblem
    from thalweg.runs.settings import BudgetSettings, GenericBlock

_HOOKS = ("process_grad", "process_model")
_TEXTS = ("kind", "name", "description")
_OTHERS = ("groups", "accumulate", "nonfinite")


def optimizer_faults(table: dict[str, Any], path: str, *, rewarded: bool | None = None) -> list[Fault]:
    """What is wrong with an ``[optimizer]`` table, as far as that can be said without the problem.

    Args:
        table: the table.
        path: its dotted path.
        rewarded: whether the problem has rewards, and so needs a search; None if nobody knows.

    Example:
        >>> from thalweg.runs.tuning import optimizer_faults
        >>> for fault in optimizer_faults({"kind": "adam", "learning_rate": -1.0}, "optimizer"):
        ...     print(fault.path)
        optimizer.learning_rate
    """
    kinds = [*(sorted(optimizers.registry) if not rewarded else ()), *(KINDS if rewarded is not False else ())]
    listed = ", ".join(kinds)
    kind = table.get("kind")
    if "kind" not in table:
        return [Fault(f"{path}.kind", f"is missing; it is one of: {listed}")]
    if not isinstance(kind, str):
        return [Fault(f"{path}.kind", f"got {show(kind)}, expected one of: {listed}")]
    if kind in KINDS:
        return search_faults(table, path)
    if kind not in optimizers.registry:
        return [Fault(f"{path}.kind", f"there is no optimizer {kind!r}{meant(kind, kinds)} (known: {listed})")]
    cls = optimizers.registry[kind]
    asked: dict[str, Any] = {key: table[key] for key in ("convention", "wrap") if key in table}
    forms = {key: value for key, value in table.items() if key in cls.keywords() and not isinstance(value, dict)}
    apart = (*asked, *_HOOKS, *_OTHERS)
    try:
        rule = cls(**asked, **{key: forms[key] for key in forms if key not in apart}).rule
    except HyperparameterError as error:
        rule = cls().rule
        known = error.details.get("name")
        if known not in rule.hyperparameters:  # those are looked at one by one below
            return [Fault(f"{path}.{known}" if known in table else path, str(error))]
    faults = []
    for key, value in table.items():
        if key in _HOOKS:
            faults += _hook_faults(key, value, f"{path}.{key}")
        elif key in rule.hyperparameters:
            faults += _hyperparameter_faults(rule, key, value, f"{path}.{key}")
        elif key in _TEXTS:
            if not isinstance(value, str):
                faults.append(Fault(f"{path}.{key}", f"got {show(value)}, expected text in quotes"))
        elif key in _OTHERS:
            faults += _other_faults(cls, {**asked, key: value}, f"{path}.{key}")
        elif key not in rule.options and key not in rule.switches and key not in asked:
            faults.append(unknown_key(f"{path}.{key}", [*_TEXTS, *_HOOKS, *cls.keywords()]))
    return faults


def feedback_faults(document: dict[str, Any], problem: type[Problem]) -> list[Fault]:
    """Whether the optimizer can use what the problem gives: gradients, or rewards."""
    kind = document["optimizer"].get("kind")
    budget = document.get("budget")
    faults = []
    if problem.rewarded and kind in optimizers.registry:
        text = f"{kind} follows gradients, and a {problem.kind} problem has rewards; take one of: {', '.join(KINDS)}"
        faults.append(Fault("optimizer.kind", text))
    if not problem.rewarded and kind in KINDS:
        text = f"{kind} is a search for rewards, and a {problem.kind} problem has gradients; take one of: "
        faults.append(Fault("optimizer.kind", text + ", ".join(sorted(optimizers.registry))))
    if not problem.rewarded and isinstance(budget, dict):
        for key in ("evaluations", "tokens", "money"):
            if key in budget:
                text = f"only a search counts them; a {problem.kind} problem has blocks.N.iterations and budget.seconds"
                faults.append(Fault(f"budget.{key}", text))
    if problem.rewarded:
        faults += model_faults(document["optimizer"], cast("type[RewardProblem]", problem))
        output = document.get("output")
        if document.get("on_failed_shot", "stop") != "stop":
            text = "a search goes on without candidates that fail, and counts them; leave this out"
            faults.append(Fault("on_failed_shot", text))
        if isinstance(output, dict) and output.get("checkpoint_shots"):
            faults.append(Fault("output.checkpoint_shots", "a search keeps every evaluation anyway; leave this out"))
        for index, block in enumerate(document.get("blocks") or ()):
            if isinstance(block, dict) and block.get("reset_optimizer"):
                faults.append(Fault(f"blocks.{index}.reset_optimizer", "a search goes on with all that it knows"))
    return faults


def _other_faults(cls: type[LocalOptimizer], table: dict[str, Any], path: str) -> list[Fault]:
    try:
        cls.from_config(table)
    except HyperparameterError as error:
        return [Fault(path, str(error))]
    return []


def override_faults(optimizer: Any, overrides: dict[str, Any], path: str, *, begun: bool = False) -> list[Fault]:
    """What is wrong with a block's ``optimizer`` table: only hyperparameters can change on the way.

    Args:
        optimizer: the study's ``[optimizer]`` table.
        overrides: the block's.
        path: its dotted path.
        begun: whether steps were made before the block, and are not forgotten.
    """
    kind = optimizer.get("kind") if isinstance(optimizer, dict) else None
    if kind in KINDS and overrides:
        return [Fault(path, f"a search ({kind}) has no hyperparameters that could change from block to block")]
    if not isinstance(kind, str) or kind not in optimizers.registry:
        return []  # the optimizer table itself has the fault
    known = optimizers.registry[kind].keywords()
    asked: dict[str, Any] = {key: optimizer[key] for key in ("convention", "wrap") if key in optimizer}
    try:
        rule = optimizers.registry[kind](**asked).rule
    except HyperparameterError:
        return []  # the same
    faults = []
    for key, value in overrides.items():
        if begun and key in rule.initial:
            text = f"{rule.name} reads it at its first step only, and steps were made before this block; "
            text += f"{rule.initial[key]}, or give the block reset_optimizer = true"
            faults.append(Fault(f"{path}.{key}", text))
        elif key in rule.hyperparameters:
            faults += _hyperparameter_faults(rule, key, value, f"{path}.{key}")
        elif key not in known or known[key] is None or not isinstance(known[key], float):
            faults.append(unknown_key(f"{path}.{key}", rule.hyperparameters))
    return faults


def build_optimizer(
    table: dict[str, Any],
    problem: Problem,
    seed: int = 0,
    blocks: Sequence[GenericBlock] = (),
    budget: BudgetSettings | None = None,
    *,
    begins: bool = True,
) -> LocalOptimizer:
    """The optimizer, bound to the problem's variables.

    Args:
        table: the ``[optimizer]`` table; transforms in it may name the problem's arrays.
        seed: the study's, for a search.
        blocks: the study's, for a search: how many candidates there will be.
        budget: the same.
        begins: whether the run begins where the variables are now; where one goes on, its model is what must fit
            (:func:`thalweg.runs.bounding.going_on_faults`).

    Raises:
        StudyError: a transform names an array that the problem does not have; or, of a run that begins, a variable
            starts outside of its bounds, or these go beyond what the problem bears.
        ParameterError: a variable cannot be updated in place.
    """
    if problem.rewarded:
        rewarded = cast("RewardProblem", problem)
        return build_search(table, rewarded, seed, blocks, budget)  # type: ignore[return-value] # the loop's face
    try:
        with refusing("The optimizer of the study", "made"):
            made = optimizers.build(table, problem.variables, arrays=problem.arrays())
    except HyperparameterError as error:
        raise study_error("The study", [Fault("optimizer", str(error))]) from error
    faults = bounds_faults(made, problem) if begins else []
    if faults:
        raise study_error("The study", faults)
    return made


def change_hyperparameters(optimizer: LocalOptimizer, overrides: dict[str, Any]) -> None:
    """Set hyperparameters from a block's ``optimizer`` table, which was validated with the study."""
    for name, value in overrides.items():
        setattr(optimizer, name, from_config(name, value, {}))


def _hyperparameter_faults(rule: Rule, name: str, value: Any, path: str) -> list[Fault]:
    try:
        checked(rule, name, from_config(name, value, {}), OptimizationState())
    except HyperparameterError as error:
        return [Fault(path, str(error))]
    return []


def _hook_faults(what: str, value: Any, path: str) -> list[Fault]:
    steps = enumerate(value) if isinstance(value, list) else [(None, value)]
    faults = []
    for index, step in steps:
        if not isinstance(step, dict):
            faults.append(Fault(path, f"got {show(step)}, expected a table such as {{ kind = 'bounds', lower = 0.0 }}"))
            continue
        try:
            build_hook(what, step, _AnyArray(), {})
        except HyperparameterError as error:
            faults.append(Fault(path if index is None else f"{path}.{index}", str(error)))
    return faults


class _AnyArray(Mapping[str, NDArray[Any]]):
    """Stands for the problem's arrays, whose names are not known before there is a problem."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.ones(1)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 1

    def __contains__(self, name: object) -> bool:
        return True
