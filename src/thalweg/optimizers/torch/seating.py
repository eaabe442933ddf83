"""Which parameters of a step are updated by the compiled pass and which in native operations, and their state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch

from thalweg.errors import ParameterError, RuleError
from thalweg.lowering.torch import compiled_fault, computed_in, init
from thalweg.lowering.torch_units import Compiled, Lane, Native, Place, Unit
from thalweg.optimizers.entries import is_count, shown
from thalweg.optimizers.interrupts import held
from thalweg.optimizers.torch.checks import Footprint
from thalweg.rules.base import Rule
from thalweg.rules.trying import explain

KERNELS = ("auto", "shared", "native")
"""Where the compiled pass is used: where it can be; everywhere, or it is an error; nowhere."""

State = dict[str, Any]
"""What ``optimizer.state`` has for a parameter: ``step``, the slots, and the numbers that go from step to step."""


class Seat:
    """One parameter of a plan.

    Args:
        param: the parameter.
        label: its name or number.
        group: the number of its param group.
        state: its state, an entry of ``optimizer.state`` or one to be.
    """

    def __init__(self, param: torch.Tensor, label: str, group: int, state: State) -> None:
        self.param, self.label, self.group, self.state = param, label, group, state
        self.unit: Unit
        self.lane: Lane
        self.index = 0
        self.compiled = False
        self.grad_address = -1
        self.watched: tuple[tuple[str, torch.Tensor, int], ...] = ()
        self.numbers: tuple[str, ...] = ()
        self.note()

    def note(self) -> None:
        """Remember where the parameter is and how it looks."""
        param = self.param
        self.address, self.shape, self.dtype = address_of(param), param.shape, param.dtype
        self.dense = param.is_contiguous()

    def stays(self) -> bool:
        """Whether the parameter is where it was, and looks as it did."""
        param = self.param
        return (
            address_of(param) == self.address
            and param.shape == self.shape
            and param.dtype is self.dtype
            and param.is_contiguous() is self.dense
        )

    def watch(self, rule: Rule) -> None:
        """Remember which tensors the state has, and where."""
        slots = ((name, self.state[name]) for name in rule.slot_names)
        self.numbers = rule.carried_names
        self.watched = tuple((name, slot, address_of(slot)) for name, slot in slots)

    def knows(self, param: torch.Tensor, group: int, state: State | None) -> bool:
        """Whether this is its parameter, with a state in which nobody has changed anything but values."""
        if param is not self.param or group != self.group or state is not self.state:
            return False
        steps = state.get("step")
        if type(steps) is not int or steps != self.lane.steps:
            return False
        for name, slot, place in self.watched:
            if state.get(name) is not slot or address_of(slot) != place:
                return False
        return not self.numbers or tuple(map(state.get, self.numbers)) == self.lane.carried

    def slots(self, rule: Rule) -> Any:
        """The rule's slots."""
        return rule.slots(*(self.state[name] for name in rule.slot_names))


