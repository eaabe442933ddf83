"""Shared variables of PyTensor as an optimizer's parameters, and an optimizer's hooks on expressions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError, ParameterError
from thalweg.lowering.comparing import by_value
from thalweg.lowering.pytensor import Expression, library
from thalweg.optimizers.configured import ConfiguredOptimizer
from thalweg.optimizers.parameters import SUPPORTED, Parameter
from thalweg.optimizers.pipeline import Pipeline
from thalweg.optimizers.settings import Scheduled, resolve, told
from thalweg.rules.arithmetic import isfinite, where
from thalweg.rules.base import Rule
from thalweg.rules.namespaces import library_of
from thalweg.rules.trying import raised_by_a_text
from thalweg.transforms import ParameterTransform, TreeTransform, bounds


class SharedParameter(Parameter):
    """A shared variable, and beside it one for each slot of the rule's state, named ``<parameter>/<slot>``.

    Args:
        shared: the shared variable, checked by :func:`checked_list`.
        name: the name that its state goes by.
        rule: the update rule.
        group: the number of the group whose hyperparameters hold.
        hyper: those hyperparameters, on which a few rules' state depends.
        gathers: whether gradients are gathered, in one more, ``<parameter>/accumulated``.
    """

    def __init__(self, shared: Any, name: str, rule: Rule, group: int, hyper: Any, *, gathers: bool = False) -> None:
        self.shared, self.name, self.rule, self.group = shared, name, rule, group
        value = np.asarray(shared.get_value(borrow=True))
        self.shape = value.shape
        self.dtype = value.dtype.newbyteorder("=")
        self.gathered: Any = None
        if gathers:
            zeros = np.zeros(self.shape, self.dtype)
            self.gathered = library().shared(zeros, name=f"{name}/accumulated", shape=shared.type.shape)
        self.begun = hyper
        self.held = tuple(
            library().shared(array, name=f"{name}/{slot}", shape=shared.type.shape)
            for slot, array in self.beginning(hyper).items()
        )

    @property
    def accumulated(self) -> np.ndarray | None:  # type: ignore[override]  # it is the shared variable that is set
        """The sum of the gradients gathered since the last step, not to be written to."""
        return None if self.gathered is None else np.asarray(self.gathered.get_value(borrow=True))

    def beginning(self, hyper: Any) -> dict[str, np.ndarray]:
        """The rule's state as before the first step, new arrays by slot."""
        starts = self.rule.beginning(self.data(), hyper)
        return {
            slot: np.array(np.broadcast_to(np.asarray(start, self.dtype), self.shape))
            for slot, start in zip(self.rule.slot_names, starts, strict=True)
        }

    def begin(self, hyper: Any) -> None:
        """The rule's state as before the first step."""
        self.set_slots(self.beginning(hyper))
        self.begun = hyper

    def moved(self) -> bool:
        """Whether the rule's state is another one than it began as."""
        starts = self.beginning(self.begun)
        return any(not np.array_equal(slot, starts[name]) for name, slot in self.slots().items())

    def slots(self) -> dict[str, np.ndarray]:
        """The rule's state by name: what the shared variables hold, not to be written to."""
        held = zip(self.rule.slot_names, self.held, strict=True)
        return {slot: np.asarray(variable.get_value(borrow=True)) for slot, variable in held}

    def set_slots(self, arrays: dict[str, np.ndarray]) -> None:
        """Fill the state; the arrays have been checked with ``fit``."""
        for slot, variable in zip(self.rule.slot_names, self.held, strict=True):
            variable.set_value(np.array(arrays[slot], self.dtype))

    def data(self) -> np.ndarray:
        """What the shared variable holds, not to be written to.

        Raises:
            ParameterError: it has another shape than the state.
        """
        data = np.asarray(self.shared.get_value(borrow=True))
        if data.shape != self.shape:
            raise ParameterError(
                f"shared variable {self.name!r} is now {data.shape}; the optimizer's state belongs to {self.shape}: "
                "make a new optimizer",
                variable=self.name,
            )
        return data

    def set_data(self, array: np.ndarray) -> None:
        """Fill the shared variable; the array has been checked with ``fit``."""
        self.shared.set_value(np.array(array, self.dtype))


