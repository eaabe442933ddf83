from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg import optimizers, rules, transforms
from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    MissingGradientError,
    ModifiedSinceForwardError,
    NonFiniteGradientError,
    OptimizerError,
    ParameterError,
)
from thalweg.graph import Operator, Variable, wait
from thalweg.optimizers import SGD, AdaGrad, Adam, GradientDescent, LocalOptimizer, Momentum
from thalweg.schedules import Exp

every_kind = pytest.mark.parametrize("kind", optimizers.registry)


def variable(*values: float, name: str | None = "x", dtype: type = np.float64) -> Variable:
    return Variable(np.array(values, dtype), name=name, needs_grad=True)


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ten_steps_equal_the_pure_rule(kind: str, dtype: type) -> None:
    print("seed 2")
    rng = np.random.default_rng(2)
    x = Variable(rng.normal(size=(3, 4)).astype(dtype), name="x", needs_grad=True)
    optimizer = optimizers.registry[kind](x)
    rule = optimizer.rule
    pure, slots = x.data.copy(), rule.init(x.data)
    memory = x.data
    for t in range(1, 11):
        x.grad = rng.normal(size=(3, 4)).astype(dtype)
        before = x.grad.copy()
        assert wait(optimizer.step()) is x
        np.testing.assert_array_equal(x.grad, before)
        pure, slots = rule.step(pure, x.grad, slots, t=t)
    assert x.data is memory  # in place
    np.testing.assert_allclose(x.data, pure, rtol=0, atol=100 * np.finfo(dtype).eps)
    assert optimizer.iterations == 10


class Square(Operator):
    def forward(self, x: Variable) -> Variable:
        return Variable(x.data**2)

    def adjoint(self, grad: np.ndarray, x: Variable) -> np.ndarray:
        return 2 * x.data * grad


def test_the_whole_way_from_graph_to_minimum() -> None:
    async def fit() -> Variable:
        x = variable(3.0, -2.0)
        square = Square()
        optimizer = Adam(x, learning_rate=0.1)
        for _ in range(400):
            loss = await square(x)
            await loss.adjoint(np.ones(2))
            await optimizer.step()
            optimizer.clear_grad()
        return x

    x = wait(fit())
    assert x.grad is None
    np.testing.assert_allclose(x.data, 0.0, atol=1e-3)


def test_a_step_between_forward_and_adjoint_is_noticed() -> None:
    async def go() -> None:
        x = variable(1.0, 2.0)
        y = await Square()(x)
        await GradientDescent(x).step(grad=np.ones(2))
        await y.adjoint(np.ones(2))

    with pytest.raises(ModifiedSinceForwardError):
        wait(go())


@pytest.mark.parametrize("step_size", [0.0, 1e-9, 0.05, 0.1, 7.0])
def test_a_step_size_is_used_exactly_as_given(step_size: float) -> None:
    """Stride clamped step sizes to at least 0.1."""
    x = variable(1.0, 2.0)
    optimizer = GradientDescent(x, learning_rate=3.0)
    grad = np.array([0.5, -0.25])
    wait(optimizer.step(step_size=step_size, grad=grad))
    np.testing.assert_array_equal(x.data, np.array([1.0, 2.0]) - step_size * grad)
    assert optimizer.learning_rate == 3.0
    wait(optimizer.step(grad=grad))
    np.testing.assert_array_equal(x.data, np.array([1.0, 2.0]) - step_size * grad - 3.0 * grad)


@pytest.mark.parametrize("learning_rate", [1e-9, 0.05])
def test_a_small_learning_rate_is_not_clamped(learning_rate: float) -> None:
    x = variable(1.0)
    wait(GradientDescent(x, learning_rate=learning_rate).step(grad=np.ones(1)))
    np.testing.assert_array_equal(x.data, [1.0 - learning_rate])


@pytest.mark.parametrize("step_size", [-1.0, float("nan"), "big"])
def test_a_step_size_that_is_no_step_size_is_refused(step_size: Any) -> None:
    x = variable(1.0)
    with pytest.raises(HyperparameterError, match="step_size"):
        wait(GradientDescent(x).step(step_size=step_size, grad=np.ones(1)))
    np.testing.assert_array_equal(x.data, [1.0])


@pytest.mark.parametrize("name", ["vp", "alpha", "source", "attenuation", "wavelet"])
def test_no_transform_is_triggered_by_a_variables_name(name: str) -> None:
    x = variable(-5.0, 1e6, name=name)
    wait(GradientDescent(x).step(grad=np.array([1.0, -1.0])))
    np.testing.assert_array_equal(x.data, [-6.0, 1e6 + 1])


