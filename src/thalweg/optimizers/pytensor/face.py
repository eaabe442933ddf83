"""A gradient optimizer on PyTensor: the updates of shared variables, as ``pytensor.function`` takes them.

The optimizer is the same as on NumPy, made without variables; here are the shared variables that hold its state,
one for each slot of each parameter, found by the parameter itself, and never by its place in a list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.lowering.comparing import by_value
from thalweg.lowering.pytensor import Expression, Gate, library
from thalweg.lowering.tracing import traced
from thalweg.optimizers import persistence
from thalweg.optimizers.groups import assign
from thalweg.optimizers.matching import completed
from thalweg.optimizers.parameters import mismatch
from thalweg.optimizers.pytensor import graph as graphing
from thalweg.optimizers.pytensor import rate as rates
from thalweg.optimizers.pytensor.graph import Updates
from thalweg.optimizers.pytensor.shared import Held, SharedParameter, checked_list
from thalweg.optimizers.pytensor.standing import Standing
from thalweg.optimizers.snapshot import OptimizerSnapshot, read
from thalweg.rules.elementwise import refuse_other_shapes

if TYPE_CHECKING:
    from thalweg.optimizers.local import LocalOptimizer


class Symbolic:
    """The PyTensor face of an optimizer; :func:`symbolic` finds it, ``optimizer.update`` uses it.

    Everything that an update changes, and every number that is set on the optimizer, is a shared variable that is
    kept here. So an update list that was asked for twice has the same state, and numbers set later are followed: from
    the next :meth:`update`, :meth:`refresh`, :meth:`restore` or :meth:`load` on also by functions compiled before.
    Schedules and hooks are part of the graph, and so is whether a hyperparameter is a number or an array like the
    parameter: setting another one is an error.

    Args:
        optimizer: an optimizer without variables.

    Raises:
        MissingExtraError: PyTensor is not installed.
        OptimizerError: the optimizer is bound to Variables, or does what a graph cannot hold.

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> import thalweg as tw
        >>> from thalweg.optimizers.pytensor import symbolic
        >>> x = pytensor.shared(np.array([3.0]), name="x")
        >>> momentum = tw.Momentum(learning_rate=0.5)
        >>> updates = momentum.update((x**2).sum(), [x])
        >>> step = pytensor.function([], updates=updates, mode="FAST_COMPILE")
        >>> _ = step()
        >>> symbolic(momentum).state().arrays
        {'slots/velocity/x': array([-3.])}
    """

    def __init__(self, optimizer: LocalOptimizer) -> None:
        library()
        self.optimizer = optimizer
        self._check()
        self.parameters: tuple[SharedParameter, ...] = ()
        self.held = Held(optimizer)
        self._counted = self._stepped = False  # whether t is in a graph; whether a step was seen to be made
        self._standing: Standing | None = None  # of the graphs that were made, if any was
        self._unused: list[Any] | None = None  # the optimizer's own rates, once a graph has one in their place
        self._followed = False  # whether a graph has the optimizer's own

    def _check(self) -> None:
        optimizer, cls = self.optimizer, type(self.optimizer)
        if optimizer.variables:
            raise OptimizerError(
                f"{optimizer.name} is bound to Variables, which it updates on NumPy; for PyTensor make one without, "
                f"{cls.__name__}()"
            )
        from thalweg.optimizers.local import LocalOptimizer  # which imports this module

        for hook in ("pre_process", "post_process"):
            if getattr(cls, hook) is not getattr(LocalOptimizer, hook):
                raise OptimizerError(
                    f"{cls.__name__} has a {hook} of its own, which a graph cannot hold; use process_grad or "
                    "process_model with expressions"
                )

    # The updates

    def update(
        self, cost: Expression, params: Sequence[Any], lr: Any = None, *, names: Sequence[str | None] | None = None
    ) -> Updates:
        """The updates of one step, see :meth:`thalweg.optimizers.LocalOptimizer.update`.

        Args:
            cost: a real scalar expression.
            params: shared variables of float32 or float64.
            lr: a number, an array, a shared variable of one, or an expression; ``None`` is the optimizer's own rate.
            names: names for the parameters' state in place of their own.

        Returns:
            Pairs of shared variable and expression.
        """
        self._check()
        listed = checked_list(params, names)
        rate = rates.read(self.optimizer, lr)
        if rate is not None:
            rates.refuse_others(self.optimizer)
        parameters = self._found(listed)
        if rate is not None:
            rate = rates.fitted(self.optimizer, rate, parameters)
        grads = graphing.gradients(cost, parameters)
        with self.held.trying():
            built = graphing.build(self.optimizer, self.held, parameters, grads, rate and rate.expression)
        # Nothing below can fail.
        self.parameters = self.parameters or parameters
        self._counted = self._counted or built.counted
        self._standing = Standing(built.traced, self.optimizer._process_grad, self.optimizer._process_model)
        self._unused = self._unused if rate is None else rates.own(self.optimizer)
        self._followed = self._followed or rate is None
        self.held.push()
        return built.updates

    def refresh(self) -> None:
        """Let functions that are compiled already see the numbers that were set on the optimizer since.

        As long as no step was made state that starts at a hyperparameter starts at the new one.

        Raises:
            HyperparameterError: a number leaves its range when rounded to the dtype of a parameter; or an array is not
                like a parameter, or is where the graphs that were made have a number; or they have another schedule
                or hook.
        """
        self._check()
        for parameter in self.parameters:
            self._refuse(parameter.name, parameter.shape, parameter.dtype, parameter.group)
        optimizer = self.optimizer
        if self._unused is not None and not self._followed and rates.own(optimizer) != self._unused:
            raise HyperparameterError(
                f"{optimizer.name}: update was given a learning rate, lr, in place of the optimizer's own, so setting "
                "learning_rate would change nothing; give lr as a shared variable, and set that",
                name="learning_rate",
            )
        if self._standing is not None:
            self._standing.refuse_others(optimizer)
        tables = [optimizer._settings, *(group.settings for group in optimizer._groups)]
        for line in self.held.numbers_for(tables):
            raise HyperparameterError(
                f"{optimizer.name}: {line}, which cannot become an array; give it before the first update, or make "
                "another optimizer"
            )
        for line in self.held.fixed_elsewhere(self._standing.traced if self._standing else {}):
            raise HyperparameterError(
                f"{optimizer.name}: {line}: have the group set it before the first update, or make another optimizer"
            )
        if optimizer.rule.start is not None and not self._stepped:
            self._stepped = self._steps() > 0
            for parameter in () if self._stepped else self.parameters:
                parameter.begin(self.held.hyper(parameter.group))
        self.held.push()

    def eval_params(self) -> dict[str, Expression]:
        """Where the model is to be evaluated: for Schedule-Free and EMA not where the parameter is.

        Returns:
            An expression for each parameter, by name, that ``pytensor.function(..., givens=...)`` takes.
        """
        rule, pt = self.optimizer.rule, library("pytensor.tensor")
        hypers, _ = graphing.hyperparameters(self.optimizer, self.held, None, Gate())
        found = {}
        for parameter in self.parameters:
            here = parameter.shared
            if rule.evaluate is not None:
                hyper = rule.hyper(*(pt.cast(value, here.dtype) for value in hypers[parameter.group]))
                numbers = (pt.cast(value, here.dtype) for value in self.held.carried[parameter.group])
                with traced(rule, "PyTensor"), by_value():
                    there = pt.cast(rule.evaluate(here, rule.state(*parameter.held, *numbers), hyper), here.dtype)
                here = pt.switch(pt.eq(self.held.t, 0), here, there)
            found[parameter.name] = here
        return found

    def _found(self, listed: list[tuple[str, Any]]) -> tuple[SharedParameter, ...]:
        """The parameters of shared variables, in this order; new ones are not kept yet."""
        if not self.parameters:
            return self._made(listed)
        own = {id(parameter.shared): parameter for parameter in self.parameters}
        unknown = [name for name, shared in listed if id(shared) not in own]
        given = {id(shared) for _, shared in listed}
        missing = [parameter.name for key, parameter in own.items() if key not in given]
        if unknown or missing:
            faults = [f"{', '.join(map(repr, unknown))} is none of them"] if unknown else []
            faults += [f"{', '.join(map(repr, missing))} is missing"] if missing else []
            raise OptimizerError(
                f"{self.optimizer.name} updates {', '.join(repr(p.name) for p in self.parameters)} and counts their "
                f"steps together; {', and '.join(faults)}: make another optimizer for another set of parameters",
                unknown=unknown,
                missing=missing,
            )
        return tuple(own[id(shared)] for _, shared in listed)

    def _made(self, listed: list[tuple[str, Any]]) -> tuple[SharedParameter, ...]:
        optimizer, names = self.optimizer, [name for name, _ in listed]
        optimizer._process_grad.check_names(names)
        optimizer._process_model.check_names(names)
        made = []
        for (name, shared), group in zip(listed, assign(optimizer._groups, names), strict=True):
            self._refuse(name, np.shape(shared.get_value(borrow=True)), np.dtype(shared.dtype), group)
            hyper, gathers = self.held.hyper(group), optimizer.accumulate > 1
            made.append(SharedParameter(shared, name, optimizer.rule, group, hyper, gathers=gathers))
        return tuple(made)

    def _refuse(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], group: int) -> None:
        """Refuse hyperparameters that a parameter cannot have."""
        refuse_other_shapes(self.optimizer.name, self.held.settings(group), shape, name)
        self.optimizer.rule.check_rounded(self.held.hyper(group)._asdict(), dtype)

    # State in and out

    def state(self) -> OptimizerSnapshot:
        """As :meth:`thalweg.optimizers.LocalOptimizer.state`, and in its format: either restores the other's.

        Returns:
            The rule's state, the counters, the hyperparameters with their schedules, and what the hooks are. A rule
            that does not count its steps (t is not in its updates) says that it made one if it made any.
        """
        self.pull()
        return persistence.take(self.parameters, self.optimizer._meta(), self.optimizer._arrays())

    def restore(self, snapshot: OptimizerSnapshot, params: Sequence[Any] | None = None) -> None:
        """Continue from a snapshot. The parameters stay, and so do functions that are compiled already.

        Args:
            snapshot: from :meth:`state` here or of an optimizer of the same rule on NumPy, with the same names.
            params: the shared variables, where :meth:`update` has not been told of them yet.

        Raises:
            StateMismatchError: it does not fit; the message lists every difference, and nothing was changed.
        """
        self._restore(snapshot, None, params)

    def dump(self, path: str | os.PathLike[str], *, keep: int = 2) -> None:
        """Save everything that decides the next step, with the parameters; what NumPy's optimizer loads, too.

        Args:
            path: a folder; each dump adds a generation to it.
            keep: how many generations stay there, at least 1.

        Raises:
            CheckpointError: it cannot be written; earlier generations are untouched.
        """
        self.state().save(path, keep=keep, data={p.name: p.data() for p in self.parameters})

    def load(
        self, path: str | os.PathLike[str], params: Sequence[Any] | None = None, *, generation: int | None = None
    ) -> None:
        """Continue from what :meth:`dump` saved here or on NumPy: state and parameters.

        Args:
            path: the folder.
            params: the shared variables, where :meth:`update` has not been told of them yet.
            generation: which generation, by default the newest.

        Raises:
            CheckpointError: there is none, or it cannot be read, or is damaged.
            StateMismatchError: it does not fit; the message lists every difference, and nothing was changed.
        """
        snapshot, data = read(path, generation)
        self._restore(snapshot, data, params)

    def reset(self, *, counters: bool = True) -> None:
        """Empty the rule's state, as if no step had been made. The parameters stay.

        Args:
            counters: also set the iterations that schedules follow back to zero.
        """
        self.pull()
        self.optimizer._reset(counters=counters)
        self.held.set_counts(0, self.optimizer._optimization_state.curr_iter)
        self._stepped = False
        for parameter in self.parameters:
            parameter.begin(self.held.hyper(parameter.group))

    def pull(self) -> None:
        """Let the optimizer know what compiled functions did."""
        optimizer, held, t = self.optimizer, self.held, self._steps()
        optimizer._updates = t
        optimizer._skipped, optimizer._zeroed = int(held.skipped.get_value()), int(held.zeroed.get_value())
        optimizer._micro = int(held.micro.get_value())
        optimizer._carried = np.array([[float(v.get_value()) for v in numbers] for numbers in held.carried])
        optimizer._optimization_state.curr_iter = t + int(held.offset.get_value())

    def _steps(self) -> int:
        """How many steps compiled functions made; 1 for any number of them where they do not count."""
        t = int(self.held.t.get_value())
        return t if t or self._counted else int(any(parameter.moved() for parameter in self.parameters))

    def _restore(
        self, snapshot: OptimizerSnapshot, data: dict[str, np.ndarray] | None, params: Sequence[Any] | None
    ) -> None:
        optimizer = self.optimizer
        parameters = self.parameters if params is None else self._found(checked_list(params))
        if not parameters:
            raise OptimizerError(f"{optimizer.name} knows no parameters yet; give the shared variables, params=[...]")
        self.pull()
        here = optimizer._meta()
        settled = persistence.settle(
            optimizer.rule, parameters, optimizer._settings, optimizer._groups, here, snapshot, data
        )
        differences: list[str] = []
        if self._standing is not None:
            settled = completed(settled, [group.settings for group in optimizer._groups], differences)
        tables = [settled.settings, *settled.groups]
        others = [] if self._standing is None else self._standing.other_schedules("was", tables)
        differences += [f"{line}: restore before update" for line in (*self.held.numbers_for(tables), *others)]
        if differences:
            raise mismatch(differences, "saved state")
        for parameter in parameters:
            own = settled.groups[parameter.group - 1] if parameter.group else {}
            numbers = {n: v for n, v in (settled.settings | own).items() if not callable(v)}
            optimizer.rule.check_rounded(numbers, parameter.dtype)
        # Nothing below can fail.
        optimizer._settings = settled.settings
        for group, settings in zip(optimizer._groups, settled.groups, strict=True):
            group.settings.clear()
            group.settings.update(settings)
        self._unused = None if self._unused is None else rates.own(optimizer)
        persistence.set_counts(optimizer._optimization_state, settled.counts)
        schedules = optimizer._schedules()
        for place, saved in settled.schedules.items():
            schedules[place].restore(saved)
        self.parameters = self.parameters or parameters
        self.held.push()
        self.held.set_counts(
            settled.updates,
            optimizer._optimization_state.curr_iter,
            skipped=settled.skipped,
            zeroed=settled.zeroed,
            micro=settled.micro,
            carried=settled.carried,
        )
        self._stepped = settled.updates > 0
        for parameter in parameters:
            if data is not None:
                parameter.set_data(data[parameter.name])
            if settled.micro:
                parameter.gathered.set_value(np.array(settled.accumulated[parameter.name], parameter.dtype))
            if self._stepped:
                parameter.set_slots(settled.slots[parameter.name])
            else:
                parameter.begin(self.held.hyper(parameter.group))


def require_pytensor() -> None:
    """Say so at once if PyTensor is not installed.

    Raises:
        MissingExtraError: it is not; the message names the extra.
    """
    library()


def symbolic(optimizer: LocalOptimizer) -> Symbolic:
    """The PyTensor face of an optimizer, the same one each time: what ``update``, ``state`` and ``dump`` go through.

    Args:
        optimizer: an optimizer without variables.

    Returns:
        The face.

    Raises:
        MissingExtraError: PyTensor is not installed.
        OptimizerError: the optimizer is bound to Variables, or does what a graph cannot hold.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.optimizers.pytensor import symbolic
        >>> adam = tw.Adam()
        >>> symbolic(adam) is symbolic(adam)
        True
    """
    if optimizer._face is None:
        optimizer._face = Symbolic(optimizer)
        optimizer._shortcut.lead(optimizer._face.refresh)
    return optimizer._face
