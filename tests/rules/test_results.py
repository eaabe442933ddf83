"""What a rule's texts return and cannot compute, said in the same words by every backend; numbers are filled in."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.rules.test_trying import (
    EVERYWHERE,
    Scalars,
    Slots,
    made,
    of_its_rate,
    on_jax,
    on_numpy,
    on_pytensor,
    scaled,
)
from thalweg.errors import RuleError
from thalweg.rules.base import NoSlots
from thalweg.rules.trying import explain

X = np.array([3.0, 4.0, 0.0])


def pure(cls: Any, x: np.ndarray) -> np.ndarray:
    rule = cls().rule
    found: np.ndarray = rule.step(x, x, rule.init(x))[0]
    return found


def natively(cls: Any, x: np.ndarray) -> Any:
    """In PyTorch's operations, whether the text can be compiled or not; two parameters, or it is as it was."""
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    params = [torch.nn.Parameter(torch.tensor(each)) for each in (x[:1].copy(), x)]
    for param in params:
        param.grad = param.detach().clone()
    optimizer = TorchOptimizer(params, cls(), kernel="native")
    try:
        optimizer.step()
    except Exception:
        assert [param.tolist() for param in params] == [x[:1].tolist(), x.tolist()]
        assert optimizer.state_dict()["state"] == {}
        assert optimizer.optimization_state.curr_iter == 0
        raise
    return params[1].detach().numpy()


ALL = {**EVERYWHERE, "pure": pure, "native": natively}


def concluding(h: Any, sums: Any) -> Any:
    return Scalars(h.rate / sums[0] ** 0.5)


TERMS = functools.partial(made, NoSlots, update=scaled, prepare=of_its_rate, conclude=concluding)


@pytest.mark.parametrize("where", ALL)
def test_a_bare_array_is_no_tuple_of_terms(where: str) -> None:
    for x in (X, X[:1]):
        with pytest.raises(RuleError, match="rule 'mine': measure returns a float64; it returns a tuple of terms"):
            ALL[where](TERMS(measure=lambda param, grad, slots, h: grad * grad)[1], x)


@pytest.mark.parametrize("where", ["jax", "pure", "native"])
@pytest.mark.parametrize("measure", [lambda p, g, s, h: (g * g,), lambda p, g, s, h: Slots(g * g)])
def test_a_tuple_is_summed(measure: Any, where: str) -> None:
    np.testing.assert_allclose(ALL[where](TERMS(measure=measure)[1], X), 0.98 * X, rtol=1e-6)


class Counting(NamedTuple):
    rate: Any
    one: Any


def counted(where: str, x: np.ndarray, measure: Any = lambda p, g, s, h: (g * g, h.one)) -> Any:
    """The parameter is its gradient; the rate is divided by the gradient's mean square."""
    _, cls = made(
        NoSlots,
        update=scaled,
        prepare=lambda t, h: Counting(h.learning_rate, 1.0),
        measure=measure,
        conclude=lambda h, sums: Counting(h.rate * (1.0 + sums[1]) / (1.0 + sums[0]), h.one),
    )
    if where != "pytensor":
        return ALL[where](cls, x)
    pytensor = pytest.importorskip("pytensor")
    shared = pytensor.shared(x.copy(), name="x")
    updates = cls().update((shared**2 / 2).sum(), [shared])
    pytensor.function([], [], updates=updates, mode="FAST_COMPILE")()
    return shared.get_value()


@pytest.mark.parametrize("where", [*ALL])
def test_a_number_is_a_term_of_each_element(where: str) -> None:
    np.testing.assert_allclose(counted(where, X), (1.0 - 0.1 * 4.0 / 26.0) * X, rtol=1e-6)
    if where in ("pure", "jax", "pytensor"):
        assert counted(where, np.zeros((0, 2))).shape == (0, 2)
        np.testing.assert_allclose(counted(where, np.array(2.0)), 2.0 - 0.1 * 2.0 * 2.0 / 5.0, rtol=1e-6)


