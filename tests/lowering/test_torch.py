"""The PyTorch lowering against the pure face: native operations, and the compiled pass on tensors."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from tests.references import oracles
from thalweg import rules
from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    ParameterError,
    StateMismatchError,
)
from thalweg.lowering.torch import compiled_fault, evaluate, init, rounded, step_
from thalweg.lowering.torch_units import Compiled, Lane, Native, Place
from thalweg.rules import Rule
from thalweg.rules.arithmetic import sqrt

STEPS = 1000

# Every rule in every convention, the forms that no convention has by itself, and the wrappers around some.
ALL: dict[str, Rule] = {}
for _rule in rules.registry.values():
    _full = rules.decayed(_rule)
    ALL[_rule.name] = _full
    ALL |= {f"{_rule.name}-{library}": _full.convention(library) for library in _rule.conventions}
ALL["rmsprop-both"] = rules.rmsprop.form(centered=True, with_momentum=True)
ALL["rmsprop-both-torch"] = rules.rmsprop.convention("torch").form(centered=True, with_momentum=True)
ALL["lookahead-adam"] = rules.lookahead(rules.decayed(rules.adam))
ALL["ema-nadam"] = rules.averaged(rules.nadam)
ALL["lookahead-lamb"] = rules.lookahead(rules.lamb)

every_rule = pytest.mark.parametrize("name", ALL)
both = pytest.mark.parametrize("way", [Native, Compiled])


def hyper_of(rule: Rule) -> Any:
    """Hyperparameters that let everything in the text be seen."""
    given = {"weight_decay": 0.02, "momentum": 0.8, "sync_period": 3, "ema_decay": 0.9, "warmup_steps": 7.0}
    return rule.check(rule.hyper(**{name: value for name, value in given.items() if name in rule.hyperparameters}))


def pure(rule: Rule, start: np.ndarray, grads: np.ndarray, hyper: Any) -> tuple[np.ndarray, Any]:
    """The parameters after each step of the pure face, and the last state."""
    x, state, points = start, rule.init(start, hyper), []
    for t, grad in enumerate(grads, start=1):
        x, state = rule.step(x, grad, state, hyper, t=t)
        points.append(x)
    return np.array(points), state


def lowered(way: Any, rule: Rule, start: np.ndarray, grads: np.ndarray, hyper: Any) -> tuple[np.ndarray, Place, Lane]:
    """The same by one of the units."""
    param = torch.tensor(start)
    lane = Lane(0, 0, tuple(rule.carried()) if rule.carried else ())
    place = Place(param, init(rule, param, hyper), 0)
    unit = way(rule, [place], [lane])
    points = []
    for grad in torch.tensor(grads):
        unit.set_grad(0, grad)
        unit.set_hyper(0, hyper)
        assert unit.clean()
        unit.ready()
        unit.update()
        unit.commit()
        points.append(param.numpy().copy())
    return np.array(points), place, lane


@every_rule
@both
def test_a_thousand_steps_in_float64_are_those_of_the_pure_face(way: Any, name: str) -> None:
    rule, hyper = ALL[name], hyper_of(ALL[name])
    print("seed 11")
    start, grads = oracles.recorded(11, steps=STEPS)
    expected, state = pure(rule, start, grads, hyper)
    points, place, lane = lowered(way, rule, start, grads, hyper)
    assert oracles.distance(points, expected) < 1e-12
    for slot, there in zip(place.slots, state, strict=False):
        assert oracles.distance(slot.numpy()[None], there[None]) < 1e-12
    assert lane.steps == STEPS
    np.testing.assert_allclose(lane.carried, state[len(rule.slot_names) :], rtol=1e-12)


# To compile all of them takes a while, and what is compiled for float32 is tested on NumPy.
IN_FLOAT32 = [(Native, name) for name in ALL] + [(Compiled, name) for name in rules.registry]


@pytest.mark.parametrize(("way", "name"), IN_FLOAT32)
def test_float32_stays_float32_and_agrees_as_far_as_it_can(way: Any, name: str) -> None:
    rule, hyper = ALL[name], hyper_of(ALL[name])
    print("seed 12")
    start, grads = oracles.recorded(12, steps=60, low=-3, high=3)
    start, grads = start.astype(np.float32), grads.astype(np.float32)
    expected, _ = pure(rule, start, grads, hyper)
    points, place, _ = lowered(way, rule, start, grads, hyper)
    assert points.dtype == np.float32
    assert {slot.dtype for slot in place.slots} <= {torch.float32}
    assert oracles.distance(points, expected) < 1e-4


@every_rule
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_of_16_bits_have_state_of_32_and_are_rounded_once_a_step(name: str, dtype: torch.dtype) -> None:
    rule, hyper = ALL[name], hyper_of(ALL[name])
    print("seed 13")
    rng = np.random.default_rng(13)
    param = torch.tensor(rng.normal(size=33)).to(dtype)
    slots = init(rule, param, hyper)
    assert {slot.dtype for slot in slots} <= {torch.float32}
    state, carried = rule.init(param.float().numpy(), hyper), None
    for t in range(1, 21):
        grad = torch.tensor(rng.normal(size=33)).to(dtype)
        exact, state = rule.step(param.float().numpy(), grad.float().numpy(), state, hyper, t=t)
        carried = rule.advance(hyper, t, carried)
        step_(rule, param, grad, slots, rule.scalars(hyper, t, carried))
        assert param.dtype == dtype
        # The float32 results differ in their last bits, so that rounding may go one step the other way.
        torch.testing.assert_close(param.float(), torch.from_numpy(exact), rtol=torch.finfo(dtype).eps, atol=1e-5)
        for slot, there in zip(slots, state, strict=False):
            torch.testing.assert_close(slot, torch.from_numpy(there), rtol=1e-4, atol=1e-5)
            slot.copy_(torch.from_numpy(there))


class Kept(NamedTuple):
    """Two slots that change places, and one that is the parameter before."""

    one: Any
    other: Any
    before: Any


def changing_places(param: Any, grad: Any, slots: Kept, h: Any) -> tuple[Any, Kept]:
    return param - h.learning_rate * grad, Kept(slots.other, slots.one, param)


def test_a_text_that_returns_what_it_was_given_is_no_surprise() -> None:
    rule = Rule("kept", Kept, rules.sgd.hyper, changing_places, start=lambda param, h: Kept(1.0, 2.0, param))
    rng = np.random.default_rng(14)
    start, grads = rng.normal(size=5), rng.normal(size=(3, 5))
    expected, state = pure(rule, start, grads, rule.hyper())
    for way in (Native, Compiled):
        points, place, _ = lowered(way, rule, start, grads, rule.hyper())
        np.testing.assert_allclose(points, expected, rtol=1e-15)
        np.testing.assert_allclose(np.array([slot.numpy() for slot in place.slots]), state, rtol=1e-15)


@pytest.mark.parametrize(
    "start",
    [
        torch.tensor(3.0, dtype=torch.float64),
        torch.zeros(0, 4, dtype=torch.float64),
        torch.arange(12.0, dtype=torch.float64).reshape(3, 4).T,
        torch.arange(12.0, dtype=torch.float64)[::3],
        torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
        .double()
        .to(memory_format=torch.channels_last),
    ],
    ids=["0-d", "empty", "transposed", "strided", "channels_last"],
)
@pytest.mark.parametrize("rule", [rules.adam, rules.lamb, rules.sgd], ids=lambda rule: rule.name)
def test_every_shape_and_layout_is_updated_where_it_lies(rule: Rule, start: torch.Tensor) -> None:
    param = start.clone(memory_format=torch.preserve_format) if start.dim() == 4 else start
    memory, strides, given = param.data_ptr(), param.stride(), param.clone()
    slots = init(rule, param)
    x, state = given.numpy(), rule.init(given.numpy())
    for t in range(1, 4):
        grad = torch.sin(given + t)
        step_(rule, param, grad, slots, rule.scalars(rule.hyper(), t))
        x, state = rule.step(x, grad.numpy(), state, t=t)
    assert (param.data_ptr(), param.stride()) == (memory, strides)
    np.testing.assert_allclose(param.numpy(), x, rtol=1e-14, atol=1e-14)
    for slot, there in zip(slots, state, strict=True):
        np.testing.assert_allclose(slot.numpy(), there, rtol=1e-14)


def test_it_is_in_place_whether_autograd_follows_or_not_and_autograd_notices() -> None:
    for way in (Native, Compiled):
        param = torch.nn.Parameter(torch.ones(3))
        grad = torch.ones(3, requires_grad=True)
        loss = (param * param).sum()
        unit = way(rules.momentum, [Place(param, init(rules.momentum, param), 0)], [Lane(0, 0, ())])
        unit.set_grad(0, grad)
        unit.set_hyper(0, rules.momentum.hyper())
        unit.ready()
        unit.update()
        assert param.is_leaf
        assert param.requires_grad
        assert param._version == 1
        np.testing.assert_array_equal(grad.detach().numpy(), np.ones(3))
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_bounds_are_part_of_both_ways() -> None:
    for way in (Native, Compiled):
        for dtype in (torch.float32, torch.float64):
            param = torch.tensor([0.0, 5.0, 10.0, 5.0], dtype=dtype)
            unit = way(rules.gradient_descent, [Place(param, rules.gradient_descent.slots(), 0)], [Lane(0, 0, ())])
            unit.set_grad(0, torch.tensor([3.0, 0.0, -3.0, -1.0], dtype=dtype))
            unit.set_hyper(0, rules.gradient_descent.hyper())
            unit.set_limits(0, (0.0, 10.0))
            unit.ready()
            unit.update()
            np.testing.assert_array_equal(param.numpy(), [0, 5, 10, 6])


def test_the_sign_of_nan_is_nan_as_on_every_backend() -> None:
    """Lion's step along a NaN that nobody looked for is NaN, and no step of 0 that hides it."""
    from thalweg.rules.arithmetic import sign

    found = sign(torch.tensor([-2.0, 0.0, 3.0, math.nan], dtype=torch.float64))
    np.testing.assert_array_equal(found.numpy(), np.sign([-2.0, 0.0, 3.0, math.nan]))