def test_the_order_of_a_step() -> None:
    log: list[str] = []

    class Logged(Variable):
        def process_grad(self) -> Any:
            log.append("variable.process_grad")
            return 10 * self.grad

    class Mine(GradientDescent):
        async def pre_process(self, grad: Any = None, processed_grad: Any = None) -> Any:
            return await super().pre_process(grad, processed_grad)

        async def post_process(self) -> None:
            log.append("post_process")
            await super().post_process()

    async def on_grad(g: np.ndarray) -> np.ndarray:
        log.append("process_grad")
        await asyncio.sleep(0)
        return g + 1

    def on_model(m: np.ndarray) -> np.ndarray:
        log.append("process_model")
        return 2 * m

    x = Logged(np.array([1.0]), name="x", needs_grad=True)
    x.grad = np.array([0.5])
    optimizer = Mine(x, process_grad=on_grad, process_model=on_model)
    wait(optimizer.step())
    assert log == ["variable.process_grad", "process_grad", "post_process", "process_model"]
    np.testing.assert_array_equal(x.data, [2 * (1.0 - (10 * 0.5 + 1))])
    np.testing.assert_array_equal(x.grad, [0.5])


def test_grad_and_processed_grad_take_the_variables_place() -> None:
    x = variable(0.0)
    x.grad = np.array([100.0])
    optimizer = GradientDescent(x, process_grad=lambda g: 2 * g)
    np.testing.assert_array_equal(wait(optimizer.pre_process()), [200.0])
    np.testing.assert_array_equal(wait(optimizer.pre_process(grad=np.array([1.0]))), [2.0])
    np.testing.assert_array_equal(wait(optimizer.pre_process(processed_grad=np.array([1.0]))), [1.0])
    wait(optimizer.step(grad=np.array([1.0])))
    np.testing.assert_array_equal(x.data, [-2.0])
    wait(optimizer.step(processed_grad=np.array([1.0])))
    np.testing.assert_array_equal(x.data, [-3.0])


def test_several_steps_of_a_hook_run_in_order() -> None:
    x = variable(0.0)
    optimizer = GradientDescent(x, process_grad=[lambda g: g + 1, lambda g: g * 10])
    wait(optimizer.step(grad=np.array([1.0])))
    np.testing.assert_array_equal(x.data, [-20.0])


def test_bounds_keep_the_model_inside_alone_and_in_company() -> None:
    for hook in (transforms.bounds(0, 1), [transforms.bounds(0, 1), lambda m: m]):
        x = variable(0.5, 0.5, 0.5)
        wait(GradientDescent(x, process_model=hook).step(grad=np.array([1.0, -1.0, 0.0])))
        np.testing.assert_array_equal(x.data, [0.0, 1.0, 0.5])


@pytest.mark.parametrize("hook", ["smooth", 3, [transforms.normalize(), "smooth"], [None]])
@pytest.mark.parametrize("which", ["process_grad", "process_model"])
def test_a_hook_that_is_not_callable_is_an_error_never_skipped(which: str, hook: Any) -> None:
    with pytest.raises(HyperparameterError, match=which):
        GradientDescent(**{which: hook})
    optimizer = GradientDescent()
    with pytest.raises(HyperparameterError, match=which):
        setattr(optimizer, which, hook)


@pytest.mark.parametrize(
    "hook",
    [lambda a: None, lambda a: a[:1], lambda a: a.astype(np.float32), lambda a: list(a), lambda a: 1 / 0],
    ids=["nothing", "shape", "dtype", "type", "raises"],
)
@pytest.mark.parametrize("which", ["process_grad", "process_model"])
def test_a_hook_that_fails_leaves_everything_as_it_was(which: str, hook: Any) -> None:
    x, y = variable(1.0, 2.0), variable(3.0, 4.0, name="y")
    optimizer = Adam([x, y], **{which: {"y": hook}})
    optimizer.process_grad, kept = None, optimizer.process_grad
    optimizer.process_model, model = None, optimizer.process_model
    gradients = {"x": np.ones(2), "y": np.ones(2)}
    wait(optimizer.step(grad=gradients))
    optimizer.process_grad, optimizer.process_model = kept, model
    before, data, version = optimizer.state(), (x.data.copy(), y.data.copy()), x.version
    with pytest.raises((HyperparameterError, ZeroDivisionError)):
        wait(optimizer.step(grad=gradients))
    after = optimizer.state()
    assert after.meta == before.meta
    assert x.version == version
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], array)
    np.testing.assert_array_equal(x.data, data[0])
    np.testing.assert_array_equal(y.data, data[1])
    np.testing.assert_array_equal(gradients["y"], np.ones(2))


