"""The list of known defects, as far as it is about optimizers: a test a line, on every backend that could have it.

*Update rules (PyCMTensor)* without what is about choice models, *Schedules (MXNet.jl)*, *Elsewhere*, and *Rules (torch,
optax, Keras)*, in the list's order. Each of them has more tests where it belongs; this is the index.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytensor
import pytest
import torch

import thalweg as tw
from tests.optimizers import everywhere
from thalweg import optimizers, schedules, transforms
from thalweg.dialects import mxnet, pycmtensor
from thalweg.errors import GradientShapeError, HyperparameterError, ParameterError, StateMismatchError
from thalweg.optimizers import LocalOptimizer
from thalweg.optimizers.jax import JaxOptimizer
from thalweg.optimizers.torch import TorchOptimizer

FACES: dict[str, Any] = everywhere.FACES

each_face = pytest.mark.parametrize("face", FACES)


def start(*names: str) -> dict[str, np.ndarray]:
    """Parameters of shape (3,) by name, new arrays each time."""
    return {name: np.array([1.0, -2.0, 3.0]) + index for index, name in enumerate(names or ("x",))}


def grads(t: int, *names: str) -> dict[str, np.ndarray]:
    """The gradients of step t."""
    rng = np.random.default_rng(t)
    return {name: rng.normal(size=3) for name in names or ("x",)}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=tolerance, atol=tolerance, err_msg=name)


def digest(arrays: dict[str, np.ndarray]) -> list[str]:
    return [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays.values()]


# Update rules (PyCMTensor)


@each_face
@pytest.mark.parametrize("convention", [None, *optimizers.Adamax.rule.conventions])
def test_adamax_divides_by_zero_at_its_first_step(face: str, convention: str | None) -> None:
    """Its correction is 1 − β₁ᵗ with t = 1, not 0; and a gradient of zero is no divisor either."""
    made = FACES[face](optimizers.Adamax, start(), convention=convention, learning_rate=0.5, weight_decay=0.0)
    made.step({"x": np.array([2.0, 0.0, -4.0])})
    np.testing.assert_allclose(made.values()["x"], [0.5, -2.0, 3.5], rtol=1e-6)


ZEROS: dict[str, tuple[type[LocalOptimizer], dict[str, float], Any]] = {
    "momentum": (optimizers.Momentum, {"momentum": 0.0}, lambda g: g),
    "nesterov": (optimizers.Nesterov, {"momentum": 0.0}, lambda g: g),
    "adam": (optimizers.Adam, {"beta1": 0.0, "beta2": 0.0}, np.sign),
    "adamax": (optimizers.Adamax, {"beta1": 0.0, "beta2": 0.0}, np.sign),
    "rmsprop": (optimizers.RMSProp, {"rho": 0.0}, np.sign),
}


@each_face
@pytest.mark.parametrize("kind", ZEROS)
def test_zero_hyperparameters_silently_update_nothing(face: str, kind: str) -> None:
    cls, zeros, direction = ZEROS[kind]
    made = FACES[face](cls, start(), learning_rate=0.5, **zeros)
    expected = start()["x"]
    for t in range(2):
        made.step(grads(t))
        expected -= 0.5 * direction(grads(t)["x"])
    np.testing.assert_allclose(made.values()["x"], expected, rtol=0, atol=1e-6)
    for name in ("epsilon", "learning_rate"):  # one that means nothing is refused, one that means "stay" stays
        if name in cls.rule.hyperparameters and cls.rule.hyperparameters[name].interval.closed_low is False:
            with pytest.raises(HyperparameterError, match=name):
                FACES[face](cls, start(), **{name: 0.0})


@each_face
@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_state_is_paired_by_position_with_another_parameter_list(face: str, kind: str) -> None:
    """The state of a, b goes on as that of b, a."""
    cls, names = optimizers.registry[kind], ("a", "b")
    whole, first = (FACES[face](cls, start(*names), learning_rate=0.1) for _ in range(2))
    for t in range(3):
        whole.step(grads(t, *names))
        first.step(grads(t, *names))
    values = first.values()
    second = FACES[face](cls, {name: values[name] for name in reversed(names)}, learning_rate=0.1)
    second.restore(first.snapshot())
    for t in range(3, 6):
        whole.step(grads(t, *names))
        second.step({name: grads(t, *names)[name] for name in reversed(names)})
    same(dict(sorted(second.values().items())), whole.values(), 1e-15)


@each_face
def test_a_bound_of_0_is_ignored(face: str) -> None:
    for limits, reached in (
        (transforms.bounds(0, None), [0.0, 0.0, 0.0]),
        (transforms.bounds(None, 0), [-9.0, -12.0, -7.0]),
    ):
        made = FACES[face](optimizers.SGD, start(), learning_rate=1.0, process_model=limits)
        made.step({"x": np.full(3, 10.0)})
        np.testing.assert_array_equal(made.values()["x"], reached)
    beta = pytensor.shared(np.array(1.0), name="beta")
    held = type("Beta", (), {"name": "beta", "lb": 0, "ub": None, "status": 0, "shared_var": beta})()
    pytensor.function([], updates=pycmtensor.SGD([held]).update(10.0 * beta, [held], lr=1.0), mode="FAST_COMPILE")()
    assert beta.get_value() == 0.0


@each_face
def test_the_best_estimates_alias_the_live_ones(face: str) -> None:
    made = FACES[face](optimizers.Momentum, start(), learning_rate=0.1)
    made.step(grads(0))
    kept, snapshot = made.evaluated(), made.snapshot()
    before = digest(kept), digest(snapshot.arrays)
    for t in range(1, 4):
        made.step(grads(t))
    assert (digest(kept), digest(snapshot.arrays)) == before
    assert not np.array_equal(made.values()["x"], kept["x"])


def test_import_writes_to_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = "import thalweg, thalweg.dialects.pycmtensor, thalweg.dialects.mxnet; thalweg.Adam()"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    environment |= {"HOME": str(home), "PYTENSOR_FLAGS": f"base_compiledir={tmp_path / 'pytensor'}"}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True, timeout=300)
    assert list(home.rglob("*")) == []


# Schedules (MXNet.jl)


@each_face
def test_adam_freezes_the_rate_at_state_creation_so_schedules_are_ignored(face: str) -> None:
    """Under a constant gradient each of Adam's steps is the rate of that step."""
    schedule = schedules.Exp(8.0, gamma=0.5, decay_on_iteration=True)
    made = FACES[face](optimizers.Adam, start(), learning_rate=schedule)
    for rate in (8.0, 4.0, 2.0):
        before = made.values()["x"]
        made.step({"x": np.full(3, 3.0)})
        np.testing.assert_allclose(before - made.values()["x"], rate, rtol=1e-8)