@pytest.mark.parametrize("where", ["pure", "jax", "native", "pytensor"])
def test_a_term_of_another_shape_is_refused(where: str) -> None:
    with pytest.raises(RuleError, match=r"measure returns for term 1 shape \(1,\); it is \([23],\), the parameter's"):
        counted(where, X, lambda p, g, s, h: (g * g, g[:1]))


@pytest.mark.parametrize("where", ALL)
def test_a_bare_array_is_no_start(where: str) -> None:
    for x in (X, X[:1]):
        with pytest.raises(RuleError, match=r"start returns a float64; it returns where each slot starts \(mean\)"):
            ALL[where](made(update=scaled, prepare=of_its_rate, start=lambda param, h: param)[1], x)


def test_an_array_of_one_number_a_slot_is_to_be_a_tuple() -> None:
    rule, _ = made(update=scaled, prepare=of_its_rate, start=lambda param, h: np.array([1.0]))
    with pytest.raises(RuleError, match=r"start returns a ndarray; .*: write a tuple, one for each slot"):
        rule.init(X)


def swapped(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return Slots(grad), param - h.learning_rate * grad


def test_results_in_the_other_order() -> None:
    for where in ALL.values():
        for x in (X, X[:1]):
            with pytest.raises(
                RuleError, match="update returns for the parameter a Slots; it returns the new parameter"
            ):
                where(made(update=swapped)[1], x)


def test_a_parameter_of_another_shape() -> None:
    _, cls = made(NoSlots, update=lambda param, grad, slots, h: ((param - grad)[:1], slots))
    for where in (pure, on_jax, natively, on_pytensor):
        with pytest.raises(RuleError, match=r"update returns for the parameter shape \(1,\); it is \([23],\)"):
            where(cls, X)
    found = pure(cls, X[:1])
    np.testing.assert_array_equal(found, [0.0])


@pytest.mark.parametrize("slots", [NoSlots, Slots])
@pytest.mark.parametrize("wrap", [["lookahead"], ["ema"], ["lookahead", "ema"], ["ema", "lookahead"]])
@pytest.mark.parametrize(
    "result", [lambda new: new[:1], lambda new: new.mean(axis=1, keepdims=True), lambda new: new.mean()]
)
def test_a_parameter_of_another_shape_inside_another_text(wrap: list[str], slots: Any, result: Any) -> None:
    """The text around would broadcast it."""
    _, cls = made(slots, update=lambda param, grad, slots, h: (result(param - grad), slots))
    for where in (pure, on_jax, natively, on_pytensor):
        with pytest.raises(RuleError, match=r"update returns for the parameter shape \(.*\); it is \([13], 2\)"):
            where(functools.partial(cls, wrap=wrap), np.ones((3, 2)))


def remembering(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - (h.learning_rate + slots.mean) * grad, Slots(h.learning_rate)


def test_a_slot_that_is_set_to_a_number_has_it_everywhere() -> None:
    rule, cls = made(update=remembering)
    x, state = X, rule.init(X)
    for t in (1, 2):
        x, state = rule.step(x, X, state, t=t)
    assert state.mean.tolist() == [0.1, 0.1, 0.1]
    np.testing.assert_allclose(x, 0.7 * X)
    zero, at_zero = rule.step(np.array(3.0), np.array(1.0), rule.init(np.array(3.0)))
    assert (zero.shape, at_zero.mean.shape) == ((), ())

    jnp = pytest.importorskip("jax.numpy")
    from thalweg.optimizers.jax import JaxOptimizer

    optimizer, params = JaxOptimizer(cls()), jnp.asarray(X, jnp.float32)
    after = optimizer.init(params)
    for _ in range(2):
        params, after = optimizer.step(params, jnp.asarray(X, jnp.float32), after)
    np.testing.assert_allclose(params, 0.7 * X, rtol=1e-6)


@pytest.mark.parametrize("nonfinite", ["raise", "ignore"])
def test_and_on_pytensor(nonfinite: str) -> None:
    pytensor = pytest.importorskip("pytensor")
    x = pytensor.shared(X.copy(), name="x")
    updates = made(update=remembering)[1](nonfinite=nonfinite).update((x**2 / 2).sum(), [x])
    step = pytensor.function([], [], updates=updates, mode="FAST_COMPILE")
    step()
    step()
    np.testing.assert_allclose(x.get_value(), 0.9 * 0.8 * X)


def test_a_slot_of_another_shape() -> None:
    """It could be broadcast, and is not."""
    _, cls = made(update=lambda param, grad, slots, h: (param - grad, Slots((grad * grad)[0])))
    for where in (pure, on_jax, natively, on_pytensor):
        with pytest.raises(RuleError, match=r"update returns for slot mean shape \(2,\); it is \([12], 2\)"):
            where(cls, np.ones((2, 2)))


class Counted(NamedTuple):
    factor: Any = 1.0


@pytest.mark.parametrize("wrap", [[], ["ema"], ["lookahead"], ["lookahead", "ema"]])
@pytest.mark.parametrize("where", ["numpy", "jax", "native"])
def test_slots_and_carried_numbers_are_returned_as_they_were_given(where: str, wrap: list[str]) -> None:
    _, cls = made(
        start=lambda param, h: (2.0,),
        carried=Counted,
        carry=lambda t, h, carried: carried,
        prepare=lambda t, h, carried: Scalars(h.learning_rate * carried.factor),
        update=lambda param, grad, slots, h: (param - h.rate * grad / slots.mean, slots),
    )
    np.testing.assert_allclose(ALL[where](functools.partial(cls, wrap=wrap), X), 0.95 * X, rtol=1e-6)
    _, cls = made(start=lambda param, h: (2.0,), update=lambda p, g, s, h: (p - h.learning_rate * g / s.mean, s))
    rates = 0.1 if where == "jax" else np.full(3, 0.1)
    if where != "native":
        each = functools.partial(cls, wrap=wrap, learning_rate=rates)
        np.testing.assert_allclose(ALL[where](each, X), 0.95 * X, rtol=1e-6)


@pytest.mark.parametrize("where", ["numpy", "jax", "native"])
def test_slots_that_a_rule_does_not_have_are_refused_inside_another(where: str) -> None:
    _, cls = made(update=lambda param, grad, slots, h: (param - grad, (slots.mean, grad)))
    with pytest.raises(RuleError, match="rule 'mine': update returns for slots a tuple of 2; "):
        ALL[where](functools.partial(cls, wrap=["ema"]), X)


def choosing(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    if grad > h.learning_rate:
        return param - h.learning_rate * grad, slots
    return param, slots


def test_an_if_on_an_array_is_told_in_the_same_words() -> None:
    _, cls = made(NoSlots, update=choosing)
    for where in (pure, natively, on_jax):
        with pytest.raises(
            RuleError, match=r"update cannot be computed with arrays: The truth value .* where .*line \d+"
        ):
            where(cls, X)
    np.testing.assert_allclose(on_numpy(cls, X), 0.9 * X)  # one element at a time there is nothing wrong with it


def test_what_takes_numbers_alone_is_told_in_the_same_words() -> None:
    _, cls = made(NoSlots, update=lambda param, grad, slots, h: (param - math.cos(grad), slots))
    for where in (pure, natively, on_jax):
        with pytest.raises(RuleError, match="update cannot be computed with arrays: only "):
            where(cls, X)


TOLD: dict[str, tuple[dict[str, Any], str]] = {
    "a name": (
        {"update": lambda param, grad, slots, h: (param - rte * grad, slots)},  # type: ignore[name-defined]  # noqa: F821
        r"update: name 'rte' is not defined \(.*test_results\.py, line \d+\)",
    ),
    "an argument too few": (
        {"update": lambda param, grad, slots: (param, slots)},
        r"update takes \(param, grad, slots\); it is called with \(param, grad, slots, h\)",
    ),
    "the hyperparameters": (
        {"update": scaled, "prepare": lambda t, h: h},
        r"update reads 'rate', which is not there; it may read learning_rate \(",
    ),
    "slots by name": (
        {"update": lambda param, grad, slots, h: (param, {"mean": grad})},
        "update returns for slots a dict; ",
    ),
    "a tuple for a number": (
        {"update": scaled, "prepare": lambda t, h: Scalars((h.learning_rate, h.learning_rate))},
        "prepare returns for rate a tuple; it returns a named tuple of the numbers",
    ),
}


@pytest.mark.parametrize("where", ALL)
@pytest.mark.parametrize("wrong", TOLD)
def test_it_is_told_of_the_users_own_rule(wrong: str, where: str) -> None:
    texts, told = TOLD[wrong]
    if (wrong, where) == ("a tuple for a number", "pure"):
        pytest.skip("NumPy takes them for an array")
    with pytest.raises(RuleError, match=f"^rule 'mine': {told}"):
        ALL[where](made(**texts)[1], X)


def test_hyperparameters_that_are_returned_are_taken() -> None:
    """With a weight decay around it there are more of them."""
    _, cls = made(
        NoSlots,
        update=lambda param, grad, slots, h: (param - h.learning_rate * grad, slots),
        prepare=lambda t, h: h,
    )
    for name in ("numpy", "jax", "native"):
        np.testing.assert_allclose(ALL[name](functools.partial(cls, weight_decay=0.5), X), 0.85 * X, rtol=1e-6)


def test_memory_that_runs_out_is_no_fault_of_a_rule() -> None:
    rule, _ = made(NoSlots, update=lambda param, grad, slots, h: (param - grad, slots))
    explain(rule, RuntimeError("out of memory"), np.ones(2))  # says nothing


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_a_native_step_is_made_as_a_whole_or_not_at_all(error: type[Exception]) -> None:
    """A text fails by shape or dtype, which the first step with a parameter shows."""
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        if param.shape == (3,):
            raise error("three are too many")
        return param - h.learning_rate * grad, Slots(grad)

    params = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    optimizer = TorchOptimizer(params, made(update=update)[1](), kernel="native")
    params[0].grad = torch.ones(2)
    optimizer.step()
    for _ in range(2):
        params[1].grad = torch.ones(3)
        with pytest.raises(error, match="three are too many"):
            optimizer.step()
        assert params[0].tolist() == [pytest.approx(0.9)] * 2
        assert params[1].tolist() == [1.0] * 3
        assert {k: v["step"] for k, v in optimizer.state_dict()["state"].items()} == {0: 1}
        assert optimizer.optimization_state.curr_iter == 1
    params[1].grad = None
    optimizer.step()
    assert params[0].tolist() == [pytest.approx(0.8)] * 2


def test_a_text_is_run_once_with_each_tensor_in_each_step() -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    seen: list[tuple[int, ...]] = []

    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        seen.append(tuple(param.shape))
        return param - h.learning_rate * grad, Slots(grad)

    params = [torch.nn.Parameter(torch.ones(size)) for size in (2, 2, 3, 3)]
    optimizer = TorchOptimizer(params, made(update=update)[1](wrap=["ema"]), kernel="native")
    for given, runs in ((range(4), [(2,), (2,), (3,), (3,)]), ((2, 3), [(3,), (3,)]), ((1, 2), [(2,), (3,)])):
        for number, param in enumerate(params):
            param.grad = torch.ones_like(param) if number in given else None
        seen.clear()
        optimizer.step()
        assert seen == runs
    assert [round(param[0].item(), 6) for param in params] == [0.9, 0.8, 0.7, 0.8]


def test_a_text_of_the_library_is_run_by_the_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    import thalweg as tw
    from thalweg.optimizers.torch import TorchOptimizer, seating

    monkeypatch.setattr(seating.Plan, "backup", lambda plan: pytest.fail("copied"))
    params = [torch.nn.Parameter(torch.ones(size, dtype=torch.bfloat16)) for size in (2, 3)]
    optimizer = TorchOptimizer(params, tw.AdamW(learning_rate=0.5, weight_decay=0.0, wrap=["ema"]))
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert [param.tolist() for param in params] == [[0.5] * 2, [0.5] * 3]


def test_a_slot_that_is_no_number_changes_nothing() -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    param = torch.nn.Parameter(torch.ones(2))
    param.grad = torch.ones(2)
    update = made(update=lambda param, grad, slots, h: (param - grad, Slots(None)))[1]
    optimizer = TorchOptimizer([param], update(), kernel="native")
    with pytest.raises(TypeError, match="NoneType"):
        optimizer.step()
    assert param.tolist() == [1.0, 1.0]