def checked_list(params: Any, names: Sequence[str | None] | None = None) -> list[tuple[str, Any]]:
    """Shared variables with the names that their state will go by.

    Args:
        params: shared variables of float32 or float64.
        names: names in place of their own.

    Returns:
        Pairs of name and shared variable, in the order given.

    Raises:
        ParameterError: one of them is no shared variable of float32 or float64, or was made with ``borrow=True`` of an
            array that is read-only or shares memory with another's: a compiled function writes to that array.
        OptimizerError: there is none, one is there twice, or several and one has no name, or two have the same.
    """
    shared_type = library("pytensor.tensor.sharedvar").TensorSharedVariable
    if not isinstance(params, list | tuple):
        raise ParameterError(f"params is a {type(params).__name__}; give a list of shared variables of PyTensor")
    if not params:
        raise OptimizerError("params is empty; give at least one shared variable")
    found: dict[str, Any] = {}
    for index, shared in enumerate(params):
        where_ = f"params[{index}]"
        if not isinstance(shared, shared_type):
            raise ParameterError(
                f"{where_} is {shared!r} ({type(shared).__name__}); give shared variables of PyTensor, "
                "pytensor.shared(array, name=...)"
            )
        own = shared.name if names is None else names[index]
        if shared.dtype not in {dtype.name for dtype in SUPPORTED}:
            raise ParameterError(
                f"{where_}, {own!r}, is {shared.dtype}; shared variables of float32 or float64 can be updated: make it "
                "of floats, pytensor.shared(np.asarray(value, 'float64'), name=...)",
                variable=own,
                got=shared.dtype,
            )
        if any(other is shared for other in found.values()):
            raise OptimizerError(f"{where_}, {own!r}, is there twice; each parameter can be updated once")
        if not own and len(params) > 1:
            raise OptimizerError(f"{where_} of {len(params)} has no name; state is kept by name, so give it one")
        name = str(own or "variable")
        if name in found:
            raise OptimizerError(f"two parameters are named {name!r}; state is kept by name, so give each its own")
        found[name] = shared
    _check_borrowed(found)
    return list(found.items())


def _check_borrowed(found: dict[str, Any]) -> None:
    """Refuse the arrays that a function may not write to."""
    arrays: dict[str, np.ndarray] = {}
    for name, shared in found.items():
        array = shared.get_value(borrow=True)
        if not isinstance(array, np.ndarray):  # another library's, as on PyTensor's JAX backend: never written to
            continue
        if not array.flags.writeable:
            raise ParameterError(
                f"shared variable {name!r} holds an array that is read-only, and functions update it in place; make it "
                "with borrow=False",
                variable=name,
            )
        for other, its in arrays.items():
            if np.may_share_memory(array, its) and np.shares_memory(array, its):
                raise ParameterError(
                    f"shared variables {other!r} and {name!r} share memory, so each would be updated by the other's "
                    "gradient too; make them with borrow=False",
                    variable=name,
                )
        arrays[name] = array


def scalar(value: float | np.ndarray, name: str, dtype: str = "float64") -> Any:
    """A shared number, or array of them."""
    return library().shared(np.asarray(value, dtype), name=name)


def apply_hook(
    hook: Pipeline, arrays: Mapping[str, Expression], params: Mapping[str, Expression]
) -> dict[str, Expression]:
    """What a hook's callables make of the expressions of all parameters.

    Args:
        hook: ``process_grad`` or ``process_model``.
        arrays: gradients, or new parameters, by name.
        params: the parameters by name, for transforms that look at them.

    Returns:
        The expressions by name.

    Raises:
        HyperparameterError: a callable is a coroutine, or returned something else than an expression that fits.
    """
    results = dict(arrays)
    if isinstance(hook.hook, Mapping):
        for name in results:
            for step in hook.steps(name):
                results[name] = _one(hook, step, name, results[name], params[name])
        return results
    for step in hook.steps(""):
        if isinstance(step, TreeTransform):
            found = _expressed(hook, step, "the variables", results)
            results = {name: _checked(hook, step, name, found.get(name), results[name]) for name in results}
        else:
            results = {name: _one(hook, step, name, results[name], params[name]) for name in results}
    return results


def _one(hook: Pipeline, step: Any, name: str, given: Expression, param: Expression) -> Expression:
    several = (given, param) if isinstance(step, ParameterTransform) else (given,)
    found = _expressed(hook, step, f"variable {name!r}", *several)
    return _checked(hook, step, name, found, given)


def _expressed(hook: Pipeline, step: Any, whose: str, *given: Any) -> Any:
    """What a callable of the hook makes of expressions; an error that it raises itself stays what it is."""
    try:
        with by_value():
            return step(*given)
    except TypeError as error:
        if raised_by_a_text(error):
            raise
        message = f"{hook.what} of {whose}: {step!r} does not work on expressions: {error}"
        raise HyperparameterError(message, name=hook.what) from error


def _checked(hook: Pipeline, step: Any, variable: str, found: Any, given: Expression) -> Expression:
    fault = None
    if inspect.isawaitable(found):
        if inspect.iscoroutine(found):
            found.close()
        fault = "is a coroutine function, and a graph is made at once"
    elif library_of(found) != "pytensor":
        fault = f"returned a {type(found).__name__}"
    elif found.ndim != given.ndim or found.dtype != given.dtype:
        fault = f"returned {found.type}"
    if fault is not None:
        raise HyperparameterError(
            f"{hook.what} of variable {variable!r}: {step!r} {fault}; on PyTensor it must return an expression of "
            f"{given.ndim} axes and dtype {given.dtype}",
            name=hook.what,
            variable=variable,
        )
    if hook.what == "process_grad" and type(step) is bounds:
        # As on NumPy: bounds would put a number where infinity must be noticed
        return where(isfinite(given), found, given)
    return found


