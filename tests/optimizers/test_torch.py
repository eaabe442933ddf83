"""Our optimizers as PyTorch's: against PyTorch's own, against the pure face, and inside its machinery."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

import thalweg as tw
from tests.optimizers.torch_training import loss_of, network, same, train, units, weights
from tests.references import oracles
from thalweg import optimizers
from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.graph import Variable, wait
from thalweg.lowering.torch_units import Compiled, Native
from thalweg.optimizers import LocalOptimizer
from thalweg.optimizers.torch import TorchOptimizer

CASES = [(kind, library) for kind, cls in optimizers.registry.items() for library in (None, *cls.rule.conventions)]
kernels = pytest.mark.parametrize("kernel", ["native", "shared"])


@pytest.mark.sampled(64)
@kernels
@pytest.mark.parametrize(("kind", "library"), CASES, ids=lambda value: str(value))
def test_every_rule_in_every_convention_is_the_pure_face(kind: str, library: str | None, kernel: str) -> None:
    recipe = optimizers.registry[kind](convention=library)
    rule, hyper = recipe.rule, recipe.rule.hyper(**recipe.hyperparameters)
    print("seed 21")
    start, grads = oracles.recorded(21, steps=100)
    parts = [start[:7], start[7:].reshape(1, 17)]
    params = [torch.tensor(part, requires_grad=True) for part in parts]
    states = [rule.init(part, hyper) for part in parts]
    optimizer = TorchOptimizer(params, recipe, kernel=kernel)
    points, expected = [], []
    for t, grad in enumerate(grads, start=1):
        given = [grad[:7], grad[7:].reshape(1, 17)]
        for k, param in enumerate(params):
            param.grad = torch.tensor(given[k])
            parts[k], states[k] = rule.step(parts[k], given[k], states[k], hyper, t=t)
        optimizer.step()
        points.append(np.concatenate([param.detach().numpy().ravel() for param in params]))
        expected.append(np.concatenate([part.ravel() for part in parts]))
    assert oracles.distance(np.array(points), np.array(expected)) < 1e-12
    assert units(optimizer) == [Compiled if kernel == "shared" else Native]
    for param, state in zip(params, states, strict=True):
        assert optimizer.state[param].keys() == {"step", *rule.slot_names, *rule.carried_names}
        assert optimizer.state[param]["step"] == len(grads)
        for name in rule.slot_names:
            np.testing.assert_allclose(
                optimizer.state[param][name].numpy(), getattr(state, name), rtol=1e-9, atol=1e-12
            )


@kernels
def test_a_thousand_steps_of_a_step_with_everything_are_those_on_numpy(kernel: str) -> None:
    settings: dict[str, Any] = {
        "learning_rate": tw.schedules.Exp(0.02, gamma=0.999, decay_on_iteration=True),
        "weight_decay": 0.01,
        "wrap": ["lookahead", "ema"],
        "groups": [{"variables": ["b*"], "beta1": 0.7, "weight_decay": 0.0}],
        "process_grad": [tw.transforms.clip_global_norm(100.0), tw.transforms.scale(0.5)],
        "process_model": tw.transforms.bounds(-1.5, 1.5),
    }
    print("seed 22")
    start, grads = oracles.recorded(22, size=12, low=-3, high=3)
    variables = [
        Variable(start[:8].reshape(2, 4).copy(), name="a", needs_grad=True),
        Variable(start[8:].copy(), name="bias", needs_grad=True),
    ]
    there = tw.Nadam(variables, **settings)
    params = {
        "a": torch.tensor(start[:8]).reshape(2, 4).requires_grad_(),
        "bias": torch.tensor(start[8:]).requires_grad_(),
    }
    here = TorchOptimizer(params.items(), tw.Nadam(**settings), kernel=kernel)
    points, expected = [], []
    for grad in grads:
        given = {"a": grad[:8].reshape(2, 4), "bias": grad[8:]}
        wait(there.step(grad=given))
        for name, param in params.items():
            param.grad = torch.tensor(given[name])
        here.step()
        points.append(np.concatenate([p.detach().numpy().ravel() for p in params.values()]))
        expected.append(np.concatenate([v.data.ravel() for v in variables]))
    assert oracles.distance(np.array(points), np.array(expected)) < 1e-12
    for name, value in there.eval_params().items():
        np.testing.assert_allclose(here.eval_params()[name].numpy(), value, rtol=0, atol=1e-12)
    assert here.param_groups[0]["lr"] == there.current("learning_rate")


# In the place of PyTorch's own

DROP_IN: dict[str, tuple[Callable[..., torch.optim.Optimizer], type[LocalOptimizer], float]] = {
    "sgd": (torch.optim.SGD, tw.SGD, 0.1),
    "momentum": (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9), tw.Momentum, 0.05),
    "nesterov": (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True), tw.Nesterov, 0.05),
    "adagrad": (torch.optim.Adagrad, tw.AdaGrad, 0.1),
    "rmsprop": (torch.optim.RMSprop, tw.RMSProp, 0.01),
    "adadelta": (torch.optim.Adadelta, tw.Adadelta, 1.0),
    "adam": (torch.optim.Adam, tw.Adam, 0.02),
    "amsgrad": (lambda p, lr: torch.optim.Adam(p, lr, amsgrad=True), tw.AMSGrad, 0.02),
    "adamw": (torch.optim.AdamW, tw.AdamW, 0.02),
    "adamax": (torch.optim.Adamax, tw.Adamax, 0.02),
    "nadam": (torch.optim.NAdam, tw.Nadam, 0.02),
    "radam": (torch.optim.RAdam, tw.RAdam, 0.02),
    "rprop": (torch.optim.Rprop, tw.Rprop, 0.01),
}
SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer, bool], Any]] = {
    "none": lambda optimizer, cycle: None,
    "StepLR": lambda optimizer, cycle: lr_scheduler.StepLR(optimizer, 5, gamma=0.5),
    "CosineAnnealingLR": lambda optimizer, cycle: lr_scheduler.CosineAnnealingLR(optimizer, T_max=20),
    "OneCycleLR": lambda optimizer, cycle: lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=41, cycle_momentum=cycle
    ),
    "CyclicLR": lambda optimizer, cycle: lr_scheduler.CyclicLR(
        optimizer, 0.01, 0.1, step_size_up=7, cycle_momentum=cycle
    ),
    "ReduceLROnPlateau": lambda optimizer, cycle: lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1),
    "SequentialLR": lambda optimizer, cycle: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5), lr_scheduler.ExponentialLR(optimizer, 0.9)],
        milestones=[5],
    ),
}


@pytest.fixture
def in_float64() -> Iterator[None]:
    """PyTorch's own optimizers keep their numbers in the default dtype: NAdam's product of momenta is a tensor."""
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(kept)


@pytest.mark.sampled(80)
@kernels
@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("kind", DROP_IN)
def test_it_trains_as_pytorchs_own_does(kind: str, scheduler: str, kernel: str) -> None:
    make, ours, rate = DROP_IN[kind]
    theirs, model = network(), network()
    reference = make(theirs.parameters(), lr=rate)
    optimizer = TorchOptimizer(model.parameters(), ours(convention="torch", learning_rate=rate), kernel=kernel)
    cycle = bool({"momentum", "betas"} & optimizer.defaults.keys())
    assert cycle == (kind not in ("sgd", "adagrad", "rmsprop", "adadelta", "rprop"))
    train(theirs, reference, 40, SCHEDULERS[scheduler](reference, cycle))
    told = scheduler != "none" and "learning_rate" in ours.rule.initial  # as PyTorch's own it does not look at it again
    with pytest.warns(UserWarning, match="reads it at a parameter's first step only") if told else nullcontext():
        train(model, optimizer, 40, SCHEDULERS[scheduler](optimizer, cycle))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(reference.param_groups[0]["lr"], rel=1e-14)
    same(weights(model), weights(theirs), 1e-10)


@kernels
def test_weight_decay_and_param_groups_are_pytorchs_too(kernel: str) -> None:
    theirs, model = network(), network()
    reference = torch.optim.AdamW(
        [
            {"params": theirs[0].parameters()},
            {"params": [theirs[2].weight], "lr": 0.05, "betas": (0.8, 0.99)},
            {"params": [theirs[2].bias], "weight_decay": 0.0, "eps": 1e-3},
        ],
        lr=0.01,
        weight_decay=0.1,
    )
    optimizer = TorchOptimizer(
        [
            {"params": model[0].parameters()},
            {"params": model[2].weight, "learning_rate": 0.05, "beta1": 0.8, "beta2": 0.99},
            {"params": [model[2].bias], "weight_decay": 0.0, "epsilon": 1e-3},
        ],
        tw.AdamW(learning_rate=0.01, weight_decay=0.1, convention="torch"),
        kernel=kernel,
    )
    assert optimizer.param_groups[1]["betas"] == (0.8, 0.99)
    train(theirs, reference, 20)
    train(model, optimizer, 20)
    same(weights(model), weights(theirs), 1e-11)
    for group in reference.param_groups:
        group["lr"], group["betas"] = 0.02, (0.5, group["betas"][1])
    for group in optimizer.param_groups:  # our names, set later
        group["learning_rate"], group["beta1"] = 0.02, 0.5
    train(theirs, reference, 20, first=20)
    train(model, optimizer, 20, first=20)
    same(weights(model), weights(theirs), 1e-11)
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.999)
    assert "beta1" not in optimizer.param_groups[0]


def test_a_closure_is_called_with_autograd_and_its_loss_returned() -> None:
    model = network()
    optimizer = TorchOptimizer(model.parameters(), tw.SGD(learning_rate=0.1))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    before = loss_of(model, 0).item()
    with torch.no_grad():
        assert optimizer.step(closure).item() == before
    assert loss_of(model, 0).item() < before
    assert optimizer.step() is None


def test_many_elements_are_divided_among_threads_and_gradients_may_stay_where_they_are() -> None:
    print("seed 26")
    generator = torch.Generator().manual_seed(26)
    shapes = [(500, 401), (3,), (1 << 15,)]
    starts = [torch.randn(shape, generator=generator) for shape in shapes]
    found = []
    for kernel, none in (("native", True), ("shared", True), ("shared", False)):
        params = [start.clone().requires_grad_() for start in starts]
        optimizer = TorchOptimizer(params, tw.LAMB(learning_rate=0.1), kernel=kernel)
        for step in range(3):
            optimizer.zero_grad(set_to_none=none)
            sum((param * torch.cos(param + step)).sum() for param in params).backward()  # type: ignore[union-attr]
            optimizer.step()
        found.append([param.detach() for param in params])
    for native, shared, again in zip(*found, strict=True):
        torch.testing.assert_close(native, shared, rtol=1e-5, atol=1e-6)
        assert torch.equal(shared, again)


def test_a_grad_scaler_may_scale_unscale_and_skip() -> None:
    model, plain = network(torch.float32), network(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = TorchOptimizer(model.parameters(), tw.Adam(learning_rate=0.1))
    other = TorchOptimizer(plain.parameters(), tw.Adam(learning_rate=0.1))
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        scaler.step(optimizer)
        scaler.update()
    train(plain, other, 3)
    same(weights(model), weights(plain))
    optimizer.zero_grad()
    scaler.scale(loss_of(model, 3) * torch.inf).backward()
    scaler.step(optimizer)
    same(weights(model), weights(plain))


def test_hooks_of_pytorch_are_called() -> None:
    model, seen = network(), []
    optimizer = TorchOptimizer(model.parameters(), tw.SGD(learning_rate=0.1))
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    train(model, optimizer, 1)
    assert seen == ["before", "after"]


@kernels
@pytest.mark.parametrize("kind", ["adam", "nadam", "momentum", "schedule_free_adamw"])
def test_a_parameter_without_a_gradient_counts_no_step(kind: str, kernel: str) -> None:
    """Each parameter by itself is the pure face over the gradients that it had."""
    print("seed 23")
    rng = np.random.default_rng(23)
    starts = rng.normal(size=(3, 4))
    recipe = optimizers.registry[kind](learning_rate=0.05)
    rule, hyper = recipe.rule, recipe.rule.hyper(**recipe.hyperparameters)
    params = [torch.tensor(start, requires_grad=True) for start in starts]
    optimizer = TorchOptimizer(list(zip("abc", params, strict=True)), recipe, kernel=kernel)
    alone: list[Any] = [(start, rule.init(start, hyper), 0) for start in starts]
    for step in range(12):
        for k, period in enumerate((1, 2, 5)):
            params[k].grad = None
            if step % period == 0:
                grad = rng.normal(size=4)
                params[k].grad = torch.tensor(grad)
                x, state, t = alone[k]
                alone[k] = (*rule.step(x, grad, state, hyper, t=t + 1), t + 1)
        optimizer.step()
    assert [optimizer.state[param]["step"] for param in params] == [12, 6, 3]
    for param, (x, state, _) in zip(params, alone, strict=True):
        np.testing.assert_allclose(param.detach().numpy(), x, rtol=0, atol=1e-13)
        for name in rule.carried_names:
            assert optimizer.state[param][name] == pytest.approx(getattr(state, name), rel=1e-13)
    assert optimizer.optimization_state.curr_iter == 12
    optimizer.zero_grad()
    optimizer.step()  # nobody has one: no step
    assert optimizer.optimization_state.curr_iter == 12
    with pytest.raises(OptimizerError, match="'c' has made 3 steps and 'a' 12"):
        optimizer.snapshot()


def test_parameters_of_every_kind_are_one_step() -> None:
    params = {
        "plain": torch.ones(3, dtype=torch.float32),
        "double": torch.ones(2, 2, dtype=torch.float64),
        "half": torch.ones(4, dtype=torch.bfloat16),
        "strided": torch.ones(4, 2).T,
        "number": torch.ones(()),
        "empty": torch.ones(0, 3),
        "frozen": torch.ones(2),
    }
    for name, param in params.items():
        param.requires_grad_(name != "frozen")
        param.grad = None if name == "frozen" else torch.full_like(param, 0.5)
    optimizer = TorchOptimizer(params.items(), tw.Adam(learning_rate=0.25))
    for _ in range(3):
        optimizer.step()
    assert units(optimizer).count(Compiled) == 2
    assert units(optimizer).count(Native) == 1
    assert {seat.label for seat in optimizer._plan.seats if not seat.compiled} == {"half", "strided"}  # type: ignore[union-attr]
    for name, param in params.items():
        expected = 1.0 if name == "frozen" else 0.25
        torch.testing.assert_close(param.detach(), torch.full_like(param, expected), rtol=1e-6, atol=1e-6)
        if name != "frozen":
            kind = torch.float64 if name == "double" else torch.float32
            assert {optimizer.state[param][slot].dtype for slot in ("mean", "mean_square")} == {kind}
            assert optimizer.state[param]["mean"].shape == param.shape


def test_bfloat16_parameters_keep_float32_state_through_a_state_dict(tmp_path: Path) -> None:
    model = network(torch.bfloat16)
    optimizer = TorchOptimizer(model.parameters(), tw.Adam(learning_rate=0.02))
    train(model, optimizer, 5)
    torch.save(optimizer.state_dict(), tmp_path / "x.pt")
    other = copy.deepcopy(model)
    again = TorchOptimizer(other.parameters(), tw.Adam(learning_rate=0.02))
    again.load_state_dict(torch.load(tmp_path / "x.pt", weights_only=True))
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert again.state[two]["mean"].dtype == torch.float32
        assert torch.equal(again.state[two]["mean"], optimizer.state[one]["mean"])
    train(model, optimizer, 5, first=5)
    train(other, again, 5, first=5)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


# ------------------------------------------------------------------ what is set in a param group between steps


@kernels
@pytest.mark.parametrize("key", ["lr", "learning_rate"])
def test_a_schedule_that_is_set_in_a_param_group_later_is_followed(kernel: str, key: str) -> None:
    """Not only what it says at the next step."""
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = TorchOptimizer([("x", x)], tw.SGD(learning_rate=1.0), kernel=kernel)
    schedule = tw.schedules.Exp(2.0, gamma=0.5, decay_on_iteration=True)
    expected = [1.0, 1.0, 0.5, 0.25, 0.125]
    for t, rate in enumerate(expected):
        if t == 2:
            optimizer.param_groups[0][key] = schedule
        if t == 3:
            assert optimizer.snapshot().meta["hyperparameters"]["learning_rate"] == schedule.get_config()
            assert optimizer.state_dict()["param_groups"][0]["thalweg"]["schedules"]
        x.grad, before = torch.ones(2, dtype=torch.float64), x.detach().clone()
        optimizer.step()
        torch.testing.assert_close(before - x.detach(), torch.full_like(before, rate), rtol=1e-15, atol=0)
        assert optimizer.param_groups[0]["lr"] == rate


def test_a_schedule_that_is_set_later_is_in_what_is_saved_and_told_before_the_next_step() -> None:
    x = torch.nn.Parameter(torch.zeros(2))
    optimizer = TorchOptimizer([("x", x)], tw.SGD(learning_rate=1.0))
    optimizer.param_groups[0]["lr"] = tw.schedules.Plateau(1.0, factor=0.5, patience=0)
    for loss in (3.0, 4.0):
        optimizer.observe(loss)
    (saved,) = optimizer.state_dict()["param_groups"]
    assert saved["thalweg"]["schedules"]["0.learning_rate"]["kind"] == "plateau"
    assert saved["lr"] == 1.0  # a number, which torch.load takes unasked: what the schedule said when it was found
    x.grad = torch.ones(2)
    optimizer.step()
    assert x.tolist() == [-0.5, -0.5]
    for wrong, words in ((tw.schedules.Exp, "is the class Exp"), (lambda state: -1.0, "outside its range")):
        optimizer.param_groups[0]["lr"] = wrong
        with pytest.raises(HyperparameterError, match=words):
            optimizer.step()
    assert x.tolist() == [-0.5, -0.5]


@kernels
def test_numbers_are_looked_at_whenever_they_are_others(kernel: str) -> None:
    x = torch.nn.Parameter(torch.zeros(2))
    optimizer = TorchOptimizer([x], tw.Adam(learning_rate=0.5), kernel=kernel)
    group = optimizer.param_groups[0]
    good = dict(group)
    for name, value, words in (
        ("betas", (0.9, 1 - 1e-9), "beta2 = .* becomes 1.0 in float32"),
        ("lr", 1e39, "learning_rate = 1e.39 becomes inf in float32"),
        ("lr", float("nan"), "outside its range"),
        ("epsilon", 1e-60, "becomes 0.0 in float32"),
    ):
        for _ in range(2):
            x.grad = torch.ones(2)
            optimizer.step()
        before = x.detach().clone()
        group[name] = value
        for _ in range(2):
            with pytest.raises(HyperparameterError, match=words):
                optimizer.step()
        assert torch.equal(x, before)
        group[name] = good[name]


@pytest.mark.parametrize("kernel", ["auto", "shared", "native"])
def test_an_array_read_at_the_first_step_only_stays_beside_numbers(kernel: str) -> None:
    """AdaGrad's sum starts at an array, which no scalar of its steps is made of."""
    start = np.array([0.25, 4.0])
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    one = TorchOptimizer([{"params": [x], "initial_accumulator": start}], tw.AdaGrad(learning_rate=0.5), kernel=kernel)
    sums = start.copy()
    expected = np.zeros(2)
    for t in range(4):
        grad = np.array([1.0, -2.0]) * (t + 1)
        x.grad = torch.tensor(grad)
        one.step()
        sums += grad**2
        expected -= 0.5 * grad / (np.sqrt(sums) + one.param_groups[0]["epsilon"])
        np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("value", [0.9, (0.9,), (0.9, 0.99, 0.999), None, "0.9"])
