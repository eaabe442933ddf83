"""PyTorch's param groups: tables of hyperparameters, in which three go by PyTorch's names.

========================  =====================================================================================
in a param group          the hyperparameters
========================  =====================================================================================
``lr``                    ``learning_rate``: what ``torch.optim.lr_scheduler`` sets
``betas``, a pair         ``beta1`` and ``beta2``: what ``OneCycleLR`` and ``CyclicLR`` cycle
all others                our names; ``momentum`` and ``weight_decay`` are PyTorch's, too
========================  =====================================================================================

Our own names for these may be given, or set later; they are moved to PyTorch's. An array of hyperparameters is held as
NumPy's, a copy that cannot be written to; a tensor may be given for it.

A group may have other keys, the user's own marks. What would be a hyperparameter or an option to another of our rules,
or is most likely one misspelt, is refused: nobody would read it. Of everyday words it is refused only where the value
is one that the option of that name takes: ``{"decay": "coupled"}``, not ``{"decay": True}``.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import torch

from thalweg.errors import HyperparameterError
from thalweg.lowering.torch import AS_NUMPY
from thalweg.optimizers.meaning import FORMS, means_something, meant
from thalweg.optimizers.recipe import not_there, settled
from thalweg.optimizers.settings import Scheduled, resolve
from thalweg.rules.base import Rule
from thalweg.rules.elementwise import lanes
from thalweg.rules.ranges import number_or_array
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
OF_SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr")
"""What ``torch.optim.lr_scheduler`` keeps in a param group."""

_OTHERS = ("params", "param_names", "name", *OF_SCHEDULERS)


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
                self._refuse_misspelt(key, value)
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

    def check_keys(self, group: Mapping[str, Any]) -> None:
        """Refuse a key that nobody would read and that is no mark of the user's, and a group that lacks one of ours.

        Args:
            group: a param group, which has to be complete.

        Raises:
            HyperparameterError: there is such a key, or one is missing.
        """
        gone = [key for key in self.keys if key not in group]
        if gone:
            raise HyperparameterError(
                f"a param group has no {gone[0]!r} any more; set it: group[{gone[0]!r}] = ...", name=gone[0]
            )
        for key, value in group.items():
            if key not in self.theirs and key not in self.rule.hyperparameters:
                self._refuse_misspelt(key, value)

    def refuse_attribute(self, name: str, value: Any) -> None:
        """Refuse what was set on the optimizer itself, and is read in its param groups, or was in the recipe.

        Args:
            name: the attribute.
            value: what it was set to.

        Raises:
            HyperparameterError: it means something to an optimizer of ours; all else is a mark of the user's own.
        """
        ours = meant(name, self.rule.hyperparameters) or name
        key = self._moved[ours][0] if ours in self._moved else ours
        if key in self.keys:
            raise HyperparameterError(
                f'{self.rule.name}: {name} is of each param group: set optimizer.param_groups[k]["{key}"] = ...; on '
                "the optimizer itself nobody would read it",
                name=name,
            )
        if name in ("rule", "kernel"):
            raise settled(self.rule, name)
        if name in self.rule.chosen or means_something(name, value):
            raise not_there(self.rule, name, (), made=True)

    def move(self, group: dict[str, Any]) -> None:
        """Move what was set under our name to PyTorch's, in place.

        Args:
            group: a complete param group.
        """
        for name, (key, place) in self._moved.items():
            if name in group and name != key:
                values = group.get(key) if len(self.theirs[key]) > 1 else (group.get(key),)
                if isinstance(values, list | tuple) and len(values) == len(self.theirs[key]):  # read refuses others
                    moved = (*values[:place], group.pop(name), *values[place + 1 :])
                    group[key] = moved if len(moved) > 1 else moved[0]

    def schedules(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """What a param group holds that is no number, but a function, by our names.

        Args:
            group: a complete param group.
        """
        found: dict[str, Any] = {}
        for key in self.keys:
            ours, value = self.theirs.get(key, (key,)), group.get(key)
            several = value if len(ours) > 1 and isinstance(value, list | tuple) else (value,)
            if len(several) == len(ours):  # read refuses what is no pair
                found |= {name: one for name, one in zip(ours, several, strict=True) if callable(one)}
        return found

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
            HyperparameterError: a value is no number or array, or out of its range.
        """
        self.move(group)
        values: dict[str, Any] = {}
        for key in self.keys:
            ours = self.theirs.get(key, (key,))
            several = group[key] if len(ours) > 1 else (group[key],)
            if not isinstance(several, list | tuple) or len(several) != len(ours):
                raise HyperparameterError(f"{owner}: {key} is {several!r}; give {' and '.join(ours)}", name=key)
            pairs = zip(ours, several, strict=True)
            found = [self._value(name, schedules.get(name, value), now, owner) for name, value in pairs]
            if any(isinstance(one, np.ndarray) for one in found):
                group[key] = tuple(found) if len(ours) > 1 else found[0]
            values.update(zip(ours, found, strict=True))
        return self.rule.hyper(**values)

    def show(self, group: dict[str, Any], schedules: Mapping[str, Scheduled], hyper: Any) -> dict[str, Any]:
        """Show in a param group what its schedules said; returns that, by PyTorch's names.

        Args:
            group: a complete param group.
            schedules: those of its hyperparameters that are schedules.
            hyper: the rule's ``hyper`` of the last step.
        """
        said = {
            key: value
            for key, value in self.shown(hyper._asdict()).items()
            if any(name in schedules for name in self.theirs.get(key, (key,)))
        }
        group.update(said)
        return said

    def elements(self, group: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
        """What a param group has of some hyperparameters, one by one.

        Args:
            group: a param group, complete or not.
            names: which ones, by our names.

        Returns:
            The values by what the group calls them: ``lr``, ``betas[0]``; without what should be a pair and is none.
        """
        found: dict[str, Any] = {}
        for key in self.keys:
            ours = self.theirs.get(key, (key,))
            if len(ours) == 1:
                found |= {key: group[key]} if key in group and ours[0] in names else {}
            elif isinstance(several := group.get(key), list | tuple) and len(several) == len(ours):
                found |= {f"{key}[{k}]": several[k] for k, name in enumerate(ours) if name in names}
        return found

    def _value(self, name: str, value: Any, now: OptimizationState, owner: str) -> float | np.ndarray:
        if callable(value):
            said: float = resolve(self.rule, name, value, now)
            return said
        if isinstance(value, torch.Tensor):
            value = value.item() if value.ndim == 0 else _as_numpy(value, name, owner)
        found = number_or_array(value, self.rule.hyperparameters[name].interval, name=name, owner=owner)
        if isinstance(found, np.ndarray):
            lanes(self.rule, name)  # refuses what the rule can take as a number only
        return found

    def _refuse_misspelt(self, key: Any, value: Any) -> None:
        if key in _OTHERS or not isinstance(key, str):
            return
        known = [*self.theirs, *self.rule.hyperparameters]
        if key in FORMS:
            raise HyperparameterError(
                f"a param group has {key!r}, which chooses another form of the rule; all groups have the form of the "
                f"optimizer that was given (its options: {', '.join(self.rule.options) or 'none'})",
                name=key,
            )
        if means_something(key, value):
            raise not_there(self.rule, key, (), made=True)
        guess = _OURS.get(key) or next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.75)), None)
        if guess is not None and not set(guess.split(" and ")).issubset(known):
            raise HyperparameterError(
                f"a param group has {key!r}, which is {guess} to us, and {self.rule.name} has none (known: "
                f"{', '.join(known)})",
                name=key,
            )
        if guess is not None:
            raise HyperparameterError(
                f"a param group has {key!r}; did you mean {guess}? (known: {', '.join(known)})", name=key, nearest=guess
            )


def _as_numpy(tensor: torch.Tensor, name: str, owner: str) -> np.ndarray:
    detached = tensor.detach()
    plain = type(detached) is torch.Tensor  # not a masked one, say
    if tensor.dtype not in AS_NUMPY or tensor.layout != torch.strided or not plain:
        what = "tensor" if plain else type(tensor).__name__
        raise HyperparameterError(
            f"{owner}: {name} is a {what} of {tuple(tensor.shape)} {tensor.dtype} {tensor.layout}; give a number, or a "
            "dense tensor or an array of float32 or float64",
            owner=owner,
            name=name,
        )
    found: np.ndarray = detached.cpu().resolve_neg().numpy()
    return found


def unchanged(one: Any, other: Any) -> bool:
    """Whether values of a param group are what they were: the same numbers, the very same arrays.

    A tensor, or an array without axes, may have been written to, and never is.
    """
    if type(one) is float and type(other) is float:  # nearly always
        return one == other
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(unchanged, one, other))
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    if isinstance(one, np.ndarray) and not one.ndim:
        return False
    return one is other or (not isinstance(one, np.ndarray) and not isinstance(other, np.ndarray) and one == other)