def test_adam_of_the_page_freezes_the_rate_at_state_creation() -> None:
    adam = mxnet.ADAM(lr_scheduler=mxnet.LearningRate.Exp(8.0, 0.5), weight_decay=0)
    update, w = mxnet.get_updater(adam), np.array([100.0])
    for epoch, rate in ((1, 4.0), (2, 2.0), (3, 1.0)):
        adam.state.curr_epoch = epoch
        before = w.copy()
        update("w", np.array([3.0]), w)
        np.testing.assert_allclose(before - w, rate, rtol=1e-8)


@each_face
@pytest.mark.parametrize("kind", ["momentum", "adam", "nadam", "schedule_free_adamw"])
def test_checkpoints_without_optimizer_state(face: str, kind: str) -> None:
    """Three steps, a new process's optimizer, and three more are six to the last bit."""
    cls = optimizers.registry[kind]
    whole, first = FACES[face](cls, start()), FACES[face](cls, start())
    for t in range(3):
        whole.step(grads(t))
        first.step(grads(t))
    second = FACES[face](cls, first.values())
    second.restore(first.snapshot())
    for t in range(3, 6):
        whole.step(grads(t))
        second.step(grads(t))
    same(second.values(), whole.values())


@each_face
def test_a_gradient_is_mutated_in_place(face: str) -> None:
    hooks = [transforms.scale(0.5), transforms.clip_value(0.1), transforms.add_decay(0.1)]
    given = {"x": np.array([1.0, -3.0, 0.01])}
    before = digest(given)
    made = FACES[face](optimizers.Adam, start(), process_grad=hooks, weight_decay=0.1)
    for _ in range(2):
        made.step(given)
        assert digest(given) == before
    weight, grad = np.ones(3), given["x"]
    opts = mxnet.AbstractOptimizerOptions(grad_clip=0.1, weight_decay=0.5)
    mxnet.normalized_gradient(opts, mxnet.OptimizationState(batch_size=2), weight, grad)
    mxnet.get_updater(mxnet.ADAM(grad_clip=0.1, weight_decay=0.5))(1, grad, weight)
    assert digest(given) == before


