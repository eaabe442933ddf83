"""What the graphs that ``update`` made hold for good, schedules and hooks: another one in its place changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg import schedules
from thalweg.errors import HyperparameterError
from thalweg.optimizers.configured import ConfiguredOptimizer
from thalweg.optimizers.pipeline import Pipeline
from thalweg.optimizers.settings import Scheduled, alike, to_config
from thalweg.schedules import Schedule


@dataclass(frozen=True)
class Standing:
    """What is there for good.

    Args:
        traced: the schedules, by group and hyperparameter.
        process_grad: the hook on gradients.
        process_model: the hook on parameters.
    """

    traced: Mapping[tuple[int, str], Callable[..., Any]]
    process_grad: Pipeline
    process_model: Pipeline

    def refuse_others(self, optimizer: ConfiguredOptimizer) -> None:
        """Refuse what was set on the optimizer since; a hook is put back, a schedule whoever set it puts back.

        Args:
            optimizer: the optimizer.

        Raises:
            HyperparameterError: a schedule or a hook is another one.
        """
        tables = [optimizer._settings, *(group.settings for group in optimizer._groups)]
        for line in self.other_schedules("is", tables):
            raise HyperparameterError(
                f"{optimizer.name}: {line}, and a schedule stays where it is: set it before the first update, or make "
                "another optimizer"
            )
        for hook in (self.process_grad, self.process_model):
            present: Pipeline = getattr(optimizer, f"_{hook.what}")
            setattr(optimizer, f"_{hook.what}", hook)
            if not present.is_like(hook):
                raise HyperparameterError(
                    f"{optimizer.name}: {hook.what} is in the graphs made by update as it was, and another would "
                    "change nothing: set it before the first update, or make another optimizer",
                    name=hook.what,
                )

    def other_schedules(self, verb: str, tables: Sequence[Mapping[str, Scheduled]]) -> list[str]:
        """In words, what the graphs hold in another way than hyperparameters say.

        Args:
            verb: what to say of these: they "is", or they "was".
            tables: the optimizer's own hyperparameters, then those of each group.

        Returns:
            A line each.
        """
        differences = []
        for group in range(len(tables)):
            for name, value in {**tables[0], **(tables[group] if group else {})}.items():
                there = self.traced.get((group, name))
                if (callable(value) or there is not None) and not _is(value, there):
                    has = "a number" if there is None else to_config(there)
                    differences.append(f"{name} {verb} {value!r}, and the graphs made by update have {has}")
        return differences


def _is(value: Any, there: Any) -> bool:
    """Whether a schedule computes what the one in a graph does; of a user's own only that very one is known to."""
    return value is there or (_ours(value) and alike(value, there))


def _ours(value: Any) -> bool:
    """Whether a schedule is one of ours, with all that it is made of."""
    if not isinstance(value, Schedule) or type(value) is not schedules.registry.get(value.kind):
        return False
    return all(_ours(part) for _, part in value._parts())
