"""Optuna's samplers behind our face: one study in memory, asked and told.

Same seed, same space, same rewards: the candidates are those of ``study.optimize`` with Optuna's own sampler. Optuna's
parameters have the names that :meth:`thalweg.search.space.Space.suggest` asks for. Nothing of the process is changed:
no level of logging, no filter of warnings, no file.
"""

from __future__ import annotations

import abc
import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import MissingExtraError, ValueMismatchError
from thalweg.search.candidates import Proposal, Told
from thalweg.search.options import truth
from thalweg.search.replaying import ReplayEngine
from thalweg.search.space import Space, Values
from thalweg.search.space_nodes import Plain
from thalweg.search.values import digest_json

try:
    import optuna as optuna  # the samplers have it from here, so that a missing one names the extra
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "optuna":
        raise
    raise MissingExtraError(
        "this search is Optuna's, which is not installed; install it with: pip install 'thalweg[search]'",
        extra="search",
    ) from error

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

REPETITIONS = 20  # proposals that were there before, until a random new point is taken instead


class OptunaTrial:
    """An Optuna trial as a suggester.

    Example:
        >>> import optuna
        >>> from thalweg.search.optuna_engine import OptunaTrial
        >>> from thalweg.search.space import Space
        >>> space = Space.of({"type": "number", "minimum": 0, "maximum": 1}, name="x")
        >>> trial = optuna.trial.FixedTrial({"x": 0.25})
        >>> space.suggest(OptunaTrial(trial))
        {'x': 0.25}
    """

    def __init__(self, trial: Trial | optuna.trial.FixedTrial) -> None:
        self._trial = trial

    def float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """``suggest_float``."""
        return self._trial.suggest_float(name, low, high, log=log)

    def int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """``suggest_int``."""
        return self._trial.suggest_int(name, low, high, step=step, log=log)

    def categorical(self, name: str, choices: Sequence[Plain]) -> Plain:
        """``suggest_categorical``."""
        return self._trial.suggest_categorical(name, choices)


class OptunaEngine(ReplayEngine):
    """Base of the engines that are a sampler of Optuna's.

    A start that the space cannot express (other free text, say) is candidate 0 all the same; the sampler does not learn
    from it.
    """

    distinct: bool

    def __init__(
        self, space: Space, *, seed: int, start: Values | None = None, start_first: bool = True, distinct: bool
    ) -> None:
        super().__init__(space, seed=seed, start=start, start_first=start_first)
        self.distinct = truth(distinct, "distinct")
        self._fresh()

    @abc.abstractmethod
    def _sampler(self) -> BaseSampler:
        """A new sampler. Warnings of experimental or deprecated arguments are not shown."""

    def _begin(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = self._sampler()
        self._storage = optuna.storages.InMemoryStorage()
        with _quiet():
            self._study = optuna.create_study(storage=self._storage, sampler=sampler, direction="maximize")
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._trials: list[int | None] = []  # Optuna's number of each candidate
        self._heard: dict[str, Told] = {}  # by digest, for repetitions
        self._names: list[str] = []

    def _go_to(self, number: int, values: dict[str, Any]) -> None:
        try:
            answers = self.space.encode(values)
        except ValueMismatchError:
            self._trials.append(None)
        else:
            self._study.enqueue_trial(answers)
            trial = self._study.ask()
            self.space.suggest(OptunaTrial(trial))
            self._trials.append(trial.number)
        self._names.append(digest_json(values))

    def _next(self, number: int) -> Proposal | None:
        origin = self.kind
        trial = self._study.ask()
        values = self.space.suggest(OptunaTrial(trial))
        digest = digest_json(values)
        if self.distinct:
            repetitions = 0
            while digest in self._known:
                self._end(trial.number, self._heard.get(digest))  # so that the sampler goes elsewhere
                repetitions += 1
                if repetitions == REPETITIONS:
                    unseen = self.space.unseen(self._known, np.random.default_rng([self.seed, number]))
                    if unseen is None:
                        self._nothing_left = True
                        return None
                    origin = f"random ({self.kind} proposed only what was there before)"
                    self._study.enqueue_trial(self.space.encode(unseen))
                trial = self._study.ask()
                values = self.space.suggest(OptunaTrial(trial))
                digest = digest_json(values)
        self._trials.append(trial.number)
        self._names.append(digest)
        return Proposal(values, origin, digest=digest)

    def _end(self, trial: int, told: Told | None) -> None:
        """What ``study.optimize`` does at the end of a trial; ``study.tell`` would copy the trial besides, twice."""
        identifier = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial)
        state, values = _ended(told)
        self._study.sampler.after_trial(self._study, self._storage.get_trial(identifier), state, values)
        self._storage.set_trial_state_values(identifier, state, values)

    def _hear(self, told: Told, *, again: bool) -> None:
        self._heard[self._names[told.number]] = told
        trial = self._trials[told.number]
        if trial is None:
            return
        if not again:
            self._end(trial, told)
            return
        # Optuna has no way to correct a reward. The trials of a storage in memory are its own objects, and samplers
        # read them anew for each suggestion. (What CMA-ES made of a generation that is over stays.)
        frozen = self._study.get_trials(deepcopy=False)[trial]
        frozen.state, frozen.values = _ended(told)


def _ended(told: Told | None) -> tuple[optuna.trial.TrialState, list[float] | None]:
    """How a trial has ended. TPE ranks those that were pruned behind all others, and leaves out those that failed."""
    states = optuna.trial.TrialState
    if told is not None and told.reward is not None:
        return states.COMPLETE, [told.reward]
    return states.PRUNED if told is not None and told.refused else states.FAIL, None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the line that Optuna logs about a new study: for this thread, while this lasts."""
    thread = threading.get_ident()
    logger = logging.getLogger("optuna.storages._in_memory")

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
