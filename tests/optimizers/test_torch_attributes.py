"""What is set on a PyTorch optimizer itself, where nobody would read it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

import thalweg as tw
from thalweg.errors import HyperparameterError
from thalweg.optimizers.torch import TorchOptimizer


def made(recipe: Any = None) -> TorchOptimizer:
    return TorchOptimizer([("x", torch.ones(1, requires_grad=True))], recipe or tw.Adam(learning_rate=0.25))


REFUSED: dict[str, tuple[Any, str]] = {
    "learning_rate": (0.5, r'is of each param group: set optimizer\.param_groups\[k\]\["lr"\]'),
    "lr": (0.5, r'is of each param group: set optimizer\.param_groups\[k\]\["lr"\]'),
    "beta1": (0.5, r'set optimizer\.param_groups\[k\]\["betas"\]'),
    "betas": ((0.5, 0.5), r'set optimizer\.param_groups\[k\]\["betas"\]'),
    "epsilon": (1e-3, r'set optimizer\.param_groups\[k\]\["epsilon"\]'),
    "process_grad": (abs, "stays as it was given when the optimizer was made"),
    "process_model": (None, "stays as it was given when the optimizer was made"),
    "nonfinite": ("skip", "stays as it was given when the optimizer was made"),
    "accumulate": (2, "stays as it was given when the optimizer was made"),
    "wrap": (["ema"], "stays as it was given when the optimizer was made"),
    "decay": ("coupled", "stays as it was given when the optimizer was made"),
    "momentum": (0.5, "there is no hyperparameter or option of adam"),
    "ema_decay": (0.5, "belongs to a wrapper"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_would_read_is_refused(name: str) -> None:
    value, said = REFUSED[name]
    optimizer = made()
    with pytest.raises(HyperparameterError, match=said):
        setattr(optimizer, name, value)
    assert not hasattr(optimizer, name)


def test_marks_and_what_pytorch_sets_are_as_ever() -> None:
    optimizer: Any = made()
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)  # puts a step of its own on it
    optimizer.name, optimizer.note, optimizer.threshold, optimizer.groups = "mine", "a mark", 3, 2
    optimizer.grad_scale = optimizer.found_inf = torch.zeros(1)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(1)
    optimizer.step()
    scheduler.step()
    assert (optimizer.name, optimizer.note, optimizer.param_groups[0]["lr"]) == ("mine", "a mark", 0.125)
    assert copy.deepcopy(optimizer).name == "mine"