class Held:
    """The numbers of an optimizer as shared variables: counts, hyperparameters, and what goes from step to step.

    Args:
        optimizer: the optimizer.
    """

    def __init__(self, optimizer: ConfiguredOptimizer) -> None:
        self.optimizer = optimizer
        self.groups = 1 + len(optimizer.groups)
        self.t = scalar(0, f"{optimizer.name}/t", "int64")
        # The iterations that schedules count, less t
        self.offset = scalar(optimizer._optimization_state.curr_iter, f"{optimizer.name}/offset", "int64")
        self.skipped = scalar(0, f"{optimizer.name}/skipped", "int64")
        self.zeroed = scalar(0, f"{optimizer.name}/zeroed", "int64")
        self.micro = scalar(0, f"{optimizer.name}/micro", "int64")  # gradients gathered since the last step
        start = optimizer.rule.carried()._asdict() if optimizer.rule.carried else {}
        self.carried = [
            tuple(scalar(value, f"{optimizer.name}/{field}") for field, value in start.items())
            for _ in range(self.groups)
        ]
        self._numbers: dict[tuple[int, str], Any] = {}

    def settings(self, group: int) -> dict[str, Scheduled]:
        """The hyperparameters of a group, the group's own and the optimizer's."""
        own = self.optimizer.groups[group - 1].settings if group else {}
        return {**self.optimizer.hyperparameters, **own}

    def fixed_elsewhere(self, traced: Mapping[tuple[int, str], Scheduled]) -> list[str]:
        """In words, which hyperparameters groups set that were the optimizer's own when the graphs were made.

        Args:
            traced: the schedules that the graphs hold, by group and hyperparameter.

        Returns:
            A line each.
        """
        followed = {*self._numbers, *(place for place, value in traced.items() if not told(value))}
        return [
            f"group {number} (from 0) sets {name}, and the graphs made by update have the optimizer's there"
            for number, group in enumerate(self.optimizer.groups)
            for name in group.settings
            if (0, name) in self._numbers and (number + 1, name) not in followed
        ]

    def number(self, group: int, name: str) -> Expression:
        """The shared variable of a hyperparameter that is a number or an array."""
        group = group if group and name in self.optimizer.groups[group - 1].settings else 0
        if (group, name) not in self._numbers:
            label = f"{self.optimizer.name}/{name}" if group == 0 else f"{self.optimizer.name}/{group}/{name}"
            self._numbers[group, name] = scalar(self._now(name, self.settings(group)[name]), label)
        return self._numbers[group, name]

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Forget the variables that were made inside, if the graph that they are for is refused."""
        known = dict(self._numbers)
        try:
            yield
        except BaseException:
            self._numbers = known
            raise

    def _now(self, name: str, value: Scheduled) -> float | np.ndarray:
        """The number (or array) that a hyperparameter is between two tellings."""
        now: float | np.ndarray = resolve(self.optimizer.rule, name, value, self.optimizer._optimization_state)
        return now

    def numbers_for(self, tables: Sequence[Mapping[str, Scheduled]]) -> list[str]:
        """In words, which hyperparameters are arrays where the graphs that were made have a number.

        Args:
            tables: the optimizer's own hyperparameters, then those of each group.

        Returns:
            A line each.
        """
        values = {
            (group, name): tables[group][name] for (group, name), shared in self._numbers.items() if not shared.ndim
        }
        return [
            f"{name} is an array of {value.shape}, and the graphs made by update have a number there"
            for (_, name), value in values.items()
            if isinstance(value, np.ndarray)
        ]

    def hyper(self, group: int) -> Any:
        """What a group's hyperparameters are in the first step."""
        rule, now, values = self.optimizer.rule, self.optimizer._optimization_state.copy(), self.settings(group)
        now.begin_step()
        return rule.hyper(**{name: resolve(rule, name, value, now) for name, value in values.items()})

    def push(self) -> None:
        """Put the optimizer's present hyperparameters into the shared variables; a number also in place of an array."""
        for (group, name), variable in self._numbers.items():
            value = self.settings(group)[name]
            if not callable(value) or told(value):
                shape = np.shape(variable.get_value(borrow=True))
                variable.set_value(np.array(np.broadcast_to(self._now(name, value), shape), np.float64))

    def set_counts(
        self,
        updates: int,
        iterations: int,
        *,
        skipped: int = 0,
        zeroed: int = 0,
        micro: int = 0,
        carried: np.ndarray | None = None,
    ) -> None:
        """Put counts, and what goes from step to step, into the shared variables."""
        for variable, value in (
            *((self.t, updates), (self.offset, iterations - updates)),
            *((self.skipped, skipped), (self.zeroed, zeroed), (self.micro, micro)),
        ):
            variable.set_value(np.asarray(value, np.int64))
        start = self.optimizer.rule.carried() if self.optimizer.rule.carried else ()
        for group, variables in enumerate(self.carried):
            for variable, value in zip(variables, start if carried is None else carried[group], strict=True):
                variable.set_value(np.asarray(value, np.float64))
