"""A text that raises an error: compiled code would be left in the middle, in silence, so it is not compiled.

PYTEST_DONT_REWRITE: an assert in a text is one here, as in a user's file.
"""

from __future__ import annotations

import math
import sys
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import HyperparameterError, RuleError
from thalweg.lowering import Batch, Part, address_of, compile_rule
from thalweg.lowering import numpy as lowered
from thalweg.lowering.layout import BLOCK
from thalweg.rules.base import Number, Rule
from thalweg.rules.ranges import finite

real = lowered._compile


class Slots(NamedTuple):
    memory: Any


class Hyper(NamedTuple):
    learning_rate: Annotated[Number, finite, "η"] = 0.5


class Carried(NamedTuple):
    product: Any = 1.0


def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - h.learning_rate * grad, Slots(grad)


def asserting(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    assert grad < h.learning_rate
    return param - h.learning_rate * grad, Slots(grad)


def checked(rate: Any) -> Any:
    if rate > 2.0:
        raise ValueError("the rate is too large")
    return rate


def checked_and_told(rate: Any) -> Any:
    if rate > 2.0:
        raise ValueError(f"the rate is {rate}")
    return rate


def slow(rate: Any, error: type[Exception]) -> Any:
    if rate > 0.25:
        raise error("too fast")
    return rate


def slow_or_not_at_all(rate: Any) -> Any:
    assert rate < 0.25
    return rate


def rule(**texts: Any) -> Rule:
    return Rule(**{"name": "strict", "slots": Slots, "hyper": Hyper, "update": update} | texts)


RAISING = {
    "update": ("asserting", {"update": asserting}),
    "with a value": ("checked_and_told", {"prepare": lambda t, h: Hyper(checked_and_told(h.learning_rate))}),
    "carry": ("checked", {"carried": Carried, "carry": lambda t, h, now: Carried(checked(now.product * t)),
                          "prepare": lambda t, h, now: Hyper(h.learning_rate * now.product)}),
    "conclude": ("checked", {"measure": lambda param, grad, slots, h: (grad,),
                             "conclude": lambda h, sums: Hyper(checked(sums[0]))}),
}  # fmt: skip


@pytest.mark.parametrize("text", RAISING)
def test_a_text_that_can_raise_is_refused_before_anything_is_changed(text: str) -> None:
    name, texts = RAISING[text]
    x = tw.Variable(np.array([1.0, 2.0]), name="x")
    optimizer = type(tw.LocalOptimizer)("Strict", (tw.LocalOptimizer,), {"rule": rule(**texts)})(x, learning_rate=4.0)
    with pytest.raises(RuleError, match=rf"'strict': {name} can raise an error \(.*test_raising\.py, line \d+\)"):
        tw.wait(optimizer.step(grad=np.array([1.0, 5.0])))
    assert x.data.tolist() == [1.0, 2.0]
    assert optimizer.optimization_state.curr_iter == 0


def test_what_numba_cannot_read_is_told_of_the_rule_and_run_natively() -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    def caused(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        if h.learning_rate > 2.0:
            raise ValueError("too fast") from None
        return update(param, grad, slots, h)

    cls = type(tw.LocalOptimizer)("Strict", (tw.LocalOptimizer,), {"rule": rule(update=caused)})
    x = tw.Variable(np.array([1.0, 2.0]), name="x")
    with pytest.raises(RuleError, match=r"'strict' cannot be compiled for float64: .*raise"):
        tw.wait(cls(x).step(grad=np.ones(2)))
    assert x.data.tolist() == [1.0, 2.0]
    param = torch.nn.Parameter(torch.ones(2))
    param.grad = torch.ones(2)
    TorchOptimizer([("x", param)], cls()).step()
    assert param.tolist() == [0.5, 0.5]


class Own(Exception):
    """An error of a user's own."""


AT_THE_DEFAULTS = {
    "ValueError": ("slow", lambda h: slow(h.learning_rate, ValueError)),
    "KeyError": ("slow", lambda h: slow(h.learning_rate, KeyError)),
    "Own": ("slow", lambda h: slow(h.learning_rate, Own)),
    "HyperparameterError": ("slow", lambda h: slow(h.learning_rate, HyperparameterError)),
    "assert": ("slow_or_not_at_all", lambda h: slow_or_not_at_all(h.learning_rate)),
}


@pytest.mark.parametrize("error", AT_THE_DEFAULTS)
def test_a_measure_that_raises_at_the_defaults_is_told_so(error: str) -> None:
    """It is run at the defaults to count its terms."""
    name, rate = AT_THE_DEFAULTS[error]
    own = rule(measure=lambda param, grad, slots, h: (grad * rate(h),), conclude=lambda h, sums: Hyper(sums[0]))
    cls = type(tw.LocalOptimizer)("Strict", (tw.LocalOptimizer,), {"rule": own})
    x = tw.Variable(np.array([1.0, 2.0]), name="x")
    told = rf"^rule 'strict': {name} can raise an error \(.*test_raising\.py, line \d+\), which compiled code cannot; "
    with pytest.raises(RuleError, match=told) as caught:
        tw.wait(cls(x, learning_rate=0.125).step(grad=np.array([1.0, 3.0])))
    assert caught.value.details == {"rule": "strict"}
    assert x.data.tolist() == [1.0, 2.0]

    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    param = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    param.grad = torch.tensor([1.0, 3.0])
    TorchOptimizer([("x", param)], cls(learning_rate=0.125)).step()  # natively, where its own rate is what is met
    assert param.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("text", ["prepare", "carry"])
def test_and_so_is_what_comes_before_it(text: str) -> None:
    texts: dict[str, dict[str, Any]] = {
        "prepare": {"prepare": lambda t, h: Hyper(slow(h.learning_rate, ValueError))},
        "carry": {
            "carried": Carried,
            "carry": lambda t, h, now: Carried(slow(h.learning_rate, ValueError)),
            "prepare": lambda t, h, now: h,
        },
    }
    with pytest.raises(RuleError, match=r"slow can raise an error \(.*test_raising\.py, line \d+\), which"):
        compile_rule(rule(**texts[text]), np.dtype(np.float64))


def test_on_pytorch_it_is_run_natively_and_says_what_it_says() -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    cls = type(tw.LocalOptimizer)("Strict", (tw.LocalOptimizer,), {"rule": rule(**RAISING["with a value"][1])})
    param = torch.nn.Parameter(torch.ones(2))
    param.grad = torch.ones(2)
    optimizer = TorchOptimizer([("x", param)], cls(learning_rate=1.0))
    optimizer.step()
    assert param.tolist() == [0.0, 0.0]
    optimizer.param_groups[0]["lr"] = 4.0
    with pytest.raises(ValueError, match=r"the rate is 4\.0"):
        optimizer.step()
    assert param.tolist() == [0.0, 0.0]
    with pytest.raises(RuleError, match="checked_and_told can raise an error"):
        TorchOptimizer([("x", param)], cls(), kernel="shared").step()


def of_a_form(form: str, flag: int, measured: Any) -> Any:
    def text(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        assert measured is not None
        assert slots is not None
        if form == "once":
            change = grad
        elif form == "twice":
            change = grad + grad
        else:
            raise ValueError("form")
        if flag > 1:
            raise ValueError("flag")
        return param - h.learning_rate * change, Slots(grad)

    return text


def test_an_error_that_nothing_leads_to_is_no_harm() -> None:
    """Forms are chosen and types narrowed so; what is compiled has nothing of it."""
    own = rule(update=of_a_form("twice", 1, update))
    x, grad = np.ones(3), np.array([1.0, 2.0, 3.0])
    one = tw.Variable(x.copy(), name="x")
    tw.wait(type(tw.LocalOptimizer)("Own", (tw.LocalOptimizer,), {"rule": own})(one).step(grad=grad))
    np.testing.assert_array_equal(one.data, own.step(x, grad, own.init(x))[0])


STEPS = (0.5, 0.25, 0.125)
FAILING = {
    "floor": lambda t, h: Hyper(h.learning_rate * 0.5 ** math.floor(t / 10)),
    "table": lambda t, h: Hyper(h.learning_rate * STEPS[min(int(t), 3) - 1]),
    "list": lambda t, h: Hyper(h.learning_rate * max([0.25, 1 / t])),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_what_may_fail_elsewhere_is_no_raise_in_the_text(name: str) -> None:
    """An error of numba's own is left in the code, beside a raise that nothing leads to."""
    own = rule(update=of_a_form("once", 1, update), prepare=FAILING[name])
    x, grad = np.ones(3), np.array([1.0, 2.0, 3.0])
    one = tw.Variable(x.copy(), name="x")
    tw.wait(type(tw.LocalOptimizer)("Own", (tw.LocalOptimizer,), {"rule": own})(one).step(grad=grad))
    np.testing.assert_array_equal(one.data, own.step(x, grad, own.init(x))[0])


class OutOfRange(ValueError):
    """An error of a user's own."""


def test_the_line_that_is_named_is_the_one_that_can_be_reached() -> None:
    def prepare(t: Any, h: Any) -> Any:
        if h.learning_rate > 2.0:
            raise OutOfRange(
                "prepare",
            )
        return Hyper(h.learning_rate * 0.5 ** math.floor(t / 10))

    line = prepare.__code__.co_firstlineno + 2
    with pytest.raises(RuleError, match=rf"prepare can raise an error \(.*test_raising\.py, line {line}\)"):
        compile_rule(rule(update=of_a_form("once", 1, update), prepare=prepare), np.dtype(np.float64))


def test_what_cannot_be_compiled_is_not_compiled_again_until_it_is_another_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = rule(**RAISING["with a value"][1])
    compiled: list[Any] = []
    monkeypatch.setattr(lowered, "_compile", lambda *given: compiled.append(given) or real(*given))
    for _ in range(2):
        with pytest.raises(RuleError, match="checked_and_told can raise an error") as caught:
            compile_rule(own, np.dtype(np.float64))
        assert caught.value.details == {"rule": "strict"}
    assert len(compiled) == 1
    with pytest.raises(RuleError, match="checked_and_told can raise an error"):
        compile_rule(own, np.dtype(np.float32))
    assert len(compiled) == 2
    monkeypatch.setattr(sys.modules[__name__], "checked_and_told", lambda rate: rate)
    assert compile_rule(own, np.dtype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("text", ["abs", "norm"])
def test_a_measure_in_pytorchs_own_words_is_run_natively(text: str) -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    measures = {
        "abs": lambda param, grad, slots, h: (torch.abs(grad),),
        "norm": lambda *given: (given[1].mul(1).abs(),),
    }
    own = rule(measure=measures[text], conclude=lambda h, sums: Hyper(h.learning_rate / sums[0]))
    cls = type(tw.LocalOptimizer)("Own", (tw.LocalOptimizer,), {"rule": own})
    param = torch.nn.Parameter(torch.ones(2))
    param.grad = torch.tensor([1.0, 3.0])
    TorchOptimizer([("x", param)], cls()).step()
    assert param.tolist() == [0.875, 0.625]
    with pytest.raises(RuleError, match="rule 'strict': measure cannot be computed with NumPy's numbers: "):
        TorchOptimizer([("x", param)], cls(), kernel="shared").step()


@pytest.mark.parametrize("size", [3, BLOCK * 40])
def test_code_that_comes_back_with_an_error_is_one(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not seen in the text, as an index that is out of range, is told all the same."""

    def counting(t: Any, h: Any) -> Any:
        rates = [h.learning_rate, h.learning_rate]
        return Hyper(rates[int(t)])

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    arrays = [np.ones(size), np.zeros(size)]
    batch = Batch(
        compile_rule(rule(prepare=counting), arrays[0].dtype),
        [Part(address_of(arrays[0]), size, (address_of(arrays[1]),))],
    )
    batch.set_grad(0, address_of(arrays[1]))
    batch.set_hyper(0, Hyper(), t=1)
    assert batch.step() is None
    batch.set_time(2)
    with pytest.raises(RuleError, match="its compiled text was left by an error before the step was"):
        batch.step()
    with pytest.raises(RuleError, match="was left by an error"):
        batch.ready()


def looking_up(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    rates = [h.learning_rate, h.learning_rate]
    return param - rates[int(grad)] * grad, Slots(grad)


LOOKING_UP = type(tw.LocalOptimizer)("LookingUp", (tw.LocalOptimizer,), {"rule": rule(update=looking_up)})


def test_a_step_that_is_left_by_an_error_has_changed_nothing() -> None:
    """Of several arrays the first is updated before the error; a step of the short kind fails as the first does."""
    x, y = tw.Variable(np.ones(2), name="x"), tw.Variable(np.ones(2, np.float32), name="y")
    optimizer = LOOKING_UP([x, y])
    for grad, steps in ((5.0, 0), (1.0, 1), (5.0, 1)):
        grads = {"x": np.ones(2), "y": np.array([1.0, grad], np.float32)}
        if grad > 1.0:
            with pytest.raises(RuleError, match="was left by an error"):
                tw.wait(optimizer.step(grad=grads))
        else:
            tw.wait(optimizer.step(grad=grads))
        assert optimizer.optimization_state.curr_iter == steps
        assert x.data.tolist() == y.data.tolist() == [1.0 - 0.5 * steps] * 2
        assert [one.slots()["memory"].tolist() for one in optimizer._parameters] == [[float(steps)] * 2] * 2


def test_nor_has_a_step_of_the_short_kind() -> None:
    x = tw.Variable(np.ones(2), name="x", needs_grad=True)
    x.grad = np.ones(2)
    optimizer = LOOKING_UP(x)
    for _ in range(2):
        tw.wait(optimizer.step())
    x.grad[1] = 5.0
    with pytest.raises(RuleError, match="was left by an error"):
        tw.wait(optimizer.step())
    assert x.data.tolist() == [0.0, 0.0]
    x.grad[1] = 1.0
    tw.wait(optimizer.step())
    assert x.data.tolist() == [-0.5, -0.5]
    assert optimizer.optimization_state.curr_iter == 3


def test_nor_has_a_step_on_pytorch() -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    params = [torch.nn.Parameter(torch.full((2,), 2.0, dtype=kind)) for kind in (torch.float64, torch.float32)]
    cost = (params[1] ** 2).sum()
    for param, grad in zip(params, (1.0, 5.0), strict=True):
        param.grad = torch.tensor([1.0, grad], dtype=param.dtype)
    optimizer = TorchOptimizer(params, LOOKING_UP(), kernel="shared")
    with pytest.raises(RuleError, match="was left by an error"):
        optimizer.step()
    assert [param.tolist() for param in params] == [[2.0, 2.0], [2.0, 2.0]]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        cost.backward()