def test_betas_that_are_no_pair_are_refused_at_the_next_step(value: Any) -> None:
    x = torch.nn.Parameter(torch.zeros(2))
    x.grad = torch.ones(2)
    optimizer = TorchOptimizer([x], tw.Adam(learning_rate=0.5))
    optimizer.step()
    before = x.detach().clone()
    optimizer.param_groups[0]["betas"] = value
    for _ in range(2):
        with pytest.raises(HyperparameterError, match=r"betas is .*; give beta1 and beta2"):
            optimizer.step()
    optimizer.param_groups[0]["beta2"] = 0.99  # which there is no place for
    with pytest.raises(HyperparameterError, match=r"betas is .*; give beta1 and beta2"):
        optimizer.step()
    del optimizer.param_groups[0]["beta2"]
    assert torch.equal(x, before)
    alone = tw.schedules.Fixed(0.25)
    for several in (alone, (alone,) * 3):
        optimizer.param_groups[0]["betas"] = several
        with pytest.raises(HyperparameterError, match=r"betas is .*; give beta1 and beta2"):
            optimizer.step()
    optimizer.param_groups[0]["betas"] = (0.5, 0.999)
    assert not optimizer.state_dict()["param_groups"][0]["thalweg"]["schedules"]  # nothing of it is left
    rates = tw.schedules.Exp(0.5, gamma=0.5, decay_on_iteration=True), tw.schedules.Fixed(0.99)
    optimizer.param_groups[0]["betas"] = rates
    shown = []
    for _ in range(2):
        optimizer.step()
        shown.append(optimizer.param_groups[0]["betas"])
    assert shown == [(0.25, 0.99), (0.125, 0.99)]
