"""An optimizer behind one function, ``update(key, grad, weight)``, as parameter servers and training loops call it.

Each key has a state of its own, made when the key first comes. All share the counts that schedules follow: an iteration
ends when a key comes again that was updated in it already. A loop may as well count iterations itself, with
``begin_step``, and then nothing is counted twice.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from contextvars import copy_context
from typing import Any

import numpy as np

from thalweg.checkpoints import CheckpointStore, whole
from thalweg.errors import HyperparameterError, OptimizerError, ParameterError, StateMismatchError
from thalweg.graph import Variable, wait
from thalweg.graph.executor import as_worker
from thalweg.optimizers import persistence
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.parameters import mismatch
from thalweg.optimizers.settings import Scheduled, same
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.optimizers.unbound import refuse_arrays, unbound
from thalweg.schedules import OptimizationState
from thalweg.transforms import ParameterTransform, Transform, TreeTransform, chain


class Seat:
    """One key: its weights as a Variable, the optimizer that is bound to it, and when it was last updated."""

    def __init__(self, optimizer: LocalOptimizer, name: str, weight: Any) -> None:
        self.variable = Variable(weight, name=name)
        self.optimizer = optimizer.bind(self.variable)
        self.last = 0  # the iteration of the last update; 0 for none
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

    def step(self, **arguments: Any) -> None:
        """One step of the key's optimizer, here and now."""
        coroutine = self.optimizer.step(**arguments)
        if not self.plain:
            wait(coroutine)  # a user's own callable may await something
            return
        copy_context().run(as_worker, _run, coroutine)


