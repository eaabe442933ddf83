"""What a gradient optimizer is made of: variables, hyperparameters, hooks, and its state in and out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.graph import Variable
from thalweg.optimizers import persistence
from thalweg.optimizers.base import Optimizer
from thalweg.optimizers.parameters import Footprint, Parameter
from thalweg.optimizers.pipeline import Hook, Pipeline, build_hook
from thalweg.optimizers.settings import Scheduled, check_callable_names, checked, from_config, resolve, to_config
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.rules.base import Rule
from thalweg.rules.spelling import unknown
from thalweg.schedules import OptimizationState

_COMMON_KEYS = ("name", "description", "process_grad", "process_model")


class ConfiguredOptimizer(Optimizer):
    """All of :class:`~thalweg.optimizers.local.LocalOptimizer` but the step; see there for the arguments."""

    rule: ClassVar[Rule]

    def __init__(
        self,
        variables: Variable | Sequence[Variable] | None = None,
        *,
        hyperparameters: Mapping[str, Scheduled] | None = None,
        process_grad: Hook = None,
        process_model: Hook = None,
        name: str | None = None,
        description: str = "",
    ) -> None:
        super().__init__(name=self.rule.name if name is None else name, description=description)
        self._optimization_state = OptimizationState()
        self._updates = 0  # of the rule since its state was empty: what bias corrections count
        self._settings: dict[str, Scheduled] = {n: h.default for n, h in self.rule.hyperparameters.items()}
        for key, value in (hyperparameters or {}).items():
            self._settings[key] = checked(self.rule, key, value, self._optimization_state)
        self._process_grad = Pipeline("process_grad", process_grad)
        self._process_model = Pipeline("process_model", process_model)
        self._parameters: tuple[Parameter, ...] = ()
        self._footprint = Footprint(())
        self._single = False
        self._stepping = False
        if variables is not None:
            self.bind(variables)

    def __setattr__(self, name: str, value: Any) -> None:
        # A misspelt hyperparameter would otherwise be a new attribute that nobody reads.
        if not name.startswith("_") and not hasattr(type(self), name):
            raise unknown(f"hyperparameter or attribute of {type(self).__name__}:", name, self.rule.hyperparameters)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings.items())
        names = ", ".join(parameter.name for parameter in self._parameters) or "unbound"
        return f"{type(self).__name__}({names}; {settings})"

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
        single = isinstance(variables, Variable)
        several = (variables,) if isinstance(variables, Variable) else tuple(variables)
        names = _names(several)
        self._process_grad.check_names(names)
        self._process_model.check_names(names)
        parameters = tuple(Parameter(v, n, self.rule) for v, n in zip(several, names, strict=True))
        self._footprint = Footprint(parameters)
        self._parameters, self._single, self._updates = parameters, single, 0
        return self

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables that it updates."""
        return tuple(parameter.variable for parameter in self._parameters)

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
        return self._optimization_state.curr_iter

    @property
    def optimization_state(self) -> OptimizationState:
        """The counts that schedules follow. A step advances the iteration, the loop epoch and batch."""
        return self._optimization_state

    @property
    def hyperparameters(self) -> dict[str, Scheduled]:
        """Every hyperparameter as it was set: a number or a schedule. A copy."""
        return dict(self._settings)

    @property
    def process_grad(self) -> Hook:
        """What is called on a gradient before the rule; can be set."""
        return self._process_grad.hook

    @process_grad.setter
    def process_grad(self, hook: Hook) -> None:
        self._process_grad = self._pipeline("process_grad", hook)

    @property
    def process_model(self) -> Hook:
        """What is called on the data after the rule; can be set."""
        return self._process_model.hook

    @process_model.setter
    def process_model(self, hook: Hook) -> None:
        self._process_model = self._pipeline("process_model", hook)

    def _pipeline(self, what: str, hook: Hook) -> Pipeline:
        pipeline = Pipeline(what, hook)
        if self._parameters:
            pipeline.check_names([parameter.name for parameter in self._parameters])
        return pipeline

    def current(self, name: str) -> float:
        """The present value of a hyperparameter: what the last step used, or will the first.

        Args:
            name: for instance ``"learning_rate"``.

        Returns:
            The number, also where a schedule says it.

        Raises:
            HyperparameterError: the name is unknown, or the schedule's value is out of range.
        """
        if name not in self._settings:
            raise unknown(f"hyperparameter of {self.rule.name}:", name, self._settings)
        return resolve(self.rule, name, self._settings[name], self._optimization_state)

    def _bound(self) -> tuple[Parameter, ...]:
        if not self._parameters:
            raise OptimizerError(f"{self.name} is not bound to any variable; call bind(variable) first")
        return self._parameters

    def _at_rest(self, what: str) -> None:
        """Refuse what would mix the state before a running step with the state after it."""
        if self._stepping:
            raise OptimizerError(f"{self.name}: a step is already running; await it before {what}")

    # State in and out

    def state(self) -> OptimizerSnapshot:
        """A copy of everything that decides the next step besides the variables' data.

        Returns:
            The rule's state, the counters, the hyperparameters with their schedules, and what the hooks are.

        Raises:
            OptimizerError: a step is running.
        """
        self._at_rest("taking its state")
        meta = {
            "rule": self.rule.name,
            "updates": self._updates,
            "optimization_state": self._optimization_state.get_config(),
            "hyperparameters": {name: to_config(value) for name, value in self._settings.items()},
            "process_grad": self._process_grad.get_config(),
            "process_model": self._process_model.get_config(),
        }
        return persistence.take(self._parameters, meta)

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
        self._bound()
        self._at_rest("dumping")
        persistence.write(self._parameters, self.state(), path, keep=keep)

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
        self._bound()
        self._at_rest("loading")
        snapshot, data = persistence.read(path, generation)
        self._restore(snapshot, data)

    def _restore(self, snapshot: OptimizerSnapshot, data: dict[str, np.ndarray] | None) -> None:
        here = self.state().meta
        settled = persistence.settle(self.rule, self._parameters, self._settings, here, snapshot, data)
        targets = [parameter.data() for parameter in self._parameters] if data else []
        # Nothing below can fail.
        self._settings = settled.settings
        self._updates = settled.updates
        persistence.set_counts(self._optimization_state, settled.counts)
        for parameter in self._parameters:
            parameter.set_slots(settled.slots[parameter.name])
        for parameter, target in zip(self._parameters, targets, strict=False):
            target[...] = (data or {})[parameter.name]
            parameter.variable.mark_modified()

    def get_config(self) -> dict[str, Any]:
        """How it was configured, as JSON: what :func:`thalweg.optimizers.build` takes.

        Returns:
            Kind, name, description, hyperparameters and hooks. Callables of your own appear by name only.
        """
        return {
            "kind": self.rule.name,
            "name": self.name,
            "description": self.description,
            **{name: to_config(value) for name, value in self._settings.items()},
            "process_grad": self._process_grad.get_config(),
            "process_model": self._process_model.get_config(),
        }

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
        check_callable_names(config)
        table = dict(config)
        kind = table.pop("kind", cls.rule.name)
        if kind != cls.rule.name:
            raise HyperparameterError(f"this config is of kind {kind!r}, and {cls.__name__} is {cls.rule.name!r}")
        common = {key: table.pop(key, None) for key in _COMMON_KEYS}
        for key in table:
            if key not in cls.rule.hyperparameters:
                raise unknown(f"key for optimizer {kind!r}:", key, [*cls.rule.hyperparameters, *common])
        optimizer = cls()
        for key, value in table.items():
            optimizer._settings[key] = checked(
                cls.rule, key, from_config(key, value, callables or {}), optimizer._optimization_state
            )
        for hook in ("process_grad", "process_model"):
            setattr(optimizer, hook, build_hook(hook, common[hook], arrays or {}, callables or {}))
        optimizer.name = cls.rule.name if common["name"] is None else str(common["name"])
        optimizer.description = str(common["description"] or "")
        return optimizer if variables is None else optimizer.bind(variables)


def _names(variables: Sequence[Variable]) -> list[str]:
    """The names that state goes by; a single variable may do without."""
    if not variables:
        raise OptimizerError("there is no variable to optimize; give at least one")
    for variable in variables:
        if not isinstance(variable, Variable):
            raise OptimizerError(f"got a {type(variable).__name__} to optimize; give Variables")
    if len(variables) == 1:
        return [variables[0].name or "variable"]
    names = [variable.name for variable in variables]
    for index, name in enumerate(names):
        if not name:
            raise OptimizerError(f"variable {index} of {len(names)} has no name; state is kept by name, so give it one")
        if names.index(name) != index:
            raise OptimizerError(f"two variables are named {name!r}; state is kept by name, so give each its own")
    return [str(name) for name in names]
