"""Asking a language model for one value of a search: attempts, repairs, what they cost, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

from thalweg.errors import AnswerError, LanguageModelError, ValueMismatchError
from thalweg.lm import LanguageModel, Message, Usage
from thalweg.search.budget import Spent
from thalweg.search.rewritten import RewriteCounts
from thalweg.search.space import Values
from thalweg.search.values import Json, digest_json


@dataclass(frozen=True)
class Asked:
    """What came of asking for one candidate.

    Args:
        values: the model's; None if there are none.
        why: there are none.
        spent: what the answers have cost.
        counts: what became of them.
    """

    values: Values | None
    why: str
    spent: Spent
    counts: RewriteCounts


async def ask_for_values(
    model: LanguageModel,
    question: Sequence[Message],
    part: dict[str, Json],
    *,
    draws: range,
    repairs: int,
    temperature: float,
    max_tokens: int,
    merged: Callable[[Json], Values],
    refusal: Callable[[Values], str | None] | None,
    seen: Set[str],
) -> Asked:
    """Ask for one candidate; whatever goes wrong with the model is said, not raised.

    Args:
        model: who is asked.
        question: what is asked.
        part: the schema of an answer.
        draws: one for each attempt.
        repairs: how often an answer that does not fit is sent back.
        temperature: of a draw.
        max_tokens: of an answer.
        merged: the whole values that an answer is a part of; raises ValueMismatchError if there are none.
        refusal: why the variables refuse values that fit the schemas, if they do.
        seen: digests of what is there already.
    """
    why, spent, counts = "", Spent(), RewriteCounts()

    def refused(value: Json) -> str | None:
        try:
            return None if refusal is None else refusal(merged(value))
        except ValueMismatchError:
            return None

    for attempt, draw in enumerate(draws):
        counts += RewriteCounts(repeated=int(attempt > 0))
        try:
            found = await model.structured(
                question,
                part,
                sample=draw,
                repairs=repairs,
                temperature=temperature,
                max_tokens=max_tokens,
                refusal=refused,
            )
        except AnswerError as error:
            spent += _charged(error, model)
            counts += RewriteCounts(repaired=max(len(error.details.get("answers", ())) - 1, 0))
            why = "the model's answer was invalid"
            continue
        except LanguageModelError as error:
            return Asked(None, f"there was no answer: {_short(error)}", spent + _charged(error, model), counts)
        spent += Spent(tokens=found.usage.tokens, money=model.spending.prices.money(found.usage))
        counts += RewriteCounts(repaired=found.repairs)
        try:
            values = merged(found.value)
        except ValueMismatchError:
            why = "the model's answer was invalid"
            continue
        if digest_json(values) not in seen:
            return Asked(values, "", spent, counts)
        why = "the model repeated itself"
    return Asked(None, why, spent, counts)


def _charged(error: LanguageModelError, model: LanguageModel) -> Spent:
    """What may have been paid although there is no value: for answers that do not fit, and requests that broke off."""
    usage = error.details.get("usage", Usage())
    return Spent(tokens=usage.tokens, money=model.spending.prices.money(usage))


def _short(error: Exception) -> str:
    return str(error).partition(". ")[0][:120]
