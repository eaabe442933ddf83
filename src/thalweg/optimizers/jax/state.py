"""The state of an optimizer on JAX: a pytree of arrays, and the snapshots that other backends read and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thalweg.errors import StateMismatchError
from thalweg.lowering.jax import DType, number
from thalweg.lowering.pairs import Pair, as_float
from thalweg.optimizers import persistence
from thalweg.optimizers.groups import Group, assign
from thalweg.optimizers.jax import held, metrics
from thalweg.optimizers.jax.hooks import resolve
from thalweg.optimizers.jax.leaves import Leaves
from thalweg.optimizers.matching import Match, completed
from thalweg.optimizers.parameters import Parameter, mismatch
from thalweg.optimizers.settings import Scheduled, to_config
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.rules.base import Rule
from thalweg.schedules import Counts


class JaxState(NamedTuple):
    """Everything that decides the next step besides the parameters, as a pytree; a step makes a new one.

    Args:
        updates: int32, how many steps the rule has made, which bias corrections count.
        counts: int32 each, what schedules follow; ``counts.curr_iter`` is the number of steps.
        slots: the rule's state by name, each a pytree like the parameters: ``state.slots.mean``.
        carried: for each group the numbers that the rule carries from step to step.
        hyperparameters: for each group its numbers by name, the optimizer's own first; of what follows a schedule
            what the last step used, so that a schedule changes no structure. They are arrays, so setting one compiles
            nothing anew.
        finite: whether all gradients of the last step were finite.
        usable: whether all hyperparameters of the last step were in their range (a schedule's are only known there),
            and what the rule makes of them within the dtype.
        skipped: int32, how many steps (or micro-batches) were not made because a gradient was not finite.
        zeroed: int32, how many elements of gradients were taken as zero because they were not finite.
        micro: int32, gradients gathered since the last step.
        accumulated: their sum, a pytree like the parameters; ``None`` unless the optimizer accumulates.
        told: for each group what its schedules remember that are told a metric; empty if there are none.
        made_for: which optimizer's it is, in words, as the only key of a dictionary: keys are structure, so a trace
            sees another's too, and no step computes anything for it. Empty in states of older versions.
    """

    updates: jax.Array
    counts: Counts
    slots: Any
    carried: tuple[Any, ...]
    hyperparameters: tuple[dict[str, Any], ...]
    finite: jax.Array
    usable: jax.Array
    skipped: jax.Array
    zeroed: jax.Array
    micro: jax.Array
    accumulated: Any
    told: metrics.Remembered = ()
    made_for: dict[str, tuple[()]] | tuple[()] = ()


class Leaf(Parameter):
    """A parameter of a pytree as snapshots see it.

    Args:
        rule: the rule.
        name: the parameter's name.
        shape: its shape.
        dtype: the dtype of its state.
        slots: the rule's state by name, if there is any yet.
        accumulated: the sum of the gradients gathered.
        group: the number of the group whose hyperparameters hold.
    """

    def __init__(
        self,
        rule: Rule,
        name: str,
        shape: tuple[int, ...],
        dtype: DType,
        slots: Mapping[str, np.ndarray] | None = None,
        accumulated: np.ndarray | None = None,
        *,
        group: int = 0,
    ) -> None:
        self.rule, self.name, self.shape, self.dtype, self.accumulated = rule, name, shape, dtype, accumulated
        self.group = group
        self._held = dict.fromkeys(rule.slot_names, np.empty(0)) if slots is None else dict(slots)

    def slots(self) -> dict[str, np.ndarray]:
        """The rule's state by name."""
        return self._held


_COUNTED_TO = int(np.iinfo(np.int32).max)


def _too_many(settled: persistence.Settled) -> list[str]:
    """The counts that are more than a state holds."""
    counts = {name: getattr(settled, name) for name in ("updates", "micro", "skipped", "zeroed")}
    counts |= {f"optimization_state.{name}": count for name, count in settled.counts.items()}
    for place, remembered in settled.schedules.items():
        counts |= {f"schedules.{place}.{name}": value for name, value in remembered.items() if isinstance(value, int)}
    return [
        f"{name} is {count}, and JAX counts to {_COUNTED_TO} here (int32)"
        for name, count in counts.items()
        if count > _COUNTED_TO
    ]


def whole(value: int) -> jax.Array:
    """An int32 scalar."""
    return jnp.asarray(np.int32(value))


def begin(
    leaves: Leaves,
    slots: Any,
    rule: Rule,
    settings: Sequence[Mapping[str, Scheduled]],
    counts: Mapping[str, int],
    *,
    accumulate: bool,
    made_for: str,
) -> JaxState:
    """The state before the first step.

    Args:
        leaves: the parameters.
        slots: the rule's state, ``rule.slots`` of pytrees.
        rule: the rule.
        settings: for each group its hyperparameters.
        counts: the counts by name.
        accumulate: whether gradients are gathered.
        made_for: which optimizer's it is, in words.

    Returns:
        The state, of new arrays throughout.
    """
    zeros = [jnp.zeros_like(a, dtype=kind) for a, kind in zip(leaves.arrays, leaves.kinds, strict=True)]
    return JaxState(
        updates=whole(0),
        counts=Counts(**{name: whole(count) for name, count in counts.items()}),
        slots=slots,
        carried=tuple(rule.carried(*map(number, rule.carried())) for _ in settings) if rule.carried else (),
        hyperparameters=tuple(numbers(table, counts) for table in settings),
        finite=jnp.asarray(np.bool_(True)),
        usable=jnp.asarray(np.bool_(True)),
        skipped=whole(0),
        zeroed=whole(0),
        micro=whole(0),
        accumulated=leaves.tree(zeros) if accumulate else None,
        told=metrics.remembered(settings),
        made_for={made_for: ()},
    )


def numbers(table: Mapping[str, Scheduled], counts: Mapping[str, int]) -> dict[str, Any]:
    """Hyperparameters as a step computes with them; of a schedule what the last step used, or will the first."""
    now = Counts(**{name: np.int32(count) for name, count in counts.items()})
    now = now._replace(curr_iter=np.maximum(now.curr_iter, np.int32(1)))
    return {name: resolve(name, v, now) if callable(v) else number(v) for name, v in table.items()}


def rows(state: JaxState) -> list[list[float]]:
    """The carried numbers, a row a group; none before the first step, when they are where they start."""
    if int(state.updates) == 0:
        return []
    return [[as_float(x) if isinstance(x, Pair) else float(x) for x in row] for row in state.carried]


def take(
    rule: Rule, leaves: Leaves, state: JaxState, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> OptimizerSnapshot:
    """A snapshot, as a NumPy optimizer of the same settings would take it.

    Args:
        rule: the rule.
        leaves: the parameters.
        state: the state, of arrays that are not traced.
        meta: hyperparameters and hooks.
        arrays: the hyperparameters that are arrays, by what a snapshot calls them.

    Returns:
        Copies. The state of a 16-bit parameter is float32, as it is here.
    """
    slots = [leaves.structure.flatten_up_to(tree) for tree in state.slots]
    gathered = None if state.accumulated is None else leaves.structure.flatten_up_to(state.accumulated)
    several = [
        Leaf(
            rule,
            name,
            array.shape,
            kind,
            {slot: np.asarray(column[k]) for slot, column in zip(rule.slot_names, slots, strict=True)},
            None if gathered is None else np.asarray(gathered[k]),
        )
        for k, (name, array, kind) in enumerate(zip(leaves.names, leaves.arrays, leaves.kinds, strict=True))
    ]
    counted = {name: int(getattr(state, name)) for name in ("updates", "micro", "skipped", "zeroed")}
    counts = {name: int(count) for name, count in state.counts._asdict().items()}
    told = {**meta, **counted, "carried": rows(state), "optimization_state": counts}
    return persistence.take(several, told, arrays)


def settle(
    rule: Rule,
    leaves: Leaves,
    settings: Mapping[str, Scheduled],
    groups: Sequence[Group],
    meta: Mapping[str, Any],
    snapshot: OptimizerSnapshot,
) -> persistence.Settled:
    """Compare a snapshot with an optimizer whose schedules are part of its compiled step.

    Args:
        rule: the rule.
        leaves: the parameters.
        settings: the optimizer's hyperparameters.
        groups: its groups, with theirs.
        meta: what its own snapshots say of hyperparameters and hooks.
        snapshot: what is to be restored.

    Returns:
        What to put in place.

    Raises:
        StateMismatchError: listing every difference.
    """
    several = [
        Leaf(rule, name, array.shape, kind, group=group)
        for name, array, kind, group in zip(
            leaves.names, leaves.arrays, leaves.kinds, assign(groups, leaves.names), strict=True
        )
    ]
    differences: list[str] = []
    settled = None
    try:
        settled = persistence.settle(rule, several, settings, groups, meta, snapshot, None)
    except StateMismatchError as error:
        differences += error.details["differences"]
    here, saved = [settings, *(group.settings for group in groups)], snapshot.meta.get("groups")
    there: list[Any] = [snapshot.meta.get("hyperparameters")]
    matched = persistence.matched_groups(groups, {leaf.name: leaf.group for leaf in several}, snapshot.meta)
    if isinstance(matched, Match) and isinstance(saved, list):
        there += [saved[place - 1] if place else None for place in matched.pairs]
    for place, (mine, theirs) in enumerate(zip(here, there, strict=False)):
        where = f"group {list(groups[place - 1].variables)}: " if place else ""
        for name, value in mine.items() if isinstance(theirs, dict) else ():
            config, present = theirs.get(name), to_config(value)
            named = isinstance(config, dict) and "callable" in config  # that is among the differences already
            schedule = isinstance(config, dict) and "array" not in config
            if config is not None and config != present and not named and (callable(value) or schedule):
                differences.append(
                    f"{where}{name} was {config}, here it is {present}: schedules are part of the compiled step, so "
                    "make the optimizer with the same one"
                )
    if settled is not None:
        settled = completed(settled, here[1:], differences)
        places = [leaf.group for leaf in several]
        differences += _too_many(settled)
        differences += held.differences(rule, [settled.settings, *settled.groups], places, leaves.kinds)
    if differences or settled is None:
        raise mismatch(differences, "saved state")
    return settled


def put(leaves: Leaves, rule: Rule, fresh: JaxState, settled: persistence.Settled) -> JaxState:
    """The state that a snapshot holds.

    Args:
        leaves: the parameters.
        rule: the rule.
        fresh: a state before the first step.
        settled: from :func:`settle`.

    Returns:
        A new state.
    """

    def column(slot: str) -> Any:
        parts = zip(leaves.names, leaves.kinds, strict=True)
        return leaves.tree(jnp.array(settled.slots[name][slot], kind) for name, kind in parts)

    carried = fresh.carried
    if settled.carried is not None and rule.carried is not None:
        carried = tuple(rule.carried(*map(number, row.tolist())) for row in settled.carried)
    gathered = fresh.accumulated
    if settled.micro:
        parts = zip(leaves.names, leaves.kinds, strict=True)
        gathered = leaves.tree(jnp.array(settled.accumulated[name], kind) for name, kind in parts)
    tables = [settled.settings, *settled.groups]
    known = [
        numbers(table, settled.counts) | metrics.numbers(table, settled.schedules, k) for k, table in enumerate(tables)
    ]
    return fresh._replace(
        updates=whole(settled.updates),
        counts=Counts(**{name: whole(count) for name, count in settled.counts.items()}),
        slots=rule.slots(*map(column, rule.slot_names)),
        carried=carried,
        hyperparameters=tuple(known),
        skipped=whole(settled.skipped),
        zeroed=whole(settled.zeroed),
        micro=whole(settled.micro),
        accumulated=gathered,
        told=metrics.remembered(tables, settled.schedules),
    )
