"""What another library's optimizer is made of: one of ours, without variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.errors import HyperparameterError, OptimizerError
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.showing import shown

OVERRIDES = ("step", "pre_process", "post_process")
"""Methods that work on NumPy's arrays, where a subclass has its own."""


def unbound(
    recipe: Any, *, taker: str, call: str, overrides: tuple[str, ...] = OVERRIDES, before: Any = None
) -> LocalOptimizer:
    """The optimizer that was given, if it can serve as a recipe.

    Args:
        recipe: what was given.
        taker: who takes it, for messages.
        call: how it is called, with ``{}`` in the place of the recipe.
        overrides: the methods of which a subclass must have none of its own.
        before: what was given before it, which is no recipe if all is well.

    Returns:
        The recipe.

    Raises:
        HyperparameterError: it is a class, nothing, or something else.
        OptimizerError: it is bound to variables, or its class has methods of its own that work on NumPy's arrays.
    """
    if isinstance(recipe, type) and issubclass(recipe, LocalOptimizer):
        made = call.format(f"tw.{recipe.__name__}(...)")
        raise HyperparameterError(f"{taker} was given the class {recipe.__name__}; give an optimizer of it: {made}")
    if not isinstance(recipe, LocalOptimizer):
        given = "no recipe" if recipe is None else f"{shown(recipe)}, for a recipe"
        what = "give an optimizer of ours without variables"
        if isinstance(before, LocalOptimizer):
            what = "the recipe stands where the parameters belong: " + (
                "give these first" if recipe is None else "the two are swapped"
            )
        raise HyperparameterError(
            f"{taker} was given {given}; {what}: {call.format('tw.Adam(learning_rate=1e-3)')}", name="recipe"
        )
    kind = type(recipe)
    if recipe.variables:
        names = ", ".join(str(variable.name) for variable in recipe.variables)
        raise OptimizerError(
            f"{recipe.name} is bound to {names}, which it updates on NumPy; {taker} takes one without variables: "
            f"{call.format(f'tw.{kind.__name__}(...)')}"
        )
    for method in overrides:
        if getattr(kind, method) is not getattr(LocalOptimizer, method):
            raise OptimizerError(
                f"{kind.__name__} has a {method} of its own, which works on NumPy's arrays; give what it does as "
                "process_grad or process_model"
            )
    return recipe


def refuse_keywords(keywords: Mapping[str, Any], *, taker: str, call: str) -> None:
    """Refuse what belongs into the recipe.

    Args:
        keywords: what was given beside the recipe.
        taker: who was given it.
        call: how it is called, with ``{}`` in the place of the recipe.

    Raises:
        HyperparameterError: there is any.
    """
    if keywords:
        usual = {"lr": "learning_rate", "eps": "epsilon"}
        told = ", ".join(f"{usual.get(name, name)}={value!r}" for name, value in keywords.items())
        raise HyperparameterError(
            f"{taker} was given {', '.join(keywords)}; hyperparameters belong to the recipe: "
            f"{call.format(f'tw.Adam({told})')}",
            names=list(keywords),
        )


def refuse_arguments(owner: str, given: Mapping[str, Any], instead: Mapping[str, str]) -> None:
    """Refuse what only ``LocalOptimizer.step`` takes.

    Args:
        owner: whose step it is.
        given: the keywords that it was given and does not have.
        instead: of ``step_size``, ``grad`` and ``processed_grad`` what to do here.

    Raises:
        OptimizerError: there is one of these.
        TypeError: there is another.
    """
    for name in given:
        if name in instead:
            raise OptimizerError(f"{owner}: step takes {name} on NumPy only; {instead[name]}")
        raise TypeError(f"{owner}: step() got an unexpected keyword argument {name!r}")