def test_a_cancelled_step_leaves_everything_as_it_was() -> None:
    async def slow(model: np.ndarray) -> np.ndarray:
        await asyncio.sleep(60)
        return model

    async def go() -> None:
        x = variable(1.0)
        optimizer = Momentum(x, process_model=slow)
        task = asyncio.ensure_future(optimizer.step(grad=np.ones(1)))
        while x.data[0] == 1.0:
            await asyncio.sleep(0)
        with pytest.raises(OptimizerError, match="already running"):
            await optimizer.step(grad=np.ones(1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert x.data[0] == 1.0
        assert optimizer.iterations == 0
        assert not any(array.any() for array in optimizer.state().arrays.values())

    wait(go())


def test_a_hook_may_write_into_what_it_gets() -> None:
    def scribble(array: np.ndarray) -> np.ndarray:
        array += 1
        return array

    x = variable(0.0)
    x.grad = np.array([1.0])
    wait(GradientDescent(x, process_grad=scribble, process_model=scribble).step())
    np.testing.assert_array_equal(x.grad, [1.0])
    np.testing.assert_array_equal(x.data, [-1.0])


def test_reset_empties_state_and_counters() -> None:
    """Stride's reset does nothing."""
    x = variable(1.0, 2.0)
    optimizer = Adam(x, learning_rate=Exp(0.1, gamma=0.5, decay_on_iteration=True))
    optimizer.optimization_state.begin_epoch()
    for _ in range(3):
        wait(optimizer.step(grad=np.ones(2)))
    assert optimizer.current("learning_rate") == 0.025
    optimizer.reset()
    assert optimizer.iterations == optimizer.optimization_state.curr_epoch == 0
    assert not any(array.any() for array in optimizer.state().arrays.values())
    fresh = Adam(Variable(x.data.copy(), name="x"), learning_rate=Exp(0.1, gamma=0.5, decay_on_iteration=True))
    assert optimizer.state().meta == fresh.state().meta
    for either in (optimizer, fresh):
        wait(either.step(grad=np.ones(2)))
    np.testing.assert_array_equal(x.data, fresh.variable.data)


def test_reset_can_leave_the_counters_that_schedules_follow() -> None:
    x = variable(1.0)
    optimizer = Adam(x)
    for _ in range(5):
        wait(optimizer.step(grad=np.ones(1)))
    optimizer.reset(counters=False)
    assert optimizer.iterations == 5
    before = x.data.copy()
    wait(optimizer.step(grad=np.ones(1)))
    np.testing.assert_allclose(before - x.data, 1e-3, rtol=1e-6)  # a first step, with its bias correction


def test_several_variables_by_name() -> None:
    x, y = variable(1.0), variable(1.0, 2.0, name="y")
    optimizer = SGD([y, x], learning_rate=1.0)
    assert wait(optimizer.step(grad={"x": np.ones(1), "y": np.array([2.0, 3.0])})) == (y, x)
    np.testing.assert_array_equal(x.data, [0.0])
    np.testing.assert_array_equal(y.data, [-1.0, -1.0])
    processed = wait(optimizer.pre_process(grad={"x": np.ones(1), "y": np.ones(2)}))
    assert list(processed) == ["y", "x"]
    x.grad, y.grad = np.ones(1), np.ones(2)
    optimizer.clear_grad()
    assert x.grad is y.grad is None


def test_gradients_that_do_not_name_the_variables() -> None:
    optimizer = SGD([variable(1.0), variable(1.0, name="speed")])
    with pytest.raises(OptimizerError, match="mapping from their names"):
        wait(optimizer.step(grad=[np.ones(1), np.ones(1)]))
    with pytest.raises(OptimizerError, match="did you mean 'speed'"):
        wait(optimizer.step(grad={"x": np.ones(1), "sped": np.ones(1)}))
    with pytest.raises(MissingGradientError, match="'speed'"):
        wait(optimizer.step(grad={"x": np.ones(1)}))
    np.testing.assert_array_equal(optimizer.variables[0].data, [1.0])


def test_names_are_needed_where_state_is_kept_by_name() -> None:
    with pytest.raises(OptimizerError, match="variable 1 of 2 has no name"):
        SGD([variable(1.0), variable(1.0, name=None)])
    with pytest.raises(OptimizerError, match="two variables are named 'x'"):
        SGD([variable(1.0), variable(1.0)])
    with pytest.raises(OptimizerError, match="at least one"):
        SGD([])
    with pytest.raises(OptimizerError, match="ndarray"):
        SGD([np.zeros(2)])  # type: ignore[list-item]
    unnamed = Momentum(variable(1.0, name=None))
    wait(unnamed.step(grad=np.ones(1)))
    assert list(unnamed.state().arrays) == ["slots/velocity/variable"]


def test_unbound_then_bound() -> None:
    optimizer = Momentum()
    with pytest.raises(OptimizerError, match="bind"):
        wait(optimizer.step())
    x = variable(1.0)
    assert optimizer.bind(x) is optimizer
    wait(optimizer.step(grad=np.ones(1)))
    assert optimizer.variable is x
    with pytest.raises(OptimizerError, match=r"2 variables; use \.variables"):
        _ = Momentum([x, variable(1.0, name="y")]).variable


def test_propose_and_apply() -> None:
    class Feedback:
        loss = 1.0
        gradients = {"x": np.ones(2)}  # noqa: RUF012 - as the runs' frozen dataclass has it

    x = variable(1.0, 2.0)
    optimizer = GradientDescent(x)
    (point,) = wait(optimizer.propose())
    np.testing.assert_array_equal(point["x"], [1.0, 2.0])
    assert not point["x"].flags.writeable
    wait(optimizer.apply(Feedback))
    np.testing.assert_array_equal(x.data, [0.0, 1.0])
    Feedback.gradients = {"y": np.ones(2)}
    with pytest.raises(OptimizerError, match="'y'"):
        wait(optimizer.apply(Feedback))


# -- bad input: a named error, before anything is changed --


def untouched(optimizer: LocalOptimizer, error: type[Exception], words: str, **arguments: Any) -> Exception:
    """The error of a step that must change nothing."""
    data = [variable.data.copy() for variable in optimizer.variables]
    before = optimizer.state()
    with pytest.raises(error, match=words) as caught:
        wait(optimizer.step(**arguments))
    for variable, copy in zip(optimizer.variables, data, strict=True):
        np.testing.assert_array_equal(variable.data, copy)
    after = optimizer.state()
    assert after.meta == before.meta
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], array)
    return caught.value


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_non_finite_gradients(bad: float, dtype: type) -> None:
    good = variable(1.0, 2.0, name="good", dtype=dtype)
    x = Variable(np.zeros((3, 4), dtype), name="vp")
    optimizer = Adam([good, x])
    fine = {"good": np.ones(2, dtype), "vp": np.ones((3, 4), dtype)}
    wait(optimizer.step(grad=fine))
    grad = np.ones((3, 4), dtype)
    grad[1, 2] = grad[2, 0] = bad
    error = untouched(
        optimizer,
        NonFiniteGradientError,
        r"variable 'vp', iteration 2: the gradient holds 2 non-finite of 12 values, the first at \(1, 2\)",
        grad={**fine, "vp": grad},
    )
    assert error.details == {"variable": "vp", "iteration": 2, "count": 2, "first": (1, 2)}
    wait(optimizer.step(grad=fine))