def _run(coroutine: Any) -> None:
    """Run a coroutine that awaits nothing: an event loop would cost more than a short step."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("a step awaited something that is not there")


class Updater:
    """What :func:`get_updater` returns: call it with key, gradient and weight.

    Args:
        optimizer: an optimizer without variables, whose settings hold for every key. What is set on it later holds from
            the next update on; its ``groups`` and hooks by name go by the keys' names.

    Raises:
        OptimizerError: it is no such optimizer.
        HyperparameterError: a hook works on the gradients of all variables at once, which are never there at once.

    Example:
        >>> import numpy as np
        >>> import thalweg as tw
        >>> from thalweg.optimizers.updater import Updater
        >>> update = Updater(tw.Momentum(learning_rate=1.0))
        >>> w = np.array([1.0, 2.0])
        >>> update("w", np.array([0.5, 0.5]), w)
        >>> w, sorted(update.state().arrays)
        (array([0.5, 1.5]), ['slots/velocity/w'])
    """

    def __init__(self, optimizer: LocalOptimizer) -> None:
        self.optimizer = unbound(optimizer, taker="get_updater", call="get_updater({})", overrides=())
        self._seats: dict[str, Seat] = {}
        self._keys: dict[str, Hashable] = {}
        self._hook("process_grad", "")
        self._hook("process_model", "")

    @property
    def optimization_state(self) -> OptimizationState:
        """The counts that schedules follow, the optimizer's own: the loop begins epochs and batches on it."""
        return self.optimizer.optimization_state

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the keys that have state, in the order in which they came."""
        return tuple(self._seats)

    def __call__(self, key: Hashable, grad: np.ndarray, weight: np.ndarray) -> None:
        """Update ``weight``, in place.

        Args:
            key: whose state it is: a string, an integer, or anything else that can be hashed.
            grad: the gradient, of the weight's shape and dtype; it is never changed.
            weight: a writable array of float32 or float64; for one key always of the same shape and dtype.

        Raises:
            ParameterError: the weight cannot be updated in place, or has another shape or dtype than before.
            GradientError: the gradient does not fit the weight, or holds NaN or infinity.
            HyperparameterError: a schedule's value is out of its range.
            OptimizerError: the key cannot be hashed, or has the name of another one.
        """
        name, seat = self._seat(key, weight)
        counts = self.optimization_state
        iteration = counts.curr_iter + 1 if seat.last == counts.curr_iter else counts.curr_iter
        self._follow(name, seat)
        persistence.set_counts(seat.optimizer.optimization_state, {**counts.get_config(), "curr_iter": iteration - 1})
        seat.variable.grad = grad
        try:
            seat.step()
        finally:
            seat.variable.grad = None
        self._keep(key, name, seat)
        if seat.optimizer.iterations == iteration:  # it was not skipped
            seat.last = counts.curr_iter = iteration

    def _seat(self, key: Hashable, weight: Any) -> tuple[str, Seat]:
        """The key's name and seat; a new one is not kept yet."""
        try:
            hash(key)
        except TypeError as error:
            raise OptimizerError(f"the key {key!r} cannot be hashed; give a string or an integer") from error
        name = key if isinstance(key, str) else repr(key) if isinstance(key, tuple) else str(key)
        if not name:
            raise OptimizerError("the key is an empty string; give one with a name, under which its state is saved")
        if self._keys.get(name, key) != key:
            raise OptimizerError(f"the keys {self._keys.get(name)!r} and {key!r} have the same name, {name!r}", key=key)
        if not isinstance(weight, np.ndarray):
            raise ParameterError(
                f"key {key!r}: the weight is a {type(weight).__name__}; give a NumPy array, which is updated in place",
                key=key,
            )
        seat = self._seats.get(name)
        if seat is None:
            return name, Seat(self._clone(name), name, weight)
        seat.place(key, weight)
        return name, seat

    def _keep(self, key: Hashable, name: str, seat: Seat) -> None:
        self._seats[name] = seat
        self._keys.setdefault(name, key)

    def _clone(self, name: str) -> LocalOptimizer:
        """An optimizer with the settings that hold for a key."""
        one = self.optimizer
        arguments: dict[str, Any] = {
            "convention": one._convention,
            "wrap": one._wrap,
            "accumulate": one._accumulate,
            "nonfinite": one._nonfinite,
            "process_grad": self._hook("process_grad", name),
            "process_model": self._hook("process_model", name),
            "name": one.name,
            "description": one.description,
            **one.rule.chosen,
            **self._settings(name),
        }
        return type(one)(**arguments)

    def _settings(self, name: str) -> dict[str, Scheduled]:
        group = next((group.settings for group in self.optimizer.groups if group.holds(name)), {})
        return {**self.optimizer.hyperparameters, **group}

    def _hook(self, what: str, name: str) -> Any:
        hook = getattr(self.optimizer, what)
        found = hook.get(name) if isinstance(hook, Mapping) else hook
        for step in found if isinstance(found, list | tuple) else [found]:
            if isinstance(step, TreeTransform):
                raise HyperparameterError(
                    f"{what} holds {step!r}, which works on the gradients of all variables at once; an updater gets "
                    "them one by one, so apply it before",
                    name=what,
                )
        return found

    def _follow(self, name: str, seat: Seat) -> None:
        """Take over what was set on the optimizer since."""
        present = seat.optimizer._settings
        for key, value in self._settings(name).items():
            if not same(present[key], value):
                refuse_arrays(self.optimizer, "an updater")
                setattr(seat.optimizer, key, value)
        for what in ("process_grad", "process_model"):
            hook = self._hook(what, name)
            if getattr(seat.optimizer, what) is not hook:
                setattr(seat.optimizer, what, hook)
                seat.plain = False

    # State in and out

    def state(self) -> OptimizerSnapshot:
        """A copy of everything that decides the next updates besides the weights.

        Returns:
            The state of each key, by name, and the counts.
        """
        arrays: dict[str, np.ndarray] = {}
        keys = {}
        for name, seat in self._seats.items():
            snapshot = seat.optimizer.state()
            arrays |= snapshot.arrays
            keys[name] = {"last": seat.last, "state": snapshot.meta}
        own = {**self.optimizer.state().meta, "optimization_state": self.optimization_state.get_config()}
        return OptimizerSnapshot(arrays, {"optimizer": own, "keys": keys})

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        """Continue from a snapshot. The weights stay the caller's.

        Args:
            snapshot: from :meth:`state` of an updater of the same optimizer.

        Raises:
            StateMismatchError: it does not fit; the message lists every difference, and nothing was changed.
        """
        keys, own = snapshot.meta.get("keys"), snapshot.meta.get("optimizer")
        if not isinstance(keys, dict) or not isinstance(own, dict):
            raise mismatch(["it is no updater's"], "saved state")
        rest, seats = dict(snapshot.arrays), {}
        slots = [f"slots/{slot}/" for slot in self.optimizer.rule.slot_names]
        for name, saved in keys.items():
            mine = {head + name: rest.pop(head + name) for head in [*slots, "accumulated/"] if head + name in rest}
            seats[name] = self._restored(name, saved, mine)
        if rest:
            raise mismatch([f"unexpected: {name}" for name in sorted(rest)], "saved state")
        self.optimizer.restore(OptimizerSnapshot({}, own))
        counts = self.optimizer.optimization_state.get_config()
        persistence.set_counts(self.optimization_state, counts)
        self._seats, self._keys = seats, {}

    def _restored(self, name: str, saved: Any, arrays: dict[str, np.ndarray]) -> Seat:
        """A seat as it was saved, its weights to come."""
        try:
            meta, last = saved["state"], int(saved["last"])
            like = meta["variables"][name]
            seat = Seat(self._clone(name), name, np.zeros(like["shape"], like["dtype"]))
        except (KeyError, TypeError, ValueError, ParameterError) as error:
            raise mismatch([f"what was saved for key {name!r} cannot be used: {error!r}"], "saved state") from error
        try:
            seat.optimizer.restore(OptimizerSnapshot(arrays, meta))
        except StateMismatchError as error:
            error.add_note(f"that is the state of key {name!r}")
            raise
        seat.last = last
        return seat

    def dump(self, path: str | os.PathLike[str], *, keep: int = 2) -> None:
        """Save the state of every key, and the counts. The weights are the caller's to save.

        Args:
            path: a folder; each dump adds a generation to it.
            keep: how many generations stay there, at least 1.

        Raises:
            CheckpointError: it cannot be written; earlier generations are untouched.
        """
        keep, snapshot = whole(keep, "keep", 1), self.state()
        store = CheckpointStore(path)
        store.save(snapshot.arrays, {"updater": snapshot.meta})
        store.prune(keep)

    def load(self, path: str | os.PathLike[str], *, generation: int | None = None) -> None:
        """Continue from what :meth:`dump` saved, to the same bits.

        Args:
            path: the folder.
            generation: which generation, by default the newest.

        Raises:
            CheckpointError: there is none, it cannot be read, or it is damaged.
            StateMismatchError: it does not fit; the message lists every difference, and nothing was changed.
        """
        arrays, meta, _ = CheckpointStore(path).load(generation)
        found = meta.get("updater")
        self.restore(OptimizerSnapshot(arrays, found if isinstance(found, dict) else {}))


def get_updater(optimizer: LocalOptimizer) -> Updater:
    """A function that updates weights one by one, with a state for each key that is made when the key first comes.

    Args:
        optimizer: an optimizer without variables, such as ``tw.Adam()``.

    Returns:
        ``update(key, grad, weight)``, which also has ``state``, ``restore``, ``dump`` and ``load``.

    Raises:
        OptimizerError: it is no such optimizer.

    Example:
        >>> import numpy as np
        >>> import thalweg as tw
        >>> from thalweg.optimizers.updater import get_updater
        >>> update = get_updater(tw.SGD(learning_rate=0.5))
        >>> weights = {"a": np.array([1.0]), "b": np.array([[2.0]])}
        >>> for key, weight in weights.items():
        ...     update(key, np.ones_like(weight), weight)
        >>> weights["a"], weights["b"], update.optimization_state.curr_iter
        (array([0.5]), array([[1.5]]), 1)

    Source: the API page of MXNet.jl's optimizers, get_updater.
    """
    return Updater(optimizer)
