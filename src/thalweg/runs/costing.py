"""What a search can cost at most, before anything is paid for. ::

    evaluations ≤ Σ over blocks: iterations · (candidates + rescore) · batch   +   finalists · held_out  +  2 · test

and tokens and money at the most that the problem says one evaluation of its dearest candidate can cost, and that asking
a model for a candidate can. The budget cuts all three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from thalweg.errors import StudyError
from thalweg.runs.reserve import Needs, Reserve, needs_of
from thalweg.runs.rewards import RewardProblem
from thalweg.runs.searching import final_evaluations
from thalweg.runs.settings import BudgetSettings, GenericBlock
from thalweg.runs.telling import several, some
from thalweg.search.budget import Spent
from thalweg.search.ready import Search


def most_of(problem: RewardProblem, search: Search, blocks: Sequence[GenericBlock]) -> Spent:
    """The most that a run can cost without a budget.

    The dearest candidate is the problem's guess (`RewardProblem.dearest`); the budget, where one is given, counts every
    candidate with its own bound.
    """
    count = 0
    for block in blocks:
        batch = block.batch_size or problem.items
        again = search.rescore if batch < problem.items else 0
        count += block.iterations * (search.candidates + again) * batch
    count += final_evaluations(problem, search)
    values = problem.dearest()
    samples = range(problem.items + problem.held_out + problem.test)
    each = [problem.most(values, item) for item in samples]
    dearest = Spent(0, max(most.tokens for most in each), max(most.money for most in each))
    asking = most_asking(search, blocks)
    return Spent(count, count * dearest.tokens, count * dearest.money) + asking


def most_asking(search: Search, blocks: Sequence[GenericBlock]) -> Spent:
    """The most that a run can pay for asking a model for candidates, as long as texts are no longer than the present
    ones; nothing where the engine asks none.

    Args:
        search: bound, and its engine told by the problem whose model it will ask (`RewardProblem.price_asking`).
        blocks: of the study.
    """
    most_each = getattr(search.engine, "most_each", None)
    if most_each is None:
        return Spent()
    count = sum(block.iterations for block in blocks) * search.candidates - int(search.engine.start_first)
    each: Spent = most_each()
    return Spent(0, count * each.tokens, count * each.money)


def candidates_of(
    problem: RewardProblem, search: Search, blocks: Sequence[GenericBlock], budget: BudgetSettings
) -> int:
    """How many candidates a run will try, as far as its blocks and its budget of evaluations say; at least one."""
    left = math.inf if budget.evaluations is None else budget.evaluations - final_evaluations(problem, search)
    count = 0
    for block in blocks:
        batch = block.batch_size or problem.items
        again = search.rescore if batch < problem.items else 0
        each = (search.candidates + again) * batch
        iterations = int(min(block.iterations, max(left, 0) / each))  # not //, which makes NaN of infinity
        count += iterations * search.candidates
        left -= iterations * each
    return max(count, 1)


def cost_lines(
    problem: RewardProblem, search: Search, blocks: Sequence[GenericBlock], budget: BudgetSettings
) -> list[tuple[str, str]]:
    """Lines for the plan: what a run can cost at most, and what its budget allows.

    Raises:
        StudyError: the budget does not even pay for the final choice and one candidate.
    """
    most = most_of(problem, search, blocks)
    last = final_evaluations(problem, search)
    first = min(block.batch_size or problem.items for block in blocks)
    if budget.evaluations is not None and budget.evaluations < last + first:
        raise StudyError(
            f"budget.evaluations is {budget.evaluations}; the final choice takes up to {last} (optimizer.finalists = "
            f"{search.finalists} and the start on {problem.held_out} held-out {several(problem.item_name)}, two "
            f"candidates on {problem.test} test ones), and one candidate {first} more: give at least {last + first}, "
            "or fewer finalists or samples.",
            path="budget.evaluations",
        )
    _check_prices(problem, search, budget)
    lines = [("evaluations", _line(f"{most.evaluations:,}", budget.evaluations, f", {last:,} for the final choice"))]
    asking = most_asking(search, blocks)
    if most.tokens or budget.tokens is not None:
        lines.append(("tokens", _line(f"{most.tokens:,}", budget.tokens, _asked(f"{asking.tokens:,}", asking))))
    if most.money or budget.money is not None:
        lines.append(("money", _line(f"{most.money:,.4g}", budget.money, _asked(f"{asking.money:,.4g}", asking))))
    lines += _kept_lines(problem, search, budget)
    if budget.seconds is not None:
        lines.append(("seconds", f"no evaluation begins after {budget.seconds:g}, but for the final choice"))
    lines.append(("in flight", "what is under way when the run dies counts in full, and is made again"))
    return lines


def check_lines(problem: RewardProblem, budget: BudgetSettings) -> tuple[list[tuple[str, str]], bool]:
    """What ``thalweg check`` itself asks for, as lines of the plan, and whether the budget pays for it.

    Args:
        problem: whose checks they are.
        budget: the study's; what the checks cost is not charged to the run.
    """
    most = problem.most_checks()
    if not most.evaluations:
        return [], True
    bounds = [f"at most {most.tokens:,} tokens"] if most.tokens else []
    bounds += [f"at most {most.money:,.4g} in money"] if most.money else []
    text = f"asks for {some(most.evaluations, 'evaluation')} of the start, on {problem.item_name} 0"
    text += f": {', '.join(bounds)}, besides what a run costs" if bounds else ""
    for name in ("evaluations", "tokens", "money"):
        limit = getattr(budget, name)
        if limit is not None and getattr(most, name) > limit and not math.isclose(getattr(most, name), limit):
            return [("this check", f"asks for nothing: budget.{name} is {limit:,.10g}, and it {text}")], False
    return [("this check", text)], True


def _kept_lines(problem: RewardProblem, search: Search, budget: BudgetSettings) -> list[tuple[str, str]]:
    """How much of a budget is kept back for the final choice while the search goes on."""
    kept = _kept(problem, search, _present(problem), problem.dearest())
    lines = []
    for name, unit in (("tokens", "tokens"), ("money", "in money")):
        limit, most = getattr(budget, name), getattr(kept, name)
        if limit is not None and most:
            text = f"up to {most:,.10g} {unit} ({100 * most / limit:.3g} % of the budget) for the final choice"
            lines.append(("kept back", text))
    return lines


def _check_prices(problem: RewardProblem, search: Search, budget: BudgetSettings) -> None:
    """Refuse a budget that does not pay for the final choice and one evaluation, were all as dear as the start."""
    values = _present(problem)
    for name in ("tokens", "money"):
        limit = getattr(budget, name)
        if limit is None:
            continue
        last = getattr(_kept(problem, search, values, values), name)
        first = min(getattr(problem.most(values, item), name) for item in range(problem.items))
        least = last + first + getattr(search.most_propose(), name)
        if limit < least and not math.isclose(limit, least):
            raise StudyError(
                f"budget.{name} is {limit:,.10g}; the final choice can take {last:,.10g} (optimizer.finalists = "
                f"{search.finalists} and the start on {problem.held_out} held-out {several(problem.item_name)}, two "
                f"candidates on {problem.test} test ones), and the first step has to be paid for, too: give more than "
                f"{least:,.10g}, or fewer finalists or samples.",
                path=f"budget.{name}",
            )


def _present(problem: RewardProblem) -> dict[str, Any]:
    return {str(variable.name): variable.json() for variable in problem.variables}


def _kept(problem: RewardProblem, search: Search, start: dict[str, Any], other: dict[str, Any]) -> Spent:
    """What the final choice needs if all candidates but the start are as dear as ``other``."""
    first = problem.items + problem.held_out
    samples = range(problem.items, first + problem.test)

    def needs(values: dict[str, Any]) -> Needs:
        return needs_of(((item, problem.once(values, item), problem.most(values, item)) for item in samples), first)

    reserve = Reserve(search.finalists)
    reserve.take(needs(start), start=True)
    others = needs(other)
    for _ in range(search.finalists):
        reserve.take(others)
    return reserve.kept


def _asked(text: str, asking: Spent) -> str:
    """How much of a bound is for asking, and what it does not cover: texts that a model writes."""
    return f", {text} for asking a model, while texts are no longer than the present ones" if asking.tokens else ""


def _line(most: str, limit: float | None, more: str = "") -> str:
    return f"at most {most}{more}" + (f"; the budget stops it at {limit:,.10g}" if limit is not None else "")
