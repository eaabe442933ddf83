"""Arrays of hyperparameters in PyTorch's param groups: set there, scheduled there, saved by PyTorch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.optim import lr_scheduler  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.errors import HyperparameterError, StateMismatchError  # noqa: E402
from thalweg.lowering.torch import evaluate, init, step_  # noqa: E402
from thalweg.lowering.torch_units import Compiled, Native  # noqa: E402
from thalweg.optimizers.torch import TorchOptimizer  # noqa: E402

RATES = np.array([[0.5, 0.25, 0.0], [1.0, 2.0, 4.0]])
kernels = pytest.mark.parametrize("kernel", ["native", "shared"])


def leaf(shape: Any = (2, 3), **options: Any) -> torch.Tensor:
    return torch.zeros(shape, **{"dtype": torch.float64, "requires_grad": True, **options})


def push(optimizer: TorchOptimizer, grad: float = -1.0) -> None:
    """A step with the same gradient for every element."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.full_like(param, grad)
    optimizer.step()


@kernels
def test_an_array_is_an_option_of_a_group(kernel: str) -> None:
    x, y = leaf(), leaf(4)
    tables = [{"params": [x], "lr": RATES}, {"params": [y]}]
    optimizer = TorchOptimizer(tables, tw.SGD(learning_rate=0.5), kernel=kernel)
    push(optimizer)
    np.testing.assert_array_equal(x.detach().numpy(), RATES)
    assert y.tolist() == [0.5] * 4
    assert optimizer._plan is not None
    assert {type(unit) for unit in optimizer._plan.units} == {Compiled if kernel == "shared" else Native}
    optimizer.add_param_group({"params": [z := leaf((2, 3))], "weight_decay": RATES, "lr": 1.0})
    push(optimizer, 0.0)
    push(optimizer)
    np.testing.assert_array_equal(z.detach().numpy(), np.ones((2, 3)))


@kernels
def test_what_is_set_in_a_group_holds_from_the_next_step(kernel: str) -> None:
    x = leaf()
    optimizer = TorchOptimizer([x], tw.SGD(learning_rate=0.5), kernel=kernel)
    push(optimizer)
    group = optimizer.param_groups[0]
    group["lr"] = given = RATES.copy()
    push(optimizer)
    np.testing.assert_array_equal(x.detach().numpy(), 0.5 + RATES)
    given[...] = 100.0  # a copy was taken
    with pytest.raises(ValueError, match="read-only"):
        group["lr"][0, 0] = 100.0
    push(optimizer)
    np.testing.assert_array_equal(x.detach().numpy(), 0.5 + 2 * RATES)
    group["lr"] = 3 * group["lr"]
    push(optimizer)
    np.testing.assert_array_equal(x.detach().numpy(), 0.5 + 5 * RATES)
    group["lr"] = 1.0  # a number again
    push(optimizer)
    np.testing.assert_array_equal(x.detach().numpy(), 1.5 + 5 * RATES)
    group["learning_rate"] = torch.tensor(RATES, dtype=torch.float32)  # our name, and a tensor
    push(optimizer)
    np.testing.assert_array_equal(x.detach().numpy(), 1.5 + 6 * RATES)
    assert isinstance(group["lr"], np.ndarray)
    assert "learning_rate" not in group


@kernels
def test_betas_may_be_an_array_and_a_number(kernel: str) -> None:
    x, each = leaf(3), np.array([0.0, 0.5, 0.75])
    optimizer = TorchOptimizer([{"params": [x], "betas": (each, 0.5)}], tw.Adam(learning_rate=0.1), kernel=kernel)
    there = tw.Adam(tw.Variable(np.zeros(3), name="x"), learning_rate=0.1, beta1=each, beta2=0.5)
    for grad in (1.0, -2.0, 0.5):
        push(optimizer, grad)
        tw.wait(there.step(grad=np.full(3, grad)))
    np.testing.assert_allclose(x.detach().numpy(), there.variable.data, rtol=1e-14)


def test_parameters_of_one_shape_may_share_an_array() -> None:
    x, y = leaf(), leaf()
    push(TorchOptimizer([x, y], tw.SGD(learning_rate=RATES)))
    np.testing.assert_array_equal(x.detach().numpy(), RATES)
    np.testing.assert_array_equal(y.detach().numpy(), RATES)


