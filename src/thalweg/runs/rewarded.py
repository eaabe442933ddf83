"""What a search adds to a run, whose feedback is rewards: what it can cost, its engine, what the loop has for it.

What only a search needs is imported when there is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from thalweg.errors import SearchError, StudyError
from thalweg.runs.history import History, HistoryWriter
from thalweg.runs.position import Position
from thalweg.runs.problem import Problem
from thalweg.runs.restoring import check_variables, snapshot_of
from thalweg.runs.resuming import Resumption
from thalweg.runs.selection import Selection
from thalweg.runs.study import Study
from thalweg.runtime import Runtime

if TYPE_CHECKING:
    from thalweg.runs.searching import Searching


def cost(study: Study, problem: Problem, search: Any, *, begins: bool = True) -> list[tuple[str, str]]:
    """Lines for the plan: what the search can cost at most.

    Args:
        study: the study.
        problem: of the run.
        search: the run's.
        begins: refuse a search with nothing to choose; a run that goes on has begun with it.

    Raises:
        StudyError: the budget does not pay for the final choice, nobody could say what is paid out of it, or there is
            nothing to choose.
    """
    from thalweg.runs.costing import cost_lines

    budget = study.settings.budget
    if budget.money is not None and getattr(search.engine, "lm", None) is not None:
        raise StudyError(
            "budget.money is a limit, and the model of optimizer.lm has no price list, so nobody could keep it: give "
            "budget.tokens, or leave optimizer.lm out where the problem has a model.",
            path="budget.money",
        )
    cast(Any, problem).price_asking(search.engine)
    if begins:
        _refuse_without_choice(study, problem, search.engine)
    return cost_lines(cast(Any, problem), search, study.blocks, budget)


def _refuse_without_choice(study: Study, problem: Problem, engine: Any) -> None:
    """One pass through the samples scores the start; further ones would pay for what is known."""
    from thalweg.search.engines import has_nothing_to_choose

    if not has_nothing_to_choose(engine):
        return
    kind = engine.kind
    enough = max(math.ceil(problem.items / (block.batch_size or problem.items)) for block in study.blocks)
    if study.iterations > enough:
        raise StudyError(
            f"There is nothing to choose: optimizer.kind = {kind!r} draws by the schemas, and these leave no candidate "
            "but the start. A text without a list to choose from stays as it is, and so do instructions of a program: "
            'give its steps examples (problem.steps: examples = 2, say), take optimizer.kind = "rewrite" for the '
            "instructions, or put an enum or a range into the schema. To score the start alone, take "
            f"{'one iteration' if enough == 1 else f'{enough} iterations, which are all batches'}.",
            path="optimizer.kind",
        )


def check_keys(problem: Problem, search: Any) -> None:
    """Refuse a run whose keys for a language model are not there, before it has a folder.

    Raises:
        LanguageModelError: the environment has no such key.
    """
    for whose in (problem, search.engine):
        check_key = getattr(whose, "check_key", None)
        if check_key is not None:
            check_key()


def engine_lines(search: Any) -> list[tuple[str, str]]:
    """Lines for the plan: which engine was chosen, and why, where the study leaves that open; and what it leaves as it
    is although somebody may not expect that."""
    from thalweg.runs.searching import chosen_engine

    engine = search.engine
    text, kind, space = chosen_engine(engine), getattr(engine, "kind", ""), getattr(engine, "space", None)
    found = [] if space is None or kind == "rewrite" else [one for one in space.walk() if getattr(one, "reason", "")]
    alike: dict[tuple[str, str], list[Any]] = {}  # the items of an array have places of their own
    for one in found:
        alike.setdefault((re.sub(r"\.\d+(?![^.\[])", ".*", one.name), one.reason), []).append(one)
    frozen = [("frozen", _frozen_line(name, nodes)) for (name, _), nodes in alike.items()]
    return ([("engine", text)] if text else []) + frozen


def _frozen_line(name: str, nodes: list[Any]) -> str:
    """What stays as it is at one place, or at several that are alike and have a name for all."""
    one = nodes[0]
    if len(nodes) == 1:
        return f"{one.name}: {one.about()}"
    what = one.about() if all(node.value == one.value for node in nodes) else f"as they are, frozen: {one.reason}"
    return f"{name}: {what} ({len(nodes)} places)"


def let_go(search: Any) -> None:
    """Have the engine end its threads."""
    search.engine.close()


def equip(problem: Problem, search: Any, folder: Path) -> None:
    """Give the engine what the problem has for it, once the problem is ready, and a place for what it pays for.

    Args:
        problem: of the run.
        search: whose engine it is.
        folder: the run's.

    Raises:
        LanguageModelError: the key for the model that the engine asks is not there.
    """
    cast(Any, problem).equip(search.engine)
    keep_answers = getattr(search.engine, "keep_answers", None)
    if keep_answers is not None:
        keep_answers(folder / "answers")
    check_key = getattr(search.engine, "check_key", None)
    if check_key is not None:
        check_key()


def try_to_restore(problem: Problem, twin: Any, found: Resumption) -> Resumption:
    """Before anything is written: a state that does not fit the study, or scores that cannot be compared with those to
    come, leave the run as it was.

    Args:
        problem: of the run; its variables are put where the checkpoint has them.
        twin: a search like the run's own; it is closed.
        found: what the run goes on from.

    Returns:
        The same, and whether the search begins anew.

    Raises:
        RunError: what decides rewards has changed, and the user has not named it.
    """
    from thalweg.runs.deciding import AGREED, changes, deciding

    settings, rewards = found.study.settings, cast(Any, problem)
    decided = deciding(rewards, settings.problem, settings.seed)
    try:
        anew = changes(found, decided, rewards.data_keys)
        found = replace(found, anew=anew, agreed={AGREED: decided})
        if anew is not None:
            found = replace(found, position=_dealt_anew(problem, found))
        _put(problem, twin, found)
    finally:
        let_go(twin)
    return found


def restore(problem: Problem, search: Any, found: Resumption, history: HistoryWriter) -> None:
    """Put the search and its variables where the checkpoint has them. Where something else decides rewards since, the
    search begins anew, and that is said.

    Args:
        problem: of the run, which is ready.
        search: the run's.
        found: what the run goes on from, as :func:`try_to_restore` returned it.
        history: of the run.
    """
    from thalweg.runs.deciding import AGREED, DECIDED

    _put(problem, search, found)
    history.fact(DECIDED, found.agreed[AGREED])
    history.fact("search", None)  # what was chosen before; it is chosen anew
    if found.anew is not None:
        text = (
            f"what decides rewards has changed, so the search begins anew with candidate {search.first}, and compares "
            f"nothing with the scores of those before:{found.anew}"
        )
        history.event("warning", text, iteration=found.position.iteration)


def put_back(problem: Problem, found: Resumption) -> None:
    """Where a run has ended before it went on, its variables are what they were: what was chosen, if that was so.

    Args:
        problem: of the run.
        found: what it was to go on from.
    """
    _put_variables(problem, found)
    chosen = History(found.folder.history).facts().get("search") or {}
    values = chosen.get("winner", {}).get("values", {})
    for variable in problem.variables:
        with suppress(SearchError):  # a study that was changed may have other values
            cast(Any, variable).assign(values.get(str(variable.name)))


def _put(problem: Problem, search: Any, found: Resumption) -> None:
    if found.anew is None:
        found.restore(problem, search)
        return
    check_variables(problem, found.arrays)
    search.begin_anew_after(snapshot_of(found.arrays, found.meta))
    _put_variables(problem, found)


def _put_variables(problem: Problem, found: Resumption) -> None:
    try:
        found.put_variables(problem)
    except SearchError:  # of a search that begins anew, in another space
        if found.anew is None:
            raise


def _dealt_anew(problem: Problem, found: Resumption) -> Position:
    """Where the run is, with batches of the samples that there are now."""
    here, study = found.position, found.study
    if here.selection is None or here.selection.get("items") == problem.items:
        return here
    fresh = Selection.of(study.blocks[here.block], here.block, items=problem.items, seed=study.settings.seed)
    return replace(here, selection=fresh.state())


def searching(
    study: Study,
    problem: Problem,
    search: Any,
    runtime: Runtime,
    history: HistoryWriter,
    found: Resumption | None,
    progress: Callable[[int, int], None],
    began: float,
) -> Searching:
    """What the loop has in the place of gradients."""
    from thalweg.runs.deciding import AGREED, DECIDED, deciding
    from thalweg.runs.searching import Searching

    settings = study.settings
    if found is None:
        decided = deciding(problem, settings.problem, settings.seed)
        history.fact(DECIDED, decided)  # of a run that goes on, once it does
    else:
        decided = found.agreed[AGREED]
    before = History(found.folder.history) if found is not None else None
    made = Searching(
        cast(Any, problem),
        search,
        runtime=runtime,
        history=history,
        budget=settings.budget,
        seed=settings.seed,
        decided=decided,
        rows=before.evaluations() if before is not None else (),
        ledger=found.meta.get("ledger") if found is not None else None,
        iteration=found.position.iteration if found is not None else 0,
        progress=progress,
        began=began,
    )
    made.outcome = (before.facts().get("search") or {}) if before is not None else {}
    return made
