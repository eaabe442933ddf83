"""PyTorch's param groups: tables of hyperparameters, in which three go by PyTorch's names.

========================  =====================================================================================
in a param group          the hyperparameters
========================  =====================================================================================
``lr``                    ``learning_rate``: what ``torch.optim.lr_scheduler`` sets
``betas``, a pair         ``beta1`` and ``beta2``: what ``OneCycleLR`` and ``CyclicLR`` cycle
all others                our names; ``momentum`` and ``weight_decay`` are PyTorch's, too
========================  =====================================================================================

Our own names for these may be given, or set later; they are moved to PyTorch's.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch

from thalweg.errors import HyperparameterError
from thalweg.optimizers.settings import Scheduled, resolve
from thalweg.rules.base import Rule
from thalweg.rules.ranges import number
from thalweg.schedules import OptimizationState

THEIRS: Mapping[str, tuple[str, ...]] = {"lr": ("learning_rate",), "betas": ("beta1", "beta2")}
"""What PyTorch calls some hyperparameters."""

_OURS: Mapping[str, str] = {
    "eps": "epsilon",
    "alpha": "rho",
    "etas": "eta_minus and eta_plus",
    "step_sizes": "min_step and max_step",
    "initial_accumulator_value": "initial_accumulator",
}
_FORMS = ("nesterov", "amsgrad", "centered", "dampening", "maximize", "lr_decay", "decoupled_weight_decay")
_OTHERS = ("params", "param_names", "name", "initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr")


class Spelling:
    """Which key of a param group is which hyperparameter of a rule.

    Args:
        rule: the rule.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        names = set(rule.hyperparameters)
        self.theirs = {key: ours for key, ours in THEIRS.items() if names.issuperset(ours)}
        self._moved = {name: (key, place) for key, ours in self.theirs.items() for place, name in enumerate(ours)}
        self.keys = tuple(
            dict.fromkeys(self._moved[name][0] if name in self._moved else name for name in rule.hyperparameters)
        )

    def shown(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All hyperparameters as a param group shows them.

        Args:
            values: by our names.

        Returns:
            The same by the group's keys.
        """
        found: dict[str, Any] = {}
        for key in self.keys:
            ours = self.theirs.get(key, (key,))
            found[key] = tuple(values[name] for name in ours) if len(ours) > 1 else values[ours[0]]
        return found

    def given(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The hyperparameters that a table has, by our names, whichever names it uses.

        Args:
            group: a param group, complete or not.

        Returns:
            Numbers or schedules by our names, unchecked.

        Raises:
            HyperparameterError: one has two values, a pair is none, or a key is most likely another's misspelling.
        """
        found: dict[str, Any] = {}
        for key, value in group.items():
            if key not in self.theirs and key not in self.rule.hyperparameters:
                self._refuse_misspelt(key)
                continue
            ours = self.theirs.get(key, (key,))
            values = tuple(value) if len(ours) > 1 and isinstance(value, list | tuple) else (value,)
            if len(values) != len(ours):
                raise HyperparameterError(f"{key} is {value!r}; give {' and '.join(ours)}, a pair", name=key)
            for name, one in zip(ours, values, strict=True):
                if name in found:
                    raise HyperparameterError(f"a param group has {name} twice: as {name} and as {key}", name=name)
                found[name] = one
        return found

    def move(self, group: dict[str, Any]) -> None:
        """Move what was set under our name to PyTorch's, in place.

        Args:
            group: a complete param group.
        """
        for name, (key, place) in self._moved.items():
            if name in group and name != key:
                values = list(group[key]) if len(self.theirs[key]) > 1 else [group[key]]
                values[place] = group.pop(name)
                group[key] = tuple(values) if len(values) > 1 else values[0]

    def read(
        self, group: dict[str, Any], schedules: Mapping[str, Scheduled], now: OptimizationState, owner: str
    ) -> Any:
        """The hyperparameters of a step.

        Args:
            group: a complete param group; what was set under our names is moved to PyTorch's.
            schedules: those of its hyperparameters for which the group's number does not count.
            now: the counts of the step.
            owner: the optimizer's name, for messages.

        Returns:
            The rule's ``hyper``.

        Raises:
            HyperparameterError: a value is no number, or out of its range.
        """
        self.move(group)
        values: dict[str, float] = {}
        for key in self.keys:
            ours = self.theirs.get(key, (key,))
            several = group[key] if len(ours) > 1 else (group[key],)
            if not isinstance(several, list | tuple) or len(several) != len(ours):
                raise HyperparameterError(f"{owner}: {key} is {several!r}; give {' and '.join(ours)}", name=key)
            for name, value in zip(ours, several, strict=True):
                values[name] = self._number(name, schedules.get(name, value), now, owner)
        return self.rule.hyper(**values)

    def show(self, group: dict[str, Any], schedules: Mapping[str, Scheduled], hyper: Any) -> None:
        """Show in a param group what its schedules said.

        Args:
            group: a complete param group.
            schedules: those of its hyperparameters that are schedules.
            hyper: the rule's ``hyper`` of the last step.
        """
        for key, value in self.shown(hyper._asdict()).items():
            if any(name in schedules for name in self.theirs.get(key, (key,))):
                group[key] = value

    def _number(self, name: str, value: Any, now: OptimizationState, owner: str) -> float:
        if callable(value):
            found: float = resolve(self.rule, name, value, now)
            return found
        if isinstance(value, torch.Tensor) and value.ndim == 0:
            value = value.item()
        return number(value, self.rule.hyperparameters[name].interval, name=name, owner=owner)

    def _refuse_misspelt(self, key: str) -> None:
        if key in _OTHERS:
            return
        known = [*self.theirs, *self.rule.hyperparameters]
        if key in _FORMS:
            raise HyperparameterError(
                f"a param group has {key!r}, which chooses another form of the rule; all groups have the form of the "
                f"optimizer that was given (its options: {', '.join(self.rule.options) or 'none'})",
                name=key,
            )
        guess = _OURS.get(key) or next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.75)), None)
        if guess is not None:
            raise HyperparameterError(
                f"a param group has {key!r}; did you mean {guess}? (known: {', '.join(known)})", name=key, nearest=guess
            )