def test_who_made_a_non_finite_gradient() -> None:
    x = variable(1.0, 2.0)
    optimizer = GradientDescent(x, process_grad=transforms.normalize())
    untouched(optimizer, NonFiniteGradientError, r"the gradient holds 1 .* at \(1,\)", grad=np.array([1.0, np.nan]))
    optimizer.process_grad = lambda g: g * np.inf
    untouched(optimizer, NonFiniteGradientError, "what process_grad made", grad=np.ones(2))
    untouched(GradientDescent(Variable(np.array(1.0))), NonFiniteGradientError, r"\(\)", grad=np.array(np.nan))


CLIPPING = [
    transforms.clip_value(1.0),
    transforms.clip_norm(1.0),
    transforms.normalize(),
    transforms.bounds(-1.0, 1.0),
    transforms.chain(transforms.chain(transforms.bounds(-1.0, 1.0)), transforms.clip_value(0.5)),
]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("hook", CLIPPING, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_transform_hides_a_non_finite_gradient(hook: Any, bad: float, dtype: type) -> None:
    grad = np.array([bad, 0.0, 2.0], dtype)
    words = r"variable 'x', iteration 1: the gradient holds 1 non-finite of 3 values, the first at \(0,\)"
    untouched(SGD(variable(1, 2, 3, dtype=dtype), process_grad=hook), NonFiniteGradientError, words, grad=grad)
    elsewhere = transforms.mask(np.array([True, False, True]))
    untouched(
        SGD(variable(1, 2, 3, dtype=dtype), process_grad=[hook, elsewhere]), NonFiniteGradientError, words, grad=grad
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_mask_takes_away_what_is_not_finite_before_and_after_clipping(bad: float) -> None:
    inside = transforms.mask(np.array([0.0, 1.0]))
    for clip in (transforms.clip_value(1.0), transforms.bounds(-1.0, 1.0)):
        for hook in ([inside, clip], [clip, inside], transforms.chain(clip, inside)):
            x = variable(5.0, 5.0)
            wait(GradientDescent(x, process_grad=hook).step(grad=np.array([bad, 3.0])))
            np.testing.assert_array_equal(x.data, [5.0, 4.0])


def test_grad_and_processed_grad_together_are_refused() -> None:
    optimizer = SGD(variable(1.0))
    untouched(optimizer, OptimizerError, "both given", grad=np.ones(1), processed_grad=np.ones(1))
    with pytest.raises(OptimizerError, match="both given"):
        wait(optimizer.pre_process(np.ones(1), np.ones(1)))


@pytest.mark.parametrize("where", ["process_grad", "process_model"])
def test_a_running_step_is_not_mixed_with_another_state(where: str, tmp_path: Path) -> None:
    optimizer = Momentum(variable(1.0))
    snapshot = optimizer.state()
    optimizer.dump(tmp_path / "saved")
    reached: list[str] = []

    async def midway(array: np.ndarray) -> np.ndarray:
        for act in (
            optimizer.state,
            optimizer.reset,
            lambda: optimizer.restore(snapshot),
            lambda: optimizer.dump(tmp_path / "mixed"),
            lambda: optimizer.load(tmp_path / "saved"),
            lambda: optimizer.bind(variable(7.0)),
        ):
            await asyncio.sleep(0)
            with pytest.raises(OptimizerError, match="a step is already running; await it before") as caught:
                act()
            reached.append(str(caught.value))
        return array

    setattr(optimizer, where, midway)
    x = wait(optimizer.step(grad=np.ones(1)))
    assert len(reached) == 6
    np.testing.assert_array_equal(x.data, [0.99])
    after = optimizer.state()
    assert after.meta["updates"] == 1
    np.testing.assert_array_equal(after.arrays["slots/velocity/x"], [-0.01])
    assert not (tmp_path / "mixed").exists()


def test_a_finite_gradient_that_overflows_in_the_rule_does_what_the_page_says() -> None:
    x = variable(1.0, 1.0, dtype=np.float32)
    adam = Adam(x)
    for _ in range(2):
        wait(adam.step(grad=np.array([1e20, 1.0], np.float32)))
    assert x.data[0] == 1.0  # stands still
    assert x.data[1] < 1.0
    assert np.isinf(adam.state().arrays["slots/mean_square/x"][0])
    y = variable(1.0, dtype=np.float32)
    wait(GradientDescent(y, learning_rate=1e5).step(grad=np.array([1e38], np.float32)))
    assert y.data[0] == -np.inf


@pytest.mark.parametrize("shape", [(1,), (3, 3), (), (1, 3)])
def test_a_gradient_is_never_broadcast(shape: tuple[int, ...]) -> None:
    untouched(SGD(variable(1, 2, 3)), GradientShapeError, "never broadcast", grad=np.ones(shape))


@pytest.mark.parametrize(
    "grad",
    [np.ones(2, np.float32), np.ones(2, int), np.ones(2, complex), [1.0, 1.0], np.ma.masked_array([1.0, 1.0])],
    ids=["float32", "int", "complex", "list", "masked"],
)
def test_a_gradient_is_never_converted(grad: Any) -> None:
    untouched(SGD(variable(1, 2)), GradientDtypeError, "variable 'x', iteration 1", grad=grad)


def test_a_missing_gradient() -> None:
    untouched(SGD(variable(1)), MissingGradientError, "variable 'x', iteration 1: there is no gradient")


LAYOUTS = {
    "fortran": lambda a: np.asfortranarray(a),
    "negative stride": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "unaligned": lambda a: _unaligned(a),
    "scalar": lambda a: a[0, 0, ...].copy(),
    "empty": lambda a: a[:0].copy(),
}


def _unaligned(a: np.ndarray) -> np.ndarray:
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    raw[...] = a
    return raw


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_works_as_its_contiguous_copy_does(layout: str, dtype: type) -> None:
    rng = np.random.default_rng(4)
    data = LAYOUTS[layout](rng.normal(size=(4, 6)).astype(dtype))
    plain = Variable(np.array(data, dtype=dtype, order="C"), name="x")
    odd = Variable(data, name="x")
    assert odd.data is data
    one, other = Adam(plain, process_model=transforms.bounds(-1, 1)), Adam(odd, process_model=transforms.bounds(-1, 1))
    for _ in range(3):
        grad = LAYOUTS[layout](rng.normal(size=(4, 6)).astype(dtype))
        kept = grad.tobytes()
        wait(one.step(grad=np.array(grad, dtype=dtype, order="C")))
        wait(other.step(grad=grad))
        assert grad.tobytes() == kept
    assert odd.data is data
    np.testing.assert_array_equal(odd.data, plain.data)


def _read_only() -> np.ndarray:
    array = np.zeros(3)
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "data",
    [
        _read_only(),
        np.zeros(3, int),
        np.zeros(3, complex),
        np.zeros(3, object),
        np.zeros(3, np.float16),
        np.zeros(3, np.longdouble),
        np.ma.masked_array(np.zeros(3)),
        np.lib.stride_tricks.as_strided(np.zeros(3), (3, 2), (8, 8)),
        None,
    ],
    ids=["read-only", "int", "complex", "object", "float16", "longdouble", "masked", "overlapping", "nothing"],
)
def test_parameters_that_cannot_be_updated_are_refused(data: Any) -> None:
    with pytest.raises(ParameterError, match="variable 'x'"):
        SGD(Variable(data, name="x"))


def test_torch_tensors_are_refused_by_name() -> None:
    import torch

    with pytest.raises(ParameterError, match=r"torch\.Tensor.*NumPy arrays of float32 or float64"):
        SGD(Variable(torch.zeros(3), name="x"))


def test_variables_that_share_memory_are_refused() -> None:
    base = np.zeros(10)
    with pytest.raises(ParameterError, match="'x' and 'y' share memory"):
        SGD([Variable(base[:6], name="x"), Variable(base[4:], name="y")])
    interleaved = SGD([Variable(base[::2], name="x"), Variable(base[1::2], name="y")])
    x = interleaved.variables[0]
    wait(interleaved.step(grad={"x": np.ones(5), "y": np.ones(5)}))
    x.data = base[1::2]
    untouched(interleaved, ParameterError, "share memory", grad={"x": np.ones(5), "y": np.ones(5)})


def test_a_gradient_that_aliases_a_parameter_is_not_mutated() -> None:
    x, y = variable(1.0, 2.0), variable(3.0, 4.0, name="y")
    optimizer = GradientDescent([x, y], learning_rate=0.5)
    wait(optimizer.step(grad={"x": y.data, "y": x.data}))
    np.testing.assert_array_equal(x.data, [-0.5, 0.0])
    np.testing.assert_array_equal(y.data, [2.5, 3.0])


def test_a_read_only_gradient_is_fine() -> None:
    x = Variable(np.ones(3), name="x")
    wait(GradientDescent(x).step(grad=_read_only()))
    np.testing.assert_array_equal(x.data, np.ones(3))


def test_replaced_data_is_followed_and_another_shape_refused() -> None:
    x = variable(1.0, 2.0)
    optimizer = AdaGrad(x)
    wait(optimizer.step(grad=np.ones(2)))
    x.data = np.zeros(2)
    wait(optimizer.step(grad=np.ones(2)))
    assert x.data.all()
    x.data = np.zeros(3)
    for grad in (np.ones(2), np.ones(3)):  # whichever it fits: it is the variable that is another
        with pytest.raises(ParameterError, match=r"is now \(3,\) float64; the optimizer's state belongs to \(2,\)"):
            wait(optimizer.step(grad=grad))
    x.data = np.zeros(2, np.float32)
    with pytest.raises(ParameterError, match=r"is now \(2,\) float32"):
        wait(optimizer.step(grad=np.ones(2, np.float32)))


def test_a_rule_of_ones_own_is_a_class_of_three_lines() -> None:
    class Mine(LocalOptimizer):
        rule = rules.momentum

    x = variable(1.0)
    wait(Mine(x, learning_rate=0.5).step(grad=np.ones(1)))
    np.testing.assert_array_equal(x.data, [0.5])
