"""The engines by name, each imported when it is asked for.

==============  ========================================================================
``auto``        chooses one of the others by space and budget
``random``      draws anew each time
``tpe``         densities of what did well and of what did not: any space
``cma_es``      a normal distribution that moves and changes its shape: numbers
``cobyqa``      quadratic models in a trust region: few floats, small budgets, little noise
``evolution``   mutation and crossover of nested values of changing length
``halving``     many candidates on few samples, the better ones on more
``few_shot``    which examples to show
``rewrite``     a language model proposes
==============  ========================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from thalweg.errors import SearchError
from thalweg.rules.spelling import nearest
from thalweg.search.engine import Engine
from thalweg.search.values import Json


class Place(NamedTuple):
    """Where an engine is."""

    module: str
    name: str


registry: dict[str, Place] = {
    "auto": Place("thalweg.search.auto", "Auto"),
    "random": Place("thalweg.search.random_search", "RandomSearch"),
    "tpe": Place("thalweg.search.tpe", "TPE"),
    "cma_es": Place("thalweg.search.cma_es", "CMAES"),
    "cobyqa": Place("thalweg.search.cobyqa", "COBYQA"),
    "evolution": Place("thalweg.search.evolution", "Evolution"),
    "halving": Place("thalweg.search.halving", "Halving"),
    "few_shot": Place("thalweg.search.few_shot", "FewShot"),
    "rewrite": Place("thalweg.search.rewriting", "Rewrite"),
}


def engine_class(kind: str) -> type[Engine]:
    """The class of an engine.

    Args:
        kind: its name in ``registry``.

    Raises:
        SearchError: there is none of that name.
        MissingExtraError: what it is built on is not installed.

    Example:
        >>> from thalweg.search.engines import engine_class
        >>> engine_class("tpe").options()["startup"]
        10
        >>> engine_class("tpee")
        Traceback (most recent call last):
        thalweg.errors.SearchError: there is no engine 'tpee'; did you mean 'tpe'? There are auto, random, tpe, ...
    """
    if kind not in registry:
        guess = nearest(str(kind), tuple(registry))
        question = f"; did you mean {guess!r}?" if guess else "."
        raise SearchError(f"there is no engine {kind!r}{question} There are {', '.join(registry)}.", kind=kind)
    place = registry[kind]
    found: type[Engine] = getattr(import_module(place.module), place.name)
    return found


def has_nothing_to_choose(engine: Engine) -> bool:
    """Whether an engine of ours has no candidate but the start; rewriting finds some where other engines keep a text.

    Example:
        >>> from thalweg.search.engines import engine_class, has_nothing_to_choose
        >>> from thalweg.search.space import Space
        >>> space = Space.of({"const": 3}, name="x")
        >>> has_nothing_to_choose(engine_class("random")(space, seed=0, start={"x": 3}))
        True
    """
    kind = getattr(engine, "kind", "")
    return kind in registry and kind != "rewrite" and engine.space.size() == 1 and not engine.starts_outside


def engine_options(kind: str) -> dict[str, Json]:
    """The options of an engine with their defaults, for the validation of studies.

    Raises:
        SearchError: there is no engine of that name.

    Example:
        >>> from thalweg.search.engines import engine_options
        >>> engine_options("random")
        {'start_first': True}
    """
    return engine_class(kind).options()


def check_options(kind: str, options: dict[str, Any]) -> None:
    """Raise unless an engine has all of these options; their values are checked when it is made.

    Raises:
        SearchError: names the unknown one and the nearest known.

    Example:
        >>> from thalweg.search.engines import check_options
        >>> check_options("tpe", {"start_up": 5})
        Traceback (most recent call last):
        thalweg.errors.SearchError: engine 'tpe' has no option 'start_up'; did you mean 'startup'? It has ...
    """
    known = engine_options(kind)
    for name in options:
        if name not in known:
            guess = nearest(str(name), tuple(known))
            question = f"; did you mean {guess!r}?" if guess else "."
            raise SearchError(
                f"engine {kind!r} has no option {name!r}{question} It has {', '.join(known)}.", option=name
            )
