"""From what a user gives to an optimizer: variables, hyperparameters and hooks, checked, also when set later."""

from __future__ import annotations

import copy
import itertools
import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.graph import Variable
from thalweg.optimizers import recipe
from thalweg.optimizers.elsewhere import METHODS
from thalweg.optimizers.groups import assign, groups_from_config
from thalweg.optimizers.groups import read as read_groups
from thalweg.optimizers.naming import by_position, listed
from thalweg.optimizers.parameters import Footprint, Parameter
from thalweg.optimizers.pipeline import Hook, Pipeline, build_hook
from thalweg.optimizers.readable import ReadableOptimizer
from thalweg.optimizers.seating import Lanes, Seating, Shortcut
from thalweg.optimizers.settings import (
    Scheduled,
    check_callable_names,
    checked,
    from_config,
    refuse_late,
    resolve,
    set_and_tell,
)
from thalweg.rules.elementwise import lanes_among, refuse_other_shapes
from thalweg.rules.namespaces import library_of
from thalweg.rules.ranges import number
from thalweg.rules.spelling import nearest
from thalweg.schedules import OptimizationState

_HOOKS = ("process_grad", "process_model")
_PLAIN = ("name", "description", "convention", "wrap", "accumulate", "nonfinite", "groups")
_FIXED = ("rule", "convention", "groups", "wrap", "accumulate", "nonfinite")
NONFINITE = ("raise", "skip", "zero", "ignore")
"""What can be done with a gradient that holds NaN or infinity."""


