"""Rewriting by a language model: it sees what was tried and what came of it, and proposes a better value.

::

    ask the model  →  an answer that fits the schema and is new          a candidate
                   →  one that does not fit, or the variables refuse     sent back with what is wrong (``repairs``)
                   →  still none, or one that was there before           asked again, another draw (``attempts``)
                   →  still none, or no answer at all                    a search without a model, and counted

The search without a model (:mod:`thalweg.search.changing`) draws anew what the space leaves open, and else recombines
the sentences of what was tried; where that finds nothing new, it changes something else.
So a model that talks nonsense, a server that is down, or an exhausted budget makes a search worse, but never ends it.

Each candidate changes one thing, the one that was changed least of those that leave anything to try: the texts and
settings of a variable, or the examples on one of its shelves (:mod:`thalweg.search.shelves`), which are chosen by
softmax of what came of showing them, without asking a model. All else stays as in the best candidate so far.
What a candidate is depends on the answers, on what was told, and on its number, not on timing: with the answers
recorded (:class:`thalweg.lm.AnswerCache`), a resumed search goes on to the same candidates.

Source: optimization by prompting (Yang et al., Large language models as optimizers, ICLR 2024). Where we differ: values
with a schema, feedback of single samples, and the fallback.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from thalweg.errors import SearchError
from thalweg.lm import LanguageModel, Message
from thalweg.lm.before_paying import BEFORE_PAYING
from thalweg.search.asked import Asked, ask_for_values
from thalweg.search.budget import Spent
from thalweg.search.changing import all_seen, any_values, other_examples, other_values
from thalweg.search.engine import Engine, Proposal, Told
from thalweg.search.options import real, truth, whole
from thalweg.search.own_model import decisive, own_model
from thalweg.search.rewritten import (
    LONG_REMARK,
    LONG_REWARD,
    RewriteCounts,
    Tried,
    first_question,
    part_of,
    put_into,
    question,
    rewritable,
)
from thalweg.search.shelves import find_shelves
from thalweg.search.space import Space, Values
from thalweg.search.values import Json, copy_json, digest_json


class Rewrite(Engine):
    """Has a language model propose values.

    Args:
        space: what is searched; whatever its schemas leave free may be rewritten, also texts that other engines keep.
        seed: of the fallback's draws; the model's are of its own seed and the candidate's number.
        start: the present values; needed.
        start_first: whether they are candidate 0.
        lm: the model's arguments, such as ``{"base_url": ..., "model": ...}``; None if :attr:`model` is set, as
            programs do with their own model.
        history: how many of the values tried are shown, the best ones.
        remarks: how many pieces of feedback are shown.
        attempts: how often a candidate is asked for.
        repairs: how often an answer that does not fit is sent back.
        temperature: of the model's draws.
        choose_examples: whether examples are chosen, too; else they stay.
        max_tokens: of an answer.

    Attributes:
        model: who is asked. Set it before the first ``ask``, unless ``lm`` is given.
        pricing: a model like it, whose bounds count as long as there is none: it is not asked.
        counts: what became of asking so far.

    Raises:
        SearchError: an option is wrong, there is no start, or the schemas leave nothing free.
        LanguageModelError: ``lm`` has wrong arguments.

    Example:
        >>> import json
        >>> import thalweg as tw
        >>> from thalweg.lm import LanguageModel
        >>> from thalweg.lm.stub import Stub
        >>> from thalweg.search.rewriting import Rewrite
        >>> from thalweg.search.space import Space
        >>> schema = {"type": "object", "properties": {"instructions": {"type": "string"}}}
        >>> start = {"step": {"instructions": "Answer."}}
        >>> space = Space.of(schema, name="step", present=start["step"])
        >>> with Stub(lambda body: json.dumps({"instructions": "Answer Yes or No."})) as stub:
        ...     engine = Rewrite(space, seed=0, start=start)
        ...     engine.model = LanguageModel(stub.url, "stub")
        ...     candidates = tw.wait(engine.ask(2))
        >>> [(candidate.values["step"]["instructions"], candidate.origin) for candidate in candidates]
        [('Answer.', 'the start'), ('Answer Yes or No.', 'rewritten')]
    """

    kind: ClassVar[str] = "rewrite"

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        start: Values | None = None,
        start_first: bool = True,
        lm: dict[str, Any] | None = None,
        history: int = 8,
        remarks: int = 4,
        attempts: int = 2,
        repairs: int = 1,
        temperature: float = 0.7,
        max_tokens: int = 400,
        choose_examples: bool = True,
    ) -> None:
        super().__init__(space, seed=seed, start=start, start_first=start_first)
        if start is None:
            raise SearchError("rewriting needs values to rewrite; give start.")
        self.lm = copy_json(lm)
        self.history = whole(history, "history", least=1)
        self.remarks = whole(remarks, "remarks", least=0)
        self.attempts = whole(attempts, "attempts", least=1)
        self.repairs = whole(repairs, "repairs", least=0)
        self.temperature = real(temperature, "temperature", above=-1e-9)
        self.max_tokens = whole(max_tokens, "max_tokens", least=1)
        self.choose_examples = truth(choose_examples, "choose_examples")
        parts = {name: rewritable(schema) for name, schema in space.schemas.items()}
        self._parts = {name: part for name, part in parts.items() if part is not None}
        if not self._parts:
            raise SearchError("there is nothing to rewrite: the schemas leave nothing free besides examples.")
        self.model: LanguageModel | None = None if lm is None else own_model(lm)
        self.pricing: LanguageModel | None = None
        self.counts = RewriteCounts()
        self._spent = Spent()
        self._tried: list[Values] = []
        shelves = find_shelves(space) if choose_examples else []
        self._shelves = {f"{'.'.join((shelf.variable, *shelf.path))} (examples)": shelf for shelf in shelves}
        self._visits = dict.fromkeys([*self._parts, *self._shelves], 0)
        self._feedback: dict[int, tuple[str, ...]] = {}

    @property
    def exhausted(self) -> bool:
        """Whether neither the model nor the fallback finds anything new."""
        return self._nothing_left

    @property
    def spent(self) -> Spent:
        """What the model's answers have cost."""
        return self._spent

    @property
    def paid(self) -> Spent:
        """What the model was paid in this process, by whoever asked it: answers from the disk are not among it."""
        if self.model is None:
            return Spent()
        spending = self.model.spending
        return Spent(tokens=spending.used.tokens, money=spending.paid)

    def pays_after(self, noted: Callable[[], Awaitable[None]]) -> None:
        """The model waits for it before it sends a request."""
        BEFORE_PAYING.set(noted)

    def most_ask(self, count: int) -> Spent:
        """The most that the next ``ask(count)`` may cost."""
        names = [name for name in self._turns(count) if name in self._parts]
        return sum((self._most(name, self._question(name)) for name in names), Spent())

    def most_each(self) -> Spent:
        """The most that asking for one candidate may cost, with a full history and all remarks, as long as texts are no
        longer than the start's."""
        assert self.start is not None
        each = []
        for name, part in self._parts.items():
            tried = Tried(0, part_of(self.start[name], part), LONG_REWARD, (LONG_REMARK,) * self.remarks)
            each.append(self._most(name, question(name, part, [tried] * self.history, self.remarks)))
        return Spent(tokens=max(one.tokens for one in each), money=max(one.money for one in each))

    def _most(self, name: str, asked: list[Message]) -> Spent:
        model = self.model or self.pricing
        if model is None:
            return Spent()
        most = model.most_structured(asked, self._parts[name], repairs=self.repairs, max_tokens=self.max_tokens)
        most = most.times(self.attempts)
        return Spent(tokens=most.tokens, money=model.spending.prices.money(most))

    def metrics(self) -> dict[str, float]:
        """The counts, for the history."""
        return {f"rewrite_{name}": float(count) for name, count in asdict(self.counts).items()}

    def keep_answers(self, folder: str | os.PathLike[str]) -> None:
        """Keep what the model of ``lm`` answers in a folder, unless ``lm`` names one; a run does it before it asks."""
        if self.lm is not None and self.lm.get("cache") is None:
            self.model = own_model(self.lm, cache=folder)

    def check_key(self) -> None:
        """Raise unless the key that the model needs is there; a run does it before it asks.

        Raises:
            LanguageModelError: names the variable.
        """
        if self.model is not None:
            self.model.check_key()

    def close(self) -> None:
        """Give the model's cache back, if this engine made the model."""
        if self.lm is not None and self.model is not None:
            self.model.close()

    # -- proposing -----------------------------------------------------------------------

    async def _propose(self, count: int) -> list[Proposal]:
        if self.model is None:
            raise SearchError(
                "the engine rewrite has no model; give lm = {base_url = ..., model = ...}, or set engine.model."
            )
        proposals: list[Proposal] = []
        if self._starts:
            assert self.start is not None
            proposals.append(Proposal(copy_json(self.start), "the start"))
        first = len(self._tried) + len(proposals)
        turns = self._turns(count)
        asked = await asyncio.gather(*(self._ask(name, first + k) for k, name in enumerate(turns)))
        # All the same from here on, whoever answered first.
        counts, spent = sum((one.counts for one in asked), self.counts), sum((one.spent for one in asked), self._spent)
        seen = set(self._seen) | {digest_json(proposal.values) for proposal in proposals}
        visits = dict(self._visits)
        for k, (name, found) in enumerate(zip(turns, asked, strict=True)):
            rng = np.random.default_rng([self.seed, first + k])
            proposal, became = self._settled(name, found, rng, seen, visits)
            counts += became
            if proposal is not None:
                seen.add(digest_json(proposal.values))
                proposals.append(proposal)
        self.counts, self._spent, self._visits, self._nothing_left = counts, spent, visits, not proposals
        self._tried = [*self._tried, *(copy_json(proposal.values) for proposal in proposals)]
        return proposals

    def _offered(self, values: Values, origin: str) -> Proposal:
        self._tried = [*self._tried, values]
        return Proposal(values, origin)

    def _turns(self, count: int) -> list[str]:
        """What each of the next candidates changes: what was changed least, of what leaves anything to try."""
        base, seen, visits = self._base(), self._seen.keys(), dict(self._visits)
        things = {name: self._shelves.get(name) or (name, self._parts[name]) for name in visits}
        names = [name for name in visits if not all_seen(self.space, base, things[name], seen)] or list(visits)
        turns = []
        for _ in range(count - int(self._starts)):
            name = min(names, key=lambda one: visits[one])
            visits[name] += 1
            turns.append(name)
        return turns

    def _settled(
        self, name: str, found: Asked, rng: np.random.Generator, seen: set[str], visits: dict[str, int]
    ) -> tuple[Proposal | None, RewriteCounts]:
        """A turn's proposal: the model's; else a change of the same thing without it, or of whatever was changed least;
        else any other point of the space."""
        visits[name] += 1
        if found.values is not None and digest_json(found.values) not in seen:
            return Proposal(found.values, "rewritten"), RewriteCounts(accepted=1)
        why = "the model repeated itself" if found.values is not None else found.why
        others = sorted(visits, key=lambda one: visits[one])
        refused = shunned = False

        def refusal(point: Values) -> str | None:
            nonlocal refused
            said = None if self.refusal is None else self.refusal(point)
            refused = refused or said is not None
            return said

        for other in [name, *(one for one in others if one != name)]:
            values = self._without(other, rng, seen, refusal)
            if values is None:
                if other == name and name in self._shelves and refused:
                    shunned, why = True, "the variables refuse all new examples that were drawn"
                continue
            visits[other] += int(other != name)
            if other != name and shunned:  # else its turn would always be the next, and the model never asked
                visits[name] = max(visits[name], visits[other])
            if name in self._shelves and other in self._shelves:
                return Proposal(values, "other examples"), RewriteCounts()
            return Proposal(values, f"without a model ({why})"), RewriteCounts(replaced=1)
        drawn = any_values(self.space, rng, seen, self.refusal)
        proposal = Proposal(drawn, f"without a model ({why})") if drawn is not None else None
        return proposal, RewriteCounts(replaced=int(proposal is not None))

    def _without(
        self, name: str, rng: np.random.Generator, seen: set[str], refusal: Callable[[Values], str | None]
    ) -> Values | None:
        """The best candidate's values with one thing changed, without a model."""
        if name not in self._shelves:
            return other_values(self.space, self._base(), name, self._tried, rng, seen, refusal)
        told = [(self._tried[number], reward) for number, reward in sorted(self._rewards.items()) if reward is not None]
        return other_examples(self._shelves[name], self._base(), told, rng, seen, refusal)

    async def _ask(self, name: str, number: int) -> Asked:
        """Ask for one candidate; whatever goes wrong with the model is said, not raised."""
        assert self.model is not None
        if name in self._shelves:
            return Asked(None, "all examples were tried", Spent(), RewriteCounts())
        part, base = self._parts[name], self._base()

        def merged(value: Json) -> Values:
            values = self.space.normal_form({**base, name: put_into(base[name], value, part)})
            self.space.check(values)
            return values

        return await ask_for_values(
            self.model,
            self._question(name),
            part,
            draws=range(number * self.attempts, (number + 1) * self.attempts),
            repairs=self.repairs,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            merged=merged,
            refusal=self.refusal,
            seen=self._seen.keys(),
        )

    def _base(self) -> Values:
        """The values of the best candidate so far, the first of equals; the start before any was told."""
        ranked = self._ranked()
        assert self.start is not None
        return copy_json(self._tried[ranked[-1]] if ranked else self.start)  # type: ignore[no-any-return]  # a dict

    def _ranked(self) -> list[int]:
        """The candidates with a reward, worst first, later ones before earlier equals."""
        told = [(reward, -number) for number, reward in self._rewards.items() if reward is not None]
        return [-number for _, number in sorted(told)]

    def _question(self, name: str) -> list[Message]:
        part = self._parts[name]
        shown: dict[str, Tried] = {}
        for number in self._ranked():
            tried = part_of(self._tried[number][name], part)
            key = digest_json(tried)
            shown.pop(key, None)
            shown[key] = Tried(number, tried, self._rewards[number], self._feedback.get(number, ()))
        history = list(shown.values())[-self.history :]
        if not history:
            assert self.start is not None
            history = [Tried(0, part_of(self.start[name], part), None, ())]
            return question(name, part, [], 0) if self._rewards else first_question(name, part, history[0].part)
        return question(name, part, history, self.remarks)

    # -- learning and state --------------------------------------------------------------

    def _learn(self, results: list[Told]) -> None:
        for told in results:
            if told.feedback or told.samples or told.number not in self._feedback:  # not only another mean: an equal's
                self._feedback = {**self._feedback, told.number: told.feedback[: self.remarks]}

    def _identity(self) -> dict[str, Json]:
        """Without what of ``lm`` decides no answer: a server may move."""
        identity = super()._identity()
        options = identity["options"]
        assert isinstance(options, dict)
        return {**identity, "options": {**options, "lm": decisive(self.lm)}}

    def _own_state(self) -> dict[str, Json]:
        return {
            "tried": copy_json(self._tried),
            "visits": dict(self._visits),
            "feedback": [[number, list(texts)] for number, texts in sorted(self._feedback.items())],
            "counts": asdict(self.counts),
            "spent": asdict(self._spent),
        }

    def _restore_own(self, state: dict[str, Any]) -> None:
        # What was written down has its keys by name, and candidates depend on their order.
        tried = [self.space.normal_form(values) for values in state["tried"]]
        if [digest_json(values) for values in tried] != self._digests or state["visits"].keys() != self._visits.keys():
            raise ValueError("its candidates are not those of their digests")
        self._tried = tried
        self._visits = {name: int(state["visits"][name]) for name in self._visits}
        self._feedback = {int(number): tuple(map(str, texts)) for number, texts in state["feedback"]}
        self.counts = RewriteCounts(**state["counts"])
        self._spent = Spent(**state["spent"])
