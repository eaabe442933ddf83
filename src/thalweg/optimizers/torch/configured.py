"""What a PyTorch optimizer is made of: a recipe, param groups, and its state in and out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch

from thalweg.errors import OptimizerError
from thalweg.optimizers.groups import Group, assign
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.pipeline import Pipeline
from thalweg.optimizers.remembering import following
from thalweg.optimizers.settings import Scheduled, checked, remembered, resolve
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.optimizers.torch import state as torch_state
from thalweg.optimizers.torch import twin
from thalweg.optimizers.torch.checks import Footprint, usable
from thalweg.optimizers.torch.groups import Spelling, unchanged
from thalweg.optimizers.torch.names import agree, check_hooks, check_names
from thalweg.optimizers.torch.seating import KERNELS, Plan
from thalweg.optimizers.torch.tables import Params, tables
from thalweg.optimizers.unbound import refuse_keywords, unbound
from thalweg.rules.base import Rule
from thalweg.rules.elementwise import lanes_among, refuse_other_shapes
from thalweg.rules.spelling import unknown
from thalweg.schedules import OptimizationState

_TAKEN: dict[str, Any] = {"taker": "TorchOptimizer", "call": "TorchOptimizer(parameters, {})"}


class Known(NamedTuple):
    """What a param group said at the last step, and what was made of it.

    Args:
        raw: the values of its hyperparameters; a list of two as a tuple, since its elements can be set.
        keys: which keys it had.
        hyper: the rule's ``hyper``.
        lanes: the rule's scalars that are arrays, because a hyperparameter is one.
    """

    raw: tuple[Any, ...]
    keys: list[str]
    hyper: Any
    lanes: tuple[str, ...]


class ConfiguredTorchOptimizer(torch.optim.Optimizer):
    """All of :class:`~thalweg.optimizers.torch.TorchOptimizer` but the step; see there for the arguments."""

    rule: Rule
    """The rule, in the form that the recipe has."""

    _broken = ""  # by what a step was left in its middle

    def __init__(
        self, params: Params, recipe: LocalOptimizer | None = None, *, kernel: str = "auto", **misplaced: Any
    ) -> None:
        refuse_keywords(misplaced, **_TAKEN)
        recipe = unbound(recipe, before=params, **_TAKEN)
        if kernel not in KERNELS:
            raise unknown("kernel", str(kernel), KERNELS)
        self.rule, self.name, self.kernel = recipe.rule, recipe.name, kernel
        self._base_rule: Rule = type(recipe).rule
        self._convention, self._wrap = recipe.convention, recipe.wrap
        self._accumulate, self._nonfinite = recipe.accumulate, recipe.nonfinite
        self._process_grad = Pipeline("process_grad", recipe.process_grad)
        self._process_model = Pipeline("process_model", recipe.process_model)
        self._spelling = Spelling(self.rule)
        self._settings, *of_groups = _owned([recipe.hyperparameters, *(group.settings for group in recipe.groups)])
        self._optimization_state = recipe.optimization_state.copy()
        self._patterns = tuple(
            Group(self.rule, group.variables, settings, self._optimization_state, None)
            for group, settings in zip(recipe.groups, of_groups, strict=True)
        )
        # Beside each param group: the recipe's group, what was given for this one alone, and what is a schedule.
        self._origins: list[int] = []
        self._explicit: list[set[str]] = []
        self._scheduled: list[dict[str, Scheduled]] = []
        self._skipped = self._zeroed = self._zeroing = self._micro = 0
        self._gathered: dict[torch.Tensor, torch.Tensor] = {}
        self._evaluating = False
        self._told: set[str] = set()  # the warnings that were given
        self._forget()

        groups = tables(params)
        named = [name for group in groups for name in group.get("param_names", ())]
        if named:
            assign(self._patterns, named)  # refuses a pattern that fits nothing
        check_hooks(self, named)
        present = self._spelling.read(self._spelling.shown(self._settings), {}, self._optimization_state, self.name)
        super().__init__(groups, self._spelling.shown(present._asdict()))

    def __setattr__(self, name: str, value: Any) -> None:
        mine = name.startswith("_") or name in _ATTRIBUTES or hasattr(type(self), name)
        if "_spelling" in vars(self) and (name in _SETTLED or not mine):  # a subclass may have marks before that
            self._spelling.refuse_attribute(name, value)
        super().__setattr__(name, value)

    def _forget(self) -> None:
        """Something was set: the next step may not take anything for granted."""
        self._plan: Plan | None = None
        self._hypers: dict[int, Known] = {}
        self._initial: dict[int, dict[str, Any]] = {}
        self._lagged: dict[int, dict[str, Any]] = {}
        self._shown: dict[int, dict[str, Any]] = {}

    # Param groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with hyperparameters of their own if the table has any.

        Where the recipe has groups by name, the table becomes a param group for each of them that it has
        parameters of.

        Args:
            param_group: ``params`` (tensors, or pairs of name and tensor) and hyperparameters, numbers, schedules, or
                arrays like its parameters.

        Raises:
            ParameterError: a parameter cannot be updated in place, or shares memory with another.
            HyperparameterError: a hyperparameter is unknown, out of its range, or an array of another shape than one of
                the parameters.
            OptimizerError: some parameters have names and others have not, or two have the same.
        """
        (table,) = tables([param_group])
        tensors, names = table["params"], table.get("param_names")
        if not tensors and self.param_groups:
            names = [] if "param_names" in self.param_groups[0] else None
        first = sum(len(group["params"]) for group in self.param_groups)
        labels = names or [str(first + k) for k in range(len(tensors))]
        for tensor, label in zip(tensors, labels, strict=True):
            usable(tensor, label)
        known = self._listing()
        check_names(self, names, [label for _, label, _ in known])
        Footprint([*(p for p, _, _ in known), *tensors], [*(label for _, label, _ in known), *labels])
        given = self._spelling.given(table)
        numbers = {key: value for key, value in table.items() if key not in ("params", "param_names")}
        rest = {
            k: v for k, v in numbers.items() if k not in self._spelling.theirs and k not in self.rule.hyperparameters
        }
        parts = []
        for origin, members in self._by_pattern(labels, bool(names)).items():
            settings = {**self._settings, **(self._patterns[origin - 1].settings if origin else {}), **given}
            scheduled = {name: value for name, value in settings.items() if callable(value)}
            present = self._spelling.read(self._spelling.shown(settings), {}, self._optimization_state, self.name)
            for k in members:
                refuse_other_shapes(self.name, present._asdict(), tensors[k].shape, labels[k])
            group = {**rest, **self._spelling.shown(present._asdict()), "params": [tensors[k] for k in members]}
            if names is not None:
                group["param_names"] = [names[k] for k in members]
            parts.append((group, origin, scheduled))
        if tensors:
            agree(self, names is not None)
        for group, origin, scheduled in parts:
            super().add_param_group(group)
            self._origins.append(origin)
            self._explicit.append(set(given))
            self._scheduled.append(scheduled)
        self._forget()

    def _by_pattern(self, labels: Sequence[str], named: bool) -> dict[int, list[int]]:
        """The parameters of a table by the recipe's group that they belong to."""
        found: dict[int, list[int]] = {}
        for index, label in enumerate(labels):
            several = enumerate(self._patterns, start=1) if named else ()
            found.setdefault(next((k for k, group in several if group.holds(label)), 0), []).append(index)
        return dict(sorted(found.items())) or {0: []}

    def _listing(self) -> list[tuple[torch.Tensor, str, int]]:
        """All parameters with their names (or numbers) and param groups, in order."""
        found: list[tuple[torch.Tensor, str, int]] = []
        for index, group in enumerate(self.param_groups):
            names = group.get("param_names")
            for place, param in enumerate(group["params"]):
                found.append((param, names[place] if names else str(len(found)), index))
        return found

    def _label(self, group: int, place: int) -> str:
        """The name of a parameter, or its number."""
        names = self.param_groups[group].get("param_names")
        return str(names[place] if names else sum(len(g["params"]) for g in self.param_groups[:group]) + place)

    def _known(self, group: int, *, ahead: bool) -> Known:
        """The hyperparameters of a param group at the present counts, or ``ahead``, in the coming step."""
        table = self.param_groups[group]
        known = self._hypers.get(group)
        if known is not None and [*table] == known.keys:
            if not self._scheduled[group] and unchanged(known.raw, tuple(map(table.get, self._spelling.keys))):
                return known
        else:  # another key was set since: one of ours, or one that nobody would read
            self._spelling.check_keys(table)
        now = self._optimization_state.copy()
        if ahead:
            now.begin_step()
        self._adopt(group, now)
        hyper = self._spelling.read(table, self._scheduled[group], now, self.name)
        for place, param in enumerate(table["params"]):
            refuse_other_shapes(self.name, hyper._asdict(), param.shape, self._label(group, place))
        raw = (table[key] for key in self._spelling.keys)
        held = tuple(tuple(value) if isinstance(value, list) else value for value in raw)
        known = self._hypers[group] = Known(held, [*table], hyper, lanes_among(self.rule, hyper._asdict()))
        return known

    def _adopt(self, group: int, now: OptimizationState) -> None:
        """Take over the schedules that were set in a param group since; it shows what they say now."""
        table = self.param_groups[group]
        self._spelling.move(table)
        if found := self._spelling.schedules(table):
            found = {name: checked(self.rule, name, value, now) for name, value in found.items()}
            says = {name: resolve(self.rule, name, value, now) for name, value in found.items()}
            self._scheduled[group] |= found
            table.update(says)
            self._spelling.move(table)

    def _adopt_all(self) -> None:
        for group in range(len(self.param_groups)):
            self._adopt(group, self._optimization_state)

    # What there is to see

    @property
    def optimization_state(self) -> OptimizationState:
        """The counts that our schedules follow. A step advances the iteration; the loop says when an epoch begins."""
        return self._optimization_state

    @property
    def skipped(self) -> int:
        """How many steps were skipped because a gradient was not finite."""
        return self._skipped

    @property
    def zeroed(self) -> int:
        """How many elements of gradients were taken as zero because they were not finite."""
        return self._zeroed

    def observe(self, metric: float) -> None:
        """Tell our schedules that follow a metric (``schedules.Plateau``) what it is now, each once.

        Args:
            metric: for instance the loss of this epoch.

        Raises:
            HyperparameterError: the metric is no real number.
        """
        self._adopt_all()
        for schedule in following(torch_state.everywhere(self).values()):  # those that a group to come will follow, too
            schedule.observe(metric)

    def forget_best(self) -> None:
        """Tell them that another metric follows (other data, another misfit): what was best so far says nothing of it.
        What they have reduced stays reduced.

        Example:
            >>> import torch
            >>> import thalweg as tw
            >>> from thalweg.optimizers.torch import TorchOptimizer
            >>> rate = tw.schedules.Plateau(1.0, factor=0.5, patience=0)
            >>> optimizer = TorchOptimizer([("x", torch.ones(1, requires_grad=True))], tw.SGD(learning_rate=rate))
            >>> optimizer.observe(3.0)
            >>> optimizer.forget_best()
            >>> optimizer.observe(4.0)  # the first of the new ones
            >>> optimizer.snapshot().meta["schedules"]["learning_rate"]
            {'best': 4.0, 'bad_count': 0, 'cooldown_count': 0, 'factor': 1.0}
        """
        self._adopt_all()
        for schedule in following(torch_state.everywhere(self).values()):
            schedule.forget_best()

    # State in and out

    def state_dict(self) -> dict[str, Any]:
        """The state, as PyTorch's optimizers give it: tensors, numbers and names, which ``torch.load`` takes unasked.

        Returns:
            ``state`` by the parameter's number (``step``, the rule's slots, its numbers) and ``param_groups``, of which
            the first has the rule, the counts that schedules follow, and what was skipped, as ``thalweg``. As in
            PyTorch the tensors are the optimizer's own.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        self._adopt_all()
        found = torch_state.packed(self)
        for after in self._optimizer_state_dict_post_hooks.values():
            made = after(self, found)
            found = found if made is None else made
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`, to the same bits: state and param groups. The parameters stay.

        Hyperparameters become what they were, a learning rate that a ``torch.optim.lr_scheduler`` had set, too. Our
        schedules and hooks are the recipe's: they must be the same ones. A callable of your own is known by its name.

        Args:
            state_dict: from an optimizer of the same rule over parameters of the same shapes; it is copied. What the
                hooks of ``register_load_state_dict_pre_hook`` make of it is what is checked and loaded.

        Raises:
            StateMismatchError: it does not fit; the message lists every difference, and nothing was changed.
        """
        self._adopt_all()
        saved = torch_state.prepared(self, state_dict)
        torch_state.check(self, saved)
        torch_state.tell_by_position(self, saved)
        torch_state.load(self, saved)
        self._broken = ""
        self._forget()
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def snapshot(self) -> OptimizerSnapshot:
        """The state as ``LocalOptimizer.state()`` gives it, for any backend.

        Returns:
            A copy of everything that decides the next step besides the parameters.

        Raises:
            OptimizerError: the parameters have no names, or have not made the same number of steps; or gradients are
                gathered of some of them only.
        """
        self._adopt_all()
        return twin.take(self)

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        """Continue from a snapshot of any backend: state, hyperparameters and schedules. The parameters stay.

        Args:
            snapshot: from :meth:`snapshot`, or from ``state()`` of a ``LocalOptimizer`` over variables of these names.

        Raises:
            StateMismatchError: it does not fit; the message lists every difference, and nothing was changed.
            OptimizerError: the parameters have no names.
        """
        twin.restore(self, snapshot)
        self._broken = ""
        self._forget()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        for shared in (self.rule, self._base_rule, self._spelling, self._process_grad, self._process_model):
            memo[id(shared)] = shared
        torch.optim.Optimizer.__setstate__(made, {n: copy.deepcopy(getattr(self, n), memo) for n in _COPIED})
        made._forget()
        return made

    def __getstate__(self) -> dict[str, Any]:
        raise OptimizerError(
            f"{type(self).__name__} cannot be pickled, as its rule is made of functions; save its state_dict(), or use "
            "copy.deepcopy"
        )


def _owned(tables: Sequence[Mapping[str, Scheduled]]) -> list[dict[str, Scheduled]]:
    """Hyperparameters of a recipe, in which schedules that remember something are copies: others may have it, too."""
    memo: dict[int, Any] = {}
    return [
        {name: copy.deepcopy(value, memo) if remembered(value) else value for name, value in table.items()}
        for table in tables
    ]


_SETTLED = ("rule", "kernel")
_ATTRIBUTES = ("defaults", "param_groups", "state", "rule", "name", "kernel")

_COPIED = (
    *_ATTRIBUTES,
    *(
        "_base_rule",
        "_broken",
        "_convention",
        "_wrap",
        "_accumulate",
        "_nonfinite",
        "_process_grad",
        "_process_model",
        "_spelling",
    ),
    *("_settings", "_optimization_state", "_patterns", "_origins", "_explicit", "_scheduled"),
    *("_skipped", "_zeroed", "_zeroing", "_micro", "_gathered", "_evaluating", "_told"),
)
