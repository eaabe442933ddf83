"""How an optimizer is set, to be read: its hyperparameters, itself in words and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from thalweg.optimizers import recipe
from thalweg.optimizers.base import Optimizer
from thalweg.optimizers.describing import words
from thalweg.optimizers.groups import Group, group_config, group_number
from thalweg.optimizers.parameters import Parameter
from thalweg.optimizers.pipeline import Pipeline
from thalweg.optimizers.settings import Scheduled, resolve, to_config
from thalweg.rules.base import Rule
from thalweg.rules.spelling import unknown
from thalweg.schedules import OptimizationState

if TYPE_CHECKING:
    from thalweg.optimizers.pytensor import Symbolic


class ReadableOptimizer(Optimizer):
    """What can be read of a :class:`~thalweg.optimizers.local.LocalOptimizer`; see there for the arguments."""

    rule: ClassVar[Rule]
    """The class's rule; an optimizer's own is that rule in the form that was asked for."""

    _convention: str | None
    _wrap: tuple[str, ...]
    _accumulate: int
    _nonfinite: str
    _settings: dict[str, Scheduled]
    _groups: tuple[Group, ...]
    _process_grad: Pipeline
    _process_model: Pipeline
    _optimization_state: OptimizationState
    _parameters: tuple[Parameter, ...]
    _face: Symbolic | None
    """What PyTensor knows it by, once :meth:`update` was used."""

    def _pull(self) -> None:
        """Let the counts be what compiled functions of PyTensor made of them."""
        if self._face is not None:
            self._face.pull()

    def __repr__(self) -> str:
        said = words(self.rule, self._settings, self._convention, self._wrap, self._accumulate, self._nonfinite)
        names = ", ".join(parameter.name for parameter in self._parameters[:8]) or "unbound"
        more = f", … {len(self._parameters)} in all" if len(self._parameters) > 8 else ""
        return f"{type(self).__name__}({names}{more}; {', '.join(said)})"

    @classmethod
    def keywords(cls) -> dict[str, Any]:
        """What an optimizer of this class may be given by keyword, with the defaults.

        Returns:
            Hyperparameters and options of the rule and of wrappers, and what every optimizer has.
        """
        common = {name: default for name, (default, _) in recipe.COMMON.items()}
        return {**recipe.declared(cls.rule), **recipe.of_wrappers(), **common}

    @property
    def convention(self) -> str | None:
        """The library that it computes like, ``None`` for the paper."""
        return self._convention

    @property
    def wrap(self) -> tuple[str, ...]:
        """The names of what goes around the rule, the innermost first."""
        return self._wrap

    @property
    def accumulate(self) -> int:
        """Of how many gradients a step is made."""
        return self._accumulate

    @property
    def nonfinite(self) -> str:
        """What is done with a gradient that holds NaN or infinity."""
        return self._nonfinite

    @property
    def hyperparameters(self) -> dict[str, Scheduled]:
        """Every hyperparameter as it was set: a number or a schedule. A copy."""
        return dict(self._settings)

    def current(self, name: str, *, group: int | None = None) -> float:
        """The present value of a hyperparameter: what the last step used, or will the first.

        Args:
            name: for instance ``"learning_rate"``.
            group: which group's, from 0; by default the optimizer's own.

        Returns:
            The number, also where a schedule says it; the array where one was set, which cannot be written to.

        Raises:
            HyperparameterError: the name is unknown, there is no such group, or the schedule's value is out of range.
        """
        if name not in self._settings:
            raise unknown(f"hyperparameter of {self.rule.name}:", name, self._settings)
        self._pull()
        own = {} if group is None else self._groups[group_number(self.name, group, len(self._groups))].settings
        value: float = resolve(self.rule, name, own.get(name, self._settings[name]), self._optimization_state)
        return value

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of variables that have hyperparameters of their own; these can be set on them."""
        return self._groups

    def get_config(self) -> dict[str, Any]:
        """How it was configured, as JSON: what :func:`thalweg.optimizers.build` takes.

        Returns:
            Kind, name, description, hyperparameters and hooks. Callables of your own appear by name only.
        """
        return {
            "kind": self.rule.name,
            "name": self.name,
            "description": self.description,
            "convention": self._convention,
            "wrap": list(self._wrap),
            "accumulate": self._accumulate,
            "nonfinite": self._nonfinite,
            "groups": [group_config(group) for group in self._groups],
            **self.rule.chosen,
            **{name: to_config(value) for name, value in self._settings.items()},
            "process_grad": self._process_grad.get_config(),
            "process_model": self._process_model.get_config(),
        }