@kernels
def test_a_layout_of_a_parameter_s_own(kernel: str) -> None:
    x = torch.zeros((3, 2), dtype=torch.float64).T.requires_grad_()
    optimizer = TorchOptimizer([x], tw.SGD(learning_rate=np.asfortranarray(RATES)), kernel="auto")
    push(optimizer)
    np.testing.assert_array_equal(x.detach().numpy(), RATES)
    y = leaf((40, 1000))
    rates = np.linspace(0.0, 1.0, 40_000).reshape(40, 1000)[::-1]
    push(TorchOptimizer([y], tw.SGD(learning_rate=rates), kernel=kernel))
    np.testing.assert_array_equal(y.detach().numpy(), rates)
    empty = leaf((0, 3))
    push(TorchOptimizer([empty], tw.SGD(learning_rate=np.ones((0, 3))), kernel=kernel))


def test_what_does_not_fit_is_refused_with_the_group_s_parameter() -> None:
    x, y = leaf(), leaf(4)
    with pytest.raises(
        HyperparameterError, match=r"learning_rate is an array of shape \(2, 3\), and parameter 'b' has"
    ):
        TorchOptimizer([("a", x), ("b", y)], tw.SGD(learning_rate=RATES))
    optimizer = TorchOptimizer([("a", x), ("b", y)], tw.SGD(learning_rate=0.5))
    with pytest.raises(HyperparameterError, match=r"nothing is broadcast: give a number, .* one each, in groups"):
        optimizer.add_param_group({"params": [("c", leaf())], "lr": RATES[0]})
    assert len(optimizer.param_groups) == 1
    for wrong, words in (
        (RATES, r"and parameter 'b' has shape \(4,\)"),
        (-RATES, r"learning_rate\[0, 0\] is -0.5, outside"),
        (RATES.astype(int), "an array of .* int64; give a number, or an array of float32"),
        (torch.ones(2, 3, dtype=torch.bfloat16), r"is a tensor of \(2, 3\) torch.bfloat16"),
        (torch.ones(2, 3, dtype=torch.float64).to_sparse(), "give a number, or a dense tensor"),
        ([0.5, 0.25], "give a real number"),
    ):
        optimizer.param_groups[0]["lr"] = wrong
        with pytest.raises(HyperparameterError, match=words):
            push(optimizer)
        assert not x.any()
        assert not optimizer.state
    lamb = TorchOptimizer([leaf()], tw.LAMB())
    lamb.param_groups[0]["lr"] = RATES
    with pytest.raises(HyperparameterError, match="it sums over the whole tensor"):
        push(lamb)


@kernels
def test_a_parameter_in_another_group_meets_that_group_s_array(kernel: str) -> None:
    x, y = leaf(), leaf((1, 3))
    optimizer = TorchOptimizer([{"params": [x], "lr": RATES}, {"params": [y]}], tw.SGD(), kernel=kernel)
    push(optimizer)
    before = y.detach().clone()
    optimizer.param_groups[0]["params"] += optimizer.param_groups[1]["params"]
    optimizer.param_groups[1]["params"] = []
    with pytest.raises(HyperparameterError, match="nothing is broadcast"):
        push(optimizer)
    assert torch.equal(y, before)
    np.testing.assert_array_equal(x.detach().numpy(), RATES)


# ------------------------------------------------------------------ PyTorch's machinery


@kernels
def test_a_scheduler_of_pytorch_scales_an_array(kernel: str) -> None:
    x = leaf()
    optimizer = TorchOptimizer([x], tw.SGD(learning_rate=RATES), kernel=kernel)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for _ in range(3):
        push(optimizer)
        scheduler.step()
    np.testing.assert_array_equal(x.detach().numpy(), 1.75 * RATES)


