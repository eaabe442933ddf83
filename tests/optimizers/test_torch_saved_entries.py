"""What a ``state_dict`` says beside its tensors is all there, nothing else, of the right kind; else it is refused."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import thalweg as tw
from thalweg.errors import ParameterError, StateMismatchError
from thalweg.optimizers.torch import TorchOptimizer
from thalweg.schedules import OptimizationState

BIG = 10**400
ARRAY = np.array([1, 2])


def made(recipe: Any = None, *, named: bool = True, kernel: str = "auto", steps: int = 1) -> Any:
    params = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)]
    parameters: Any = list(zip("ab", params, strict=True)) if named else params
    optimizer = TorchOptimizer(parameters, tw.Adam() if recipe is None else recipe, kernel=kernel)
    for _ in range(steps):
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
    return optimizer


def refused(target: Any, saved: Any, words: str) -> None:
    before = str(target.state_dict())
    with pytest.raises(StateMismatchError) as caught:
        target.load_state_dict(saved)
    assert words in str(caught.value)
    assert str(target.state_dict()) == before


def ours(saved: Any) -> Any:
    return saved["param_groups"][0]["thalweg"]


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    **{
        f"no {name}": (lambda saved, name=name: ours(saved).pop(name), f"missing: thalweg.{name}")
        for name in ("form", "wrap", "accumulate", "skipped", "zeroed", "micro", "schedules")
    },
    **{
        f"no {name}": (
            lambda saved, name=name: ours(saved)["optimization_state"].pop(name),
            f"missing: optimization_state: {name}",
        )
        for name in OptimizationState().get_config()
    },
    **{
        f"{name} of arrays": (lambda saved, name=name: ours(saved).update({name: ARRAY}), f"{name} was [1 2]")
        for name in ("rule", "process_grad")
    },
    **{
        f"{name} of arrays": (lambda saved, name=name: ours(saved).update({name: ARRAY}), f"{name} was array([1, 2])")
        for name in ("form", "wrap", "accumulate", "schedules")
    },
    "a tensor": (
        lambda saved: ours(saved).update(accumulate=torch.tensor(1)),
        "accumulate was tensor(1), here it is 1",
    ),
    "more": (lambda saved: ours(saved).update(more=1), "unexpected: thalweg.more"),
    "skipped": (lambda saved: ours(saved).update(skipped=BIG), "skipped is beyond 9223372036854775807, not a count"),
    "a count": (lambda saved: ours(saved)["optimization_state"].update(curr_iter=BIG), "curr_iter is beyond 92233"),
    "step": (lambda saved: saved["state"][0].update(step=BIG), "step and numbers of 'a' are beyond 92233"),
    "names": (lambda saved: saved["param_groups"][0].update(param_names=["a", ARRAY]), "here it is of ['a', 'b']"),
    "names of state": (lambda saved: saved["state"][0].update({3: 3}), "the state of 'a' was ['3', 'mean'"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_state_dict_is_whole_and_plain(case: str) -> None:
    change, words = CHANGES[case]
    saved = copy.deepcopy(made(steps=2).state_dict())
    change(saved)
    refused(made(), saved, words)


@pytest.mark.filterwarnings("ignore:.*MaskedTensors:UserWarning")
def test_masked_tensors_are_no_state_and_no_hyperparameters() -> None:
    masked = torch.masked.masked_tensor(torch.ones(2, dtype=torch.float64), torch.tensor([True, False]))
    saved = made().state_dict()
    saved["state"] = {0: {**saved["state"][0], "mean": masked}}
    refused(made(), saved, "mean of 'a' is a masked tensor")
    saved = made().state_dict()
    saved["param_groups"][0]["lr"] = masked
    refused(made(), saved, "learning_rate is a MaskedTensor of (2,)")


@pytest.mark.parametrize("named", [True, False])
def test_with_names_on_one_side_only_parameters_are_paired_in_their_order_and_that_is_told(named: bool) -> None:
    """As PyTorch does, and as torch.distributed.checkpoint asks for after it has paired them itself."""
    source, target = made(named=named), made(named=not named)
    who = "the optimizer" if named else "what was saved"
    with pytest.warns(
        UserWarning, match=f"adam: {who} has no names of parameters for param group 0, so they are paired"
    ):
        target.load_state_dict(source.state_dict())
    for one, other in zip(source.param_groups[0]["params"], target.param_groups[0]["params"], strict=True):
        assert torch.equal(source.state[one]["mean"], target.state[other]["mean"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(named=named).load_state_dict(source.state_dict())


STEPS: list[Any] = [-5, None, "x", BIG, 2.5, float("nan"), torch.tensor([1, 2]), torch.tensor(-1)]


@pytest.mark.parametrize("kernel", ["auto", "native"])
@pytest.mark.parametrize("value", STEPS, ids=lambda value: str(value)[:9])
def test_a_step_that_is_no_count_is_refused_by_name(kernel: str, value: Any) -> None:
    optimizer = made(kernel=kernel)
    first, second = optimizer.param_groups[0]["params"]
    optimizer.state[first]["step"] = value
    before = first.tolist(), second.tolist()
    with pytest.raises(ParameterError, match=r"parameter 'a': the step of its state is .*an integer from 0"):
        optimizer.step()
    assert (first.tolist(), second.tolist()) == before
    optimizer.state[first]["step"] = torch.tensor(1.0)  # as PyTorch's own write it
    optimizer.step()
    assert optimizer.state[first]["step"] == 2


def test_numbers_of_a_rule_that_are_gone_are_told_by_name() -> None:
    optimizer = made(tw.Nadam())
    del optimizer.state[optimizer.param_groups[0]["params"][0]]["momentum_product"]
    with pytest.raises(ParameterError, match="parameter 'a': the momentum_product of its state is None, no number"):
        optimizer.step()


def mine(state: OptimizationState) -> float:
    return 1e-6


def test_a_function_of_ones_own_is_never_replaced() -> None:
    source, target = made(), made(tw.Adam(learning_rate=mine))
    refused(target, source.state_dict(), "schedules was {}, here it is {'0.learning_rate'")
    with pytest.raises(
        StateMismatchError, match=r"learning_rate was 0\.001, and here it is .*mine, a callable of your"
    ):
        target.restore(source.snapshot())
    assert target.snapshot().meta["hyperparameters"]["learning_rate"] == {"callable": f"{__name__}.mine"}