class Plan:
    """The parameters of a step in their units. It serves as long as the same parameters have gradients.

    Args:
        rule: the rule.
        seats: the parameters.
        kernel: one of ``KERNELS``.
        each: for each param group the rule's scalars that are arrays, because a hyperparameter is one.

    Raises:
        ParameterError: the compiled pass is asked for and cannot work on a parameter, or state does not fit one.
    """

    def __init__(self, rule: Rule, seats: Sequence[Seat], kernel: str, each: Mapping[int, tuple[str, ...]]) -> None:
        self.rule, self.seats, self.kernel, self.each = rule, tuple(seats), kernel, dict(each)
        self.folded: bool | None = None  # whether bounds in the units are all that is to be done after the rule
        for seat in self.seats:
            fits(rule, seat)
        self.footprint = Footprint([seat.param for seat in seats], [seat.label for seat in seats])
        kinds: dict[tuple[torch.dtype | None, tuple[str, ...]], list[Seat]] = {}
        for seat in self.seats:
            kinds.setdefault((self._compiled_as(seat), self.each[seat.group]), []).append(seat)
        self.units: list[Unit] = []
        for (dtype, names), members in kinds.items():
            self.units.append(self._unit(dtype, names, members))
        for unit in self.units:
            if isinstance(unit, Native):  # a text of somebody's own may fail after another tensor was updated
                unit.may_fail = not of_library(rule)

    def _compiled_as(self, seat: Seat) -> torch.dtype | None:
        if self.kernel == "native":
            return None
        fault = compiled_fault(seat.param)
        for name in self.rule.slot_names:
            slot = compiled_fault(seat.state[name])
            fault = fault or (f"has a state {name!r} that {slot}" if slot else None)
        if fault is None:
            return seat.param.dtype
        if self.kernel == "shared":
            raise ParameterError(
                f'kernel="shared": parameter {seat.label!r} {fault}; the compiled pass works on contiguous float32 and '
                'float64 on the CPU. kernel="auto" updates the others in native operations',
                variable=seat.label,
            )
        return None

    def _unit(self, dtype: torch.dtype | None, names: tuple[str, ...], members: Sequence[Seat]) -> Unit:
        lanes: dict[tuple[int, int, tuple[float, ...]], int] = {}
        places = []
        for seat in members:
            past = seat.group, int(seat.state["step"]), tuple(seat.state[name] for name in self.rule.carried_names)
            places.append(Place(seat.param, seat.slots(self.rule), lanes.setdefault(past, len(lanes))))
        several = [Lane(*past) for past in lanes]
        unit: Unit | None = None
        if dtype is not None:
            try:
                unit = Compiled(self.rule, places, several, names)
            except RuleError as error:  # a text that can be run, but not compiled
                if self.kernel == "shared":
                    explain(self.rule, error)
                    raise
        compiled = unit is not None
        unit = unit or Native(self.rule, places, several)
        for index, (seat, place) in enumerate(zip(members, places, strict=True)):
            seat.unit, seat.index, seat.lane, seat.compiled = unit, index, several[place.lane], compiled
            seat.watch(self.rule)
        return unit

    def serves(self, params: Sequence[torch.Tensor], groups: Sequence[int], states: Sequence[State | None]) -> bool:
        """Whether these are its parameters, in the groups and with the state that it knows."""
        return len(params) == len(self.seats) and all(map(Seat.knows, self.seats, params, groups, states))

    def follow(self) -> bool:
        """Follow parameters that lie elsewhere now; whether all could be followed."""
        moved = [seat for seat in self.seats if not seat.stays()]
        if not moved:
            return True
        for seat in moved:
            fits(self.rule, seat)
            if seat.compiled and compiled_fault(seat.param) is not None:
                return False
        self.footprint = Footprint([seat.param for seat in self.seats], [seat.label for seat in self.seats])
        with held():  # a unit that was not told would go on where the parameter was
            for seat in moved:
                seat.note()
                seat.unit.moved(seat.index)
            for seat in self.seats:
                seat.grad_address = -1  # a gradient that was apart from all parameters may be one now
        return True

    def set_grads(self, grads: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Give the gradients of all seats.

        Args:
            grads: of the parameters' dtypes, or of those that they are computed in.

        Returns:
            What is used, to be held during the step: copies of those that cannot be used where they lie.
        """
        used = []
        for seat, given in zip(self.seats, grads, strict=True):
            grad = given
            if seat.compiled and (not grad.is_contiguous() or type(grad) is not torch.Tensor or grad.is_neg()):
                grad = grad.detach().resolve_neg().contiguous()
            address = address_of(grad)
            if address != seat.grad_address or not seat.compiled:
                if self.footprint.may_touch(grad):
                    grad = grad.detach().clone(memory_format=torch.contiguous_format)
                    address = address_of(grad)
                seat.unit.set_grad(seat.index, grad)
                seat.grad_address = address
            used.append(grad)
        return used

    def backup(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Every tensor that a step changes, with a copy."""
        tensors = [seat.param for seat in self.seats]
        tensors += [seat.state[name] for seat in self.seats for name in self.rule.slot_names]
        return [(tensor, tensor.detach().clone()) for tensor in tensors]

    def commit(self) -> None:
        """Count the step in the states."""
        for unit in self.units:
            unit.commit()
        names = self.rule.carried_names
        for seat in self.seats:
            seat.state["step"] = seat.lane.steps
            if names:
                seat.state.update(zip(names, seat.lane.carried, strict=True))


def of_library(rule: Rule) -> bool:
    """Whether the text, and that of each rule inside, is one of this library, which has run it with all kinds."""
    ours = getattr(rule.update, "__globals__", {}).get("__name__", "").startswith("thalweg.")  # wraps() sets __module__
    return ours and (rule.inside is None or of_library(rule.inside[0]))


def fresh(rule: Rule, param: torch.Tensor, hyper: Any) -> State:
    """A parameter's state before its first step."""
    carried = rule.carried() if rule.carried else ()
    numbers = dict(zip(rule.carried_names, map(float, carried), strict=True))
    return {"step": 0, **dict(zip(rule.slot_names, init(rule, param, hyper), strict=True)), **numbers}


def fits(rule: Rule, seat: Seat) -> None:
    """Refuse a parameter whose state belongs to another shape, dtype or device, or has no count or numbers any more.

    Raises:
        ParameterError: it does not fit.
    """
    param = seat.param
    kind = computed_in(param, f"parameter {seat.label!r}")
    for name in rule.slot_names:
        slot = seat.state.get(name)
        if (
            not isinstance(slot, torch.Tensor)
            or slot.shape != param.shape
            or (slot.dtype, slot.device) != (kind, param.device)
        ):
            there = f"{tuple(slot.shape)} {slot.dtype} {slot.device}" if isinstance(slot, torch.Tensor) else repr(slot)
            raise ParameterError(
                f"parameter {seat.label!r} is now {tuple(param.shape)} {param.dtype} on {param.device}; its state "
                f"{name!r} is {there}: make a new optimizer after a module was moved or converted",
                variable=seat.label,
            )
    if not _counts_steps(seat.state.get("step")):
        raise ParameterError(
            f"parameter {seat.label!r}: the step of its state is {shown(seat.state.get('step'))}; it counts the steps "
            "that were made, an integer from 0",
            variable=seat.label,
        )
    for name in rule.carried_names:
        if not isinstance(seat.state.get(name), Real):
            raise ParameterError(
                f"parameter {seat.label!r}: the {name} of its state is {seat.state.get(name)!r}, no number",
                variable=seat.label,
            )


def _counts_steps(value: Any) -> bool:
    """Whether a value is a count of steps; others than we write it as a tensor."""
    try:
        return is_count(int(value)) and bool(int(value) == value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False


def address_of(tensor: torch.Tensor) -> int:
    """Where a tensor's first element lies; for a subclass, which may have no memory, something that tells it apart."""
    return tensor.data_ptr() if type(tensor) in (torch.Tensor, torch.nn.Parameter) else -id(tensor)
