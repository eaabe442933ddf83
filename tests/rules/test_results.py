"""What a rule's texts return and cannot compute, said in the same words by every backend; numbers are filled in."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.rules.test_trying import EVERYWHERE, Scalars, Slots, made, of_its_rate, on_jax, on_numpy, scaled
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


@pytest.mark.parametrize("where", ["pure", "jax", "native"])
def test_a_term_of_another_shape_is_refused(where: str) -> None:
    with pytest.raises(RuleError, match=r"measure returns for term 1 shape \(1,\); it is \([23],\), the parameter's"):
        counted(where, X, lambda p, g, s, h: (g * g, g[:1]))


@pytest.mark.parametrize("where", ALL)
def test_a_bare_array_is_no_start(where: str) -> None:
    for x in (X, X[:1]):
        with pytest.raises(RuleError, match=r"start returns a float64; it returns where each slot starts \(mean\)"):
            ALL[where](made(update=scaled, prepare=of_its_rate, start=lambda param, h: param)[1], x)


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
    for where in (pure, on_jax, natively):
        with pytest.raises(RuleError, match=r"update returns for the parameter shape \(1,\); it is \([23],\)"):
            where(cls, X)
    found = pure(cls, X[:1])
    np.testing.assert_array_equal(found, [0.0])


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


def test_an_error_of_the_users_own_stays_what_it_is() -> None:
    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        if h.learning_rate > 0.0:
            raise ValueError("not that fast")
        return param, slots

    for where in (pure, natively):
        with pytest.raises(ValueError, match="not that fast") as caught:
            where(made(NoSlots, update=update)[1], X)
        assert type(caught.value) is ValueError


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
