"""On PyTensor == compares objects: a text that does is refused, where it would take one branch for ever."""

from __future__ import annotations

import threading
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest

import thalweg as tw
from thalweg import rules
from thalweg.errors import HyperparameterError, RuleError
from thalweg.rules.arithmetic import equal, sign, where
from thalweg.rules.base import NoSlots, Number, Rule
from thalweg.rules.ranges import nonnegative

pytensor = pytest.importorskip("pytensor")
pt = pytest.importorskip("pytensor.tensor")

from thalweg.lowering.comparing import by_value  # noqa: E402

TOLD = (
    r"(== compares|a dictionary or a set knows) expressions as objects.*write equal\(x, y\), of "
    r"thalweg.rules.arithmetic.*test_comparing.py, line"
)


class Hyper(NamedTuple):
    learning_rate: Annotated[Number, nonnegative, "η"] = 0.1


class Slots(NamedTuple):
    last: Any


class Scalars(NamedTuple):
    rate: Any


def made(**texts: Any) -> Any:
    fields = {"slots": NoSlots, "update": lambda param, grad, slots, h: (param - h.rate * grad, slots), **texts}
    rule = Rule(name="mine", hyper=Hyper, **fields)
    return type(tw.LocalOptimizer)("Mine", (tw.LocalOptimizer,), {"rule": rule})


def steps(optimizer: Any, gradient: Any = 1.0, count: int = 5) -> list[float]:
    """The parameter after each step on PyTensor."""
    x = pytensor.shared(np.zeros(1), name="x")
    step = pytensor.function([], [], updates=optimizer.update((x * gradient).sum(), [x]), mode="FAST_COMPILE")
    return [step() or float(x.get_value()[0]) for _ in range(count)]


def on_numpy(optimizer: Any, count: int = 5) -> list[float]:
    x = tw.Variable(np.zeros(1), name="x")
    bound = optimizer(x)
    found = []
    for _ in range(count):
        tw.wait(bound.step(grad=np.ones(1)))
        found.append(float(x.data[0]))
    return found


PREPARED = {
    "==": lambda t, h: Scalars(2.0 if t == 1 else 1.0),
    "!=": lambda t, h: Scalars(h.learning_rate * (1.0 + (t != 1))),
    "in": lambda t, h: Scalars(2.0 if t in (1, 3) else 1.0),
    "a dictionary": lambda t, h: Scalars({1: 2.0}.get(t, 1.0)),
    "the standard library's": lambda t, h: Scalars([t, 2].count(1) + 1.0),
    "NumPy's": lambda t, h: Scalars(2.0 if np.isin(t, (1, 3)) else 1.0),
    "NumPy's of arrays": lambda t, h: Scalars(2.0 if np.array_equal(t, 1) else 1.0),
}


@pytest.mark.parametrize("name", PREPARED)
def test_a_prepare_is_refused(name: str) -> None:
    with pytest.raises(RuleError, match=f"rule 'mine' cannot be traced by PyTensor: {TOLD}"):
        steps(made(prepare=PREPARED[name])())


def test_an_update_is_refused() -> None:
    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return (param if sign(grad) != sign(slots.last) else param - h.learning_rate * grad), Slots(grad)

    with pytest.raises(RuleError, match=TOLD):
        steps(made(slots=Slots, update=update)())


class Own(tw.schedules.Schedule):
    kind = "own"

    def __call__(self, state: Any) -> Any:
        return 1.0 if state.completed_iterations == 0 else 0.01


SCHEDULES = {
    "==": lambda s: 0.01 if s.completed_iterations == 0 else 0.1 / (1 + s.completed_iterations),
    "in": lambda s: (0.5 if s.completed_iterations in (2, 4) else 0.1) / (1 + s.completed_iterations),
    "a dictionary": lambda s: {2: 0.5}.get(s.completed_iterations, 0.1) / (1 + s.completed_iterations),
    "its own class": Own(),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_refused(name: str) -> None:
    with pytest.raises(HyperparameterError, match=f"which does not work on expressions: {TOLD}"):
        steps(tw.SGD(learning_rate=SCHEDULES[name]))


@pytest.mark.parametrize("hook", ["process_grad", "process_model"])
@pytest.mark.parametrize("call", [lambda g: 0 * g if g.sum() == 6.0 else g, lambda g: g * (g != 2.0)])
def test_a_hook_is_refused(hook: str, call: Any) -> None:
    with pytest.raises(HyperparameterError, match=f"{hook} of variable 'x': .* does not work on expressions: {TOLD}"):
        steps(tw.SGD(**{hook: call}))


def test_an_operation_of_ones_own_may_compare_what_pytensor_gives_it() -> None:
    """It is called by PyTensor, which compares by identity, too."""

    class Same(pytensor.graph.Op):
        __props__ = ()

        def make_node(self, x: Any) -> Any:
            known = {x: 1}
            return pytensor.graph.Apply(self, [x], [x.type()] if x in known and x in (x.type(), x) else [])

        def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
            outputs[0][0] = np.array(inputs[0])

    assert steps(tw.SGD(process_grad=Same()), count=1) == [-0.01]


def test_an_error_of_a_hook_stays_what_it_is() -> None:
    def call(grad: Any) -> Any:
        raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$"):
        steps(tw.SGD(process_grad=call))


def test_equal_is_the_same_on_every_backend() -> None:
    optimizer = made(prepare=lambda t, h: Scalars(where(equal(t, 2), 2.0, h.learning_rate)))
    assert steps(optimizer()) == on_numpy(optimizer) == pytest.approx([-0.1, -2.1, -2.2, -2.3, -2.4])

    jax = pytest.importorskip("jax")
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.jax import JaxOptimizer
    from thalweg.optimizers.torch import TorchOptimizer

    adapted, params = JaxOptimizer(optimizer()), jax.numpy.zeros(1)
    state = adapted.init(params)
    for kernel in ("native", "shared"):
        param = torch.nn.Parameter(torch.zeros(1))
        there = TorchOptimizer([param], optimizer(), kernel=kernel)
        for _ in range(3):
            param.grad = torch.ones(1)
            there.step()
        assert param.tolist() == pytest.approx([-2.2])
    for _ in range(3):
        params, state = adapted.step(params, jax.numpy.ones(1), state)
    assert params.tolist() == pytest.approx([-2.2])


def test_expressions_are_compared_as_before_elsewhere() -> None:
    """By libraries inside, by anybody outside of it and in other threads."""
    kind = type(pt.dscalar())
    before = kind.__eq__, kind.__ne__, kind.__hash__
    x, y, found = pt.dscalar("x"), pt.dscalar("y"), []
    with by_value(), by_value():
        with pytest.raises(TypeError, match=TOLD):
            x == y  # noqa: B015
        thread = threading.Thread(target=lambda: found.append((x == y, x == x, x in {x: 1}, x in [y])))
        known = {y: 1}
        known[x + y] = 2
        thread.start()
        thread.join()
        assert pytensor.graph.replace.clone_replace([x + y], {x: y})[0] is not None
        with pytest.raises(TypeError, match="a dictionary or a set knows expressions as objects"):
            x in known  # noqa: B015
    assert found == [(False, True, True, False)]
    assert (kind.__eq__, kind.__ne__, kind.__hash__) == before
    assert x != y
    assert {x: 1}[x] == 1


def test_every_rule_is_as_before() -> None:
    assert steps(tw.Adam()) == pytest.approx(on_numpy(tw.Adam))
    assert rules.registry
