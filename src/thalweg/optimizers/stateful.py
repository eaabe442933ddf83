"""An optimizer's state in and out, and where the model is to be evaluated."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.optimizers import persistence
from thalweg.optimizers.configured import ConfiguredOptimizer
from thalweg.optimizers.groups import group_config
from thalweg.optimizers.remembering import following
from thalweg.optimizers.settings import arrays_of, place_name, to_config
from thalweg.optimizers.snapshot import OptimizerSnapshot, read
from thalweg.schedules import OptimizationState, Schedule

if TYPE_CHECKING:
    from thalweg.optimizers.pytensor import Symbolic


class StatefulOptimizer(ConfiguredOptimizer):
    """What :class:`~thalweg.optimizers.local.LocalOptimizer` remembers; see there for the arguments."""

    def state(self) -> OptimizerSnapshot:
        """A copy of everything that decides the next step besides the variables' data.

        Returns:
            The rule's state, the counters, the hyperparameters with their schedules, and what the hooks are.

        Raises:
            OptimizerError: a step is running.
        """
        self._at_rest("taking its state")
        if self._face is not None:
            return self._face.state()
        return persistence.take(self._parameters, self._meta(), self._arrays())

    def _arrays(self) -> dict[str, np.ndarray]:
        """The arrays among the hyperparameters, by what a snapshot calls them."""
        tables = enumerate([self._settings, *(group.settings for group in self._groups)])
        return {name: array for number, table in tables for name, array in arrays_of(table, number).items()}

    def _meta(self) -> dict[str, Any]:
        """What a snapshot holds besides arrays."""
        carried = self._carried_numbers()
        return {
            "rule": self.rule.name,
            "form": dict(self.rule.chosen),
            "wrap": list(self._wrap),
            "updates": self._updates,
            "carried": [] if carried is None else carried.tolist(),
            "micro": self._micro,
            "accumulate": self._accumulate,
            "nonfinite": self._nonfinite,
            "skipped": self._skipped,
            "zeroed": self._zeroed,
            "groups": [group_config(group) for group in self._groups],
            "optimization_state": self._optimization_state.get_config(),
            "hyperparameters": {name: to_config(value) for name, value in self._settings.items()},
            "schedules": {place: saved for place, value in self._schedules().items() if (saved := value.state())},
            "process_grad": self._process_grad.get_config(),
            "process_model": self._process_model.get_config(),
        }

    def _known(self) -> Symbolic | None:
        """The PyTensor face, if the optimizer is used there, or was made of shared variables."""
        if self._face is None and self._symbols:
            from thalweg.optimizers.pytensor import symbolic  # which brings PyTensor

            return symbolic(self)  # type: ignore[arg-type]  # all of us are LocalOptimizers
        return self._face

    def _carried_numbers(self) -> np.ndarray | None:
        """The numbers that go from step to step, a row a group, if there are any yet."""
        if not self.rule.carried_names or self._updates == 0:
            return None
        return self._carried if self._seating is None else self._seating.batches[0].carried.copy()

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        """Continue from a snapshot: counters, rule's state, hyperparameters. The variables' data stay.

        A schedule or hook that is a callable of your own is never saved: the same hyperparameter or hook must have
        one of the same name already. It is known by its name alone, and two lambdas of one function share theirs.

        Args:
            snapshot: from :meth:`state` of an optimizer of the same rule, over variables of the same names.

        Raises:
            StateMismatchError: it does not fit; the message lists every difference, and nothing was changed.
            OptimizerError: a step is running.
        """
        self._at_rest("restoring")
        face = self._known()
        if face is not None:
            face.restore(snapshot, None if face.parameters else self._symbols or None)
        else:
            self._restore(snapshot, None)

    def dump(self, path: str | os.PathLike[str], *, keep: int = 2) -> None:
        """Save everything that decides the next step, with the variables' data.

        Args:
            path: a folder; each dump adds a generation to it.
            keep: how many generations stay there, at least 1.

        Raises:
            CheckpointError: ``keep`` is no such number, or it cannot be written; earlier generations are untouched.
            OptimizerError: a step is running.
        """
        self._at_rest("dumping")
        if self._face is not None:
            self._face.dump(path, keep=keep)
            return
        self._bound()
        self.state().save(path, keep=keep, data={p.name: p.data() for p in self._parameters})

    def load(self, path: str | os.PathLike[str], *, generation: int | None = None) -> None:
        """Continue from what :meth:`dump` saved, to the same bits: state, and the variables' data, in place.

        Args:
            path: the folder.
            generation: which generation, by default the newest; never another one than asked for.

        Raises:
            CheckpointError: there is none, or it cannot be read.
            CheckpointCorruptError: it is damaged; the message names file and entry.
            CheckpointVersionError: a newer major version of the format wrote it.
            StateMismatchError: it does not fit; the message lists every difference, and nothing was changed.
            OptimizerError: a step is running.
        """
        self._at_rest("loading")
        face = self._known()
        if face is not None:
            face.load(path, None if face.parameters else self._symbols or None, generation=generation)
            return
        self._bound()
        snapshot, data = read(path, generation)
        self._restore(snapshot, data)

    def _restore(
        self,
        snapshot: OptimizerSnapshot,
        data: dict[str, np.ndarray] | None,
        places: Mapping[str, int] | None = None,
    ) -> None:
        here = self.state().meta
        settled = persistence.settle(
            self.rule, self._parameters, self._settings, self._groups, here, snapshot, data, places
        )
        targets = [parameter.data() for parameter in self._parameters] if data else []
        # Nothing below can fail.
        self._settings = settled.settings
        for group, settings in zip(self._groups, settled.groups, strict=True):
            group.settings.clear()
            group.settings.update(settings)
        self._empty()
        self._updates, self._micro = settled.updates, settled.micro
        self._skipped, self._zeroed, self._carried = settled.skipped, settled.zeroed, settled.carried
        persistence.set_counts(self._optimization_state, settled.counts)
        schedules = self._schedules()
        for place, saved in settled.schedules.items():
            schedules[place].restore(saved)
        for parameter in self._parameters:
            parameter.set_slots(settled.slots[parameter.name])
            if settled.micro:
                parameter.accumulate(settled.accumulated[parameter.name], first=True)
        for parameter, target in zip(self._parameters, targets, strict=False):
            target[...] = (data or {})[parameter.name]
            parameter.variable.mark_modified()

    def reset(self, *, counters: bool = True) -> None:
        """Empty the rule's state (momentum, moments), as if no step had been made. The variables stay.

        Args:
            counters: also set the iterations, epochs and batches that schedules follow back to zero.

        Raises:
            OptimizerError: a step is running.
        """
        self._at_rest("resetting")
        if self._face is not None:
            self._face.reset(counters=counters)
        else:
            self._reset(counters=counters)

    def _reset(self, *, counters: bool) -> None:
        state = self._optimization_state
        fresh = OptimizationState(batch_size=state.batch_size) if counters else state
        self._begin(self._parameters, fresh)
        persistence.set_counts(state, fresh.get_config())

    def eval_params(self) -> dict[str, np.ndarray]:
        """Where the model is to be evaluated: for Schedule-Free and EMA not where the parameter is.

        Returns:
            A new array for each variable, by name; a copy of its data for rules that evaluate where they store.

        Example:
            >>> import numpy as np
            >>> import thalweg as tw
            >>> x = tw.Variable(np.array([1.0]), name="x", needs_grad=True)
            >>> optimizer = tw.SGD(x, learning_rate=1.0, wrap=["ema"], ema_decay=0.75)
            >>> y = tw.wait(optimizer.step(grad=np.array([4.0])))
            >>> x.data, optimizer.eval_params()["x"]
            (array([-3.]), array([0.]))
        """
        found, carried = {}, self._carried_numbers()
        for parameter in self._bound():
            data = parameter.data()
            if self.rule.evaluate is None or self._updates == 0 or self._evaluating:  # it is there already
                found[parameter.name] = np.array(data)
                continue
            hyper = self._hyper(self._optimization_state, None, parameter.group)
            h = type(hyper)(*map(data.dtype.type, hyper))
            numbers = () if carried is None else map(data.dtype.type, carried[parameter.group])
            value = self.rule.evaluate(data, self.rule.state(*parameter.slots().values(), *numbers), h)
            found[parameter.name] = np.array(value, data.dtype)
        return found

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Have the variables hold what :meth:`eval_params` says, inside a ``with``, and their own data again after it.

        Raises:
            OptimizerError: a step is running.
        """
        if not self._running.acquire(False):
            raise self._busy("evaluating")
        try:
            values = self.eval_params()
            kept = [(v, v.data, np.array(v.data, subok=False)) for v in self._variables]
            self._evaluating = True
            try:
                for (variable, data, _), value in zip(kept, values.values(), strict=True):
                    data[...] = value
                    variable.mark_modified()
                yield
            finally:
                for variable, data, copy in kept:
                    data[...] = copy
                    variable.data = data
        finally:
            self._evaluating = False
            self._running.release()

    def observe(self, metric: float) -> None:
        """Tell the schedules that follow a metric (``schedules.Plateau``) what it is now; others do not look at it.

        One that is in several places, also inside other schedules, is told once.

        Args:
            metric: for instance the loss of this epoch; NaN and infinity are not better than anything.

        Raises:
            HyperparameterError: the metric is no real number.

        Example:
            >>> import thalweg as tw
            >>> optimizer = tw.SGD(learning_rate=tw.schedules.Plateau(1.0, factor=0.5, patience=0))
            >>> for loss in (3.0, 4.0):
            ...     optimizer.observe(loss)
            >>> optimizer.current("learning_rate")
            0.5
        """
        several = following(self._schedules().values())
        for schedule in several:
            schedule.observe(metric)
        if several:
            self._changed()

    def forget_best(self) -> None:
        """Tell them that another metric follows (other data, another misfit): what was best so far says nothing of it.
        What they have reduced stays reduced.

        Example:
            >>> import thalweg as tw
            >>> optimizer = tw.SGD(learning_rate=tw.schedules.Plateau(1.0, factor=0.5, patience=0))
            >>> optimizer.observe(3.0)
            >>> optimizer.forget_best()
            >>> optimizer.observe(4.0)  # the first of the new ones
            >>> optimizer.current("learning_rate")
            1.0
        """
        several = following(self._schedules().values())
        for schedule in several:
            schedule.forget_best()
        if several:
            self._changed()

    def _schedules(self) -> dict[str, Schedule]:
        """Our schedules among the hyperparameters, by where they are."""
        tables = enumerate([self._settings, *(group.settings for group in self._groups)])
        places = {place_name(k, name): value for k, table in tables for name, value in table.items()}
        return {place: value for place, value in places.items() if isinstance(value, Schedule)}