class ConfiguredOptimizer(ReadableOptimizer):
    """All of :class:`~thalweg.optimizers.local.LocalOptimizer` but the step; see there for the arguments."""

    def __init__(
        self,
        variables: Variable | Sequence[Variable] | None = None,
        *positional: Any,
        convention: str | None = None,
        groups: Sequence[Mapping[str, Any]] = (),
        wrap: Sequence[str] = (),
        accumulate: int = 1,
        nonfinite: str = "raise",
        process_grad: Hook = None,
        process_model: Hook = None,
        name: str | None = None,
        description: str = "",
        **hyperparameters: Any,
    ) -> None:
        if positional:
            raise by_position(type(self).__name__, type(self).rule, positional)
        super().__init__(name=type(self).rule.name if name is None else name, description=description)
        rule, given = recipe.effective(type(self).rule, hyperparameters, convention=convention, wrap=wrap)
        # The rule in the form that was asked for hides the class's own.
        object.__setattr__(self, "rule", rule)
        self._convention, self._wrap = convention, tuple(wrap)
        self._optimization_state = OptimizationState()
        self._settings: dict[str, Scheduled] = {n: h.default for n, h in rule.hyperparameters.items()}
        for key, value in given.items():
            self._settings[key] = checked(rule, key, value, self._optimization_state)
        self._shortcut = Shortcut()
        self._shortcut.lead(self._fit_arrays)
        self._shortcut.ask(self._begun)
        shortcut = self._shortcut
        self._groups = read_groups(rule, groups, self._optimization_state, shortcut.close, shortcut.begun)
        self._accumulate = _whole("accumulate", accumulate)
        if nonfinite not in NONFINITE:
            raise HyperparameterError(f"nonfinite is {nonfinite!r}; it may be {', '.join(map(repr, NONFINITE))}")
        self._nonfinite = nonfinite
        self._parameters: tuple[Parameter, ...] = ()
        self._process_grad = self._pipeline("process_grad", process_grad)
        self._process_model = self._pipeline("process_model", process_model)
        self._variables: tuple[Variable, ...] = ()
        self._footprint = Footprint(())
        self._single = False
        self._size = 0  # elements of all variables together
        self._running = threading.Lock()  # held by a step
        self._evaluating = False
        self._told: set[str] = set()  # the warnings that were given
        self._empty()
        self._symbols: tuple[Any, ...] = ()  # PyTensor's shared variables, where it was made of them
        self._face = None
        listed = variables if isinstance(variables, list | tuple) else (variables,)
        if listed and all(library_of(variable) == "pytensor" for variable in listed):
            self._symbols = tuple(listed)
        elif variables is not None:
            self.bind(variables)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        variables: Variable | Sequence[Variable] | None = None,
        *,
        arrays: Mapping[str, np.ndarray] | None = None,
        callables: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Self:
        """An optimizer configured as ``config`` says.

        Args:
            config: from :meth:`get_config`, or a table of a study file.
            variables: what to bind it to.
            arrays: the arrays that transforms need (masks), by name.
            callables: users' own callables, by the name under which ``config`` mentions them.

        Returns:
            The optimizer, with no step made.

        Raises:
            HyperparameterError: an unknown key (naming the nearest), a value out of range, a callable of your own
                that was not handed in, or two of the same name.
        """
        if not isinstance(config, Mapping):
            raise HyperparameterError(
                f"{cls.__name__}: the config is {config!r}; give a table, as get_config() returns it"
            )
        check_callable_names(config)
        table = dict(config)
        kind = table.pop("kind", cls.rule.name)
        if kind != cls.rule.name:
            raise HyperparameterError(f"this config is of kind {kind!r}, and {cls.__name__} is {cls.rule.name!r}")
        tables = {hook: table.pop(hook, None) for hook in _HOOKS}
        found = callables or {}
        given: dict[str, Any] = {
            key: value if key in _PLAIN else from_config(key, value, found) for key, value in table.items()
        }
        hooks = {hook: build_hook(hook, part, arrays or {}, found) for hook, part in tables.items()}
        if "groups" in given:
            given["groups"] = groups_from_config(given["groups"], found)
        for key in ("name", "description"):
            if given.get(key) is not None:
                given[key] = str(given[key])
        if given.get("description") is None:
            given.pop("description", None)
        given |= hooks
        return cls(variables, **given)

    def _begin(self, parameters: Sequence[Parameter], state: OptimizationState) -> None:
        """As before the first step of these parameters, when schedules are at ``state``."""
        hypers = [self._hyper(state, None, parameter.group) for parameter in parameters]
        for parameter in parameters:
            parameter.data()
        # Nothing below can fail.
        self._empty()
        for parameter, hyper in zip(parameters, hypers, strict=True):
            parameter.begin(hyper)

    def _empty(self) -> None:
        """Count from the beginning, but for what schedules follow."""
        self._updates = 0  # of the rule since its state was empty: what bias corrections count
        self._micro = 0  # gradients gathered since the last step
        self._skipped = 0
        self._zeroed = 0
        self._zeroing = 0  # what a step that is running will add to them
        self._carried: np.ndarray | None = None
        self._seating: Seating | None = None
        self._changed()

    def _changed(self) -> None:
        """Something was set: the next step may not take anything for granted."""
        self._shortcut.close()

    def _begun(self) -> bool:
        """Whether a step was made, and with it the rule's state started."""
        self._pull()
        return self._updates > 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._settings:
            return self._settings[name]
        guess = None if name.startswith("_") or name in METHODS else nearest(name, self._settings)
        instead = f"; did you mean {guess!r}?" if guess else f"; {METHODS[name]}" if name in METHODS else ""
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{instead}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or (hasattr(type(self), name) and name not in _FIXED):
            super().__setattr__(name, value)
        elif name in self._settings:
            value = checked(self.rule, name, value, self._optimization_state)
            refuse_late(self.rule, self._settings, name, value, self._shortcut.begun)
            set_and_tell(self._settings, name, value, self._changed)
        else:  # a misspelt hyperparameter would otherwise be a new attribute that nobody reads
            raise recipe.not_there(self.rule, name, self._wrap, made=True)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._settings]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A twin over copies of the variables, with the same state. Its rule is the same: functions have no copies."""
        self._at_rest("copying")
        if self._face is not None:
            raise OptimizerError(
                f"{self.name} cannot be copied: its state is in shared variables of PyTensor, which compiled functions "
                "know; make another of get_config(), and restore state() into it"
            )
        made = type(self).__new__(type(self))
        memo |= {id(self): made, id(self.rule): self.rule}
        fresh = {"_running": threading.Lock(), "_seating": None}
        state = {name: value for name, value in vars(self).items() if name not in fresh}
        vars(made).update(copy.deepcopy(state | {"_carried": self._carried_numbers()}, memo) | fresh)
        made._shortcut.lead(made._fit_arrays)
        made._shortcut.ask(made._begun)
        made._changed()
        for value in itertools.chain(made._settings.values(), *(group.settings.values() for group in made._groups)):
            if isinstance(value, np.ndarray):  # a copy could be written to, past our checks
                value.setflags(write=False)
        return made

    def __getstate__(self) -> Any:
        raise OptimizerError(
            f"{self.name} cannot be pickled or copied by copy.copy: its rule is made of functions, and two would share "
            "one state; use copy.deepcopy, or get_config() and state()"
        )

    # What it is bound to and how it is set

    def bind(self, variables: Variable | Sequence[Variable]) -> Self:
        """Bind to variables, with the rule's state empty.

        Args:
            variables: a Variable, or a sequence of them with distinct names.

        Returns:
            The optimizer itself.

        Raises:
            ParameterError: a variable's data cannot be updated in place, or two variables share memory.
            OptimizerError: several variables and one has no name, or two have the same; or there is none; or a step
                is running.
        """
        self._at_rest("binding")
        if self._face is not None:
            raise OptimizerError(f"{self.name} is used on PyTensor; make another optimizer for Variables")
        single = isinstance(variables, Variable)
        several, names = listed(variables, self.rule)
        self._process_grad.check_names(names)
        self._process_model.check_names(names)
        places = assign(self._groups, names)
        parameters = tuple(Parameter(v, n, self.rule, k) for v, n, k in zip(several, names, places, strict=True))
        self._fit_arrays(parameters)
        footprint = Footprint(parameters)
        self._begin(parameters, self._optimization_state)
        self._footprint = footprint
        self._parameters, self._variables, self._single = parameters, several, single
        self._size = sum(parameter.size for parameter in parameters)
        return self

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables that it updates."""
        return self._variables

    @property
    def variable(self) -> Variable:
        """The variable that it updates.

        Raises:
            OptimizerError: there is none, or there are several.
        """
        if len(self._parameters) != 1:
            raise OptimizerError(f"{self.name} has {len(self._parameters)} variables; use .variables")
        return self._parameters[0].variable

    @property
    def iterations(self) -> int:
        """How many steps it has made."""
        return self.optimization_state.curr_iter

    @property
    def optimization_state(self) -> OptimizationState:
        """The counts that schedules follow. A step advances the iteration, the loop epoch and batch."""
        self._pull()
        return self._optimization_state

    @property
    def process_grad(self) -> Hook:
        """What is called on a gradient before the rule; can be set."""
        return self._process_grad.hook

    @process_grad.setter
    def process_grad(self, hook: Hook) -> None:
        self._process_grad = self._pipeline("process_grad", hook)
        self._changed()

    @property
    def process_model(self) -> Hook:
        """What is called on the data after the rule; can be set."""
        return self._process_model.hook

    @process_model.setter
    def process_model(self, hook: Hook) -> None:
        self._process_model = self._pipeline("process_model", hook)
        self._changed()

    def _pipeline(self, what: str, hook: Hook) -> Pipeline:
        pipeline = Pipeline(what, hook)
        if what == "process_model" and self.rule.derived and not pipeline.empty:
            raise HyperparameterError(
                f"{self.rule.name} takes no process_model: it would move the point where gradients are taken, and the "
                "average at which the model is evaluated, which is computed from that, would run away; use adamw with "
                "a schedule where the model has to be projected",
                name=what,
            )
        if self._parameters:
            pipeline.check_names([parameter.name for parameter in self._parameters])
        return pipeline

    @property
    def skipped(self) -> int:
        """How many steps (or micro-batches) were skipped because a gradient was not finite."""
        self._pull()
        return self._skipped

    @property
    def zeroed(self) -> int:
        """How many elements of gradients were taken as zero because they were not finite."""
        self._pull()
        return self._zeroed

    def _hyper(self, now: OptimizationState, step_size: float | None, group: int = 0) -> Any:
        """The hyperparameters of a group during the step that has the counts ``now``."""
        rule = self.rule
        values = self._table(group)
        if step_size is not None:
            if "learning_rate" not in rule.hyperparameters:
                raise HyperparameterError(f"{rule.name} has no learning rate, so step_size means nothing")
            interval = rule.hyperparameters["learning_rate"].interval
            size = number(step_size, interval, name="step_size", owner=self.name)
            refuse_late(rule, values, "learning_rate", size, self._begun)
            values["learning_rate"] = size
        return rule.hyper(**{name: resolve(rule, name, value, now) for name, value in values.items()})

    def _table(self, group: int) -> dict[str, Scheduled]:
        """The hyperparameters of a group, as they were set."""
        return {**self._settings, **(self._groups[group - 1].settings if group else {})}

    def _lanes(self) -> tuple[Lanes, ...]:
        """For each group the scalars of the rule that are arrays, because a hyperparameter is one."""
        tables = [self._settings, *({**self._settings, **group.settings} for group in self._groups)]
        return tuple(lanes_among(self.rule, table) for table in tables)

    def _fit_arrays(self, parameters: Sequence[Parameter] | None = None) -> None:
        """Refuse arrays of hyperparameters that are of another shape than a variable."""
        for parameter in self._parameters if parameters is None else parameters:
            own = self._groups[parameter.group - 1].settings if parameter.group else {}
            values = {**self._settings, **own}
            refuse_other_shapes(self.name, values, parameter.shape, parameter.name, kind="variable")

    def _bound(self) -> tuple[Parameter, ...]:
        if self._face is not None or self._symbols:
            raise OptimizerError(
                f"{self.name} is used on PyTensor, where compiled functions make the steps; for expressions see "
                "thalweg.optimizers.pytensor.symbolic(optimizer)"
            )
        if not self._parameters:
            raise OptimizerError(f"{self.name} is not bound to any variable; call bind(variable) first")
        return self._parameters

    def _at_rest(self, what: str) -> None:
        """Refuse what would mix the state before a running step with the state after it."""
        if self._running.locked():
            raise self._busy(what)

    def _busy(self, what: str) -> OptimizerError:
        doing = "it is evaluating; leave the with block" if self._evaluating else "a step is already running; await it"
        return OptimizerError(f"{self.name}: {doing} before {what}")


def _whole(name: str, value: Any) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    if count < 1 or isinstance(value, bool):
        raise HyperparameterError(f"{name} is {value!r}; give an integer, at least 1", name=name, value=value)
    return count
