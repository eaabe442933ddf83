"""The ``[optimizer]`` table of a search: checked when the study is read, made when the problem is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from thalweg.errors import MissingExtraError, SearchError
from thalweg.runs.settings import BudgetSettings, GenericBlock
from thalweg.runs.validation import Fault, show, study_error, unknown_key

if TYPE_CHECKING:
    from thalweg.runs.rewards import RewardProblem
    from thalweg.search import Search

KINDS = ("auto", "cma_es", "cobyqa", "evolution", "few_shot", "halving", "random", "rewrite", "tpe")
"""The names of engines, known without importing them."""

_OWN = ("candidates", "rescore", "finalists", "confidence")
_TEXTS = ("kind", "name", "description")


def search_faults(table: dict[str, Any], path: str) -> list[Fault]:
    """What is wrong with the table of a search, as far as that can be said without the problem.

    Example:
        >>> from thalweg.runs.search_tuning import search_faults
        >>> for fault in search_faults({"kind": "random", "candidate": 4}, "optimizer"):
        ...     print(fault.path, '"candidates"' in str(fault))
        optimizer.candidate True
    """
    from thalweg.search.engines import engine_options
    from thalweg.search.ready import Search

    kind = str(table["kind"])
    try:
        known = engine_options(kind)
    except MissingExtraError as error:
        return [Fault(f"{path}.kind", str(error))]
    faults = [
        unknown_key(f"{path}.{key}", [*_TEXTS, *_OWN, *known])
        for key in table
        if key not in (*_TEXTS, *_OWN) and key not in known
    ]
    faults += [
        Fault(f"{path}.{key}", f"got {show(table[key])}, expected text in quotes")
        for key in _TEXTS
        if key in table and not isinstance(table[key], str)
    ]
    if faults:
        return faults
    try:
        Search(kind, **{key: table[key] for key in _OWN if key in table})
    except SearchError as error:
        named = next((key for key in _OWN if str(error).startswith(f"{key} ")), None)
        return [Fault(f"{path}.{named}" if named else path, str(error))]
    return []


def model_faults(table: dict[str, Any], problem: type[RewardProblem]) -> list[Fault]:
    """Whether somebody gives an engine that asks a language model one: the table, or the problem.

    Example:
        >>> from thalweg.runs import RewardProblem
        >>> from thalweg.runs.search_tuning import model_faults
        >>> class Mine(RewardProblem):
        ...     kind = "mine"
        >>> [fault.path for fault in model_faults({"kind": "rewrite"}, Mine)]
        ['optimizer.lm']
    """
    from thalweg.runs.rewards import RewardProblem

    if table.get("kind") != "rewrite" or table.get("lm") is not None or problem.equip is not RewardProblem.equip:
        return []
    text = (
        f"is missing: rewrite asks a language model, and a {problem.kind} problem has none; give "
        'lm = { base_url = "...", model = "..." }, or take another engine'
    )
    return [Fault("optimizer.lm", text)]


def build_search(
    table: dict[str, Any],
    problem: RewardProblem,
    seed: int,
    blocks: Sequence[GenericBlock] = (),
    budget: BudgetSettings | None = None,
) -> Search:
    """The search, bound to the problem's variables.

    Args:
        table: the ``[optimizer]`` table.
        problem: whose trainable variables are searched.
        seed: the study's.
        blocks: the study's; they and the budget say how many candidates there will be, which ``auto`` chooses by.
        budget: the study's.

    Raises:
        StudyError: an option is out of its range, or the engine cannot search these variables.
    """
    from thalweg.runs.costing import candidates_of
    from thalweg.search.ready import Search

    options = {key: value for key, value in table.items() if key not in (*_TEXTS, *_OWN)}
    given = {key: table[key] for key in (*_OWN, "name", "description") if key in table}
    trainable = [variable for variable in problem.variables if variable.trainable]
    try:
        search = Search(str(table["kind"]), options=options, seed=seed, **given)
        if blocks:
            search.evaluations = candidates_of(problem, search, blocks, budget or BudgetSettings())
        search.bind(trainable, samples=problem.items)
    except SearchError as error:
        raise study_error("The study", [Fault("optimizer", str(error))]) from error
    return search
