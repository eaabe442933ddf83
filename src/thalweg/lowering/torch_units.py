"""Many tensors updated together: in native PyTorch operations, or by the compiled pass where they lie.

Both ways do a step in the same parts, so that several of them can be one step that is made as a whole or not at all::

    set_grad, set_hyper     what the step needs
    clean                   whether no gradient holds NaN or infinity
    ready                   the scalars: the last that can fail
    update                  in place; a text of somebody's own may fail here, and there are copies to go back to
    commit                  the counts and carried numbers of the step become those of the next

Parameters with the same hyperparameters, step count and carried numbers share a lane. Where a hyperparameter is an
array the text gets a tensor for a number; the compiled pass reads it beside the parameter
(:mod:`thalweg.rules.elementwise`).
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.lowering.batch import UNBOUNDED, Batch, Part, address_of
from thalweg.lowering.buffers import make_state
from thalweg.lowering.numpy import kernel_of
from thalweg.lowering.torch import AS_NUMPY, COMPUTED_IN, concluded, rounded, torch, update_
from thalweg.rules.base import Rule
from thalweg.rules.elementwise import numbers, refuse_other_shapes, values, with_lanes
from thalweg.rules.trying import explain

Limits = tuple[float, float]


@dataclass
class Lane:
    """What parameters of the same past and hyperparameters share.

    Args:
        group: the group whose hyperparameters hold.
        steps: how many steps they have made.
        carried: the rule's numbers that go from step to step, as of the last step.
    """

    group: int
    steps: int
    carried: tuple[float, ...]


@dataclass(frozen=True)
class Place:
    """One tensor of a unit.

    Args:
        param: the parameter.
        slots: its state, the rule's ``slots``.
        lane: the number of its lane.
    """

    param: torch.Tensor
    slots: Any
    lane: int


class Unit(abc.ABC):
    """Tensors that are updated in the same way.

    Args:
        rule: the rule.
        places: the tensors.
        lanes: their lanes.
    """

    may_fail = False
    """Whether :meth:`update` may fail after something was updated."""

    def __init__(self, rule: Rule, places: Sequence[Place], lanes: Sequence[Lane]) -> None:
        self.rule, self.places, self.lanes = rule, tuple(places), tuple(lanes)
        self._seen: list[Any] = [None] * len(lanes)  # hyperparameters that were found to fit, the very objects

    @abc.abstractmethod
    def moved(self, index: int) -> None:
        """Take note that a parameter lies elsewhere now."""

    @abc.abstractmethod
    def set_grad(self, index: int, grad: torch.Tensor) -> None:
        """Give a gradient; it is held until the step is counted."""

    @abc.abstractmethod
    def set_limits(self, index: int, limits: Limits) -> None:
        """Say between which bounds a parameter is kept."""

    @abc.abstractmethod
    def set_hyper(self, lane: int, hyper: Any) -> None:
        """Set a lane's hyperparameters for the coming step.

        Raises:
            HyperparameterError: one leaves its range when rounded to a parameter's dtype, or is an array of another
                shape than a parameter of the lane.
        """

    def _fit(self, lane: int, hyper: Any, dtypes: Iterable[np.dtype[Any]]) -> None:
        """Refuse what leaves its range in one of the dtypes, and arrays that are not like the lane's parameters."""
        if hyper is self._seen[lane]:
            return
        arrays = any(isinstance(value, np.ndarray) for value in hyper)
        if arrays:
            for place in self.places:
                if place.lane == lane:
                    refuse_other_shapes(self.rule.name, hyper._asdict(), place.param.shape)
        for dtype in dtypes:
            self.rule.check_rounded(hyper._asdict(), dtype)
        if not arrays:  # a parameter may have another shape at the next step, and still the same numbers
            self._seen[lane] = hyper

    @abc.abstractmethod
    def clean(self) -> bool:
        """Whether no gradient holds NaN or infinity."""

    @abc.abstractmethod
    def ready(self) -> None:
        """Compute the scalars of the step.

        Raises:
            HyperparameterError: a scalar is too large for a parameter's dtype.
        """

    @abc.abstractmethod
    def update(self) -> None:
        """Update all tensors, in place."""

    @abc.abstractmethod
    def commit(self) -> None:
        """Count the step in the lanes."""


