"""What our PyTorch optimizers notice, and what they refuse before anything is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import thalweg as tw
from tests.optimizers.torch_training import loss_of, network, train, units
from thalweg import rules
from thalweg.errors import (
    GradientDtypeError,
    GradientShapeError,
    HyperparameterError,
    OptimizerError,
    ParameterError,
    StateMismatchError,
)
from thalweg.graph import Variable
from thalweg.lowering.torch_units import Compiled, Native
from thalweg.optimizers import LocalOptimizer
from thalweg.optimizers.torch import TorchOptimizer

kernels = pytest.mark.parametrize("kernel", ["native", "shared"])


def test_autograd_notices_a_step_between_forward_and_backward() -> None:
    for kernel in ("native", "shared"):
        model = network()
        optimizer = TorchOptimizer(model.parameters(), tw.SGD(learning_rate=0.1), kernel=kernel)
        stale = loss_of(model, 0)
        train(model, optimizer, 1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            stale.backward()


def test_parameters_that_move_are_followed() -> None:
    print("seed 25")
    rng = np.random.default_rng(25)
    x = torch.tensor(rng.normal(size=(3, 4)), requires_grad=True)
    rule, hyper = tw.Adam().rule, tw.Adam().rule.hyper(learning_rate=0.1)
    optimizer = TorchOptimizer([x], tw.Adam(learning_rate=0.1))
    pure, state = x.detach().numpy().copy(), rule.init(x.detach().numpy(), hyper)

    def step(t: int) -> None:
        nonlocal pure, state
        grad = rng.normal(size=(3, 4))
        x.grad = torch.tensor(grad)
        optimizer.step()
        pure, state = rule.step(pure, grad, state, hyper, t=t)
        np.testing.assert_allclose(x.detach().numpy(), pure, rtol=0, atol=1e-14)

    step(1)
    old = x.data
    x.data = x.data.clone()
    kept = old.clone()
    step(2)
    assert torch.equal(old, kept)
    assert units(optimizer) == [Compiled]
    x.data = x.data.T.contiguous().T  # as it was, in another order
    step(3)
    assert units(optimizer) == [Native]
    optimizer.state[x]["mean"] = optimizer.state[x]["mean"].clone()
    optimizer.state[x]["mean_square"].data = optimizer.state[x]["mean_square"].data.clone()
    step(4)
    optimizer.state[x]["mean"].zero_()
    state = state._replace(mean=np.zeros((3, 4)))
    step(5)
    optimizer.state.clear()
    state = rule.init(pure, hyper)
    step(1)
    x.data, x.grad = torch.zeros(5, dtype=torch.float64), None
    x.grad = torch.ones(5, dtype=torch.float64)
    with pytest.raises(ParameterError, match=r"is now \(5,\).*its state 'mean' is \(3, 4\)"):
        optimizer.step()


def test_a_parameter_may_be_put_into_another_group() -> None:
    x, y = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = TorchOptimizer(
        [{"params": [x]}, {"params": [y], "lr": 0.25}], tw.Momentum(learning_rate=1.0, momentum=0.5)
    )
    for _ in range(2):
        x.grad, y.grad = torch.ones(2), torch.ones(2)
        optimizer.step()
        optimizer.param_groups[1]["params"] += optimizer.param_groups[0]["params"]
        optimizer.param_groups[0]["params"] = []
    assert y.tolist() == [-0.625, -0.625]
    assert x.tolist() == [-1.75, -1.75]


@kernels
def test_a_gradient_that_is_a_parameter_is_read_before_it_is_written(kernel: str) -> None:
    x, y = torch.ones(3, requires_grad=True), torch.full((3,), 2.0, requires_grad=True)
    x.grad, y.grad = y.data, x.data
    optimizer = TorchOptimizer([x, y], tw.SGD(learning_rate=1.0), kernel=kernel)
    optimizer.step()
    assert torch.equal(x.detach(), torch.full((3,), -1.0))
    assert torch.equal(y.detach(), torch.ones(3))
    x.grad = torch.ones(1).expand(3)
    y.grad = None
    optimizer.step()
    assert torch.equal(x.detach(), torch.full((3,), -2.0))
    y.grad = torch.ones(3)
    optimizer.step()
    x.data = y.grad
    optimizer.step()
    assert torch.equal(x.detach(), torch.zeros(3))
    assert torch.equal(y.detach(), torch.full((3,), -1.0))


def test_gradients_that_do_not_fit_are_refused() -> None:
    x = torch.ones(2, requires_grad=True)
    optimizer = TorchOptimizer([("x", x)], tw.SGD())
    torch.nn.functional.embedding(
        torch.tensor([1]), y := torch.ones(3, 2, requires_grad=True), sparse=True
    ).sum().backward()
    sparse = TorchOptimizer([("y", y)], tw.SGD())
    with pytest.raises(GradientDtypeError, match=r"'y', iteration 1: .*sparse"):
        sparse.step()
    x.grad = torch.ones(2)
    x.data = x.data.double()
    with pytest.raises(GradientDtypeError, match=r"of torch.float32 .*of torch.float64"):
        optimizer.step()
    x.data = torch.ones(3)
    with pytest.raises(GradientShapeError, match=r"\(2,\), the parameter \(3,\)"):
        optimizer.step()
    assert torch.equal(x.detach(), torch.ones(3))
    assert not optimizer.state


def test_parameters_that_cannot_be_optimized_are_refused() -> None:
    recipe, leaf = tw.Adam(), torch.ones(4, requires_grad=True)
    with torch.inference_mode():
        inferred = torch.ones(2)
    for params, said in [
        ([torch.ones(2, dtype=torch.int64)], "is of torch.int64"),
        ([torch.ones(2, dtype=torch.complex128)], "is of torch.complex128"),
        ([torch.ones(2).to_sparse()], "layout torch.sparse_coo"),
        ([leaf * 2], "no leaf"),
        ([torch.ones(1).expand(3)], "share memory"),
        ([inferred], "inference mode"),
        ([torch.nn.LazyLinear(2).weight], "no shape yet"),
        ([np.ones(2)], "is a ndarray"),
        ([leaf, leaf], "'0' and '1' are the same tensor"),
        ([{"params": [leaf]}, {"params": [leaf]}], "'0' and '1' are the same tensor"),
        ([leaf.detach()[:3], leaf.detach()[2:]], "'0' and '1' share memory"),
        (torch.ones(2), "got a Tensor"),
        (network(), "got a Sequential"),
        ([{"parameters": []}], "'params'"),
        ([{"params": {leaf}}], "no order"),
    ]:
        with pytest.raises(ParameterError, match=said):
            TorchOptimizer(params, recipe)  # type: ignore[arg-type]
    for params, said in [
        ([], "no parameter"),
        ([("a", leaf), torch.ones(1)], "names"),
        ([("a", leaf), ("a", torch.ones(1))], "two parameters are named 'a'"),
        ([{"params": [("a", leaf)]}, {"params": [torch.ones(1)]}], "either all parameters have names"),
    ]:
        with pytest.raises(OptimizerError, match=said):
            TorchOptimizer(params, recipe)
    memory = torch.zeros(6)
    TorchOptimizer([memory[::2], memory[1::2]], recipe)  # no element of both
    strided = memory[::2].requires_grad_()
    strided.grad = torch.ones(3)
    optimizer = TorchOptimizer([strided], recipe, kernel="shared")
    with pytest.raises(ParameterError, match="kernel=\"shared\": parameter '0' is not contiguous"):
        optimizer.step()


def test_recipes_and_tables_that_mean_nothing_are_refused() -> None:
    class Own(tw.SGD):
        async def post_process(self) -> None:
            pass

    params = [torch.ones(2, requires_grad=True)]
    for recipe, said in [
        (tw.SGD(Variable(np.ones(1), name="x")), "bound to x"),
        (Own(), "post_process of its own"),
        (tw.SGD(groups=[{"variables": "*.bias", "learning_rate": 1.0}]), "groups find parameters by name"),
        (tw.SGD(process_grad={"x": np.abs}), "process_grad find parameters by name"),
    ]:
        with pytest.raises(OptimizerError, match=said):
            TorchOptimizer(params, recipe)
    with pytest.raises(HyperparameterError, match="give an optimizer of ours without variables"):
        TorchOptimizer(params, torch.optim.Adam)  # type: ignore[arg-type]
    with pytest.raises(HyperparameterError, match=r"kernel 'nativ'; did you mean 'native'"):
        TorchOptimizer(params, tw.SGD(), kernel="nativ")
    named = [("w", params[0])]
    with pytest.raises(HyperparameterError, match=r"variable for a group: '\*.bias'"):
        TorchOptimizer(named, tw.SGD(groups=[{"variables": "*.bias", "learning_rate": 1.0}]))
    with pytest.raises(HyperparameterError, match="process_model: 'x'"):
        TorchOptimizer(named, tw.SGD(process_model={"x": np.abs}))
    for table, said in [
        ({"lr": -1.0}, "learning_rate is -1.0"),
        ({"lr": 1.0, "learning_rate": 1.0}, "twice"),
        ({"betas": 0.9}, "a pair"),
        ({"betas": (0.9, 1.0)}, "beta2 is 1.0"),
        ({"eps": 1.0}, "did you mean epsilon"),
        ({"learning_rat": 1.0}, "did you mean learning_rate"),
        ({"amsgrad": True}, "another form"),
    ]:
        with pytest.raises(HyperparameterError, match=said):
            TorchOptimizer([{"params": params, **table}], tw.Adam())
    optimizer = TorchOptimizer([{"params": params, "layer": 3}], tw.Adam())
    assert optimizer.param_groups[0]["layer"] == 3  # PyTorch keeps what it does not know
    params[0].grad = torch.ones(2)
    for key, value in {"lr": float("nan"), "weight_decay": -1.0, "betas": 3, "epsilon": "small"}.items():
        kept, optimizer.param_groups[0][key] = optimizer.param_groups[0][key], value
        with pytest.raises(
            HyperparameterError, match={"lr": "learning_rate", "betas": "beta1 and beta2"}.get(key, key)
        ):
            optimizer.step()
        optimizer.param_groups[0][key] = kept
    optimizer.param_groups[0]["betas"] = (0.9, 1 - 1e-9)
    with pytest.raises(HyperparameterError, match=r"becomes 1\.0 in float32"):
        optimizer.step()
    optimizer.param_groups[0].update(betas=(0.9, 0.999), lr=3e38)
    with pytest.raises(HyperparameterError, match="does not fit"):
        optimizer.step()
    assert torch.equal(params[0].detach(), torch.ones(2))
    optimizer.param_groups[0]["lr"] = torch.tensor(0.5)
    optimizer.step()
    optimizer.param_groups[0]["lr"].fill_(0.0)
    before = params[0].detach().clone()
    optimizer.step()
    assert torch.equal(params[0].detach(), before)


def test_groups_by_name_become_param_groups_and_more_can_be_added() -> None:
    model = network()
    recipe = tw.SGD(learning_rate=0.5, weight_decay=0.1, groups=[{"variables": "*.bias", "weight_decay": 0.0}])
    optimizer = TorchOptimizer(list(model.named_parameters())[:2], recipe)
    assert [g["param_names"] for g in optimizer.param_groups] == [["0.weight"], ["0.bias"]]
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    optimizer.add_param_group({"params": list(model.named_parameters())[2:], "lr": 0.25})
    assert [g["param_names"] for g in optimizer.param_groups[2:]] == [["2.weight"], ["2.bias"]]
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups[2:]] == [(0.25, 0.1), (0.25, 0.0)]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train(model, optimizer, 1)
    for name, param in model.named_parameters():
        rate, decay = 0.5 if name.startswith("0") else 0.25, 0.0 if "bias" in name else 0.1
        torch.testing.assert_close(param.detach(), before[name] - rate * (param.grad + decay * before[name]))  # type: ignore[operator]
    with pytest.raises(ParameterError, match="the same tensor"):
        optimizer.add_param_group({"params": [("again", model[0].weight)]})
    assert len(optimizer.param_groups) == 4


def test_a_text_that_cannot_be_compiled_is_run_natively_unless_the_kernel_was_asked_for() -> None:
    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param - h.learning_rate * torch.sign(grad), slots

    class Sign(LocalOptimizer):
        rule = rules.Rule("signs", rules.NoSlots, rules.sgd.hyper, update)

    x = torch.zeros(2, requires_grad=True)
    x.grad = torch.tensor([3.0, -3.0])
    optimizer = TorchOptimizer([x], Sign(learning_rate=1.0))
    optimizer.step()
    assert units(optimizer) == [Native]
    assert x.tolist() == [-1.0, 1.0]
    with pytest.raises(TypeError, match="cannot be compiled"):
        TorchOptimizer([x], Sign(learning_rate=1.0), kernel="shared").step()


@pytest.mark.parametrize(
    ("recipe", "key", "value", "said"),
    [
        (tw.SGD, "momentum", 0.9, "momentum"),
        (tw.SGD, "beta1", 0.9, "beta1"),
        (tw.SGD, "betas", (0.9, 0.99), "betas"),
        (tw.SGD, "eps", 1e-8, "'eps', which is epsilon to us, and sgd has none"),
        (tw.Adam, "rho", 0.9, "rho"),
        (tw.Adam, "alpha", 0.9, "'alpha', which is rho to us, and adam has none"),
        (tw.Adam, "ema_decay", 0.9, "belongs to a wrapper"),
        (tw.Adam, "convention", "torch", "stays as it was given"),
        (tw.Adam, "process_grad", None, "stays as it was given"),
        (tw.RMSProp, "momentum", 0.9, "means nothing with with_momentum=False"),
    ],
)
def test_what_another_rule_would_take_is_refused_in_a_group_and_not_ignored(
    recipe: Any, key: str, value: Any, said: str
) -> None:
    param = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(HyperparameterError, match=said):
        TorchOptimizer([{"params": [param], key: value}], recipe())
    optimizer = TorchOptimizer([param], recipe())
    with pytest.raises(HyperparameterError, match=said):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], key: value})
    assert len(optimizer.param_groups) == 1


MARKS = {
    "decay": True,
    "groups": 3,
    "threshold": 0.5,
    "wrap": False,
    "correction": "none of yours",
    "weighting": [0.1, 0.2],
    "layer": "encoder",
    "scale_parameter": None,
    "name": "the encoder",
    7: "seven",
}
FOREIGN = [
    (tw.Adam, "decay", "decoupled", "stays as it was given"),
    (tw.SGD, "decay", "coupled", "stays as it was given"),
    (tw.Adam, "wrap", ["ema"], "stays as it was given"),
    (tw.Adam, "wrap", "lookahead", "stays as it was given"),
    (tw.Adam, "groups", [{"variables": "*.bias"}], "stays as it was given"),
    (tw.Adam, "weighting", "uniform", "weighting"),
    (tw.SGD, "momentum", 0.9, "momentum"),
    (tw.SGD, "eps", 1e-8, "'eps', which is epsilon to us"),
    (tw.Adam, "weight_decy", 0.1, "did you mean weight_decay"),
    (tw.Adam, "rho", 0.9, "rho"),
    (tw.Adam, "nesterov", True, "chooses another form"),
    (tw.Adam, "ema_decay", 0.9, "belongs to a wrapper"),
]


@kernels
@pytest.mark.parametrize("key", MARKS, ids=str)
def test_a_mark_of_the_user_s_own_is_kept_whenever_it_is_set(kernel: str, key: Any) -> None:
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = TorchOptimizer([{"params": [first], key: MARKS[key]}], tw.Adam(learning_rate=0.5), kernel=kernel)
    optimizer.add_param_group({"params": [second]})
    for _ in range(2):
        first.grad, second.grad = torch.ones(2), torch.ones(2)
        optimizer.step()
        optimizer.param_groups[1][key] = MARKS[key]
        optimizer.load_state_dict(optimizer.state_dict())
    assert [group[key] for group in optimizer.param_groups] == [MARKS[key]] * 2
    assert torch.equal(first, second)


@pytest.mark.parametrize(("recipe", "key", "value", "said"), FOREIGN)
def test_what_nobody_would_read_is_refused_at_the_step_after_it_was_set(
    recipe: Any, key: str, value: Any, said: str
) -> None:
    x = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(HyperparameterError, match=said):
        TorchOptimizer([{"params": [x], key: value}], recipe())
    for steps in (0, 1, 3):
        optimizer = TorchOptimizer([x], recipe())
        x.grad = torch.ones(2)
        for _ in range(steps):
            optimizer.step()
        before, known = x.detach().clone(), optimizer.state_dict()
        optimizer.param_groups[0][key] = value
        for _ in range(2):  # not only the first time
            with pytest.raises(HyperparameterError, match=said):
                optimizer.step()
        assert torch.equal(x, before)
        with pytest.raises(StateMismatchError, match=said):
            optimizer.load_state_dict(optimizer.state_dict())
        del optimizer.param_groups[0][key]
        optimizer.step()
        optimizer.load_state_dict(known)


def test_a_key_in_the_place_of_a_mark_is_read_or_refused_as_any_other() -> None:
    """The group has as many keys as before."""
    x = torch.nn.Parameter(torch.zeros(2))
    x.grad = torch.ones(2)
    optimizer = TorchOptimizer([{"params": [x], "mine": 1}], tw.SGD(learning_rate=0.125))
    group = optimizer.param_groups[0]
    optimizer.step()
    del group["mine"]
    group["learning_rte"] = 0.5
    with pytest.raises(HyperparameterError, match="did you mean learning_rate"):
        optimizer.step()
    del group["learning_rte"]
    group["learning_rate"] = 0.5
    optimizer.step()
    assert x.tolist() == [-0.625, -0.625]
    group["mine"] = group.pop("lr")
    with pytest.raises(HyperparameterError, match="has no 'lr' any more; set it"):
        optimizer.step()
    assert "lr" not in optimizer.state_dict()["param_groups"][0]
    assert x.tolist() == [-0.625, -0.625]


def test_numbers_that_are_written_where_they_are_are_those_of_the_next_step() -> None:
    """A list of betas, and NumPy's array without axes, which are not others than at the last step."""
    several = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    written, expected = (TorchOptimizer([x], tw.Adam()) for x in several)
    rate, betas = np.array(0.5), [0.5, 0.5]
    written.param_groups[0].update(lr=rate, betas=betas)
    for t, grad in enumerate([1.0, 3.0, -2.0, 1.0]):
        if t == 2:
            rate[...] = 0.25
            betas[0] = 0.75
        expected.param_groups[0].update(lr=float(rate), betas=tuple(betas))
        for x, optimizer in zip(several, (written, expected), strict=True):
            x.grad = torch.tensor([grad], dtype=torch.float64)
            optimizer.step()
        assert torch.equal(*several), t


