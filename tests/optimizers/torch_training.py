"""What the tests of PyTorch's optimizers share: a small network, and its training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.optim import lr_scheduler

from thalweg.optimizers.torch import TorchOptimizer


def network(dtype: torch.dtype = torch.float64, seed: int = 3) -> torch.nn.Sequential:
    """A small network with fixed weights."""
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return model


def loss_of(model: torch.nn.Module, step: int) -> torch.Tensor:
    """The loss on a batch that depends on the step."""
    generator = torch.Generator().manual_seed(100 + step)
    dtype = next(model.parameters()).dtype
    x = torch.randn(8, 3, generator=generator).to(dtype)
    loss: torch.Tensor = ((model(x) - torch.sin(x[:, :2])) ** 2).mean()
    return loss


def train(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int, schedule: Any = None, first: int = 0
) -> None:
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss = loss_of(model, step)
        loss.backward()
        optimizer.step()
        if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
            schedule.step(loss.item())
        elif schedule is not None:
            schedule.step()


def weights(model: torch.nn.Module) -> list[np.ndarray]:
    return [parameter.detach().numpy().copy() for parameter in model.parameters()]


def same(one: list[np.ndarray], other: list[np.ndarray], tolerance: float = 0.0) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def units(optimizer: TorchOptimizer) -> list[type]:
    assert optimizer._plan is not None
    return [type(unit) for unit in optimizer._plan.units]
