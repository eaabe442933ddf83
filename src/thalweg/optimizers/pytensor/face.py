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
from thalweg.lowering.pytensor import Expression, Gate, library
from thalweg.optimizers import persistence
from thalweg.optimizers.groups import assign
from thalweg.optimizers.parameters import mismatch
from thalweg.optimizers.pytensor import graph as graphing
from thalweg.optimizers.pytensor.graph import Updates
from thalweg.optimizers.pytensor.shared import Held, SharedParameter, checked_list
from thalweg.optimizers.settings import to_config
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.optimizers.unbound import refuse_arrays
from thalweg.rules.namespaces import library_of
from thalweg.rules.ranges import number

if TYPE_CHECKING:
    from thalweg.optimizers.local import LocalOptimizer


class Symbolic:
    """The PyTensor face of an optimizer; :func:`symbolic` finds it, ``optimizer.update`` uses it.

    Everything that an update changes, and every number that is set on the optimizer, is a shared variable that is
    kept here. So an update list that was asked for twice has the same state, and numbers set later are followed: from
    the next :meth:`update`, :meth:`refresh`, :meth:`restore` or :meth:`load` on also by functions compiled before.
    A schedule is part of the graph.

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
        self._counted = False
        self._traced: dict[tuple[int, str], Any] | None = None  # of the graphs that were made, if any was

    def _check(self) -> None:
        optimizer, cls = self.optimizer, type(self.optimizer)
        if optimizer.variables:
            raise OptimizerError(
                f"{optimizer.name} is bound to Variables, which it updates on NumPy; for PyTensor make one without, "
                f"{cls.__name__}()"
            )
        refuse_arrays(optimizer, "update")
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
            lr: a number, a shared scalar, or an expression; ``None`` is the optimizer's own learning rate.
            names: names for the parameters' state in place of their own.

        Returns:
            Pairs of shared variable and expression.
        """
        self._check()
        listed = checked_list(params, names)
        rate, known = self._rate(lr)
        parameters = self._found(listed, known)
        grads = graphing.gradients(cost, parameters)
        built = graphing.build(self.optimizer, self.held, parameters, grads, rate)
        # Nothing below can fail.
        self.parameters = self.parameters or parameters
        self._counted = self._counted or built.counted
        self._traced = built.traced
        self.held.push()
        return built.updates

    def refresh(self) -> None:
        """Let functions that are compiled already see the numbers that were set on the optimizer since.

        Raises:
            HyperparameterError: a number leaves its range when rounded to the dtype of a parameter.
        """
        self._check()
        self._refuse_rounded(self.parameters)
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
                there = pt.cast(rule.evaluate(here, rule.slots(*parameter.held), hyper), here.dtype)
                here = pt.switch(pt.eq(self.held.t, 0), here, there)
            found[parameter.name] = here
        return found

    def _rate(self, lr: Any) -> tuple[Expression | None, float | None]:
        """A learning rate as an expression, and what it is now (NaN: unknown); ``None`` for the optimizer's own."""
        optimizer, rule = self.optimizer, self.optimizer.rule
        if lr is None:
            return None, None
        if "learning_rate" not in rule.hyperparameters:
            raise HyperparameterError(f"{rule.name} has no learning rate, so lr means nothing", name="lr")
        pt, value = library("pytensor.tensor"), lr
        if library_of(lr) == "pytensor":
            if getattr(lr, "ndim", None) != 0 or not str(lr.dtype).startswith(("float", "int", "uint")):
                raise HyperparameterError(
                    f"{optimizer.name}: lr is {lr!r} ({getattr(lr, 'type', None)}); give a real scalar", name="lr"
                )
            constant = isinstance(lr, library("pytensor.graph.basic").Constant)
            value = lr.data if constant else lr.get_value() if hasattr(lr, "get_value") else None
            if value is None:
                return pt.cast(lr, "float64"), np.nan
        interval = rule.hyperparameters["learning_rate"].interval
        known = number(np.asarray(value)[()], interval, name="lr", owner=optimizer.name)
        return pt.cast(lr, "float64") if hasattr(lr, "get_value") else pt.constant(np.float64(known)), known

    def _found(self, listed: list[tuple[str, Any]], rate: float | None) -> tuple[SharedParameter, ...]:
        """The parameters of shared variables, in this order; new ones are not kept yet."""
        if not self.parameters:
            return self._made(listed, rate)
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
        found = tuple(own[id(shared)] for _, shared in listed)
        self._refuse_rounded(found, rate)
        return found

    def _made(self, listed: list[tuple[str, Any]], rate: float | None) -> tuple[SharedParameter, ...]:
        optimizer, names = self.optimizer, [name for name, _ in listed]
        optimizer._process_grad.check_names(names)
        optimizer._process_model.check_names(names)
        unknown = rate is not None and np.isnan(rate)
        hypers = [self.held.hyper(group, None if unknown else rate) for group in range(self.held.groups)]
        places = zip(listed, assign(optimizer._groups, names), strict=True)
        gathers = optimizer.accumulate > 1
        made = tuple(
            SharedParameter(s, name, optimizer.rule, group, hypers[group], gathers=gathers)
            for (name, s), group in places
        )
        if unknown and any(_starts_at_rate(parameter, hypers[parameter.group]) for parameter in made):
            raise HyperparameterError(
                f"{optimizer.name}: the state of {optimizer.rule.name} starts at the learning rate, and lr is an "
                "expression; give a number or a shared variable",
                name="lr",
            )
        self._refuse_rounded(made, rate)
        return made

    def _refuse_rounded(self, parameters: Sequence[SharedParameter], rate: float | None = None) -> None:
        rate = None if rate is not None and np.isnan(rate) else rate
        for parameter in parameters:
            self.optimizer.rule.check_rounded(self.held.hyper(parameter.group, rate)._asdict(), parameter.dtype)

    # State in and out

    def state(self) -> OptimizerSnapshot:
        """As :meth:`thalweg.optimizers.LocalOptimizer.state`, and in its format: either restores the other's.

        Returns:
            The rule's state, the counters, the hyperparameters with their schedules, and what the hooks are. A rule
            that does not count its steps (t is not in its updates) says that it made one if it made any.
        """
        self.pull()
        return persistence.take(self.parameters, self.optimizer._meta())

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
        persistence.write(self.parameters, self.state(), path, keep=keep)

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
        snapshot, data = persistence.read(path, generation)
        self._restore(snapshot, data, params)

    def reset(self, *, counters: bool = True) -> None:
        """Empty the rule's state, as if no step had been made. The parameters stay.

        Args:
            counters: also set the iterations that schedules follow back to zero.
        """
        self.pull()
        self.optimizer._reset(counters=counters)
        self.held.set_counts(0, self.optimizer._optimization_state.curr_iter)
        for parameter in self.parameters:
            parameter.begin(self.held.hyper(parameter.group))

    def pull(self) -> None:
        """Let the optimizer know what compiled functions did."""
        optimizer, held = self.optimizer, self.held
        t = int(held.t.get_value())
        if t == 0 and not self._counted:
            t = int(any(self._moved(parameter) for parameter in self.parameters))
        optimizer._updates = t
        optimizer._skipped, optimizer._zeroed = int(held.skipped.get_value()), int(held.zeroed.get_value())
        optimizer._micro = int(held.micro.get_value())
        optimizer._carried = np.array([[float(v.get_value()) for v in numbers] for numbers in held.carried])
        optimizer._optimization_state.curr_iter = t + int(held.offset.get_value())

    def _moved(self, parameter: SharedParameter) -> bool:
        """Whether a parameter's state is another one than before the first step."""
        starts = parameter.beginning(self.held.hyper(parameter.group))
        return any(not np.array_equal(slot, starts[name]) for name, slot in parameter.slots().items())

    def _restore(
        self, snapshot: OptimizerSnapshot, data: dict[str, np.ndarray] | None, params: Sequence[Any] | None
    ) -> None:
        optimizer = self.optimizer
        parameters = self.parameters if params is None else self._found(checked_list(params), None)
        if not parameters:
            raise OptimizerError(f"{optimizer.name} knows no parameters yet; give the shared variables, params=[...]")
        self.pull()
        here = optimizer._meta()
        settled = persistence.settle(
            optimizer.rule, parameters, optimizer._settings, optimizer._groups, here, snapshot, data
        )
        differences = persistence.arrays_among([settled.settings, *settled.groups]) + self._other_schedules(settled)
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
        for parameter in parameters:
            parameter.set_slots(settled.slots[parameter.name])
            if settled.micro:
                parameter.gathered.set_value(np.array(settled.accumulated[parameter.name], parameter.dtype))
            if data is not None:
                parameter.set_data(data[parameter.name])

    def _other_schedules(self, settled: persistence.Settled) -> list[str]:
        """What the graphs that were made hold in another way than saved state: a schedule is there for good."""
        if self._traced is None:
            return []
        differences = []
        for group in range(self.held.groups):
            saved = settled.settings | (settled.groups[group - 1] if group else {})
            for name, value in saved.items():
                there = to_config(value) if callable(value) else None
                here = self._traced.get((group, name))
                if there != here:
                    differences.append(
                        f"{name} was {value!r}, and the graphs made by update have "
                        f"{'a number' if here is None else here}: restore before update"
                    )
        return differences


def require_pytensor() -> None:
    """Say so at once if PyTensor is not installed.

    Raises:
        MissingExtraError: it is not; the message names the extra.
    """
    library()


def _starts_at_rate(parameter: SharedParameter, hyper: Any) -> bool:
    """Whether a parameter's state before the first step depends on the learning rate."""
    one, other = (parameter.beginning(hyper._replace(learning_rate=rate)) for rate in (1.0, 2.0))
    return any(not np.array_equal(one[slot], other[slot], equal_nan=True) for slot in one)


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
