"""The random generators that a problem draws from (:attr:`thalweg.runs.Problem.generators`), and what a checkpoint has
of them: their states after the last committed step, whatever an iteration that was broken off has drawn since.

::

    {"source": {"state": {"bit_generator": "PCG64", ...}, "spawned": 0}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from thalweg.errors import RunError
from thalweg.runs.problem import Problem

GENERATORS = "generators"
"""What a checkpoint calls them."""

# What NumPy takes without a look, and reads memory by.
_MOST = {"has_uint32": 1, "uinteger": 2**32 - 1, "pos": 624, "buffer_pos": 4}
_WIDEST = 2**128 - 1

States = dict[str, tuple[np.random.Generator, dict[str, Any], int]]
"""By name: the generator, its state, and how many children it has spawned."""


class Draws:
    """The generators of a problem, and the states that they had after the last committed step.

    Args:
        problem: whose they are.
        saved: what the checkpoint that the run goes on from has of them.
    """

    def __init__(self, problem: Problem, saved: Any = None) -> None:
        self._problem = problem
        self._saved = saved
        self._states: States = {}

    async def begin_block(self, index: int) -> None:
        """Have the problem get ready for a block.

        Raises:
            RunError: it has drawn for that, and where the run goes on in the block it would draw something else.
        """
        before = _states(self._problem)
        await self._problem.begin_block(index)
        after = _states(self._problem)
        for name in before.keys() & after.keys():
            if after[name][0] is before[name][0] and _as_json(after[name]) != _as_json(before[name]):
                raise RunError(
                    f"{type(self._problem).__qualname__}.begin_block has drawn from the generator {name!r}. It is "
                    "called again where a run goes on in the block, and would draw other numbers: have it draw from "
                    "np.random.default_rng([seed, index])."
                )

    def restore(self) -> None:
        """Put the generators where the checkpoint has them.

        Raises:
            RunError: it has others; nothing was changed.
        """
        for generator, state, spawned in _fitted(self._problem, self._saved):
            generator.bit_generator.state = state
            sequence = generator.bit_generator.seed_seq
            while (missing := spawned - _spawned(generator)) > 0:
                sequence.spawn(min(missing, 1000))  # type: ignore[attr-defined]  # it has spawned before
        self._states = _states(self._problem)

    def commit(self) -> Exception | None:
        """Take note of the states, which are those after a committed step; returns what failed in that."""
        try:
            self._states = _states(self._problem)
        except Exception as error:  # a property of the problem's; a checkpoint without them is refused
            self._states = {}
            return error
        return None

    def meta(self) -> dict[str, Any]:
        """What a checkpoint says of them."""
        return {GENERATORS: {name: _as_json(entry) for name, entry in self._states.items()}} if self._states else {}


def check_drawn(problem: Problem, meta: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that a problem's generators cannot go on from; nothing is changed.

    Args:
        problem: whose they are.
        meta: the checkpoint's.

    Raises:
        RunError: it has no state of one of them, or that of another one.
    """
    if meta.get("selection") is not None:  # else no iteration was begun
        _fitted(problem, meta.get(GENERATORS))


def _states(problem: Problem) -> States:
    found = problem.generators
    if not found:
        return {}
    return {name: (one, dict(one.bit_generator.state), _spawned(one)) for name, one in found.items()}


def _spawned(generator: np.random.Generator) -> int:
    return int(getattr(generator.bit_generator.seed_seq, "n_children_spawned", 0))


def _as_json(entry: tuple[Any, Mapping[str, Any], int]) -> dict[str, Any]:
    return {"state": _plain(entry[1]), "spawned": entry[2]}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return value if isinstance(value, str) else value.tolist() if isinstance(value, np.ndarray) else int(value)


def _fitted(problem: Problem, saved: Any) -> list[tuple[np.random.Generator, dict[str, Any], int]]:
    """The problem's generators with the states that a checkpoint has of them."""
    here = problem.generators
    saved = {} if saved is None else saved
    if not isinstance(saved, dict):
        raise RunError("The saved states of the problem's random generators are damaged: they are no table.")
    lost = sorted(here.keys() - saved.keys())
    if lost:
        others = f" (it has that of {', '.join(sorted(saved))})" if saved else ""
        raise RunError(
            f"The checkpoint has no state of the problem's random generator {', '.join(lost)}{others}: when it was "
            "made, the problem's `generators` did not name it. From here the run would draw other numbers than without "
            "the stop. Begin again (--iteration 0, or a new run), or go on with the problem as it was."
        )
    return [(one, *_entry(name, one, saved[name])) for name, one in here.items()]


def _entry(name: str, generator: np.random.Generator, entry: Any) -> tuple[dict[str, Any], int]:
    """A saved state, as its generator takes it."""
    now = generator.bit_generator.state
    try:
        state, spawned = entry["state"], entry["spawned"]
        if state["bit_generator"] != now["bit_generator"]:
            raise RunError(
                f"The problem's random generator {name!r} is a {now['bit_generator']}, and the checkpoint has the "
                f"state of a {state['bit_generator']!r:.40}. Go on with the one that it was, or begin again "
                "(--iteration 0)."
            )
        ready = _like(now, state)
        type(generator.bit_generator)(0).state = ready
        if type(spawned) is not int or not _spawned(generator) <= spawned < 2**32:
            raise ValueError(f"{spawned!r:.40} children, and {_spawned(generator)} are there already")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(f"The saved state of the problem's random generator {name!r} is damaged: {error}.") from error
    return ready, spawned


def _like(now: Any, saved: Any, name: str = "state") -> Any:
    """What was saved, if it is of the kind of what there is."""
    if isinstance(now, Mapping):
        if not isinstance(saved, dict) or saved.keys() != now.keys():
            raise ValueError(f"{name} has other entries than {sorted(now)}")
        return {key: _like(part, saved[key], key) for key, part in now.items()}
    if isinstance(now, str):
        return saved
    if isinstance(now, np.ndarray):
        most = int(np.iinfo(now.dtype).max)
        if not isinstance(saved, list) or len(saved) != now.size:
            raise ValueError(f"{name} is no list of {now.size} numbers")
        return np.array([_whole(number, most, name) for number in saved], now.dtype)
    return _whole(saved, _MOST.get(name, _WIDEST), name)


def _whole(number: Any, most: int, name: str) -> int:
    if type(number) is not int or not 0 <= number <= most:
        raise ValueError(f"{name} is {number!r:.40}")
    return number