# Elsewhere


class Epochs:
    """An optimizer that is told when an epoch begins, and the rates that its steps had."""

    def __init__(self, backend: str, values: np.ndarray) -> None:
        recipe: dict[str, Any] = {"learning_rate": schedules.Exp(8.0, gamma=0.5)}
        self.backend, self.rates, self.values = backend, [], values
        if backend == "numpy":
            self.local = tw.SGD(tw.Variable(values, name="x"), **recipe)
        elif backend == "updater":
            self.update = optimizers.get_updater(tw.SGD(**recipe))
        elif backend == "torch":
            self.param = torch.nn.Parameter(torch.tensor(values))
            self.torch = TorchOptimizer([("x", self.param)], tw.SGD(**recipe))
        else:
            self.jax, self.array = JaxOptimizer(tw.SGD(**recipe)), {"x": jnp.array(values)}
            self.state = self.jax.init(self.array)

    def begin_epoch(self) -> None:
        if self.backend == "jax":
            self.state = self.jax.begin_epoch(self.state)
        else:
            owner: Any = {"numpy": "local", "updater": "update", "torch": "torch"}[self.backend]
            getattr(self, owner).optimization_state.begin_epoch()

    def step(self) -> None:
        """One step along a gradient of −1, whose length is the rate."""
        grad, before = -np.ones(1, np.float32), self.present()
        if self.backend == "numpy":
            tw.wait(self.local.step(grad=grad))
        elif self.backend == "updater":
            self.update("x", grad, self.values)
        elif self.backend == "torch":
            self.param.grad = torch.tensor(grad)
            self.torch.step()
        else:
            self.array, self.state = self.jax.step(self.array, {"x": jnp.array(grad)}, self.state)
        self.rates.append(self.present() - before)

    def present(self) -> float:
        if self.backend == "torch":
            return float(self.param.detach())
        return float(self.array["x"][0] if self.backend == "jax" else self.values[0])

    def resumed(self, folder: Path) -> Epochs:
        """Another one that goes on where this one is, by way of the disk where there is one."""
        made = Epochs(self.backend, np.array([self.present()], np.float32))
        made.rates = list(self.rates)
        if self.backend == "numpy":
            self.local.dump(folder)
            made.local.load(folder)
        elif self.backend == "updater":
            self.update.dump(folder)
            made.update.load(folder)
        elif self.backend == "torch":
            torch.save(self.torch.state_dict(), folder.with_suffix(".pt"))
            made.torch.load_state_dict(torch.load(folder.with_suffix(".pt"), weights_only=True))
        else:
            made.state = made.jax.restore(self.jax.snapshot(self.array, self.state), made.array)
        return made


@pytest.mark.parametrize("backend", ["numpy", "updater", "torch", "jax"])
@pytest.mark.parametrize("stop", range(1, 6))
def test_one_epoch_late_or_double_counted_after_resume(backend: str, stop: int, tmp_path: Path) -> None:
    """Three epochs of two steps, interrupted anywhere: 8 8 4 4 2 2."""
    run = Epochs(backend, np.zeros(1, np.float32))
    for step in range(6):
        if step == stop:
            run = run.resumed(tmp_path / "saved")
        if step % 2 == 0:
            run.begin_epoch()
        run.step()
    assert run.rates == [8.0, 8.0, 4.0, 4.0, 2.0, 2.0]


@each_face
def test_adding_a_schedule_changes_the_state_s_structure(face: str) -> None:
    def shape(rate: Any) -> Any:
        made = FACES[face](optimizers.Adam, start(), learning_rate=rate)
        made.step(grads(0))
        snapshot = made.snapshot()
        return sorted(snapshot.arrays), sorted(snapshot.meta)

    assert shape(0.1) == shape(schedules.Cosine(0.1, period=9, decay_on_iteration=True))


