"""What a search can cost at most, before anything is paid for. ::

    evaluations ≤ Σ over blocks: iterations · (candidates + rescore) · batch   +   finalists · held_out  +  2 · test

and tokens and money at the most that the problem says one evaluation of its start can cost. The budget cuts all three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.errors import StudyError
from thalweg.runs.rewards import RewardProblem
from thalweg.runs.searching import final_evaluations
from thalweg.runs.settings import BudgetSettings, GenericBlock
from thalweg.search.budget import Spent
from thalweg.search.ready import Search


def most_of(problem: RewardProblem, search: Search, blocks: Sequence[GenericBlock]) -> Spent:
    """The most that a run can cost without a budget.

    A candidate can be dearer than the start (a longer prompt); the budget, where one is given, counts every candidate
    with its own bound.
    """
    count = 0
    for block in blocks:
        batch = block.batch_size or problem.items
        again = search.rescore if batch < problem.items else 0
        count += block.iterations * (search.candidates + again) * batch
    count += final_evaluations(problem, search)
    values = {str(variable.name): variable.json() for variable in problem.variables}
    samples = range(problem.items + problem.held_out + problem.test)
    each = [problem.most(values, item) for item in samples]
    dearest = Spent(0, max(most.tokens for most in each), max(most.money for most in each))
    asking = search.engine.most_ask(search.candidates)
    iterations = sum(block.iterations for block in blocks)
    return Spent(
        count,
        count * dearest.tokens + iterations * asking.tokens,
        count * dearest.money + iterations * asking.money,
    )


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
            f"{search.finalists} and the start on {problem.held_out} held-out {problem.item_name}s, two candidates on "
            f"{problem.test} test ones), and one candidate {first} more: give at least {last + first}, or "
            "fewer finalists or samples.",
            path="budget.evaluations",
        )
    _check_prices(problem, search, budget)
    lines = [("evaluations", _line(f"{most.evaluations:,}", budget.evaluations, f", {last:,} for the final choice"))]
    if most.tokens or budget.tokens is not None:
        lines.append(("tokens", _line(f"{most.tokens:,}", budget.tokens)))
    if most.money or budget.money is not None:
        lines.append(("money", _line(f"{most.money:,.4g}", budget.money)))
    if budget.seconds is not None:
        lines.append(("seconds", f"no iteration begins after {budget.seconds:g}"))
    return lines


def _check_prices(problem: RewardProblem, search: Search, budget: BudgetSettings) -> None:
    """Refuse a budget that does not pay for the final choice and one evaluation, were all as dear as the start."""
    values = {str(variable.name): variable.json() for variable in problem.variables}
    first = problem.items + problem.held_out
    for name in ("tokens", "money"):
        limit = getattr(budget, name)
        if limit is None:
            continue
        most = [getattr(problem.most(values, item), name) for item in range(first + problem.test)]
        last = (search.finalists + 1) * math.fsum(most[problem.items : first]) + 2 * math.fsum(most[first:])
        least = last + min(most[: problem.items]) + getattr(search.most_propose(), name)
        if limit < least and not math.isclose(limit, least):
            raise StudyError(
                f"budget.{name} is {limit:,.10g}; the final choice can take {last:,.10g} (optimizer.finalists = "
                f"{search.finalists} and the start on {problem.held_out} held-out {problem.item_name}s, two candidates "
                f"on {problem.test} test ones), and the first step has to be paid for, too: give more than "
                f"{least:,.10g}, or fewer finalists or samples.",
                path=f"budget.{name}",
            )


def _line(most: str, limit: float | None, more: str = "") -> str:
    return f"at most {most}{more}" + (f"; the budget stops it at {limit:,.10g}" if limit is not None else "")