def test_lanes_keep_parameters_of_different_pasts_apart() -> None:
    rule = rules.nadam
    rng = np.random.default_rng(15)
    starts, grads = rng.normal(size=(2, 3)), rng.normal(size=(8, 2, 3))
    behind, state = pure(rule, starts[0], grads[:5, 0], rule.hyper())
    ahead, _ = pure(rule, starts[1], grads[:, 1], rule.hyper())
    middle, past = pure(rule, starts[1], grads[:3, 1], rule.hyper())
    for way in (Native, Compiled):
        params = [torch.tensor(starts[0]), torch.tensor(middle[-1])]
        slots = [init(rule, params[0]), rule.slots(*(torch.tensor(s) for s in past[:2]))]
        lanes = [Lane(0, 0, tuple(rule.carried())), Lane(0, 3, tuple(past[2:]))]
        unit = way(rule, [Place(p, s, k) for k, (p, s) in enumerate(zip(params, slots, strict=True))], lanes)
        for t in range(5):
            held = [torch.tensor(grad) for grad in (grads[t, 0], grads[3 + t, 1])]
            for k, grad in enumerate(held):
                unit.set_grad(k, grad)
                unit.set_hyper(k, rule.hyper())
            unit.ready()
            unit.update()
            unit.commit()
        np.testing.assert_allclose(params[0].numpy(), behind[-1], rtol=1e-14)
        np.testing.assert_allclose(params[1].numpy(), ahead[-1], rtol=1e-14)
        assert [lane.steps for lane in lanes] == [5, 8]
        np.testing.assert_allclose(lanes[0].carried, state[2:], rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_evaluate_is_the_rules(dtype: torch.dtype) -> None:
    for rule in (rules.schedule_free_adamw, rules.averaged(rules.sgd), rules.adam):
        rng = np.random.default_rng(16)
        param, hyper = torch.tensor(rng.normal(size=4)).to(dtype), rule.hyper()
        slots, carried = init(rule, param, hyper), None
        for t in range(1, 6):
            carried = rule.advance(hyper, t, carried)
            grad = torch.tensor(rng.normal(size=4)).to(dtype)
            step_(rule, param, grad, slots, rule.scalars(hyper, t, carried))
        numbers = () if carried is None else tuple(carried)
        found = evaluate(rule, param, rule.state(*slots, *numbers), hyper)
        assert found.dtype == dtype
        assert found.data_ptr() not in {param.data_ptr(), *(slot.data_ptr() for slot in slots)}
        there = param.float().numpy() if dtype == torch.bfloat16 else param.numpy()
        if rule.evaluate is not None:
            there = rule.evaluate(there, rule.state(*(slot.numpy() for slot in slots), *numbers), hyper)
        torch.testing.assert_close(
            found.double(), torch.tensor(there).double(), rtol=8e-3 if dtype == torch.bfloat16 else 1e-15, atol=0
        )


def test_what_cannot_be_updated_is_refused_before_anything_is_changed() -> None:
    rule, one = rules.adam, torch.ones(2)
    slots, scalars = init(rule, one), rules.adam.scalars(rules.adam.hyper(), 1)
    for dtype in (torch.int64, torch.complex64, torch.bool):
        with pytest.raises(ParameterError, match=r"float64, float32, bfloat16, float16 can be updated"):
            init(rule, torch.ones(2).to(dtype))
    with pytest.raises(GradientShapeError, match=r"\(1,\), parameter \(2,\)"):
        step_(rule, one, torch.ones(1), slots, scalars)
    with pytest.raises(GradientDtypeError, match=r"torch.float64"):
        step_(rule, one, torch.ones(2, dtype=torch.float64), slots, scalars)
    with pytest.raises(GradientDtypeError, match="sparse"):
        step_(rule, one, torch.ones(2).to_sparse(), slots, scalars)
    with pytest.raises(StateMismatchError, match="init returned"):
        step_(rule, one, torch.ones(2), init(rules.momentum, one), scalars)
    with pytest.raises(StateMismatchError, match=r"slot mean is \(3,\)"):
        step_(rule, one, torch.ones(2), init(rule, torch.ones(3)), scalars)
    with pytest.raises(HyperparameterError, match="does not fit into float32"):
        step_(rule, one, torch.ones(2), slots, rule.scalars(rule.hyper(learning_rate=3e38), 1))
    with pytest.raises(HyperparameterError, match="learning_rate"):
        init(rule, one, rule.hyper(learning_rate=-1.0))
    assert torch.equal(one, torch.ones(2))
    assert all(not slot.any() for slot in slots)


def test_scalars_are_rounded_to_the_dtype_of_the_state() -> None:
    hyper = rules.sgd.hyper(learning_rate=0.1)
    assert rounded(rules.sgd, hyper, torch.float32).learning_rate == float(np.float32(0.1))


def test_the_compiled_pass_says_what_it_cannot_work_on() -> None:
    assert compiled_fault(torch.ones(2)) is None
    assert compiled_fault(torch.nn.Parameter(torch.ones(()))) is None
    memory = torch.zeros(17, dtype=torch.uint8)[1:].numpy()
    for tensor, said in {
        torch.ones(2, dtype=torch.bfloat16): "bfloat16",
        torch.ones(3, 4).T: "not contiguous",
        torch.ones(2, device="meta"): "on meta",
        torch.ones(2).to_sparse(): "not contiguous",
        torch.zeros(2, dtype=torch.complex64).conj().imag: "not contiguous",
        torch.frombuffer(memory, dtype=torch.float32, count=2): "aligned",
    }.items():
        assert said in str(compiled_fault(tensor))


def test_a_text_that_cannot_be_compiled_runs_natively() -> None:
    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param - torch.as_tensor(h.learning_rate) * grad / sqrt(torch.linalg.norm(grad)), slots

    rule = Rule("own", rules.NoSlots, rules.sgd.hyper, update)
    param = torch.tensor([3.0, 4.0])
    step_(rule, param, torch.tensor([3.0, 4.0]), rules.NoSlots(), rule.hyper(learning_rate=1.0))
    torch.testing.assert_close(param, torch.tensor([3.0, 4.0]) * (1 - 5**-0.5))


MISSING = """
import sys
sys.modules["torch"] = None
import thalweg
from thalweg.errors import MissingExtraError
for name in ("thalweg.lowering.torch", "thalweg.lowering.torch_units", "thalweg.optimizers.torch"):
    try:
        __import__(name)
    except MissingExtraError as error:
        assert isinstance(error, ImportError) and error.details == {"extra": "torch"}
        print(error)
"""


def test_without_pytorch_the_error_names_the_extra() -> None:
    process = subprocess.run([sys.executable, "-W", "error", "-c", MISSING], capture_output=True, text=True, check=True)
    assert process.stdout.count("thalweg[torch]") == 3
