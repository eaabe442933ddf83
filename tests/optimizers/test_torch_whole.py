"""A step on PyTorch is made as a whole or not at all, whatever a text raises and wherever Ctrl-C comes."""

from __future__ import annotations

import copy
import dataclasses
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import pytest
import torch

import thalweg as tw
from tests.optimizers.interrupting import ctrl_c, interrupted_at
from thalweg.errors import NonFiniteGradientError, OptimizerError
from thalweg.lowering import torch_units
from thalweg.lowering.torch_units import Compiled
from thalweg.optimizers.torch import TorchOptimizer, seating
from thalweg.rules.base import NoSlots, Number, Rule
from thalweg.rules.ranges import finite


class Slots(NamedTuple):
    memory: Any


class Hyper(NamedTuple):
    learning_rate: Annotated[Number, finite, "η"] = 0.5


def recipe(update: Callable[..., Any], slots: Any = Slots, **settings: Any) -> tw.LocalOptimizer:
    rule = Rule(name="mine", slots=slots, hyper=Hyper, update=update)
    cls: Any = type(tw.LocalOptimizer)("Mine", (tw.LocalOptimizer,), {"rule": rule})
    return cls(**settings)  # type: ignore[no-any-return]  # built here


def plain(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - h.learning_rate * grad, Slots(slots.memory + grad)


def guarded(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    if float((grad * grad).sum()) > 20.0:
        raise ValueError("gradient too long")
    return plain(param, grad, slots, h)


def in_place(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    slots.memory.add_(grad)
    if torch.is_tensor(grad) and float((grad * grad).sum()) > 20.0:
        raise ValueError("gradient too long")
    return param - h.learning_rate * grad, slots


def look(optimizer: TorchOptimizer) -> Any:
    """The parameters, and all that decides the next steps, to be compared."""
    state = copy.deepcopy(optimizer.state_dict())
    lists = {
        key: {name: value.tolist() if torch.is_tensor(value) else value for name, value in of.items()}
        for key, of in state["state"].items()
    }
    params = [param.detach().double().tolist() for group in optimizer.param_groups for param in group["params"]]
    return params, lists, state["param_groups"]


Step = Callable[[], None]


def made(given: tw.LocalOptimizer, kernel: str, *shapes: Any, dtype: Any = torch.float32) -> Any:
    params = [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in shapes]
    optimizer = TorchOptimizer([(f"p{k}", param) for k, param in enumerate(params)], given, kernel=kernel)

    def step(*sizes: float) -> None:
        for k, param in enumerate(params):
            param.grad = torch.full_like(param, sizes[k] if sizes else 0.5)
        optimizer.step()

    return optimizer, step


@pytest.mark.parametrize(
    ("text", "kernel", "wrap", "dtype"),
    [
        (guarded, "auto", (), torch.float32),
        (guarded, "native", ("ema", "lookahead"), torch.float32),
        (guarded, "auto", ("ema",), torch.bfloat16),
        (in_place, "native", (), torch.float32),
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_a_text_that_raises_by_the_values_changes_nothing(
    text: Any, kernel: str, first: int, wrap: tuple[str, ...], dtype: Any
) -> None:
    optimizer, step = made(recipe(text, wrap=list(wrap)), kernel, 2, 2, 3, dtype=dtype)
    other, straight = made(recipe(plain, wrap=list(wrap)), "native", 2, 2, 3, dtype=dtype)
    for _ in range(first):
        step()
        straight()
    before = look(optimizer)
    for _ in range(2):
        with pytest.raises(ValueError, match="gradient too long"):
            step(1.0, 1.0, 5.0)
        assert look(optimizer) == before
    for _ in range(2):
        step()
        straight()
        assert look(optimizer)[:2] == look(other)[:2]


def test_gradients_that_were_gathered_stay_when_a_text_raises() -> None:
    optimizer, step = made(recipe(guarded, accumulate=2), "native", 2, 2)
    step(1.0, 4.0)
    before = look(optimizer)
    with pytest.raises(ValueError, match="gradient too long"):
        step(1.0, 16.0)
    assert look(optimizer) == before
    step(1.0, 2.0)
    assert look(optimizer)[0] == [[0.5, 0.5], [-0.5, -0.5]]


def test_what_is_compiled_beside_it_goes_back_too() -> None:
    def wide(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param - h.learning_rate * grad, Slots(slots.memory + grad)

    def raising(*given: Any) -> None:
        raise ValueError("too wide")

    params = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))]
    optimizer = TorchOptimizer(params, recipe(wide))
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    compiled, native = optimizer._plan.units  # type: ignore[union-attr]  # a step was made
    assert (type(compiled) is Compiled, native.may_fail) == (True, True)
    before = look(optimizer)
    native.update = raising  # type: ignore[method-assign]  # of this one object
    with pytest.raises(ValueError, match="too wide"):
        optimizer.step()
    assert look(optimizer) == before


def test_a_text_is_run_once_with_each_tensor() -> None:
    seen: list[tuple[int, ...]] = []

    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        seen.append(tuple(param.shape))
        return plain(param, grad, slots, h)

    _, step = made(recipe(update), "native", 2, 2, 3)
    for _ in range(2):
        step()
    assert seen == [(2,), (2,), (3,)] * 2


def test_a_text_of_the_library_costs_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seating.Plan, "backup", lambda plan: pytest.fail("copied"))
    _, step = made(tw.AdamW(wrap=["ema"], weight_decay=0.1), "native", 2, 2, 3)
    step()
    step()


def test_a_text_that_draws_goes_on_to_the_same_bits() -> None:
    def langevin(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param - h.learning_rate * grad + 0.1 * torch.randn_like(param), slots

    def go(optimizer: TorchOptimizer, steps: int) -> None:
        for _ in range(steps):
            for param in optimizer.param_groups[0]["params"]:
                param.grad = param.detach().clone()
            optimizer.step()

    kept = torch.get_rng_state()
    try:
        torch.manual_seed(0)
        whole, _ = made(recipe(langevin, NoSlots), "native", 2, 3)
        go(whole, 4)
        torch.manual_seed(0)
        begun, _ = made(recipe(langevin, NoSlots), "native", 2, 3)
        go(begun, 2)
        saved, drawn = copy.deepcopy(begun.state_dict()), torch.get_rng_state()
        resumed, _ = made(recipe(langevin, NoSlots), "native", 2, 3)
        with torch.no_grad():
            for param, value in zip(resumed.param_groups[0]["params"], begun.param_groups[0]["params"], strict=True):
                param.copy_(value)
        resumed.load_state_dict(saved)
        torch.set_rng_state(drawn)
        go(resumed, 2)
    finally:
        torch.set_rng_state(kept)
    assert look(resumed)[:2] == look(whole)[:2]


# Ctrl-C


@pytest.fixture
def handler() -> Iterator[None]:
    """Python's own handler is there, and after a test it is there again."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    torch.set_grad_enabled(True)  # a trace may come between the end of a `with torch.no_grad()` and what ends it
    assert signal.signal(signal.SIGINT, former) is signal.default_int_handler


def function(grad: torch.Tensor) -> torch.Tensor:
    return 2.0 * grad


FORMS: dict[str, tuple[Callable[[], tw.LocalOptimizer], str]] = {
    "shared": (tw.Nadam, "shared"),
    "native": (tw.Nadam, "native"),
    "a text of one's own": (lambda: recipe(plain, wrap=["ema"]), "native"),
    "gathered": (lambda: tw.SGD(accumulate=2, nonfinite="zero"), "shared"),
    "hooks": (lambda: tw.SGD(process_grad=function, process_model=lambda p: p.clamp(-9.0, 9.0)), "shared"),
    "a schedule": (lambda: tw.SGD(learning_rate=tw.schedules.Exp(0.5, gamma=0.5, decay_on_iteration=True)), "shared"),
}


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize(
    ("form", "first", "stride"),
    [
        *[("shared", 0, 7), ("shared", 2, 1), ("shared", 3, 1), ("native", 3, 2), ("a text of one's own", 1, 3)],
        *[("gathered", 0, 1), ("gathered", 1, 7), ("gathered", 3, 1), ("hooks", 3, 2), ("a schedule", 3, 2)],
    ],
)
def test_ctrl_c_finds_a_step_that_was_made_or_not(form: str, first: int, stride: int) -> None:
    def begun() -> tuple[TorchOptimizer, Step]:
        given, kernel = FORMS[form]
        optimizer, step = made(given(), kernel, 2, 3)
        for _ in range(first):
            step()
        if first == 2:  # the plan follows
            for param in optimizer.param_groups[0]["params"]:
                param.data = param.data.clone()
        return optimizer, step

    optimizer, step = begun()
    wanted = [look(optimizer)]
    for _ in range(3):
        step()
        wanted.append(look(optimizer))
    line, going = 0, True
    while going:
        optimizer, step = begun()
        going = interrupted_at(line, step)
        now = wanted.index(look(optimizer))
        assert now in (0, 1)
        for steps in (1, 2):
            step()
            assert look(optimizer) == wanted[now + steps], line
        line += stride
    assert line > 20


@pytest.mark.usefixtures("handler")
def test_ctrl_c_in_the_middle_of_the_pass_comes_after_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    update = Compiled.update

    def interrupted(unit: Compiled) -> None:
        update(unit)
        ctrl_c()

    optimizer, step = made(tw.Nadam(), "shared", 2, 2)
    other, straight = made(tw.Nadam(), "shared", 2, 2)
    straight(16.0, 1.0)
    monkeypatch.setattr(Compiled, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step(16.0, 1.0)
    assert look(optimizer) == look(other)
    assert optimizer.optimization_state.curr_iter == 1


@pytest.mark.usefixtures("handler")
def test_threads_of_compiled_code_are_waited_for_before_the_step_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    update, done = Compiled.update, []

    def interrupted(unit: Compiled) -> None:
        ctrl_c()
        update(unit)
        done.append(unit)

    optimizer, step = made(tw.Nadam(process_model=lambda p: p.clamp(-9.0, 9.0)), "shared", 2, 2)
    before = look(optimizer)
    monkeypatch.setattr(Compiled, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step(16.0, 1.0)
    assert done
    assert look(optimizer) == before


@pytest.mark.usefixtures("handler")
def test_bounds_hold_though_ctrl_c_came_when_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer, step = made(tw.SGD(learning_rate=1.0, process_model=tw.transforms.bounds(-2.0, 2.0)), "shared", 2, 2)
    step()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # the next plan is of known state
    set_limits, given = Compiled.set_limits, []

    def interrupted(unit: Compiled, index: int, limits: tuple[float, float]) -> None:
        given.append(index)
        if len(given) == 2:
            ctrl_c()
        set_limits(unit, index, limits)

    monkeypatch.setattr(Compiled, "set_limits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step()
    step(16.0, 16.0)
    assert look(optimizer)[0] == [[-2.0, -2.0], [-2.0, -2.0]]


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("where", ["the text", "process_model"])
def test_what_is_the_users_own_is_interrupted_and_the_step_goes_back(where: str) -> None:
    """It may hang."""

    def hanging(value: Any) -> Any:
        ctrl_c()
        pytest.fail("held back")

    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return hanging(param) if float(grad.sum()) > 20.0 else plain(param, grad, slots, h)

    own = recipe(update) if where == "the text" else tw.SGD(process_model=hanging)
    optimizer, step = made(own, "native", 2, 2)
    before = look(optimizer)
    with pytest.raises(KeyboardInterrupt):
        step(16.0, 1.0)
    assert look(optimizer) == before


def test_a_text_that_says_it_is_the_librarys_is_none_of_it() -> None:
    text = tw.rules.sgd.update

    @functools.wraps(text)
    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        if float(grad.sum()) > 20.0:
            raise ValueError("gradient too long")
        return text(param, grad, slots, h)

    assert update.__module__ == text.__module__
    cls: Any = type(tw.LocalOptimizer)(
        "Mine", (tw.LocalOptimizer,), {"rule": dataclasses.replace(tw.rules.sgd, update=update)}
    )
    optimizer, step = made(cls(), "native", 2, 2)
    before = look(optimizer)
    with pytest.raises(ValueError, match="too long"):
        step(16.0, 1.0)
    assert look(optimizer) == before


@pytest.mark.usefixtures("handler")
def test_a_closure_and_process_grad_are_interrupted() -> None:
    def interrupting(grad: torch.Tensor) -> torch.Tensor:
        ctrl_c()
        pytest.fail("held back")

    def closure() -> None:
        ctrl_c()
        pytest.fail("held back")

    optimizer, step = made(tw.SGD(process_grad=interrupting), "shared", 2)
    before = look(optimizer)
    with pytest.raises(KeyboardInterrupt):
        step()
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert look(optimizer) == before


@pytest.mark.usefixtures("handler")
def test_a_step_in_another_thread_is_the_same() -> None:
    optimizer, step = made(tw.Nadam(), "shared", 2)
    other, straight = made(tw.Nadam(), "shared", 2)
    straight()
    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert look(optimizer) == look(other)


@pytest.mark.parametrize("way", ["load_state_dict", "restore"])
def test_a_step_that_memory_ran_out_in_is_not_gone_on_from(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A rule of ours makes no copies to go back to: who catches the error and makes the next step would not know."""
    params = [(name, torch.nn.Parameter(torch.ones(2))) for name in "ab"]
    optimizer = TorchOptimizer(params, tw.Momentum(learning_rate=1.0), kernel="native")

    def step() -> None:
        for _, param in params:
            param.grad = torch.ones(2)
        optimizer.step()

    step()
    saved = copy.deepcopy(optimizer.state_dict()) if way == "load_state_dict" else optimizer.snapshot()
    weights = {name: param.detach().clone() for name, param in params}
    update_, calls = torch_units.update_, []

    def failing(*given: Any) -> None:
        calls.append(given)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("no more")
        update_(*given)

    monkeypatch.setattr(torch_units, "update_", failing)
    with pytest.raises(torch.OutOfMemoryError, match="no more"):
        step()
    monkeypatch.undo()
    assert optimizer.optimization_state.curr_iter == 1
    told = (
        r"the step before was left in its middle by OutOfMemoryError, .* load parameters and state as they were saved"
    )
    for again in (optimizer, copy.deepcopy(optimizer)):
        with pytest.raises(OptimizerError, match=told):
            again.step()
    getattr(optimizer, way)(saved)
    for name, param in params:
        param.data.copy_(weights[name])
    step()
    reference = torch.nn.Parameter(torch.ones(2))
    other = torch.optim.SGD([reference], lr=1.0, momentum=0.9)
    for _ in range(2):
        reference.grad = torch.ones(2)
        other.step()
    for _, param in params:
        torch.testing.assert_close(param, reference)


def test_a_gradient_that_is_refused_leaves_nothing_in_the_middle() -> None:
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = TorchOptimizer([param], tw.Momentum(), kernel="native")
    param.grad = torch.tensor([1.0, float("nan")])
    with pytest.raises(NonFiniteGradientError):
        optimizer.step()
    param.grad = torch.ones(2)
    optimizer.step()
    assert optimizer.optimization_state.curr_iter == 1
