"""What graphs of PyTensor hold for good, schedules of one's own and hooks: what is set in their place is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg import transforms
from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.optimizers.pytensor import symbolic
from thalweg.schedules import Chain, Exp, Plateau, Schedule

pytensor = pytest.importorskip("pytensor")


class Own(Schedule):
    """One without a decorator: two of them are equal to Python, whatever they hold."""

    kind = "own"

    def __init__(self, rate: float) -> None:
        vars(self)["rate"] = rate

    def __call__(self, state: Any) -> Any:
        return self.rate + 0.0 * state.curr_iter


def function_of(rate: float) -> Any:
    return lambda state: rate + 0.0 * state.curr_iter


def stepper(optimizer: Any, *names: str) -> Any:
    """A function that makes a step with gradients of ones, and returns how far each parameter went."""
    shared = [pytensor.shared(np.zeros(1), name=name) for name in names]
    updates = optimizer.update(sum(one.sum() for one in shared), shared)
    function = pytensor.function([], updates=updates, mode="FAST_COMPILE")

    def step() -> list[float]:
        before = [one.get_value().item() for one in shared]
        function()
        return [old - one.get_value().item() for old, one in zip(before, shared, strict=True)]

    return step


@pytest.mark.parametrize("group", [None, 0])
@pytest.mark.parametrize("kind", ["function", "schedule", "inside another"])
def test_another_schedule_of_ones_own_is_refused(kind: str, group: int | None) -> None:
    """Its name, which is all that is saved of it, is the same."""
    make = {"function": function_of, "schedule": Own, "inside another": lambda rate: Chain([Own(rate), 1.0])}[kind]
    first, other = make(0.125), make(0.5)
    groups = [] if group is None else [{"variables": "x", "learning_rate": first}]
    optimizer = tw.SGD(learning_rate=first, groups=groups)
    step = stepper(optimizer, "x")
    owner: Any = optimizer if group is None else optimizer.groups[0]
    owner.learning_rate = first
    with pytest.raises(HyperparameterError, match="a schedule stays where it is"):
        owner.learning_rate = other
    assert owner.learning_rate is first
    assert step() == [0.125] == [optimizer.current("learning_rate", group=group)]
    optimizer.restore(optimizer.state())
    assert step() == [0.125]


def test_one_of_ours_may_be_set_again_and_a_plateau_may_begin_anew() -> None:
    optimizer = tw.SGD(learning_rate=Exp(1.0, gamma=0.5, decay_on_iteration=True))
    step = stepper(optimizer, "x")
    optimizer.learning_rate = Exp(1.0, gamma=0.5, decay_on_iteration=True)
    assert [step(), step()] == [[1.0], [0.5]]
    optimizer = tw.SGD(learning_rate=Plateau(1.0, factor=0.5, patience=0))
    step = stepper(optimizer, "x")
    for loss in (1.0, 2.0, 3.0):
        optimizer.observe(loss)
    assert step() == [0.25]
    optimizer.learning_rate = Plateau(1.0, factor=0.5, patience=0)
    assert step() == [1.0]
    for loss in (1.0, 2.0):
        optimizer.observe(loss)
    assert step() == [0.5]


def own(grad: Any) -> Any:
    return grad * 0.5


HOOKS: list[tuple[str, Any, Any]] = [
    ("process_grad", None, transforms.clip_value(0.001)),
    ("process_grad", transforms.clip_value(0.001), None),
    ("process_grad", own, lambda grad: grad * 0.25),
    ("process_model", None, transforms.bounds(0.0, 1.0)),
    ("process_model", {"x": transforms.bounds(-1.0, 1.0)}, [transforms.bounds(0.0, 1.0)]),
]


@pytest.mark.parametrize(("what", "first", "then"), HOOKS)
def test_a_hook_that_is_set_after_the_graph_is_refused(what: str, first: Any, then: Any) -> None:
    optimizer, twin = (tw.SGD(learning_rate=1.0, **{what: first}) for _ in range(2))
    step, expected = stepper(optimizer, "x"), stepper(twin, "x")
    before = optimizer.state().meta
    with pytest.raises(HyperparameterError, match=f"{what} is in the graphs made by update.*before the first update"):
        setattr(optimizer, what, then)
    assert getattr(optimizer, what) is first
    assert optimizer.state().meta == before
    optimizer.learning_rate = 0.5
    twin.learning_rate = 0.5
    assert step() == expected()


def test_a_hook_may_be_set_before_the_graph() -> None:
    optimizer = tw.SGD(learning_rate=1.0)
    symbolic(optimizer)
    optimizer.process_grad = transforms.clip_value(0.25)
    assert stepper(optimizer, "x")() == [0.25]
    with pytest.raises(HyperparameterError, match="process_grad is in the graphs"):
        optimizer.process_grad = None
    optimizer.process_model = None  # as it was


def test_a_graph_that_was_refused_holds_nothing() -> None:
    optimizer = tw.SGD(learning_rate=Plateau(1.0), process_grad=lambda grad: 3)
    with pytest.raises(HyperparameterError):
        stepper(optimizer, "x")
    optimizer.process_grad, optimizer.learning_rate = None, 0.5
    assert stepper(optimizer, "x")() == [0.5]


def test_a_group_with_the_optimizers_schedule_and_another_past_is_refused_before_anything_is_changed() -> None:
    """The graph has one number for both; the state of the second was looked for where there was no schedule."""

    def plateau(*losses: float) -> Plateau:
        made = Plateau(1.0, factor=0.5, patience=0)
        for loss in losses:
            made.observe(loss)
        return made

    groups = [{"variables": "b", "weight_decay": 0.0}]
    source = tw.Momentum(
        [tw.Variable(np.zeros(1), name=name) for name in "ab"],
        momentum=0.25,
        learning_rate=plateau(1.0, 2.0, 3.0),
        groups=groups,
    )
    source.groups[0].learning_rate = plateau()
    tw.wait(source.step(grad={"a": np.ones(1), "b": np.ones(1)}))
    target = tw.Momentum(momentum=0.75, learning_rate=plateau(), groups=groups)
    step = stepper(target, "a", "b")
    with pytest.raises(StateMismatchError, match="set learning_rate, and here it does not"):
        target.restore(source.state())
    assert (target.momentum, target.current("learning_rate"), target.iterations) == (0.75, 1.0, 0)
    source.groups[0].learning_rate = plateau(1.0, 2.0, 3.0)
    target.restore(source.state())
    assert (target.momentum, target.current("learning_rate")) == (0.25, 0.25)
    target.observe(4.0)
    step()
    assert target.current("learning_rate", group=0) == 0.125


SETTERS: dict[str, Any] = {
    "beta1": lambda optimizer: setattr(optimizer, "beta1", 0.5),
    "the optimizer's rate": lambda optimizer: setattr(optimizer, "learning_rate", 0.25),
    "process_grad": lambda optimizer: setattr(optimizer, "process_grad", None),
    "process_model": lambda optimizer: setattr(optimizer, "process_model", None),
    "the same schedule": lambda optimizer: setattr(optimizer.groups[0], "learning_rate", fading()),
    "observe": lambda optimizer: optimizer.observe(1.0),
    "restore": lambda optimizer: optimizer.restore(optimizer.state()),
    "refresh": lambda optimizer: symbolic(optimizer).refresh(),
}


def fading() -> Exp:
    return Exp(1.0, gamma=0.5, decay_on_iteration=True)


def with_a_fading_group() -> Any:
    """The optimizer's rate is a number, a group's is a schedule."""
    return tw.Adam(learning_rate=0.125, groups=[{"variables": "b", "learning_rate": fading()}])


@pytest.mark.parametrize("setter", SETTERS)
def test_a_group_s_schedule_beside_the_optimizer_s_number_locks_nothing(setter: str) -> None:
    optimizer = with_a_fading_group()
    step = stepper(optimizer, "a", "b")
    np.testing.assert_allclose(step(), [0.125, 1.0], rtol=1e-6)
    SETTERS[setter](optimizer)
    rate = 0.25 if "rate" in setter else 0.125
    if setter != "beta1":  # which says how much of the mean is kept, so that it is no mean any more
        np.testing.assert_allclose(step(), [rate, 0.5], rtol=1e-6)
    assert optimizer.beta1 == (0.5 if setter == "beta1" else 0.9)
    optimizer.reset()
    assert optimizer.iterations == 0
    np.testing.assert_allclose(step(), [rate, 1.0], rtol=1e-6)


def test_a_group_that_had_the_optimizer_s_number_or_plateau_takes_none_of_its_own() -> None:
    """The graph has one number for both, also where it is what a plateau says."""
    for first, own in ((0.125, fading()), (0.125, 0.5), (Plateau(1.0), Plateau(1.0)), (Plateau(1.0), 0.5)):
        optimizer = tw.SGD(learning_rate=first, groups=[{"variables": "b", "weight_decay": 0.0}])
        stepper(optimizer, "a", "b")
        with pytest.raises(HyperparameterError, match="graphs made by update"):
            optimizer.groups[0].learning_rate = own
        assert "learning_rate" not in optimizer.groups[0].settings


def test_where_the_model_is_evaluated_makes_no_graph_of_the_optimizer_s_rate() -> None:
    optimizer, x = tw.ScheduleFreeAdamW(), pytensor.shared(np.ones(2), name="x")
    updates = optimizer.update((x**2).sum(), [x], lr=0.125)
    pytensor.function([], updates=updates, mode="FAST_COMPILE")()
    for _ in range(2):
        with pytest.raises(HyperparameterError, match="setting learning_rate would change nothing"):
            optimizer.learning_rate = 0.5
        symbolic(optimizer).eval_params()


def half(grad: Any) -> Any:
    return 0.5 * grad


@pytest.mark.parametrize("hook", [half, [half, half], {"x": half}, {"x": [half]}], ids=["one", "list", "named", "both"])
def test_the_very_hook_that_is_there_may_be_set_again(hook: Any) -> None:
    optimizer = tw.SGD(learning_rate=1.0, process_grad=hook)
    step = stepper(optimizer, "x")
    optimizer.process_grad = optimizer.process_grad
    (before,) = step()
    optimizer.process_grad = hook
    optimizer.learning_rate = 2.0
    assert step() == [2.0 * before]


def test_a_list_of_hooks_that_became_longer_is_another() -> None:
    hooks = [half]
    optimizer = tw.SGD(learning_rate=1.0, process_grad=hooks)
    step = stepper(optimizer, "x")
    hooks.append(half)
    with pytest.raises(HyperparameterError, match="process_grad is in the graphs made by update as it was"):
        optimizer.process_grad = hooks
    assert step() == [0.5]