def test_constructing_a_schedule_changes_the_optimizer() -> None:
    """As PyTorch's do: they write into the param groups, some of them the momentum, too."""
    adam = tw.Adam(tw.Variable(np.ones(3), name="x"), learning_rate=0.1)
    of_torch = TorchOptimizer([("x", torch.nn.Parameter(torch.ones(3)))], tw.Adam(learning_rate=0.1))

    def everything() -> Any:
        groups = [{k: v for k, v in g.items() if k != "params"} for g in of_torch.param_groups]
        return adam.get_config(), adam.state().meta, groups, of_torch.optimization_state.get_config()

    before = everything()
    state = adam.optimization_state
    made = [
        schedules.Fixed(1.0),
        schedules.Exp(1.0),
        schedules.Inv(1.0),
        schedules.Step(1.0, period=2),
        schedules.Piecewise(1.0, boundaries=[1], levels=[0.5]),
        schedules.Polynomial(1.0, duration=3),
        schedules.Cosine(1.0, period=3),
        schedules.OneCycle(1.0, duration=20),
        schedules.Cyclic(1.0, peak=2.0),
        schedules.WarmUp(1.0, duration=3),
        schedules.Join([1.0, 2.0], boundaries=[1]),
        schedules.Chain([1.0, 2.0]),
        schedules.Plateau(1.0),
    ]
    assert {schedule.kind for schedule in made} == set(schedules.registry)
    for schedule in made:
        schedule(state)
        schedule.values(3)
    assert everything() == before


# Rules (torch, optax, Keras)

WRONG = [
    ("learning_rate", -0.1),
    ("learning_rate", float("nan")),
    ("learning_rate", float("inf")),
    ("beta1", 1.5),
    ("beta2", 1.0),
    ("beta2", float("nan")),
    ("epsilon", -1e-8),
]


@each_face
@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_negative_rate_ascends_nan_is_accepted_and_beta_1_5_is(face: str, name: str, value: float) -> None:
    """Refused when it is given, and before anything is changed when a schedule says it later."""
    with pytest.raises(HyperparameterError, match=name):
        FACES[face](optimizers.Adam, start(), **{name: value})

    usual = optimizers.Adam.rule.hyperparameters[name].default
    later = schedules.Piecewise if np.isfinite(value) else None
    if later is None:  # our schedules refuse to be made of such a number at all
        with pytest.raises(HyperparameterError):
            schedules.Fixed(value)
        return
    schedule = later(usual, boundaries=[2], levels=[value], decay_on_iteration=True)
    made = FACES[face](optimizers.Adam, start(), **{name: schedule})
    made.step(grads(0))
    made.step(grads(1))
    before = made.values()
    with pytest.raises(HyperparameterError):
        made.step(grads(2))
    same(made.values(), before)


@each_face
@pytest.mark.parametrize("shape", [(1,), (3, 3)])
def test_a_gradient_is_broadcast_onto_a_parameter(face: str, shape: tuple[int, ...]) -> None:
    made = FACES[face](optimizers.Adam, start())
    made.step(grads(0))
    before = made.values()
    # PyTorch's own setter and PyTensor's own gradient of the wrong shape are refused by these libraries.
    refused: Any = {"torch": (GradientShapeError, RuntimeError), "pytensor": (ValueError, TypeError)}
    with pytest.raises(refused.get(face.partition(",")[0], GradientShapeError)):
        made.step({"x": np.ones(shape)})
    same(made.values(), before)


@each_face
@pytest.mark.parametrize("shape", [(1,), (3, 3)])
def test_a_hook_s_gradient_is_broadcast_onto_a_parameter(face: str, shape: tuple[int, ...]) -> None:
    """A sum that kept its axis, or an outer product."""

    def wrong(grad: Any) -> Any:
        return grad[:1] if shape == (1,) else grad[:, None] * grad[None, :]

    made = FACES[face](optimizers.Adam, start(), process_grad=wrong)
    # PyTensor may find out first that lengths differ, in words of its own.
    with pytest.raises((HyperparameterError, ValueError), match=r"process_grad|broadcasting not allowed"):
        made.step(grads(0))
    same(made.values(), start())


