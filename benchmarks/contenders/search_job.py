"""The tasks of the search contest: a schema, and a loss of a value that fits it. Less is better.

An *instance* of a task is where its optimum and its start are, and the seed of the search. There are sets of them::

    development    what engines and their options are chosen by: looked at as often as anybody likes
    held-out       what they are judged by

Whoever changes an engine because of what it did on held-out instances has spent them: the next figures are of a new
set, which is a stream of its own in ``STREAMS``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Json = Any
NAME = "x"  # what the searched value is called
STREAMS = {"held-out": 20_261_128}
DEVELOPMENT = {"network": 2004}  # streams of their own; 1905 is all others'


@dataclass(frozen=True)
class Task:
    """What is searched, and from where."""

    schema: dict[str, Any]
    loss: Callable[[Json], float]
    start: Json = None
    seed: int = 0  # of the search


def generator(name: str, instances: str, index: int) -> tuple[np.random.Generator, int]:
    """What an instance is drawn from, and the seed of its search."""
    if instances == "development":
        return np.random.default_rng([DEVELOPMENT.get(name, 1905), index]), index
    rng = np.random.default_rng([STREAMS[instances], zlib.crc32(name.encode()), index])
    return rng, int(rng.integers(2**32))


def task(settings: dict[str, Any], name: str, index: int) -> Task:
    """An instance of a task.

    Args:
        settings: ``instances``, the set. Of digits: losses are kept in the folder ``cache``, and only the first
            ``rows`` are used.
        name: of the task.
        index: from 0, of the instance in its set.
    """
    from benchmarks.contenders import search_digits, search_functions, search_nested

    rng, seed = generator(name, settings["instances"], index)
    if name == "digits":
        schema, loss, start = search_digits.make(settings.get("cache"), settings.get("rows"))
    elif name in search_nested.TASKS:
        schema, loss, start = search_nested.TASKS[name](rng)
    else:
        schema, loss, start = search_functions.make(name, rng)
    return Task(schema, loss, start, seed)
