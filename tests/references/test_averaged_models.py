"""Averages and slow weights are of the model after ``process_model``: on every backend, and as peers' users have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from tests.optimizers import everywhere
from thalweg import optimizers, transforms
from thalweg.errors import HyperparameterError
from thalweg.optimizers.snapshot import read

FACES = ("numpy", "updater", "torch", "torch, shared kernel", "jax", "jax, jitted", "pytensor")
DECAY, PERIOD, SLOW, STEPS = 0.75, 3, 0.25, 11
EMA: dict[str, Any] = {"wrap": ["ema"], "ema_decay": DECAY}
LOOKAHEAD: dict[str, Any] = {"wrap": ["lookahead"], "sync_period": PERIOD, "slow_step_size": SLOW}


def start() -> dict[str, np.ndarray]:
    return {"w": np.array([[0.5, -0.5, 0.25], [0.0, 1.0, -1.0]]), "b": np.array([0.75, -0.125])}


def sequence(seed: int = 21, steps: int = STEPS) -> Iterator[dict[str, np.ndarray]]:
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield {name: rng.normal(0.5, 2.0, array.shape) for name, array in start().items()}


HOOKS: dict[str, Any] = {
    "nothing": None,
    "bounds": transforms.bounds(-1.0, 1.0),  # in the compiled pass
    "ball": transforms.l2_ball(1.25),
    "of one": {"w": transforms.bounds(None, 0.5)},
    "no projection": lambda x: 0.5 * x,
    "two": [transforms.l1_ball(2.0), transforms.bounds(-0.5, 0.5)],
}


def applied(hook: Any, name: str, array: np.ndarray) -> np.ndarray:
    """What a hook makes of one variable."""
    several = hook.get(name, ()) if isinstance(hook, dict) else hook
    for step in several if isinstance(several, list | tuple) else [several]:
        array = array if step is None else step(array)
    return array


def close(found: dict[str, Any], expected: dict[str, np.ndarray], tolerance: float = 1e-12) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance, err_msg=name)


# ------------------------------------------------------------------ on every backend


@pytest.mark.sampled(40)
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", ["sgd", "nadam"])  # without and with numbers of its own from step to step
def test_a_moving_average_is_of_the_models(kind: str, face: str, hook: str) -> None:
    make, cls = everywhere.FACES[face], optimizers.registry[kind]
    options = {"learning_rate": 0.5, "process_model": HOOKS[hook]}
    averaging, plain = make(cls, start(), **options, **EMA), everywhere.FACES["numpy"](cls, start(), **options)
    average = start()
    for grads in sequence():
        averaging.step(grads)
        plain.step(grads)
        models = averaging.values()
        close(models, plain.values())  # the average changes nothing
        average = {name: DECAY * average[name] + (1 - DECAY) * model for name, model in models.items()}
        close(averaging.evaluated(), average)
    if hook not in ("nothing", "no projection"):
        moved = [np.abs(applied(HOOKS[hook], name, model) - model).max() for name, model in average.items()]
        assert max(moved) < 1e-15
        assert any(np.abs(model).max() > 0.1 for model in average.values())


@pytest.mark.sampled(40)
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", ["sgd", "nadam"])
def test_slow_weights_are_models(kind: str, face: str, hook: str) -> None:
    """s' = P(s + α(θ' − s)): part of the way to where the rule has come, then what is done to every model."""
    cls = optimizers.registry[kind]
    made = everywhere.FACES[face](cls, start(), learning_rate=0.5, process_model=HOOKS[hook], **LOOKAHEAD)
    rule, models, slow = cls.rule, start(), start()
    hyper, states = rule.hyper(learning_rate=0.5), {name: rule.init(model) for name, model in models.items()}
    for t, grads in enumerate(sequence(), start=1):
        made.step(grads)
        for name, grad in grads.items():
            model, states[name] = rule.step(models[name], grad, states[name], hyper, t=t)
            if t % PERIOD == 0:
                model = slow[name] + SLOW * (model - slow[name])
            models[name] = applied(HOOKS[hook], name, model)
            if t % PERIOD == 0:
                slow[name] = models[name]
        close(made.values(), models)


@pytest.mark.parametrize("wrap", [["lookahead", "ema"], ["ema", "lookahead"]], ids="-".join)
@pytest.mark.parametrize("face", FACES)
def test_with_both_the_average_is_of_what_is_left(face: str, wrap: list[str]) -> None:
    made = everywhere.FACES[face](
        tw.Adam, start(), learning_rate=0.5, process_model=HOOKS["bounds"], **{**LOOKAHEAD, **EMA, "wrap": wrap}
    )
    average = start()
    for grads in sequence():
        made.step(grads)
        average = {name: DECAY * average[name] + (1 - DECAY) * model for name, model in made.values().items()}
        close(made.evaluated(), average)


@pytest.mark.parametrize("face", FACES)
def test_a_schedule_of_the_decay_is_that_of_a_loop(face: str) -> None:
    """Each model is folded in with the decay of its own step, though that is done in the next one."""
    decay = tw.schedules.Exp(0.9, gamma=0.75, decay_on_iteration=True)
    period = tw.schedules.Piecewise(2.0, boundaries=[4], levels=[3.0], decay_on_iteration=True)
    options = {"wrap": ["lookahead", "ema"], "ema_decay": decay, "sync_period": period, "slow_step_size": SLOW}
    made = everywhere.FACES[face](tw.SGD, start(), learning_rate=0.5, process_model=HOOKS["ball"], **options)
    average, slow, models = start(), start(), start()
    for t, grads in enumerate(sequence(), start=1):
        made.step(grads)
        k = 2 if t < 5 else 3
        for name, grad in grads.items():
            model = models[name] - 0.5 * grad
            model = slow[name] + SLOW * (model - slow[name]) if t % k == 0 else model
            models[name] = HOOKS["ball"](model)
            slow[name] = models[name] if t % k == 0 else slow[name]
            d = 0.9 * 0.75 ** (t - 1)
            average[name] = d * average[name] + (1 - d) * models[name]
        close(made.values(), models)
        close(made.evaluated(), average)


@pytest.mark.parametrize("stays", [("numpy", "torch", "jax, jitted", "pytensor", "numpy")], ids=lambda s: str(len(s)))
def test_a_state_goes_around_between_two_folds(stays: tuple[str, ...]) -> None:
    """The model that is not in the average yet is not lost on the way, nor is a synchronization that just was."""
    options = {"learning_rate": 0.5, "process_model": HOOKS["bounds"], **LOOKAHEAD, **EMA, "wrap": ["lookahead", "ema"]}
    faces, grads = everywhere.FACES, list(sequence(steps=3 * len(stays)))
    whole, here = faces["numpy"](tw.Nadam, start(), **options), faces[stays[0]](tw.Nadam, start(), **options)
    for number, stay in enumerate(stays):
        if number:
            values, snapshot = here.values(), here.snapshot()
            here = faces[stay](tw.Nadam, values, **options)
            here.restore(snapshot)
            close(here.evaluated(), whole.evaluated())
        for grad in grads[3 * number : 3 * number + 3]:  # every stay ends with a synchronization
            whole.step(grad)
            here.step(grad)
        close(here.values(), whole.values())
        close(here.evaluated(), whole.evaluated())


# ------------------------------------------------------------------ peers


@pytest.mark.parametrize("hook", ["nothing", "bounds"])
@pytest.mark.parametrize("decay", [0.25, 0.999])
def test_it_is_pytorchs_average(decay: float, hook: str) -> None:
    """``AveragedModel``, updated after each step, and once before the first."""
    torch = pytest.importorskip("torch")
    swa = torch.optim.swa_utils
    x = tw.Variable(start()["w"], name="w", needs_grad=True)
    ours = tw.Adam(x, convention="torch", learning_rate=0.5, wrap=["ema"], ema_decay=decay, process_model=HOOKS[hook])
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(start()["w"]))])
    theirs = torch.optim.Adam(model.parameters(), lr=0.5)
    average = swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(decay))
    average.update_parameters(model)
    for grads in sequence():
        tw.wait(ours.step(grad=grads["w"]))
        model[0].grad = torch.tensor(grads["w"])
        theirs.step()
        if hook == "bounds":
            with torch.no_grad():
                model[0].clamp_(-1.0, 1.0)
        average.update_parameters(model)
        np.testing.assert_allclose(x.data, model[0].detach().numpy(), rtol=0, atol=1e-12)
        expected = average.module[0].detach().numpy()
        np.testing.assert_allclose(ours.eval_params()["w"], expected, rtol=0, atol=1e-12)


def test_lookahead_is_optax_with_both_kinds_of_weights_projected() -> None:
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    x = tw.Variable(start()["w"], name="w", needs_grad=True)
    options = {**LOOKAHEAD, "process_model": transforms.bounds(-1.0, 1.0)}
    ours = tw.Adam(x, convention="optax", learning_rate=0.5, **options)
    box = optax.projections.projection_box
    with everywhere.double():
        theirs = optax.lookahead(optax.adam(0.5), sync_period=PERIOD, slow_step_size=SLOW)
        params = optax.LookaheadParams.init_synced(jax.numpy.asarray(start()["w"]))
        state = theirs.init(params)
        for grads in sequence():
            tw.wait(ours.step(grad=grads["w"]))
            updates, state = theirs.update(jax.numpy.asarray(grads["w"]), state, params)
            params = optax.apply_updates(params, updates)
            params = optax.LookaheadParams(*(box(weights, -1.0, 1.0) for weights in (params.fast, params.slow)))
            np.testing.assert_allclose(x.data, np.asarray(params.fast), rtol=0, atol=1e-12)


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_an_average_stays_in_its_box_to_the_last_bit(decay: float, dtype: Any) -> None:
    rng, low, high = np.random.default_rng(3), 0.1, 0.7
    x = tw.Variable(rng.uniform(low, high, 64).clip(low, high).astype(dtype), name="x", needs_grad=True)
    box = transforms.bounds(low, high)
    x.data[...] = box(x.data)
    optimizer = tw.SGD(x, learning_rate=1.0, wrap=["ema"], ema_decay=decay, process_model=box)
    for _ in range(200):
        tw.wait(optimizer.step(grad=rng.normal(size=64).astype(dtype)))
        average = optimizer.eval_params()["x"]
        assert average.min() >= dtype(low)
        assert average.max() <= dtype(high)


@pytest.mark.parametrize(("name", "wrap"), [("ema_decay", "ema"), ("sync_period", "lookahead")])
def test_an_array_stays_as_it_is_once_a_step_was_made(name: str, wrap: str) -> None:
    """The next step needs what the last one had, and a carried number cannot hold that of each element."""
    each = np.full((2, 3), 0.5) if wrap == "ema" else np.full((2, 3), 2.0)
    other = each + (0.25 if wrap == "ema" else 1.0)
    x = tw.Variable(start()["w"], name="w", needs_grad=True)
    optimizer = tw.SGD(x, wrap=[wrap], **{name: each})
    setattr(optimizer, name, other)
    setattr(optimizer, name, each)
    tw.wait(optimizer.step(grad=np.ones((2, 3))))
    setattr(optimizer, name, each.copy())  # the same numbers
    for value in (other, float(other[0, 0])):
        with pytest.raises(HyperparameterError, match="an array stays as it is once a step was made"):
            setattr(optimizer, name, value)
    optimizer.reset()
    setattr(optimizer, name, float(other[0, 0]))
    tw.wait(optimizer.step(grad=np.ones((2, 3))))
    setattr(optimizer, name, float(each[0, 0]))  # numbers may change
    with pytest.raises(HyperparameterError, match="an array stays as it is once a step was made"):
        setattr(optimizer, name, each)

    import torch

    from thalweg.optimizers.torch import TorchOptimizer

    w = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.float64))
    theirs = TorchOptimizer([("w", w)], tw.SGD(wrap=[wrap]))
    theirs.param_groups[0][name] = each
    w.grad = torch.ones_like(w)
    theirs.step()
    before = w.detach().clone()
    theirs.param_groups[0][name] = other
    with pytest.raises(HyperparameterError, match="an array stays as it is once a step was made"):
        theirs.step()
    assert torch.equal(w, before)
    theirs.param_groups[0][name] = each
    w.grad = torch.full_like(w, 5.0)
    theirs.step()
    assert not torch.equal(w, before)


def test_inside_evaluating_the_model_is_where_it_is_evaluated() -> None:
    x = tw.Variable(np.array([1.0]), name="x", needs_grad=True)
    optimizer = tw.SGD(x, learning_rate=1.0, wrap=["ema"], ema_decay=0.75)
    tw.wait(optimizer.step(grad=np.array([4.0])))
    outside = optimizer.eval_params()["x"]
    with optimizer.evaluating():
        np.testing.assert_array_equal(x.data, outside)
        np.testing.assert_array_equal(optimizer.eval_params()["x"], outside)


# ------------------------------------------------------------------ state of versions that averaged at once


OLD = Path(__file__).parent.parent / "data" / "averages-0.1"
"""Written by the version before: Nadam with Lookahead and an average, after 5 and after 6 steps of 11."""


@pytest.mark.parametrize("face", [face for face in FACES if face != "updater"])
@pytest.mark.parametrize("cut", [5, 6])  # within a period, and right after a synchronization
def test_older_state_goes_on_as_it_would_have(face: str, cut: int) -> None:
    options = {**LOOKAHEAD, **EMA, "wrap": ["lookahead", "ema"], "groups": [{"variables": ["b"], "ema_decay": 0.125}]}
    snapshot, data = read(OLD / f"after-{cut}", None)
    assert np.shape(snapshot.meta["carried"]) == (2, len(tw.Nadam.rule.carried_names))  # the wrappers had none
    here = everywhere.FACES[face](tw.Nadam, data, **options)
    here.restore(snapshot)
    with np.load(OLD / "result.npz") as result:
        for t in (cut, 11):
            for step in range(cut + 1, t + 1):
                here.step({name: result[f"grads/{step}/{name}"] for name in data})
            close(here.values(), {name: result[f"{t}/model/{name}"] for name in data})
            close(here.evaluated(), {name: result[f"{t}/average/{name}"] for name in data})


def test_an_older_state_dict_of_torch_goes_on_as_it_would_have() -> None:
    torch = pytest.importorskip("torch")
    options = {**LOOKAHEAD, **EMA, "wrap": ["lookahead", "ema"]}
    whole, first, second = (everywhere.FACES["torch"](tw.Nadam, start(), **options) for _ in range(3))
    grads = list(sequence())
    for grad in grads[:5]:
        whole.step(grad)
        first.step(grad)
    saved, averages = first.optimizer.state_dict(), list(first.evaluated().values())
    for state, average in zip(saved["state"].values(), averages, strict=True):
        state["average"] = torch.tensor(average)
        for name in ("folding", "pending", "resumes"):
            del state[name]
    with pytest.raises(tw.errors.StateMismatchError, match=r"the state of 'w' was \[.*'synced'"):
        second.optimizer.load_state_dict(saved)  # of no version
    for state in saved["state"].values():
        del state["synced"]
    with torch.no_grad():
        for name, param in second.params.items():
            param.copy_(torch.tensor(first.values()[name]))
    second.optimizer.load_state_dict(saved)
    close(second.evaluated(), whole.evaluated())
    for grad in grads[5:]:
        whole.step(grad)
        second.step(grad)
        close(second.values(), whole.values())
        close(second.evaluated(), whole.evaluated())


def test_numbers_that_are_damaged_are_still_refused() -> None:
    options = {**LOOKAHEAD, **EMA, "wrap": ["lookahead", "ema"]}
    source = everywhere.FACES["numpy"](tw.Nadam, start(), **options)
    source.step(next(sequence()))
    snapshot = source.snapshot()
    count = len(source.optimizer.rule.carried_names)
    assert np.shape(snapshot.meta["carried"]) == (1, count)
    for wrong in ([], [[1.0] * (count - 1)], [[1.0] * (count + 1)], [[float("nan")]], "damaged", [[None] * count]):
        target = everywhere.FACES["numpy"](tw.Nadam, start(), **options)
        with pytest.raises(tw.errors.StateMismatchError, match=f"carried is .*, not 1 × {count} finite numbers"):
            target.restore(dataclasses.replace(snapshot, meta={**snapshot.meta, "carried": wrong}))