class Native(Unit):
    """Tensors updated one after the other, in PyTorch's own operations: of any device, layout and known dtype."""

    def __init__(self, rule: Rule, places: Sequence[Place], lanes: Sequence[Lane]) -> None:
        super().__init__(rule, places, lanes)
        self._kinds = [COMPUTED_IN[place.param.dtype] for place in places]
        self._lane_kinds = [
            {k for k, p in zip(self._kinds, places, strict=True) if p.lane == n} for n in range(len(lanes))
        ]
        self._grads: list[torch.Tensor] = [place.param for place in places]
        self._limits = [UNBOUNDED] * len(places)
        self._scalars: list[Any] = [None] * len(lanes)
        self._carried: list[tuple[float, ...]] = [()] * len(lanes)
        self._ready: list[Any] = []

    def moved(self, index: int) -> None:
        """Nothing is kept that could be wrong now."""

    def set_grad(self, index: int, grad: torch.Tensor) -> None:
        """Take a gradient of the parameter's dtype, or of the dtype that it is computed in."""
        self._grads[index] = grad

    def set_limits(self, index: int, limits: Limits) -> None:
        """Remember them."""
        self._limits[index] = limits

    def set_hyper(self, lane: int, hyper: Any) -> None:
        """Prepare the scalars, in double precision."""
        self._fit(lane, hyper, (AS_NUMPY[kind] for kind in self._lane_kinds[lane]))
        past = self.lanes[lane]
        before = self.rule.carried(*past.carried) if self.rule.carried else None
        now = self.rule.advance(hyper, past.steps + 1, before)
        self._carried[lane] = () if now is None else tuple(map(float, now))
        self._scalars[lane] = self.rule.scalars(hyper, past.steps + 1, now)

    def clean(self) -> bool:
        """Look at every gradient, and wait for the devices once each."""
        found: dict[torch.device, list[torch.Tensor]] = {}
        for grad in self._grads:
            found.setdefault(grad.device, []).append(torch.isfinite(grad).all())
        return all(bool(torch.stack(several).all()) for several in found.values())

    def ready(self) -> None:
        """Round the scalars to each dtype, and complete them with the sums over each tensor if the rule has such."""
        if self.rule.measure is None:
            known: dict[tuple[int, torch.dtype, torch.device], Any] = {}
            keys = [(p.lane, kind, p.param.device) for p, kind in zip(self.places, self._kinds, strict=True)]
            for lane, kind, device in keys:
                if (lane, kind, device) not in known:
                    try:
                        known[lane, kind, device] = rounded(self.rule, self._scalars[lane], kind, device)
                    except (AttributeError, TypeError, ValueError) as error:
                        explain(self.rule, error)
                        raise
            self._ready = [known[key] for key in keys]
            return
        completed = (
            concluded(self.rule, p.param, grad, p.slots, self._scalars[p.lane])
            for p, grad in zip(self.places, self._grads, strict=True)
        )
        self._ready = [
            rounded(self.rule, scalars, kind, p.param.device)
            for p, kind, scalars in zip(self.places, self._kinds, completed, strict=True)
        ]

    def update(self) -> None:
        """Run the text on each tensor; autograd sees that they were changed.

        Raises:
            RuleError: the text cannot be computed with a tensor; those before it are updated, and no other is.
        """
        for place, grad, h, limits in zip(self.places, self._grads, self._ready, self._limits, strict=True):
            update_(self.rule, place.param, grad, place.slots, h, limits)

    def commit(self) -> None:
        """Take the carried numbers that were computed."""
        for lane, carried in zip(self.lanes, self._carried, strict=True):
            lane.steps, lane.carried = lane.steps + 1, carried
        self._grads = [place.param for place in self.places]  # and let go of the gradients