def test_our_own_name_for_a_part_of_a_pair_is_followed_when_it_is_set_later() -> None:
    several = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)]
    late, expected = (TorchOptimizer([x], tw.Adam(learning_rate=0.1)) for x in several)
    for t in range(4):
        if t == 2:
            late.param_groups[0]["beta1"] = 0.5
            expected.param_groups[0]["betas"] = (0.5, 0.999)
        for x, optimizer in zip(several, (late, expected), strict=True):
            x.grad = torch.tensor([1.0, -2.0], dtype=torch.float64) * (t + 1)
            optimizer.step()
    assert torch.equal(*several)
    assert late.param_groups[0]["betas"] == (0.5, 0.999)
    assert "beta1" not in late.param_groups[0]


@pytest.mark.parametrize("kernel", ["auto", "shared", "native"])
def test_a_parameter_on_the_meta_device_has_no_values(kernel: str) -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(2, 1)
    words = r"parameter 'weight' is on the meta device, .*model\.to_empty"
    with pytest.raises(ParameterError, match=words):
        TorchOptimizer(model.named_parameters(), tw.Adam(), kernel=kernel)
    optimizer = TorchOptimizer([("x", torch.nn.Parameter(torch.ones(2)))], tw.Adam(), kernel=kernel)
    with pytest.raises(ParameterError, match=words):
        optimizer.add_param_group({"params": list(model.named_parameters())})
    assert len(optimizer.param_groups) == 1
    model.to_empty(device="cpu")
    optimizer.add_param_group({"params": list(model.named_parameters())})
