"""An optimizer behind one function, ``update(key, grad, weight)``, as parameter servers and training loops call it.

Each key has a state of its own, made when the key first comes. All share the counts that schedules follow: an iteration
ends when a key comes again that was updated in it already. A loop may as well count iterations itself, with
``begin_step``, and then nothing is counted twice.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Hashable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError, OptimizerError, ParameterError, StateMismatchError
from thalweg.optimizers import persistence
from thalweg.optimizers.entries import compared, is_count, shown
from thalweg.optimizers.interrupts import held
from thalweg.optimizers.keyed import Seat, as_now
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.meaning import means_something, meant
from thalweg.optimizers.parameters import mismatch
from thalweg.optimizers.recipe import not_there
from thalweg.optimizers.settings import Scheduled, remembered
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.optimizers.unbound import unbound
from thalweg.schedules import OptimizationState
from thalweg.transforms import TreeTransform


class Updater:
    """What :func:`get_updater` returns: call it with key, gradient and weight.

    Args:
        optimizer: an optimizer without variables, whose settings hold for every key. What is set on it later holds from
            the next update on; its ``groups`` and hooks by name go by the keys' names. A hyperparameter that is an
            array has to be like the weights of every key that it holds for: in a group for one key, say. What its rule
            reads at the first step only can be set until a key has state, and not after that, also for keys to come.

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
        self._recipe = unbound(optimizer, taker="get_updater", call="get_updater({})", overrides=())
        self._seats: dict[str, Seat] = {}
        self._keys: dict[str, Hashable] = {}
        self._hook("process_grad", "")
        self._hook("process_model", "")
        self._recipe._shortcut.ask(self._begun)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What a deep copy is made of; its optimizer is a copy, too, and has to know it."""
        vars(self).update(state)
        self._recipe._shortcut.ask(self._begun)

    def __setattr__(self, name: str, value: Any) -> None:
        own = name.startswith("_") or (hasattr(type(self), name) and name != "optimizer")
        if "_recipe" in vars(self) and not own:
            self._refuse_attribute(name, value)  # a subclass may have marks before that
        super().__setattr__(name, value)

    def _refuse_attribute(self, name: str, value: Any) -> None:
        """Refuse what nobody would read here; all else is a mark of the user's own."""
        rule = self._recipe.rule
        if name == "optimizer":
            raise HyperparameterError(
                "an updater's optimizer stays as it was given, since the state of its keys is of that rule; set its "
                "hyperparameters (update.optimizer.learning_rate = ...), or make another updater: get_updater(...)",
                name=name,
            )
        known = name if name in ("process_grad", "process_model") else meant(name, rule.hyperparameters)
        if known is None and (name in rule.options or means_something(name, value)):
            raise not_there(rule, name, self._recipe.wrap, made=True)
        if known is not None:
            raise HyperparameterError(
                f"an updater has no {name}, which nobody would read; set it on its optimizer: "
                f"update.optimizer.{known} = ...",
                name=name,
            )

    def _begun(self) -> bool:
        """Whether the state of a key has started."""
        return any(seat.optimizer._begun() for seat in self._seats.values())

    @property
    def optimizer(self) -> Any:
        """What it was made of, where it can be set: what is set there holds from the next update on."""
        return self._recipe

    @property
    def optimization_state(self) -> OptimizationState:
        """The counts that schedules follow, the optimizer's own: the loop begins epochs and batches on it."""
        return self._recipe.optimization_state

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
            HyperparameterError: a schedule's value is out of its range, or an array of hyperparameters is not like the
                weight.
            OptimizerError: the key cannot be hashed, or has the name of another one.
            KeyboardInterrupt: of Python's own handler: the update was made and counted, or not.
        """
        name, seat = self._seat(key, weight)
        counts = self.optimization_state
        iteration = counts.curr_iter + 1 if seat.last == counts.curr_iter else counts.curr_iter
        self._follow(name, seat)
        persistence.set_counts(seat.optimizer.optimization_state, {**counts.get_config(), "curr_iter": iteration - 1})
        seat.variable.grad = grad
        with held() if seat.plain else nullcontext():  # an event loop has Ctrl-C itself
            over = False
            try:
                seat.step()
                over = True
            finally:
                with held():
                    seat.variable.grad = None
                    made = seat.optimizer.iterations == iteration  # not if it was skipped; also if Ctrl-C came after it
                    if made or over:
                        self._keep(key, name, seat)
                    if made:
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
            return name, Seat(self._clone(name, self._settings(name)), name, weight)
        seat.place(key, weight)
        return name, seat

    def _keep(self, key: Hashable, name: str, seat: Seat) -> None:
        self._seats[name] = seat
        self._keys.setdefault(name, key)

    def _clone(self, name: str, settings: Mapping[str, Scheduled]) -> LocalOptimizer:
        """An optimizer for a key, with these hyperparameters."""
        one = self._recipe
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
            **settings,
        }
        made = type(one)(**arguments)
        made._told = one._told  # each warning once for all keys
        return made

    def _settings(self, name: str) -> dict[str, Scheduled]:
        place = self._place(name)
        return {**self._recipe.hyperparameters, **(self._recipe.groups[place - 1].settings if place else {})}

    def _place(self, name: str) -> int:
        """The number of the group that a key belongs to, counted from 1; 0 for none."""
        return next((k for k, group in enumerate(self._recipe.groups, start=1) if group.holds(name)), 0)

    def _hook(self, what: str, name: str) -> Any:
        hook = getattr(self._recipe, what)
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
        seat.follow(self._settings(name))
        for what in ("process_grad", "process_model"):
            hook = self._hook(what, name)
            if getattr(seat.optimizer, what) is not hook:
                setattr(seat.optimizer, what, hook)
                seat.plain = False

    def eval_params(self, weights: Mapping[Hashable, np.ndarray]) -> dict[Hashable, np.ndarray]:
        """Where the model is to be evaluated: for Schedule-Free and EMA not where the weights are.

        Args:
            weights: the weights by key, as the last update of each left them; nothing of theirs is changed.

        Returns:
            A new array for each key; a copy of its weight for rules that evaluate where they store, and for a key that
            was not updated yet.

        Raises:
            ParameterError: a weight has another shape or dtype than the state of its key, or could not be updated.
            OptimizerError: a key has the name of another one.

        Example:
            >>> import numpy as np
            >>> import thalweg as tw
            >>> update = tw.get_updater(tw.SGD(learning_rate=1.0, wrap=["ema"], ema_decay=0.75))
            >>> w = np.array([1.0])
            >>> update("w", np.array([4.0]), w)
            >>> w, update.eval_params({"w": w})
            (array([-3.]), {'w': array([0.])})
        """
        found: dict[Hashable, np.ndarray] = {}
        for key, weight in weights.items():
            name, seat = self._seat(key, weight)
            self._follow(name, seat)
            found[key] = seat.optimizer.eval_params()[name]
        return found

    # State in and out

    def state(self) -> OptimizerSnapshot:
        """A copy of everything that decides the next updates besides the weights.

        Returns:
            The state of each key, by name, and the counts: each key has counts of its own, so no optimizer over
            variables restores it, and an updater restores none of theirs.
        """
        arrays: dict[str, np.ndarray] = {}
        keys = {}
        for name, seat in self._seats.items():
            snapshot = seat.optimizer.state()
            arrays |= {_of_key(array, name): value for array, value in snapshot.arrays.items()}
            keys[name] = {"last": seat.last, "state": snapshot.meta}
        own = self._recipe.state()
        meta = {**own.meta, "optimization_state": self.optimization_state.get_config()}
        return OptimizerSnapshot(arrays | own.arrays, {"optimizer": meta, "keys": keys})

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        """Continue from a snapshot. The weights stay the caller's.

        Args:
            snapshot: from :meth:`state` of an updater of the same optimizer.

        Raises:
            StateMismatchError: it does not fit; the message lists every difference, and nothing was changed.
        """
        keys, own = snapshot.meta.get("keys"), snapshot.meta.get("optimizer")
        if not isinstance(keys, dict) or not isinstance(own, dict):
            raise mismatch(["it is no updater's, which has a state and counts for each key"], "saved state")
        if strange := compared("", snapshot.meta, ("optimizer", "keys")):
            raise mismatch(strange, "saved state")
        rest, seats, rule = dict(snapshot.arrays), {}, self._recipe.rule
        hyper = [f"hyperparameters/{one}" for one in rule.hyperparameters]
        for name, saved in keys.items():
            its = [*(f"slots/{slot}/{name}" for slot in rule.slot_names), f"accumulated/{name}", *hyper]
            mine = {array: rest.pop(_of_key(array, name)) for array in its if _of_key(array, name) in rest}
            seats[name] = self._restored(name, saved, mine)
        strange = [f"unexpected: {name}" for name in sorted(rest) if not name.startswith("hyperparameters/")]
        if strange:
            raise mismatch(strange, "saved state")
        places = {name: self._place(name) for name in keys}
        self._recipe._restore(OptimizerSnapshot(rest, {**own, "variables": keys}), None, places)
        counts = self._recipe.optimization_state.get_config()
        persistence.set_counts(self.optimization_state, counts)
        self._seats, self._keys = seats, {}

    def _restored(self, name: str, saved: Any, arrays: dict[str, np.ndarray]) -> Seat:
        """A seat as it was saved, its weights to come."""
        try:
            meta, last = saved["state"], saved["last"]
            if not is_count(last):
                raise ValueError(f"last is {shown(last)}, not a count")
            like = meta["variables"][name]
            # Arrays that are set now may be of another shape than those that were saved.
            present = {n: v for n, v in self._settings(name).items() if not isinstance(v, np.ndarray)}
            # The optimizer's own schedules get their state with it, and the next update takes them.
            tried = {n: copy.deepcopy(v) if remembered(v) else v for n, v in present.items()}
            seat = Seat(self._clone(name, tried), name, np.zeros(like["shape"], like["dtype"]))
        except (KeyError, TypeError, ValueError, ParameterError) as error:
            raise mismatch([f"what was saved for key {name!r} cannot be used: {error!r}"], "saved state") from error
        try:
            seat.optimizer.restore(OptimizerSnapshot(arrays, as_now(meta, present)))
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
        from thalweg.checkpoints import CheckpointStore, whole

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
        from thalweg.checkpoints import CheckpointStore

        arrays, meta, _ = CheckpointStore(path).load(generation)
        found = meta.get("updater")
        self.restore(OptimizerSnapshot(arrays, found if isinstance(found, dict) else {}))


def get_updater(optimizer: LocalOptimizer) -> Updater:
    """A function that updates weights one by one, with a state for each key that is made when the key first comes.

    Args:
        optimizer: an optimizer without variables, such as ``tw.Adam()``.

    Returns:
        ``update(key, grad, weight)``, which also has ``eval_params``, ``state``, ``restore``, ``dump`` and ``load``.

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


def _of_key(array: str, name: str) -> str:
    """What an array of the state of one key is called among those of all: hyperparameters have no names of keys."""
    return f"{array}/{name}" if array.startswith("hyperparameters/") else array
