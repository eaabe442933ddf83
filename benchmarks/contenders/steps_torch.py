"""torch.optim, in the form that a module of this folder names."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.steps_job import StepJob, rounds
from benchmarks.contenders.worker import Round

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "adam": ("Adam", {}),
    "adamax": ("Adamax", {}),
    "adadelta": ("Adadelta", {}),
}


def setup(settings: dict[str, Any], **form: Any) -> tuple[dict[str, Any], Round]:
    import torch

    job = StepJob(**settings)
    torch.set_num_threads(job.threads)
    params, grads = job.arrays()
    tensors = [torch.nn.Parameter(torch.from_numpy(param)) for param in params]
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = torch.from_numpy(grad)
    name, arguments = KINDS[job.rule]
    optimizer = getattr(torch.optim, name)(tensors, **arguments, **form)
    return {"version": torch.__version__}, rounds(job, optimizer.step)
