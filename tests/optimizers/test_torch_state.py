"""The state of our PyTorch optimizers: through PyTorch's files, deep copies, and other backends."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

import thalweg as tw
from tests.optimizers.torch_training import network, same, train, weights
from thalweg.errors import (
    OptimizerError,
    StateMismatchError,
)
from thalweg.graph import Variable, wait
from thalweg.optimizers import LocalOptimizer
from thalweg.optimizers.torch import TorchOptimizer

kernels = pytest.mark.parametrize("kernel", ["native", "shared"])


def full(params: Any, kernel: str = "auto", rate: Any = 0.02) -> TorchOptimizer:
    """An optimizer with a bit of everything that has state."""
    recipe = tw.Nadam(
        learning_rate=rate,
        groups=[{"variables": ["*.bias"], "weight_decay": 0.0}],
        weight_decay=tw.schedules.Exp(0.1, gamma=0.9, decay_on_iteration=True),
        wrap=["lookahead"],
        nonfinite="skip",
    )
    return TorchOptimizer(params, recipe, kernel=kernel)


@kernels
def test_ten_steps_are_four_and_a_state_dict_and_six(kernel: str, tmp_path: Path) -> None:
    straight = network()
    optimizer = full(straight.named_parameters(), kernel)
    schedule = lr_scheduler.StepLR(optimizer, 3, gamma=0.5)
    train(straight, optimizer, 10, schedule)

    model = network()
    before = full(model.named_parameters(), kernel)
    schedule = lr_scheduler.StepLR(before, 3, gamma=0.5)
    train(model, before, 4, schedule)
    torch.save({"optimizer": before.state_dict(), "schedule": schedule.state_dict()}, tmp_path / "x.pt")
    saved = torch.load(tmp_path / "x.pt", weights_only=True)
    restored = copy.deepcopy(model)
    after = full(restored.named_parameters(), kernel, rate=0.9)
    schedule = lr_scheduler.StepLR(after, 3, gamma=0.5)
    kept = copy.deepcopy(saved)
    after.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    same(weights(restored), weights(model))  # the parameters stay
    train(restored, after, 6, schedule, first=4)
    same(weights(restored), weights(straight))
    assert str(saved) == str(kept)  # what was given is not what is written to
    one, other = optimizer.state_dict(), after.state_dict()
    assert one["param_groups"] == other["param_groups"]
    assert "thalweg" in one["param_groups"][0]
    assert "thalweg" not in after.param_groups[0]
    for key, state in one["state"].items():
        assert state.keys() == other["state"][key].keys()
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other["state"][key][name])), name


def test_a_state_dict_that_does_not_fit_lists_every_difference_and_changes_nothing() -> None:
    model = network()
    optimizer = full(model.named_parameters())
    train(model, optimizer, 2)
    before = copy.deepcopy(optimizer.state_dict())

    def refused(saved: Any, *said: str) -> None:
        with pytest.raises(StateMismatchError) as caught:
            optimizer.load_state_dict(saved)
        for part in said:
            assert part in str(caught.value), str(caught.value)
        assert str(optimizer.state_dict()) == str(before)

    refused(torch.optim.Adam(model.parameters()).state_dict(), "of another optimizer than ours")
    refused(TorchOptimizer(network().parameters(), tw.Adam()).state_dict(), "rule was adam, here it is nadam")
    other = network()
    refused(
        TorchOptimizer(other.named_parameters(), tw.Nadam(convention="optax")).state_dict(),
        "form was",
        "wrap was [], here it is ['lookahead']",
        "schedules was",
        "param groups were of [4] parameters, here they are of [2, 2]",
    )
    saved = copy.deepcopy(before)
    saved["state"][0]["mean"] = torch.zeros(2)
    saved["state"][1]["step"] = -1
    del saved["state"][2]["slow"]
    saved["param_groups"][0]["lr"] = -1.0
    saved["param_groups"][1]["param_names"] = ["x", "y"]
    saved["param_groups"][0]["thalweg"]["skipped"] = None
    refused(saved, "param group 0: nadam: learning_rate is -1.0", "was of ['x', 'y']", "skipped is None")
    saved["param_groups"] = before["param_groups"]
    refused(saved, "mean of '0.weight' is (2,)", "step and numbers of '2.weight'", "the state of '0.bias' was")
    with pytest.raises(StateMismatchError, match="has no 'thalweg'"):
        optimizer.load_state_dict({})


def test_sharded_checkpoints_pass_the_state_on_by_name() -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    model, other = network(), network()
    one, two = full(model.named_parameters()), full(other.named_parameters())
    train(model, one, 3)
    other.load_state_dict(model.state_dict())
    train(other, two, 1)
    other.load_state_dict(model.state_dict())
    saved = get_optimizer_state_dict(model, one)
    assert "0.weight" in saved["state"]
    set_optimizer_state_dict(other, two, saved)
    train(model, one, 3, first=3)
    train(other, two, 3, first=3)
    same(weights(model), weights(other))


def test_a_deep_copy_goes_its_own_way_and_the_same_one() -> None:
    model = network()
    optimizer = full(model.named_parameters())
    schedule = lr_scheduler.StepLR(optimizer, 3, gamma=0.5)
    train(model, optimizer, 3, schedule)
    other, twin = copy.deepcopy((model, optimizer))
    assert twin.rule is optimizer.rule
    assert {id(p) for g in twin.param_groups for p in g["params"]} == {id(p) for p in other.parameters()}
    state = weights(model)
    train(other, twin, 4, first=3)
    same(weights(model), state)
    train(model, optimizer, 4, first=3)
    same(weights(model), weights(other))
    assert str(twin.state_dict()) == str(optimizer.state_dict())
    with pytest.raises(OptimizerError, match="state_dict"):
        pickle.dumps(optimizer)


def on_numpy(model: torch.nn.Module, **settings: Any) -> LocalOptimizer:
    variables = [Variable(p.detach().numpy().copy(), name=n, needs_grad=True) for n, p in model.named_parameters()]
    return tw.Nadam(variables, **settings)


@pytest.mark.parametrize("library", [None, "torch"])
@kernels
def test_numpy_to_torch_to_numpy(kernel: str, library: str | None) -> None:
    """Twelve steps in thirds on two backends are twelve steps on one."""
    settings: dict[str, Any] = {
        "convention": library,
        "learning_rate": tw.schedules.Exp(0.05, gamma=0.9, decay_on_iteration=True),
        "weight_decay": 0.1,
        "groups": [{"variables": ["*.bias"], "weight_decay": 0.0, "beta1": 0.5}],
        "wrap": ["ema"],
        "process_model": tw.transforms.bounds(-2.0, 2.0),
    }
    rng = np.random.default_rng(24)
    model = network()
    grads = [{n: rng.normal(size=tuple(p.shape)) for n, p in model.named_parameters()} for _ in range(12)]
    straight, first, last = (on_numpy(model, **settings) for _ in range(3))
    here = TorchOptimizer(model.named_parameters(), tw.Nadam(**settings), kernel=kernel)
    for grad in grads:
        wait(straight.step(grad=grad))
    for grad in grads[:4]:
        wait(first.step(grad=grad))
    here.restore(first.state())
    for variable, param in zip(first.variables, model.parameters(), strict=True):
        param.data.copy_(torch.tensor(variable.data))
    for grad in grads[4:8]:
        for name, param in model.named_parameters():
            param.grad = torch.tensor(grad[name])
        here.step()
    snapshot = here.snapshot()
    last.restore(snapshot)
    for variable, param in zip(last.variables, model.parameters(), strict=True):
        variable.data[...] = param.detach().numpy()
    for grad in grads[8:]:
        wait(last.step(grad=grad))
    for one, other in zip(straight.variables, last.variables, strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=0, atol=1e-12)
    assert last.state().meta.keys() == straight.state().meta.keys()
    assert {k: v for k, v in last.state().meta.items() if k != "carried"} == {
        k: v for k, v in straight.state().meta.items() if k != "carried"
    }
    for name, array in straight.state().arrays.items():
        np.testing.assert_allclose(last.state().arrays[name], array, rtol=0, atol=1e-12)
    # A snapshot of its own, in its own.
    again = TorchOptimizer(model.named_parameters(), tw.Nadam(**settings), kernel=kernel)
    again.restore(snapshot)
    assert str(again.snapshot()) == str(snapshot)


def test_a_snapshot_says_what_a_scheduler_and_tables_have_set() -> None:
    model = network()
    tables = [
        {"params": [("a", model[0].weight), ("b", model[0].bias)]},
        {"params": [("c", model[2].weight)], "lr": 0.3},
        {"params": [("d", model[2].bias)]},
    ]
    optimizer = TorchOptimizer(tables, tw.Momentum(learning_rate=0.1))
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    train(model, optimizer, 3, schedule)
    meta = optimizer.snapshot().meta
    assert meta["hyperparameters"]["learning_rate"] == 0.0125
    assert meta["groups"] == [{"variables": ["c"], "learning_rate": 0.0375}]
    there = tw.Momentum(
        [Variable(np.zeros(tuple(p.shape)), name=n) for n, p in zip("abcd", model.parameters(), strict=True)],
        groups=[{"variables": ["c"], "learning_rate": 0.3}],
    )
    there.restore(optimizer.snapshot())
    assert there.learning_rate == 0.0125
    assert there.groups[0].learning_rate == 0.0375
    other = tw.Momentum([Variable(np.zeros(2), name=n) for n in "abc"])
    with pytest.raises(StateMismatchError) as caught:
        other.restore(optimizer.snapshot())
    assert "unexpected: slots/velocity/d" in str(caught.value)
    with pytest.raises(StateMismatchError) as caught:
        optimizer.restore(other.state())
    assert "missing: slots/velocity/d" in str(caught.value)
    assert optimizer.snapshot().meta == meta
    optimizer.param_groups[2]["lr"] = 7.0  # no table of its own had it
    assert optimizer.snapshot().meta["groups"][1] == {"variables": ["d"], "learning_rate": 7.0}


def test_a_snapshot_needs_names_and_works_before_the_first_step() -> None:
    model = network()
    with pytest.raises(OptimizerError, match="named_parameters"):
        TorchOptimizer(model.parameters(), tw.Adam()).snapshot()
    with pytest.raises(OptimizerError, match="named_parameters"):
        TorchOptimizer(model.parameters(), tw.Adam()).restore(on_numpy(model).state())
    optimizer = TorchOptimizer(model.named_parameters(), tw.Nadam())
    there = on_numpy(model)
    snapshot = optimizer.snapshot()
    assert snapshot.meta == there.state().meta
    optimizer.restore(there.state())
    train(model, optimizer, 1)
    assert optimizer.state[model[0].weight]["step"] == 1