@each_face
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["sgd", "adam", "lamb"])
def test_zero_times_nan_when_skipping(face: str, kind: str, bad: float) -> None:
    """A skipped step leaves parameter and state as they are, and the next one goes on from there."""
    cls = optimizers.registry[kind]
    one, other = (FACES[face](cls, start(), nonfinite="skip") for _ in range(2))
    for t in range(3):
        one.step(grads(t))
        other.step(grads(t))
        one.step({"x": np.array([1.0, bad, 2.0])})
        same(one.values(), other.values())
    assert (one.skipped(), other.skipped()) == (3, 0)


@each_face
def test_a_skip_non_finite_that_gives_up_and_applies_the_nan_after_a_few(face: str) -> None:
    made = FACES[face](optimizers.Adam, start(), nonfinite="skip")
    for _ in range(40):
        made.step({"x": np.array([1.0, np.nan, 2.0])})
    same(made.values(), start())
    assert made.skipped() == 40


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_bf16_turns_beta2_999_into_1(backend: str) -> None:
    """With β₂ = 1 the mean square would stay 0 and a step be lr·g/ε; NumPy and PyTensor have no bfloat16."""
    gradient = np.array([0.5, -0.25], np.float32)
    if backend == "torch":
        param = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.bfloat16))
        optimizer = TorchOptimizer([("x", param)], tw.Adam(learning_rate=0.125))
        param.grad = torch.tensor(gradient).bfloat16()
        optimizer.step()
        values, square = param.detach().float().numpy(), optimizer.state[param]["mean_square"].numpy()
    else:
        on_jax, x = JaxOptimizer(tw.Adam(learning_rate=0.125)), jnp.array([1.0, 2.0], jnp.bfloat16)
        x, state = on_jax.step(x, jnp.array(gradient, jnp.bfloat16), on_jax.init(x))
        values, square = np.asarray(x, np.float32), np.asarray(state.slots.mean_square)
    np.testing.assert_array_equal(values, np.array([0.875, 2.125], np.float32))
    assert square.dtype == np.float32
    np.testing.assert_allclose(square, 0.001 * gradient**2, rtol=1e-6)


@each_face
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_integer_parameters_are_silently_truncated(face: str, dtype: Any) -> None:
    given = {"x": np.ones(3, dtype)}
    if face.startswith("torch"):  # which has no parameters of integers, but tensors
        with pytest.raises(ParameterError, match="float32"):
            TorchOptimizer([torch.ones(3, dtype=torch.int64)], tw.Adam())
        return
    with pytest.raises(ParameterError, match="float32"):
        FACES[face](optimizers.Adam, given).step({"x": np.ones(3)})
    np.testing.assert_array_equal(given["x"], np.ones(3, dtype))


@each_face
def test_state_is_keyed_by_index(face: str) -> None:
    """State is named after parameters, so one that is not there is missed, and one too many is told."""
    made = FACES[face](optimizers.Momentum, start("a", "b"))
    made.step(grads(0, "a", "b"))
    snapshot = made.snapshot()
    assert sorted(snapshot.arrays) == ["slots/velocity/a", "slots/velocity/b"]
    if face == "updater":  # which learns of its keys as they come
        return
    with pytest.raises(StateMismatchError, match=r"missing: slots/velocity/c(.|\n)*unexpected: slots/velocity/b"):
        FACES[face](optimizers.Momentum, start("a", "c")).restore(snapshot)


def test_torch_s_own_format_is_keyed_by_index_and_refuses_another_order() -> None:
    def made(*names: str) -> TorchOptimizer:
        return TorchOptimizer([(n, torch.nn.Parameter(torch.ones(3))) for n in names], tw.Momentum())

    with pytest.raises(StateMismatchError, match=r"was of \['a', 'b'\], here it is of \['b', 'a'\]"):
        made("b", "a").load_state_dict(made("a", "b").state_dict())


def test_jax_stays_as_it_was() -> None:
    assert not jax.config.jax_enable_x64
