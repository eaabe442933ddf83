"""Limits that an array's dtype rounds to 0 or to infinity: refused, since a model would stop or be lost in silence."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import HyperparameterError
from thalweg.transforms import (
    ParameterTransform,
    TreeTransform,
    add_decay,
    bounds,
    clip_adaptive,
    clip_global_norm,
    clip_norm,
    clip_value,
    l1_ball,
    l2_ball,
    scale,
    simplex,
)

VANISHING: dict[str, tuple[Callable[[float], Any], str]] = {
    "clip_value": (clip_value, "limit"),
    "clip_norm": (clip_norm, "limit"),
    "clip_global_norm": (clip_global_norm, "limit"),
    "clip_adaptive": (clip_adaptive, "limit"),
    "clip_adaptive, epsilon": (lambda value: clip_adaptive(0.1, epsilon=value), "epsilon"),
    "scale": (scale, "factor"),
    "scale, negative": (lambda value: scale(-value), "factor"),
    "l1_ball": (l1_ball, "radius"),
    "l2_ball": (l2_ball, "radius"),
    "simplex": (simplex, "total"),
}
INFINITE: dict[str, tuple[Callable[[float], Any], str]] = {
    "scale": (scale, "factor"),
    "scale, negative": (lambda value: scale(-value), "factor"),
    "add_decay": (add_decay, "weight"),
    "clip_adaptive, epsilon": (lambda value: clip_adaptive(0.1, epsilon=value), "epsilon"),
    "simplex": (simplex, "total"),
    "bounds, lower": (lambda value: bounds(lower=value), "lower"),
    "bounds, upper": (lambda value: bounds(upper=-value), "upper"),
}


def on_numpy(dtype: str) -> Any:
    return np.ones(3, dtype)


def on_jax(dtype: str) -> Any:
    return pytest.importorskip("jax").numpy.ones(3, dtype)


def on_torch(dtype: str) -> Any:
    torch = pytest.importorskip("torch")
    return torch.ones(3, dtype=getattr(torch, dtype))


def on_pytensor(dtype: str) -> Any:
    pytest.importorskip("pytensor")
    return importlib.import_module("pytensor.tensor").vector("x", dtype=dtype)


BACKENDS: dict[str, Callable[[str], Any]] = {
    "numpy": on_numpy,
    "jax": on_jax,
    "torch": on_torch,
    "pytensor": on_pytensor,
}


def call(transform: Any, array: Any) -> Any:
    """What a transform of any kind makes of an array."""
    if isinstance(transform, TreeTransform):
        return transform({"a": array})["a"]
    return transform(array, array) if isinstance(transform, ParameterTransform) else transform(array)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", VANISHING)
def test_what_becomes_zero_is_refused(name: str, backend: str) -> None:
    make, parameter = VANISHING[name]
    transform = make(1e-50)  # which is one of float64
    value = re.escape(repr(getattr(transform, parameter)))
    said = rf"{transform.kind}: {parameter} = {value} becomes 0\.0 in float32; use another value, or arrays of float64"
    with pytest.raises(HyperparameterError, match=said):
        call(transform, BACKENDS[backend]("float32"))
    call(make(1.5e-38), BACKENDS[backend]("float32"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", INFINITE)
def test_what_becomes_infinite_is_refused(name: str, backend: str) -> None:
    make, parameter = INFINITE[name]
    transform = make(1e39)
    value = re.escape(repr(getattr(transform, parameter)))
    said = rf"{transform.kind}: {parameter} = {value} becomes -?inf in float32; use another value, or arrays of float64"
    with pytest.raises(HyperparameterError, match=said):
        call(transform, BACKENDS[backend]("float32"))
    call(make(3e38), BACKENDS[backend]("float32"))


@pytest.mark.parametrize("backend", ["numpy", "torch", "pytensor"])
@pytest.mark.parametrize("name", sorted({*VANISHING} & {*INFINITE}))
def test_float64_holds_them(name: str, backend: str) -> None:
    for make, value in ((VANISHING[name][0], 1e-50), (INFINITE[name][0], 1e39)):
        call(make(value), BACKENDS[backend]("float64"))


@pytest.mark.parametrize("name", VANISHING)
def test_jax_takes_subnormal_limits_for_zero(name: str) -> None:
    jax = pytest.importorskip("jax")
    make, parameter = VANISHING[name]
    said = rf"{parameter} = -?1e-40 becomes 0\.0 where XLA computes in float32; use another value, or arrays of float64"
    with pytest.raises(HyperparameterError, match=said):
        call(make(1e-40), on_jax("float32"))
    with pytest.raises(HyperparameterError, match=said):
        jax.jit(lambda array: call(make(1e-40), array))(on_jax("float32"))
    with jax.enable_x64(True):
        call(make(1e-40), on_jax("float64"))
        with pytest.raises(
            HyperparameterError, match=r"becomes 0\.0 where XLA computes in float64; use another value$"
        ):
            call(make(1e-310), on_jax("float64"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", VANISHING)
def test_sixteen_bits(name: str, dtype: str) -> None:
    """The result is theirs, whatever sums are computed in; a limit relative to the parameter's norm is float32's."""
    torch = pytest.importorskip("torch")
    make, parameter = VANISHING[name]
    relative = "clip_adaptive" in name
    smallest = float(torch.tensor(torch.finfo(getattr(torch, dtype)).tiny) * torch.finfo(getattr(torch, dtype)).eps)
    least = 2.0**-149 if relative else smallest
    array = on_torch(dtype)
    call(make(0.51 * least), array)
    kind = "float32" if relative else dtype
    with pytest.raises(HyperparameterError, match=rf"{parameter} = .* becomes 0\.0 in {kind};"):
        call(make(0.5 * least), array)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_ends_are_those_of_the_dtype(dtype: str) -> None:
    """A number inside comes out as the smallest or the largest; not just inside, as PyTorch rounds to float32 first."""
    torch = pytest.importorskip("torch")
    ones, info = on_torch(dtype), torch.finfo(getattr(torch, dtype))
    least = float(info.tiny) * float(info.eps)
    assert clip_value(1.001 * least / 2)(ones).double().tolist() == [least] * 3
    past = float(info.max) * (1.0 + float(info.eps) / (4.0 - 2.0 * float(info.eps)))  # half a step beyond the largest
    assert scale(past * (1.0 - float(info.eps) / 8.0))(ones).double().tolist() == [float(info.max)] * 3
    with pytest.raises(HyperparameterError, match=r"becomes 0\.0"):
        clip_value(least / 2)(ones)
    with pytest.raises(HyperparameterError, match="becomes inf"):
        scale(past)(ones)


def test_what_is_infinite_and_changes_nothing_is_taken() -> None:
    """No float32 is above 1e39, and no norm of these is."""
    for backend in BACKENDS:
        for transform in (
            *(clip_value(1e39), clip_norm(1e39), clip_global_norm(1e39), l1_ball(1e39), l2_ball(1e39)),
            *(bounds(-1e39, 1e39), scale(0.0), add_decay(0.0), add_decay(1e-50)),
        ):
            with contextlib.suppress(pytest.skip.Exception):
                call(transform, BACKENDS[backend]("float32"))
    for transform in (clip_value(1e39), clip_norm(1e39), l1_ball(1e39), bounds(-1e39, 1e39)):
        np.testing.assert_array_equal(transform(on_numpy("float32")), 1.0)


def test_one_limit_for_several_dtypes_need_not_be_held_by_all_of_them() -> None:
    mixed = {"a": on_numpy("float32"), "b": on_numpy("float64")}
    np.testing.assert_allclose(clip_global_norm(1e-60)(mixed)["b"], 1e-60 / 6**0.5, rtol=1e-12)
    with pytest.raises(HyperparameterError, match=r"limit = 1e-60 becomes 0\.0 in float32"):
        clip_global_norm(1e-60)({"a": mixed["a"], "b": mixed["a"]})


def test_a_step_is_refused_and_the_model_stays() -> None:
    model = tw.Variable(np.ones(2, np.float32), name="x", needs_grad=True)
    for more in ({"process_grad": clip_norm(1e-50)}, {"process_model": l2_ball(1e-50)}):
        optimizer = tw.SGD(model, learning_rate=0.1, **more)
        with pytest.raises(HyperparameterError, match=r"= 1e-50 becomes 0\.0 in float32"):
            tw.wait(optimizer.step(grad=np.ones(2, np.float32)))
        assert model.data.tolist() == [1.0, 1.0]
        assert optimizer.iterations == 0