class Compiled(Unit):
    """Tensors of one dtype in the compiled pass: contiguous, on the CPU, float32 or float64.

    The pass writes behind PyTorch's back, so autograd is told: a graph that needs the values from before raises
    PyTorch's own error.

    Args:
        rule: the rule.
        places: the tensors.
        lanes: their lanes.
        each: the rule's scalars that are arrays, because a hyperparameter is one in every lane.

    Raises:
        RuleError: the rule's text cannot be compiled.
    """

    def __init__(self, rule: Rule, places: Sequence[Place], lanes: Sequence[Lane], each: tuple[str, ...] = ()) -> None:
        super().__init__(rule, places, lanes)
        self._kind, self._each = places[0].param.dtype, each
        self._held: dict[int, torch.Tensor] = {}
        self._rows = [make_state(len(each), p.param.detach().numpy()) for p in places]
        parts = [
            Part(
                p.param.data_ptr(),
                p.param.numel(),
                (*(slot.data_ptr() for slot in p.slots), *map(address_of, rows)),
                p.lane,
            )
            for p, rows in zip(places, self._rows, strict=True)
        ]
        self._batch = Batch(kernel_of(with_lanes(rule, each), AS_NUMPY[self._kind]), parts, len(lanes))
        self.may_fail = self._batch.kernel.may_fail
        for row, lane in enumerate(lanes):
            self._batch.carried[row] = lane.carried

    def moved(self, index: int) -> None:
        """Read its address again."""
        self._batch.set_param(index, self.places[index].param.data_ptr())

    def set_grad(self, index: int, grad: torch.Tensor) -> None:
        """Read its address: it is contiguous and of the parameter's dtype. The next step finds it there, too."""
        self._held[index] = grad
        self._batch.set_grad(index, grad.data_ptr())

    def set_limits(self, index: int, limits: Limits) -> None:
        """Remember them."""
        self._batch.set_limits(index, limits)

    def set_hyper(self, lane: int, hyper: Any) -> None:
        """Set them and the number of the step; what the rule makes of arrays is put where the pass will read it."""
        rule, past, dtype = self.rule, self.lanes[lane], AS_NUMPY[self._kind]
        self._fit(lane, hyper, (dtype,))
        plain = hyper is self._seen[lane]  # no arrays, also of what is in no lane, as AdaGrad's initial_accumulator
        self._batch.set_hyper(lane, hyper if plain else numbers(hyper), t=past.steps + 1)
        if not self._each:
            return
        before = rule.carried(*past.carried) if rule.carried else None
        if before is not None:
            self._batch.set_advanced(lane, rule.advance(hyper, past.steps + 1, before))
        found = values(rule, self._each, hyper, past.steps + 1, before, dtype)
        for place, rows in zip(self.places, self._rows, strict=True):
            if place.lane == lane:
                for row, value in zip(rows, found, strict=True):
                    row[: place.param.numel()] = value.ravel()

    def clean(self) -> bool:
        """Look at every gradient."""
        return self._batch.scan() is None

    def ready(self) -> None:
        """Compute the scalars of all lanes."""
        self._batch.ready()

    def update(self) -> None:
        """One pass over all tensors, and their versions one up.

        Raises:
            RuleError: the code was left by an error; what was updated until then stays so.
        """
        try:
            self._batch.update()
        finally:
            torch.autograd.graph.increment_version([place.param for place in self.places])

    def commit(self) -> None:
        """Take the carried numbers of the step."""
        self._held.clear()
        self._batch.commit()
        carried = self._batch.carried.tolist()
        for lane, row in zip(self.lanes, carried, strict=True):
            lane.steps, lane.carried = lane.steps + 1, tuple(row)
