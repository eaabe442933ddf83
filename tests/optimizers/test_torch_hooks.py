"""What is asked of our PyTorch optimizers besides the rule: accumulation, policies, hooks, schedules, averages."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

import thalweg as tw
from tests.optimizers.torch_training import loss_of, network, same, train, weights
from thalweg import transforms
from thalweg.errors import (
    HyperparameterError,
    NonFiniteGradientError,
    OptimizerError,
)
from thalweg.graph import Variable, wait
from thalweg.optimizers.torch import TorchOptimizer

kernels = pytest.mark.parametrize("kernel", ["native", "shared"])


def test_accumulated_gradients_are_a_step_of_their_mean() -> None:
    one, other = network(), network()
    whole = TorchOptimizer(one.named_parameters(), tw.Adam(learning_rate=0.05))
    parts = TorchOptimizer(other.named_parameters(), tw.Adam(learning_rate=0.05, accumulate=3))
    for step in range(6):
        if step % 3 == 0:
            whole.zero_grad()
        (loss_of(one, step) / 3).backward()
        if step % 3 == 2:
            whole.step()
        parts.zero_grad()
        # Both at the same point: the parameters only move with every third call.
        loss_of(other, step).backward()
        parts.step()
        if step == 3:  # in mid-step
            saved, snapshot = copy.deepcopy(parts.state_dict()), parts.snapshot()
            assert snapshot.meta["micro"] == 1
            parts = TorchOptimizer(other.named_parameters(), tw.Adam(learning_rate=0.05, accumulate=3))
            parts.load_state_dict(saved)
            parts = TorchOptimizer(other.named_parameters(), tw.Adam(learning_rate=0.05, accumulate=3))
            parts.restore(snapshot)
    same(weights(one), weights(other), 1e-14)
    assert parts.optimization_state.curr_iter == 2
    assert parts.state[other[0].bias]["step"] == 2


POLICIES = [
    (policy, kernel, accumulate)
    for policy in ("raise", "skip", "zero", "ignore")
    for kernel in ("native", "shared")
    for accumulate in (1, 2)
]


@pytest.mark.parametrize(("policy", "kernel", "accumulate"), POLICIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_seen_before_anything_is_changed(
    policy: str, kernel: str, accumulate: int, bad: float
) -> None:
    params = {n: torch.ones(3, dtype=d, requires_grad=True) for n, d in (("a", torch.float64), ("b", torch.float32))}
    recipe = tw.Adam(learning_rate=0.5, nonfinite=policy, accumulate=accumulate)
    optimizer = TorchOptimizer(params.items(), recipe, kernel=kernel)

    def give(value: float) -> None:
        for name, param in params.items():
            param.grad = torch.ones_like(param)
            if name == "b":
                param.grad[1] = value

    give(1.0)
    for _ in range(accumulate):
        optimizer.step()
    before, state = weights(torch.nn.ParameterDict(params)), copy.deepcopy(optimizer.state_dict())
    give(bad)
    if policy == "raise":
        with pytest.raises(NonFiniteGradientError, match=r"variable 'b', iteration 2: .* 1 non-finite of 3.*\(1,\)"):
            optimizer.step()
    else:
        for _ in range(accumulate):
            optimizer.step()
    assert np.array_equal(params["b"].grad.numpy(), [1, bad, 1], equal_nan=True)  # type: ignore[union-attr]
    if policy in ("raise", "skip"):
        same(weights(torch.nn.ParameterDict(params)), before)
        now = optimizer.state_dict()
        assert now["param_groups"][0]["thalweg"].pop("skipped") == (accumulate if policy == "skip" else 0)
        state["param_groups"][0]["thalweg"].pop("skipped")
        assert str(now) == str(state)
    elif policy == "zero":
        assert optimizer.zeroed == accumulate
        assert torch.isfinite(params["b"]).all()
        assert params["b"][1] < before[1][1]  # momentum goes on
    else:
        assert not torch.isfinite(params["b"][1])
        assert torch.isfinite(params["a"]).all()
    give(1.0)
    optimizer.step()


def test_zero_takes_elements_before_a_hook_spreads_them() -> None:
    x = torch.ones(2, requires_grad=True)
    x.grad = torch.tensor([np.nan, 3.0])
    optimizer = TorchOptimizer([x], tw.SGD(learning_rate=1.0, nonfinite="zero", process_grad=transforms.clip_norm(1.0)))
    optimizer.step()
    assert x.tolist() == [1.0, 0.0]
    assert optimizer.zeroed == 1


@pytest.mark.parametrize("policy", ["raise", "skip", "zero"])
def test_a_step_that_fails_at_its_last_micro_batch_is_what_it_is_on_numpy(policy: str) -> None:
    broken = False

    def hook(grad: Any) -> Any:
        if broken and policy == "zero":
            raise ArithmeticError("no")
        return grad * np.nan if broken else grad

    settings: dict[str, Any] = {"learning_rate": 1.0, "accumulate": 2, "nonfinite": policy, "process_grad": hook}
    there = tw.SGD(Variable(np.zeros(2), name="x"), **settings)
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    here = TorchOptimizer([("x", x)], tw.SGD(**settings))
    bad = np.nan if policy == "zero" else 3.0
    for broken, grad in ((False, [2.0, 2.0]), (True, [4.0, bad]), (False, [6.0, 8.0]), (False, [1.0, 1.0])):  # noqa: B007
        x.grad = torch.tensor(grad, dtype=torch.float64)
        errors = []
        for step in (here.step, lambda grad=grad: wait(there.step(grad=np.array(grad)))):
            try:
                step()
                errors.append(None)
            except (NonFiniteGradientError, ArithmeticError) as error:
                errors.append(type(error))
        assert errors[0] == errors[1]
        np.testing.assert_array_equal(x.detach().numpy(), there.variable.data)
        assert here.snapshot().meta == there.state().meta
        assert str(here.snapshot().arrays) == str(there.state().arrays)


def test_a_parameter_without_name_goes_by_its_number() -> None:
    params = [torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)]
    optimizer = TorchOptimizer([{"params": params[:1]}, {"params": params[1:]}], tw.SGD())
    params[0].grad, params[1].grad = torch.ones(2), torch.tensor([1.0, np.nan])
    with pytest.raises(NonFiniteGradientError, match="variable '1'"):
        optimizer.step()


@kernels
def test_hooks_get_tensors_and_coroutines_are_waited_for(kernel: str) -> None:
    seen: list[Any] = []

    async def halve(tensor: torch.Tensor) -> torch.Tensor:
        seen.append((type(tensor), tensor.dtype, tensor.requires_grad))
        tensor.mul_(0.5)  # a copy
        return tensor

    model = {"a": torch.ones(2, requires_grad=True), "b": torch.ones(2, dtype=torch.bfloat16, requires_grad=True)}
    recipe = tw.SGD(
        learning_rate=1.0,
        process_grad=[halve, tw.transforms.add_decay(0.25)],
        process_model={"a": [torch.floor, tw.transforms.bounds(-5, 5)]},
    )
    optimizer = TorchOptimizer(model.items(), recipe, kernel=kernel if kernel == "native" else "auto")
    for param in model.values():
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert seen == [(torch.Tensor, torch.float32, False)] * 2
    assert torch.equal(model["a"].detach(), torch.zeros(2))
    assert torch.equal(model["b"].detach(), torch.full((2,), 0.25, dtype=torch.bfloat16))
    assert torch.equal(model["a"].grad, torch.ones(2))  # type: ignore[arg-type]


@kernels
def test_a_failing_hook_leaves_everything_as_it_was(kernel: str) -> None:
    def fails(tensor: torch.Tensor) -> Any:
        if broken:
            raise ArithmeticError("no")
        return tensor[:1] if short else tensor

    broken = short = False
    model = network()
    recipe = tw.Nadam(learning_rate=0.1, process_model={"2.bias": fails})
    optimizer = TorchOptimizer(model.named_parameters(), recipe, kernel=kernel)
    train(model, optimizer, 2)
    before, state = weights(model), copy.deepcopy(optimizer.state_dict())
    broken = True
    with pytest.raises(ArithmeticError):
        train(model, optimizer, 1)
    broken, short = False, True
    with pytest.raises(HyperparameterError, match=r"process_model of parameter '2.bias'.*shape \(1,\)"):
        train(model, optimizer, 1)
    same(weights(model), before)
    assert str(optimizer.state_dict()) == str(state)
    short = False
    twin = network()
    other = TorchOptimizer(twin.named_parameters(), tw.Nadam(learning_rate=0.1), kernel=kernel)
    train(model, optimizer, 1, first=2)
    train(twin, other, 3)
    same(weights(model), weights(twin))


def test_our_schedule_goes_before_pytorchs_and_shows_what_it_said() -> None:
    model = network()
    plateau = tw.schedules.Plateau(0.5, factor=0.5, patience=0)
    optimizer = TorchOptimizer(
        [{"params": [model[0].weight]}, {"params": [model[2].weight], "lr": 0.125}],
        tw.SGD(learning_rate=plateau),
    )
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.125]
    for loss in (3.0, 4.0):
        optimizer.observe(loss)
    before = model[0].weight.detach().clone()
    train(model, optimizer, 1, schedule)
    assert model[0].weight.grad is not None
    torch.testing.assert_close(model[0].weight.detach(), before - 0.25 * model[0].weight.grad)
    with pytest.warns(UserWarning, match="changes nothing"):  # what the other one wrote into the first group
        train(model, optimizer, 1)
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.0125)
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.observe(5.0)
    optimizer.load_state_dict(saved)
    ours = optimizer.state_dict()["param_groups"][0]["thalweg"]
    assert ours["schedule_states"]["0.learning_rate"]["factor"] == 0.5


def test_epochs_are_told_by_the_loop() -> None:
    x = torch.zeros(1, requires_grad=True)
    optimizer = TorchOptimizer([x], tw.SGD(learning_rate=tw.schedules.Exp(1.0, gamma=0.5)))
    for _ in range(3):
        optimizer.optimization_state.begin_epoch()
        x.grad = torch.ones(1)
        optimizer.step()
    assert x.item() == -1.75


# Where the model is to be evaluated


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_evaluating_puts_averages_there_and_takes_them_back(dtype: torch.dtype) -> None:
    model = network(dtype)
    recipe = tw.ScheduleFreeAdamW(learning_rate=0.05)
    optimizer = TorchOptimizer(model.named_parameters(), recipe)
    assert all(torch.equal(p, optimizer.eval_params()[n]) for n, p in model.named_parameters())
    train(model, optimizer, 5)
    before = [p.detach().clone() for p in model.parameters()]
    found = optimizer.eval_params()

    def evaluation() -> None:
        with optimizer.evaluating():
            assert all(torch.equal(p, found[n]) for n, p in model.named_parameters())
            assert not torch.equal(model[0].weight, before[0])
            with pytest.raises(OptimizerError, match="evaluating"):
                optimizer.step()
            with pytest.raises(OptimizerError, match="already"), optimizer.evaluating():
                pass
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        evaluation()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    train(model, optimizer, 1)
