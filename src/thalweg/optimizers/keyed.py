"""What an updater keeps for a key: its weights as a Variable, and an optimizer that follows the updater's."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextvars import copy_context
from typing import Any

import numpy as np

from thalweg.errors import ParameterError
from thalweg.graph import Variable, wait
from thalweg.graph.executor import as_worker
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.settings import Scheduled, alike, remembered, to_config
from thalweg.transforms import ParameterTransform, Transform, chain


class Seat:
    """One key: its weights as a Variable, the optimizer that is bound to it, and when it was last updated."""

    def __init__(self, optimizer: LocalOptimizer, name: str, weight: Any) -> None:
        self.variable = Variable(weight, name=name)
        self.optimizer = optimizer.bind(self.variable)
        self.last = 0  # the iteration of the last update; 0 for none
        self.followed: dict[str, Scheduled] = {}  # what it was set to at the last update
        self.plain = all(
            isinstance(step, Transform | ParameterTransform) and type(step) is not chain
            for hook in (optimizer._process_grad, optimizer._process_model)
            for step in hook.steps(name)
        )

    def place(self, key: Hashable, weight: np.ndarray) -> None:
        """Have the next step update ``weight``.

        Raises:
            ParameterError: its shape or dtype is not that of the key's state.
        """
        if weight is self.variable.data:
            return
        (parameter,) = self.optimizer._parameters
        if parameter.fit("weight", weight):
            raise ParameterError(
                f"key {key!r}: the weight is {weight.shape} {weight.dtype}, and the state of this key belongs to "
                f"{parameter.shape} {parameter.dtype}; use another key, or make another updater",
                key=key,
            )
        self.variable.data = weight

    def follow(self, settings: dict[str, Scheduled]) -> None:
        """Take over the hyperparameters that were set on the optimizer since; what is told a metric as the very object.

        Raises:
            HyperparameterError: an array is not like the weight.
        """
        present = self.optimizer._settings
        for name, value in settings.items():
            if value is not self.followed.get(name) and not _has(present[name], value):
                setattr(self.optimizer, name, value)
        self.followed = settings

    def step(self, **arguments: Any) -> None:
        """One step of the key's optimizer, here and now."""
        coroutine = self.optimizer.step(**arguments)
        if not self.plain:
            wait(coroutine)  # a user's own callable may await something
            return
        copy_context().run(as_worker, _run, coroutine)


def _has(mine: Scheduled, value: Scheduled) -> bool:
    return mine is value or (not remembered(value) and alike(mine, value))


def _run(coroutine: Any) -> None:
    """Run a coroutine that awaits nothing: an event loop would cost more than a short step."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("a step awaited something that is not there")


def as_now(meta: Mapping[str, Any], present: Mapping[str, Scheduled]) -> dict[str, Any]:
    """What was saved of a key, with the functions of the user's own that the optimizer has now.

    A key has what was set at its last update. What the optimizer had is compared with what it has; a key follows it.

    Args:
        meta: what was saved of the key.
        present: the hyperparameters that the optimizer has for it now.

    Returns:
        The meta that the key's own optimizer is to take.
    """
    saved, now = meta.get("hyperparameters"), {name: to_config(value) for name, value in present.items()}
    if not isinstance(saved, dict):
        return dict(meta)
    own = {name: now[name] for name in saved.keys() & now.keys() if _is_own(saved[name]) or _is_own(now[name])}
    return {**meta, "hyperparameters": saved | own}


def _is_own(config: Any) -> bool:
    return isinstance(config, dict) and "callable" in config
