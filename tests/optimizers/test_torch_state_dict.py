"""What ``load_state_dict`` compares, and when PyTorch's hooks around it are called."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import thalweg as tw
from thalweg import transforms
from thalweg.errors import StateMismatchError
from thalweg.optimizers.torch import TorchOptimizer
from thalweg.schedules import Plateau


def step(optimizer: TorchOptimizer, grad: float = 1.0) -> float:
    """How far a step goes."""
    (param,) = optimizer.param_groups[0]["params"]
    before = param.item()
    param.grad = torch.full((1,), grad)
    optimizer.step()
    return float(before - param.item())


def made(**settings: Any) -> TorchOptimizer:
    return TorchOptimizer([("x", torch.zeros(1, requires_grad=True))], tw.Momentum(**settings))


def own(x: Any) -> Any:
    return x


HOOKS: list[tuple[Any, Any, str]] = [
    ("process_grad", transforms.clip_norm(1.0), "clip_norm"),
    ("process_grad", {"x": transforms.clip_norm(1.0)}, "by_variable"),
    ("process_model", [transforms.bounds(0.0, 1.0)], "bounds"),
    ("process_grad", own, "own"),
]


@pytest.mark.parametrize(("what", "hook", "said"), HOOKS)
def test_hooks_have_to_be_the_same(what: str, hook: Any, said: str) -> None:
    with_hook, without = made(**{what: hook}), made()
    for source, target in ((with_hook, without), (without, with_hook)):
        with pytest.raises(StateMismatchError, match=f"{what} was .*{said}|{what} was None, here it is .*{said}"):
            target.load_state_dict(source.state_dict())
    again = made(**{what: hook})
    again.load_state_dict(with_hook.state_dict())
    before = with_hook.state_dict()
    for name in ("process_grad", "process_model"):  # what was saved before they were in it
        del before["param_groups"][0]["thalweg"][name]
    again.load_state_dict(before)


def test_what_a_hook_of_pytorch_makes_of_it_is_checked_and_loaded() -> None:
    source = made(learning_rate=1.0, momentum=0.5)
    step(source)
    saved = source.state_dict()
    kept = copy.deepcopy(saved)
    target, seen = made(), []

    def scaled(optimizer: Any, given: dict[str, Any]) -> dict[str, Any]:
        made = copy.deepcopy(given)
        made["state"][0]["velocity"] *= 100
        made["param_groups"][0]["lr"] = 7.0
        return made

    def unscaled(optimizer: Any, given: dict[str, Any]) -> None:
        seen.append(given["param_groups"][0]["lr"])
        given["param_groups"] = copy.deepcopy(kept["param_groups"])

    after = target.register_load_state_dict_post_hook(lambda optimizer: seen.append(step(optimizer, 0.0)))
    first = target.register_load_state_dict_pre_hook(scaled)
    target.register_load_state_dict_pre_hook(unscaled)
    target.load_state_dict(saved)
    assert seen == [7.0, 100 * step(source, 0.0)]  # the last is called when all is loaded
    assert str(saved["param_groups"]) == str(kept["param_groups"])
    for handle in (first, after):
        handle.remove()

    def spoiled(optimizer: Any, given: dict[str, Any]) -> None:
        given["state"] = {0: {**kept["state"][0], "velocity": torch.zeros(2)}}

    target.register_load_state_dict_pre_hook(spoiled)
    before = str(target.state_dict())
    with pytest.raises(StateMismatchError, match=r"velocity of 'x' is \(2,\)"):
        target.load_state_dict(kept)
    assert str(target.state_dict()) == before


def test_hooks_on_a_state_dict_have_all_of_it() -> None:
    optimizer = made(accumulate=2)
    step(optimizer)
    seen: list[Any] = []
    optimizer.register_state_dict_pre_hook(lambda optimizer: optimizer.param_groups[0].update(lr=0.125))
    optimizer.register_state_dict_post_hook(lambda optimizer, found: seen.append(copy.deepcopy(found)))
    optimizer.register_state_dict_post_hook(lambda optimizer, found: {"mine": found})
    found: Any = optimizer.state_dict()
    assert found.keys() == {"mine"}
    (saved,) = seen
    assert saved["state"] == {0: {"accumulated": torch.ones(1)}}
    assert saved["param_groups"][0]["lr"] == 0.125
    assert ours(saved)["micro"] == 1
    made(accumulate=2).load_state_dict(saved)


def test_a_hook_may_make_ours_of_what_is_another_optimizers() -> None:
    source, target = made(), made()
    step(source)
    saved = source.state_dict()
    target.register_load_state_dict_pre_hook(lambda optimizer, given: given["mine"])
    target.load_state_dict({"mine": saved})
    assert step(target) == step(source)


MALFORMED: dict[str, tuple[Any, str]] = {
    "state": (lambda saved: saved.update(state=None), "state is None, no table"),
    "a parameter's state": (lambda saved: saved["state"].update({0: 3}), "the state of parameter 0 is 3, no table"),
    "groups": (lambda saved: saved.update(param_groups=(*saved["param_groups"], None)), "no list of tables"),
    "no parameters": (lambda saved: saved["param_groups"][0].pop("params"), "params of param group 0 is None, no list"),
    "parameters": (lambda saved: saved["param_groups"][0].update(params=[[0]]), "not numbers or names, each once"),
    "twice": (lambda saved: saved["param_groups"][0].update(params=[0, 0]), "not numbers or names, each once"),
    "names": (lambda saved: saved["param_groups"][0].update(param_names=3), "param_names of param group 0 is 3"),
    "schedules": (lambda saved: ours(saved).update(schedule_states=None), "schedule_states is None, no table"),
    "no schedules": (lambda saved: ours(saved).pop("schedule_states"), "schedule_states is None, no table"),
    "a schedule": (
        lambda saved: ours(saved)["schedule_states"].clear(),
        "missing: the state of the schedule at 0.",
    ),
    "micro": (lambda saved: ours(saved).update(micro=7), "micro is 7, and a step is made of 3 gradients"),
    "no micro": (lambda saved: ours(saved).pop("micro"), "missing: thalweg.micro"),
    "counts": (lambda saved: ours(saved).update(optimization_state=None), "optimization_state cannot be used"),
}


def ours(saved: Any) -> Any:
    return saved["param_groups"][0]["thalweg"]


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_is_refused_by_name_and_changes_nothing(case: str) -> None:
    spoil, said = MALFORMED[case]
    source, target = (made(learning_rate=Plateau(1.0), accumulate=3) for _ in range(2))
    for _ in range(4):
        step(source)
    saved, before = copy.deepcopy(source.state_dict()), str(target.state_dict())
    spoil(saved)
    with pytest.raises(StateMismatchError) as caught:
        target.load_state_dict(saved)
    assert said in str(caught.value)
    assert str(target.state_dict()) == before
