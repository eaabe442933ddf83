"""An engine bound to variables, with what is known of its candidates: what both faces of a search share."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thalweg.errors import SearchError, StateMismatchError, ThalwegError, ValueMismatchError
from thalweg.schedules import OptimizationState
from thalweg.search.alike import Alike
from thalweg.search.budget import Spent
from thalweg.search.engine import Candidate, Engine, Told
from thalweg.search.engines import check_options, engine_class, engine_options
from thalweg.search.misplaced import refuse_misplaced
from thalweg.search.normal_form import normal_form
from thalweg.search.optimizer import RewardOptimizer, known_arguments
from thalweg.search.options import real, whole
from thalweg.search.rereading import nearly
from thalweg.search.scores import Scores
from thalweg.search.space import Space
from thalweg.search.space_nodes import Draws
from thalweg.search.structured import StructuredVariable
from thalweg.search.trials import Scored, Trial, trial_of, trial_state
from thalweg.search.values import copy_json, digest_json, in_order

REFUSALS = 20  # in a row, until a random point that the variables accept is tried instead
DRAWS = 10_000  # random points among which one is looked for
IN_A_ROW = 1000  # refusals, where there was none among them, until a search gives up
_STREAM = 0xF175


class BoundSearch(RewardOptimizer):
    """Asks an engine for values of its variables, and remembers what they were worth; see :class:`Search`."""

    def __init__(
        self,
        kind: str = "auto",
        *,
        options: Mapping[str, Any] | None = None,
        evaluations: int | None = None,
        candidates: int = 1,
        rescore: int = 1,
        finalists: int = 4,
        confidence: float = 0.95,
        seed: int = 0,
        schema: dict[str, Any] | None = None,
        data_model: Any = None,
        name: str | None = None,
        description: str | None = None,
        **others: Any,
    ) -> None:
        if schema is None and data_model is None:
            schema = {"type": "object"}
        if others:
            refuse_misplaced(type(self).__name__, kind, others, known_arguments(type(self)))
        super().__init__(schema=schema, data_model=data_model, name=name, description=description, **others)
        check_options(kind, dict(options or {}))
        self.kind = kind
        self.options = copy_json(dict(options or {}))
        self.evaluations = None if evaluations is None else whole(evaluations, "evaluations", least=1)
        self.candidates = whole(candidates, "candidates", least=1)
        self.rescore = whole(rescore, "rescore", least=0)
        self.finalists = whole(finalists, "finalists", least=1)
        self.confidence = real(confidence, "confidence", above=0.5, most=0.999_999)
        self.seed = whole(seed, "seed", least=0, most=2**32 - 1)
        self.optimization_state = OptimizationState()
        self._bound: tuple[StructuredVariable, ...] = ()
        self._engine: Engine | None = None
        self._scores = Scores(None, confidence=self.confidence)
        self._values: dict[int, dict[str, Any]] = {}
        self._alike = Alike()  # what is known of one is known of all of them; in the scores it is the first
        self._present: int | None = None
        self._samples = 0  # that the page's face has used up
        self._named: set[int] = set()  # samples that the page's face was told by number
        self._trials: list[Trial] = []
        self._first = 0
        self.stuck: str | None = None  # why the last asking gave up: nothing was found that the variables accept
        self._refused: dict[int, str] = {}  # of the candidates that it gave, why the variables refuse some of them

    # -- binding -------------------------------------------------------------------------

    def bind(self, variables: Sequence[StructuredVariable], *, samples: int | None = None) -> None:
        """Search these variables from now on, together; their present values are the start.

        Args:
            variables: trainable ones, with distinct names.
            samples: how many samples a reward is the mean over; None if there is no end of them.

        Raises:
            SearchError: they are bound to others already, or the engine cannot search them.
        """
        if self._bound:
            if [id(v) for v in variables] != [id(v) for v in self._bound]:
                names = ", ".join(repr(v.name) for v in self._bound)
                raise SearchError(f"{self.name} searches {names}; other variables need a search of their own.")
            return
        start = {str(variable.name): variable.json() for variable in variables}
        space = Space.of_variables(list(variables))
        known = {"evaluations": self.evaluations} if "evaluations" in engine_options(self.kind) else {}
        self._engine = engine_class(self.kind)(space, seed=self.seed, start=start, **{**known, **self.options})
        self._engine.refusal = self._refusal
        self._scores = Scores(samples, confidence=self.confidence)
        self._bound = tuple(variables)

    @property
    def engine(self) -> Engine:
        """What proposes; it is made when the variables are known.

        Raises:
            SearchError: they are not yet.
        """
        if self._engine is None:
            raise SearchError(
                f"{self.name} has no variables yet; its first apply_optimization, or bind, gives it some."
            )
        return self._engine

    @property
    def scores(self) -> Scores:
        """What is known of the candidates."""
        return self._scores

    @property
    def first(self) -> int:
        """The number of the first candidate that is compared, mostly the start: 0, unless the search began anew."""
        return self._first

    @property
    def asked(self) -> int:
        """How many candidates there are, with those from before the search began anew."""
        return self._first + self.engine.asked

    def _begin_anew(self, store: Mapping[str, Any]) -> None:
        """Go on after :meth:`save_own_variables` without the rewards, since those to come are decided by something
        else: the values may fit the variables no more, and the engine has learnt nothing. The start is the next
        candidate; numbers go on, so that no two candidates share one."""
        saved, samples = dict(store.get("search") or {}), self._scores.samples
        try:
            first = whole(saved["first"], "first", least=0) + len(saved["values"])
            counts = OptimizationState(**saved["counts"])
        except (SearchError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise StateMismatchError(f"the saved search cannot be read ({error!r}); it is damaged.") from error
        super().load_own_variables({name: entry for name, entry in store.items() if name != "search"})
        self.optimization_state = counts
        self.engine.begin_anew()
        self.engine.count_from(first)
        self._first, self._scores = first, Scores(samples, confidence=self.confidence)
        self._values, self._alike, self._trials, self._present = {}, Alike(), [], None

    def _was_told(self, number: int) -> bool:
        return self.engine.was_told(number - self._first)

    def _pending(self) -> set[int]:
        return {self._first + candidate.number for candidate in self.engine.pending}

    def values(self, number: int) -> dict[str, Any]:
        """The values of a candidate, by variable name; a copy."""
        return dict(copy_json(self._values[number]))

    def assign(self, number: int) -> None:
        """Give the variables the values of a candidate: those that were scored, to the last bit."""
        for variable in self._bound:
            _, counter = variable.held()
            variable.hold((copy_json(self._values[number][str(variable.name)]), [counter[0] + 1]))

    async def _ask(self, count: int, *, whatever_it_costs: bool = False) -> list[Candidate]:
        """New candidates. Those that a data model refuses, though its schema has them, have failed. In their place the
        engine is asked for others, unless it pays for that and it may not cost whatever it does: then they stay.

        An engine that comes back to what is refused, as samplers do which leave out what has failed, is offered random
        points. If none is found either, there are fewer candidates, and :attr:`stuck` says why.
        """
        fresh: list[Candidate] = []
        row, self.stuck, self._refused, found = 0, None, {}, False
        while True:
            asked, refused = await self._numbered(count - len(fresh))
            accepted = [one for one in asked if one.number not in refused]
            free = self.engine.most_ask(max(count - len(fresh) - len(accepted), 1)) == Spent()
            if not refused or not (free or whatever_it_costs):
                self._refused = refused
                return fresh + asked
            fresh += accepted
            self._tell([Scored(number, {}, {0: fault}, again=False) for number, fault in refused.items()], refused=True)
            before, row = (0 if accepted else row), len(refused) + (0 if accepted else row)
            if len(fresh) < count and before < REFUSALS <= row:
                offered = self._offered()
                fresh += offered or []
                row, found = 0 if offered else row, offered is not None
            if len(fresh) == count or (fresh and self.engine.sequential):
                return fresh
            if row >= (IN_A_ROW if free else REFUSALS):
                kind, none = self.engine.kind, f"nothing new that they accept was found among {DRAWS:,} random ones"
                others = f"{kind} takes none but its own, though others that they accept were found: take another kind"
                self.stuck = (
                    f"the variables refuse {row} candidates of {kind} in a row, and {others if found else none}; of "
                    f"the last: {list(refused.values())[-1]}"
                )
                return fresh

    def _offered(self) -> list[Candidate] | None:
        """A random point that the variables accept and that was not there before, as a candidate of the engine's: none
        if the engine does not take it. None if there is no such point."""
        rng = np.random.default_rng([self.seed, self.asked, _STREAM])
        found: dict[str, Any] = {}
        for _ in range(DRAWS):
            for variable in self._bound:
                name = str(variable.name)
                if name not in found:
                    value = normal_form(self.engine.space.nodes[name], self.engine.space.nodes[name].draw(Draws(rng)))
                    if self._fault(variable, value) is None:
                        found[name] = value
            if len(found) == len(self._bound):
                values = {name: found[name] for name in self.engine.space.nodes}
                if not self._alike.with_values(self._held(values)[0]):
                    one = self.engine.offer(values, f"random (the variables refuse what {self.kind} proposes)")
                    return [] if one is None else [self._noted(one)[0]]
                found = {}
        return None

    def _fault(self, variable: StructuredVariable, value: Any) -> str | None:
        try:
            variable.fitting(value)
        except ValueMismatchError as error:
            return str(error)
        return None

    async def _numbered(self, count: int) -> tuple[list[Candidate], dict[int, str]]:
        """New candidates with their numbers here, and why the variables refuse some of them."""
        noted = [self._noted(one) for one in await self.engine.ask(count)]
        refused = {one.number: fault for one, fault in noted if fault is not None}
        for number in refused:
            self._scores.fail(self._alike.first(number))
        return [one for one, _ in noted], refused

    def _noted(self, one: Candidate) -> tuple[Candidate, str | None]:
        """An engine's candidate with its number here, and why the variables refuse it, if they do."""
        values, fault = self._held(one.values)
        noted = replace(one, number=self._first + one.number, values=values)
        self._values.setdefault(noted.number, copy_json(values))
        self._alike.add(noted.number, values)
        return noted, fault

    def _held(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """A point as the variables would hold it, in the space's normal form and as their data models write it; and
        why one refuses it, if one does."""
        point, fault = self.engine.space.normal_form(dict(values)), None
        for variable in self._bound:
            try:
                point[str(variable.name)] = variable.fitting(point[str(variable.name)])
            except ValueMismatchError as error:
                fault = fault or str(error)
        return point, fault

    def _refusal(self, values: Mapping[str, Any]) -> str | None:
        return self._held(values)[1]

    def _as_saved(self, saved: dict[str, Any]) -> dict[str, Any]:
        """A point that was saved, with the keys, which are by name there, in their order again. Its numbers are those
        that were scored, also where a model would give them other last bits today."""
        held, _ = self._held(saved)
        return dict(in_order(saved, held)) if nearly(held, saved) else held

    def _count(self) -> None:
        self._iteration.assign({"iteration": self.iterations + 1})

    def _tell(self, rounds: Sequence[Scored], *, refused: bool = False) -> None:
        results: dict[int, Told] = {}
        for scored in rounds:
            first, reward = self._alike.first(scored.number), None
            texts = [sample.feedback for _, sample in sorted(scored.rewards.items())]
            texts += [text.strip().splitlines()[-1] for _, text in sorted(scored.failed.items()) if text.strip()]
            if not self._scores.has_failed(first):
                reward = self._scores.mean(first)
            samples = tuple((item, sample.reward) for item, sample in sorted(scored.rewards.items()))
            number = scored.number - self._first
            results[number] = Told(number, reward, tuple(text for text in texts if text), samples, refused)
        for told in list(results.values()):
            for other in self._outdated(told):
                results.setdefault(other, Told(other, told.reward, refused=told.refused))
        if results:
            self.engine.tell(list(results.values()))

    def _outdated(self, told: Told) -> list[int]:
        """The candidates with the same values that the engine knows by another reward."""
        group = self._alike.of(self._first + told.number)
        if len(group) == 1:
            return []
        pending = self._pending()
        numbers = [number - self._first for number in group if number not in pending]
        engine = self.engine
        return [n for n in numbers if engine.was_told(n) and engine.reward_of(n) != told.reward]

    # -- state ---------------------------------------------------------------------------

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Everything that decides the next candidates, besides what the base class saves."""
        super().save_own_variables(store)
        store["search"] = {
            "variables": [str(variable.name) for variable in self._bound],
            "engine": self.engine.state() if self._engine is not None else None,
            "scores": self._scores.state(),
            "values": {str(number): copy_json(values) for number, values in sorted(self._values.items())},
            "present": self._present,
            "samples": self._samples,
            "named": sorted(self._named),
            "first": self._first,
            "trials": [trial_state(trial) for trial in self._trials],
            "counts": self.optimization_state.get_config(),
        }

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Go on where :meth:`save_own_variables` was called; all or nothing. The variables themselves are not touched.

        Raises:
            StateMismatchError: it is of another search or of other variables, or damaged.
        """
        saved = store.get("search")
        names = [str(variable.name) for variable in self._bound]
        if not isinstance(saved, dict) or saved.get("variables") != names:
            theirs = saved.get("variables") if isinstance(saved, dict) else None
            raise StateMismatchError(
                f"the saved search is of the variables {theirs}, and {self.name} searches {names}."
            )
        engine = self._engine
        try:
            scores = Scores(self._scores.samples, confidence=self.confidence)
            scores.restore(saved["scores"])
            values = {int(number): copy_json(entry) for number, entry in saved["values"].items()}
            trials = [trial_of(entry) for entry in saved["trials"]]
            counts = OptimizationState(**saved["counts"])
            present, samples = saved["present"], whole(saved["samples"], "samples", least=0)
            named = {whole(number, "named", least=0) for number in saved.get("named", [])}
            first = whole(saved["first"], "first", least=0)
            if engine is not None:
                engine = copy.copy(engine)
                engine.restore(saved["engine"])
            known = range(first, first + (engine.asked if engine is not None else 0))
            self._check_saved(known, scores, values, trials, present)
            if engine is not None:  # what was saved has its keys by name
                values = {number: self._as_saved(entry) for number, entry in values.items()}
                trials = [trial.with_values(values[trial.candidate.number]) for trial in trials]
        except ThalwegError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            raise StateMismatchError(f"the saved search cannot be read ({error!r}); it is damaged.") from error
        super().load_own_variables({name: entry for name, entry in store.items() if name != "search"})
        self._engine, self._first = engine, first
        if engine is not None:
            engine.count_from(first)
        self._scores, self._values, self._trials, self._alike = scores, values, trials, Alike(values)
        self._present, self._samples, self.optimization_state = present, samples, counts
        self._named = named

    def _check_saved(
        self,
        known: range,
        scores: Scores,
        values: Mapping[int, dict[str, Any]],
        trials: Sequence[Trial],
        present: Any,
    ) -> None:
        """See to it that what was saved belongs together, and fits the variables.

        Raises:
            ValueError, KeyError: it does not; this is damage.
            ValueMismatchError: a value does not fit its variable.
        """
        if values.keys() != set(known):
            raise ValueError(f"{len(known)} candidates were asked for, and there are values of {len(values)}")
        alike = Alike(values)
        for number, entry in values.items():
            for variable in self._bound:
                if not scores.has_failed(alike.first(number)):
                    variable.fitting(entry[str(variable.name)])
        tried = [trial.candidate.number for trial in trials]
        mentioned = {*scores.numbers, *tried} | (set() if present is None else {present})
        if not mentioned <= values.keys() or (present is not None and type(present) is not int):
            raise ValueError("it mentions candidates that were never asked for")
        for trial in trials:
            if digest_json(trial.candidate.values) != digest_json(values[trial.candidate.number]):
                raise ValueError(f"candidate {trial.candidate.number} is there with different values")

    def get_config(self) -> dict[str, Any]:
        """What :meth:`from_config` makes the same search of; JSON."""
        return {
            **super().get_config(),
            "kind": self.kind,
            "options": copy_json(self.options),
            "evaluations": self.evaluations,
            "candidates": self.candidates,
            "rescore": self.rescore,
            "finalists": self.finalists,
            "confidence": self.confidence,
            "seed": self.seed,
        }