@kernels
def test_a_state_dict_goes_through_a_file(kernel: str, tmp_path: Path) -> None:
    def made(rate: Any) -> tuple[torch.Tensor, TorchOptimizer]:
        x = leaf()
        table = {"params": [x], "lr": rate, "betas": (RATES / 8, 0.75)}
        return x, TorchOptimizer([table], tw.Adam(), kernel=kernel)

    x, straight = made(RATES)
    for grad in (1.0, -2.0, 0.5, 1.5):
        push(straight, grad)
    y, first = made(RATES)
    for grad in (1.0, -2.0):
        push(first, grad)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    z, second = made(0.125)
    second.load_state_dict(torch.load(tmp_path / "state.pt"))  # which takes tensors and numbers only
    np.testing.assert_array_equal(second.param_groups[0]["lr"], RATES)
    with torch.no_grad():
        z.copy_(y)
    for grad in (0.5, 1.5):
        push(second, grad)
    assert torch.equal(z, x)
    other = TorchOptimizer([leaf(4)], tw.Adam())
    with pytest.raises(StateMismatchError, match=r"exp|mean|learning_rate is an array of shape \(2, 3\)"):
        other.load_state_dict(first.state_dict())


def test_a_deep_copy_goes_its_own_way() -> None:
    x = leaf()
    optimizer = TorchOptimizer([x], tw.SGD(learning_rate=RATES))
    push(optimizer)
    twin = copy.deepcopy(optimizer)
    twin.param_groups[0]["lr"] = 2 * RATES
    push(twin)
    np.testing.assert_array_equal(twin.param_groups[0]["params"][0].detach().numpy(), 3 * RATES)
    push(optimizer)
    np.testing.assert_array_equal(x.detach().numpy(), 2 * RATES)


def test_a_snapshot_has_what_tables_have_set() -> None:
    x, y = leaf(), leaf(2)
    recipe = tw.Momentum(groups=[{"variables": "b", "momentum": np.array([0.5, 0.0])}])
    optimizer = TorchOptimizer([("a", x), ("b", y)], recipe)
    optimizer.param_groups[0]["lr"] = RATES
    push(optimizer)
    variables = [tw.Variable(np.zeros((2, 3)), name="a"), tw.Variable(np.zeros(2), name="b")]
    groups = [{"variables": "b", "momentum": 0.0, "learning_rate": 0.0}]
    there = tw.Momentum(variables, groups=groups)
    there.restore(optimizer.snapshot())
    np.testing.assert_array_equal(there.learning_rate, RATES)
    np.testing.assert_array_equal(there.groups[0].momentum, [0.5, 0.0])
    assert there.groups[0].learning_rate == 0.01


# ------------------------------------------------------------------ one tensor at a time


def test_the_lowering_takes_arrays_like_the_parameter() -> None:
    rule = tw.SGD(wrap=["ema"]).rule
    hyper = rule.hyper(learning_rate=RATES, ema_decay=0.5)
    x = torch.zeros(2, 3, dtype=torch.float64)
    slots = init(rule, x, hyper)
    carried = rule.advance(hyper, 1, None)
    step_(rule, x, -torch.ones_like(x), slots, rule.scalars(hyper, 1, carried))
    np.testing.assert_array_equal(x.numpy(), RATES)
    with pytest.raises(HyperparameterError, match="the parameter has shape"):
        init(rule, x[0], hyper)
    with pytest.raises(HyperparameterError, match="the parameter has shape"):
        step_(rule, x[:1], x[:1], init(rule, x[:1]), rule.scalars(hyper, 1, carried))
    averaging = rule.hyper(ema_decay=RATES / 8)
    state = rule.state(*init(rule, x[0]), *(rule.advance(rule.hyper(), 1, None) or ()))
    with pytest.raises(HyperparameterError, match="the parameter has shape"):
        evaluate(rule, x[0], state, averaging)


def test_a_state_dict_leaves_the_users_marks_alone_and_gives_schedulers_their_arrays_back() -> None:
    rates = np.array([0.1, 0.2])
    w = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = TorchOptimizer([{"params": [w], "lr": rates, "mine": np.array(["a"], object)}], tw.SGD())
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    w.grad = torch.ones_like(w)
    optimizer.step()
    scheduler.step()
    saved = optimizer.state_dict()
    assert saved["param_groups"][0]["mine"].dtype == object
    assert isinstance(saved["param_groups"][0]["initial_lr"], torch.Tensor)
    v = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    other = TorchOptimizer([{"params": [v], "lr": rates}], tw.SGD())
    other.load_state_dict(saved)
    (group,) = other.param_groups
    for key, expected in (("initial_lr", rates), ("lr", rates / 2)):
        assert isinstance(group[key], np.ndarray)
        np.testing.assert_array_equal(group[key], expected)
