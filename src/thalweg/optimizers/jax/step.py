"""A step of a whole pytree as one pure function: gradients → ``process_grad`` → rule → ``process_model``. ::

    (θ, state) := where(all is well, (θ', state'), (θ, state))

A trace cannot raise an error for a value, so what is an error elsewhere is a selection here, and a flag in the state.
Selecting never multiplies by 0.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thalweg.errors import StateMismatchError
from thalweg.lowering import jax as lowering
from thalweg.lowering.pairs import Pair
from thalweg.optimizers.groups import Group, assign
from thalweg.optimizers.jax import hooks as jax_hooks
from thalweg.optimizers.jax import leaves as jax_leaves
from thalweg.optimizers.jax.leaves import Leaves
from thalweg.optimizers.jax.state import JaxState
from thalweg.optimizers.persistence import NEW_NUMBERS
from thalweg.optimizers.pipeline import Pipeline
from thalweg.optimizers.settings import Scheduled, follows, told
from thalweg.rules.base import Rule
from thalweg.schedules import Counts


@dataclass(frozen=True)
class Plan:
    """What an optimizer was asked to do, all of it fixed when a step is traced.

    Args:
        rule: the rule in its form.
        settings: for each group the hyperparameters that it sets, the optimizer's own first. Of numbers only the names
            matter: their values are in the state.
        groups: the groups.
        process_grad: what is called on gradients.
        process_model: what is called on parameters.
        nonfinite: what to do with gradients that are not finite.
        accumulate: how many gradients make a step.
        wrap: the names of the wrappers.
    """

    rule: Rule
    settings: tuple[Mapping[str, Scheduled], ...]
    groups: tuple[Group, ...]
    process_grad: Pipeline
    process_model: Pipeline
    nonfinite: str
    accumulate: int
    wrap: tuple[str, ...] = ()

    @property
    def halts(self) -> bool:
        """Whether a gradient that is not finite keeps a step from being made."""
        return self.nonfinite in ("raise", "skip")

    @functools.cached_property
    def form(self) -> str:
        """Whose a state is, in words: what its arrays mean, whatever the numbers are, and also those of schedules."""
        first = {name: values[0] for name, values in self.rule.options.items()}
        said = [f"{name}={value!r}" for name, value in self.rule.chosen.items() if value != first[name]]
        said += [f"wrap={list(self.wrap)}"] if self.wrap else []
        said += [f"accumulate={self.accumulate}"] if self.accumulate > 1 else []
        for place, table in enumerate(self.settings):
            by_metric = [f"{name} by {type(value).__name__}" for name, value in table.items() if told(value)]
            where = [f"group {place}"] if place else []
            said += [", ".join([*where, *by_metric])] if where or by_metric else []
        return "; ".join([self.rule.name, *said])


class Looked(NamedTuple):
    """Gradients after they were looked at."""

    grads: list[Any]
    bad: list[Any]
    zeroed: jax.Array


class Moved(NamedTuple):
    """What a step makes of everything, or everything as it was if it was not ``made``."""

    params: list[Any]
    slots: list[Any]
    carried: tuple[Any, ...]
    hyperparameters: tuple[Any, ...]
    bad: list[Any]
    zeroed: jax.Array
    usable: jax.Array
    made: jax.Array


def advance(plan: Plan, params: Any, grads: Any, state: JaxState) -> tuple[Any, JaxState, list[Any]]:
    """One step, or one gradient gathered.

    Args:
        plan: what is to be done.
        params: a pytree of arrays.
        grads: its gradients.
        state: the state.

    Returns:
        The new parameters, the new state, and for each parameter whether its gradient was not finite.
    """
    leaves = jax_leaves.read(params)
    fit(plan, leaves, state)
    given = widened(jax_leaves.gradients(grads, leaves), leaves)
    if plan.accumulate > 1:
        return _gather(plan, leaves, given, state)
    moved = _move(plan, leaves, given, state)
    return leaves.tree(moved.params), _settle(plan, leaves, state, moved), moved.bad


OVER = "carry it over: state = optimizer.restore(optimizer.snapshot(params, state), params)"


def fit(plan: Plan, leaves: Leaves, state: JaxState) -> None:
    """Refuse a state with which no step can be made of these parameters, here and now.

    Raises:
        StateMismatchError: it is no state of this optimizer, or of other parameters, or made under another setting
            of ``jax_enable_x64``, or by a version without numbers that go from step to step now.
    """
    belongs(plan, leaves, state)
    if [type(row) for row in state.carried] != [plan.rule.carried for _ in plan.settings if plan.rule.carried]:
        raise StateMismatchError(
            f"{plan.rule.name}: the state is of a version that did not have all of {plan.rule.carried_names} in it; "
            f"{OVER}"
        )
    for table in state.hyperparameters:
        if any(isinstance(value, Pair) == lowering.has_float64() for value in table.values()):
            raise StateMismatchError(
                f"{plan.rule.name}: jax_enable_x64 was another one when the state was made; switch it before init, or "
                f"{OVER}"
            )


def same_form(plan: Plan, state: JaxState) -> None:
    """Refuse a state that another optimizer has made, also where its arrays are of the same names and shapes.

    Raises:
        StateMismatchError: it is such a one.
    """
    if isinstance(state, JaxState) and state.made_for and plan.form not in state.made_for:
        raise StateMismatchError(
            f"{plan.rule.name}: the state is of another optimizer, ({', '.join(state.made_for)}), and this is "
            f"({plan.form}); give what init or step of this optimizer returned, or its restore from a snapshot that "
            "the other one took"
        )


def belongs(plan: Plan, leaves: Leaves, state: JaxState) -> None:
    """Refuse a state that does not belong to these parameters, of this version or an older one.

    Raises:
        StateMismatchError: it is no state of this optimizer, or of other parameters.
    """
    rule = plan.rule
    same_form(plan, state)
    if not isinstance(state, JaxState) or not isinstance(state.slots, rule.slots):
        raise StateMismatchError(f"{rule.name}: the state is a {type(state).__name__}; give what init or step returned")
    names = rule.carried_names
    older = tuple(name for name in names if name not in NEW_NUMBERS)
    there = [getattr(row, "_fields", ()) for row in state.carried]
    if there not in ([several for _ in plan.settings if several] for several in (names, older)):
        raise StateMismatchError(
            f"{rule.name}: the state carries {there} from step to step, and this optimizer {names}, for "
            f"{len(plan.settings)} groups; give what init or step of this optimizer returned"
        )
    if (state.accumulated is not None) != (plan.accumulate > 1):
        raise StateMismatchError(
            f"{rule.name}: the state holds {'no' if state.accumulated is None else 'a'} sum of gradients, and this "
            f"optimizer makes a step of {plan.accumulate}; give what init or step of this optimizer returned"
        )
    trees = dict(zip(rule.slot_names, state.slots, strict=True))
    if state.accumulated is not None:
        trees["accumulated"] = state.accumulated
    for slot, tree in trees.items():
        if jax.tree.structure(tree) != leaves.structure:
            raise StateMismatchError(
                f"{rule.name}: {slot} of the state is {jax.tree.structure(tree)}, the parameters {leaves.structure}"
            )
        for name, array, kind, held in zip(
            leaves.names, leaves.arrays, leaves.kinds, jax.tree.leaves(tree), strict=True
        ):
            if not jax_leaves.is_array(held):
                got = f"a {type(held).__name__}"
            elif held.shape != array.shape or held.dtype != kind:
                got = f"{held.shape} {held.dtype}"
            else:
                continue
            raise StateMismatchError(
                f"{rule.name}: {slot} of parameter {name!r} is {got}; expected {array.shape} {kind}"
            )
    present = [tuple(sorted(table)) for table in state.hyperparameters]
    expected = [tuple(sorted(table)) for table in plan.settings]
    if present != expected:
        raise StateMismatchError(f"{rule.name}: the state has the numbers {present}; this optimizer has {expected}")


def hypers(plan: Plan, state: JaxState, counts: Counts) -> list[Any]:
    """The hyperparameters of each group during the step that has these counts, as numbers."""

    tables = [
        {n: jax_hooks.resolve(n, v, counts) if follows(v) else numbers[n] for n, v in table.items()}
        for table, numbers in zip(plan.settings, state.hyperparameters, strict=True)
    ]
    return [plan.rule.hyper(**{**tables[0], **table}) for table in tables]


def processed(plan: Plan, leaves: Leaves, grads: Sequence[Any]) -> list[Any]:
    """The gradients after ``process_grad``."""
    if plan.process_grad.hook is None:
        return list(grads)
    params = leaves.by_name(widened(leaves.arrays, leaves))
    return list(jax_hooks.run_all(plan.process_grad, leaves.by_name(grads), params).values())


def widened(arrays: Sequence[Any], leaves: Leaves) -> list[Any]:
    """Arrays in the order of the parameters, in the dtypes of their states."""
    return [jnp.asarray(array, kind) for array, kind in zip(arrays, leaves.kinds, strict=True)]


def _looked_at(plan: Plan, grads: list[Any]) -> Looked:
    """Look for what is not finite, and take it as zero if that was asked for."""
    nothing = jnp.zeros((), jnp.int32)
    if plan.nonfinite == "ignore":
        return Looked(grads, [jnp.zeros((), bool) for _ in grads], nothing)
    finite = [jnp.isfinite(grad) for grad in grads]
    bad = [~jnp.all(where) for where in finite]
    if plan.nonfinite != "zero":
        return Looked(grads, bad, nothing)
    zeroed = sum((jnp.sum(~where, dtype=jnp.int32) for where in finite), nothing)
    return Looked([jnp.where(w, g, jnp.zeros_like(g)) for w, g in zip(finite, grads, strict=True)], bad, zeroed)


def _processed_and_looked_at(plan: Plan, leaves: Leaves, grads: Sequence[Any]) -> Looked:
    """The gradients after ``process_grad``, looked at; before it, too, where zeros are taken: it would spread a NaN."""
    if plan.nonfinite != "zero" or plan.process_grad.hook is None:
        return _looked_at(plan, processed(plan, leaves, grads))
    first = _looked_at(plan, list(grads))
    last = _looked_at(plan, processed(plan, leaves, first.grads))
    bad: list[Any] = [one | other for one, other in zip(first.bad, last.bad, strict=True)]
    return Looked(last.grads, bad, first.zeroed + last.zeroed)


def _any(flags: Sequence[Any]) -> jax.Array:
    found: jax.Array = functools.reduce(operator.or_, flags)
    return found


def _move(plan: Plan, leaves: Leaves, grads: Sequence[Any], state: JaxState) -> Moved:
    """The rule, with what goes before and after it."""
    rule = plan.rule
    counts = state.counts._replace(curr_iter=state.counts.curr_iter + 1)
    values = hypers(plan, state, counts)
    looked = _processed_and_looked_at(plan, leaves, grads)
    before = state.carried or (None,) * len(values)
    prepared = [lowering.prepare(rule, h, state.updates + 1, row) for h, row in zip(values, before, strict=True)]
    places = assign(plan.groups, leaves.names)
    in_use = {(place, str(kind)): kind for place, kind in zip(places, leaves.kinds, strict=True)}
    usable = functools.reduce(
        operator.and_,
        [lowering.usable(rule, values[place], prepared[place][0], kind) for (place, _), kind in in_use.items()],
    )
    made = usable & ~_any(looked.bad) if plan.halts else usable
    old = _held(plan, leaves, state)

    def update() -> tuple[list[Any], list[Any], tuple[Any, ...]]:
        params, slots = widened(leaves.arrays, leaves), []
        for k, (place, kind) in enumerate(zip(places, leaves.kinds, strict=True)):
            held = old[k]
            if rule.start is not None:  # as elsewhere the state begins at what is there at the first step
                fresh = lowering.init(rule, params[k], lowering.rounded(values[place], kind))
                held = _select(state.updates == 0, fresh, held)
            params[k], moved = lowering.step(rule, params[k], looked.grads[k], held, prepared[place][0])
            slots.append(moved)
        if plan.process_model.hook is not None:
            named = leaves.by_name(params)
            params = list(jax_hooks.run_all(plan.process_model, named, named).values())
        rounded = [param.astype(array.dtype) for param, array in zip(params, leaves.arrays, strict=True)]
        return rounded, slots, tuple(after for _, after in prepared) if state.carried else ()

    # A condition, and no selection: XLA then needs no copies of what it updates in place
    same = _as_they_are(leaves), old, state.carried
    params, slots, carried = jax.lax.cond(made, update, lambda: same)
    used = tuple({n: getattr(h, n) for n in table} for h, table in zip(values, plan.settings, strict=True))
    used = _select(made, used, state.hyperparameters)
    return Moved(params, slots, carried, used, looked.bad, looked.zeroed, usable, made)


def _as_they_are(leaves: Leaves) -> list[Any]:
    return [jnp.asarray(array, array.dtype) for array in leaves.arrays]


def _held(plan: Plan, leaves: Leaves, state: JaxState) -> list[Any]:
    """For each parameter its state, ``rule.slots`` of arrays."""
    columns = [leaves.structure.flatten_up_to(tree) for tree in state.slots]
    return [plan.rule.slots(*(column[k] for column in columns)) for k in range(len(leaves.names))]


def _select(condition: Any, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), new, old)


def _settle(plan: Plan, leaves: Leaves, state: JaxState, moved: Moved) -> JaxState:
    """The state after the rule had its turn."""
    made, bad = moved.made.astype(jnp.int32), _any(moved.bad)
    return state._replace(
        updates=state.updates + made,
        counts=state.counts._replace(curr_iter=state.counts.curr_iter + made),
        slots=plan.rule.slots(*map(leaves.tree, zip(*moved.slots, strict=True))),
        carried=moved.carried,
        hyperparameters=moved.hyperparameters,
        finite=~bad,
        usable=moved.usable,
        skipped=state.skipped + (bad & plan.halts).astype(jnp.int32),
        zeroed=state.zeroed + moved.zeroed * made,
    )


def _gather(plan: Plan, leaves: Leaves, grads: list[Any], state: JaxState) -> tuple[Any, JaxState, list[Any]]:
    """One gradient more, and a step of their mean when there are enough."""
    looked = _looked_at(plan, grads)
    taken = ~_any(looked.bad) if plan.halts else jnp.ones((), bool)
    held = leaves.structure.flatten_up_to(state.accumulated)
    first = state.micro == 0
    added = [jnp.where(first, grad, sums + grad) for sums, grad in zip(held, looked.grads, strict=True)]
    micro = state.micro + taken.astype(jnp.int32)
    due = micro >= plan.accumulate

    def step() -> Moved:
        return _move(plan, leaves, [sums * jnp.asarray(1.0 / plan.accumulate, sums.dtype) for sums in added], state)

    def stay() -> Moved:
        return Moved(
            params=_as_they_are(leaves),
            slots=_held(plan, leaves, state),
            carried=state.carried,
            hyperparameters=state.hyperparameters,
            bad=[jnp.zeros((), bool) for _ in grads],
            zeroed=jnp.zeros((), jnp.int32),
            usable=jnp.ones((), bool),
            made=jnp.zeros((), bool),
        )

    moved = jax.lax.cond(due & taken, step, stay)
    after = _settle(plan, leaves, state, moved)
    # A step that was refused leaves everything as it was; one that was skipped also uses up what was gathered.
    skipped = _any(moved.bad) & moved.usable if plan.nonfinite == "skip" else jnp.zeros((), bool)
    kept = taken & ~(due & ~moved.made & ~skipped)
    bad = [one | other for one, other in zip(looked.bad, moved.bad, strict=True)]
    state = after._replace(
        finite=~_any(bad),
        skipped=after.skipped + (~taken).astype(jnp.int32),
        zeroed=after.zeroed + jnp.where(kept, looked.zeroed, 0),
        micro=jnp.where(kept, jnp.where(due, 0, micro), state.micro).astype(jnp.int32),
        accumulated=leaves.tree(_select(kept, added, held)),
    )
    return leaves.tree(moved.params), state, bad
