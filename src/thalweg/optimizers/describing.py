"""Signature and docstring of an optimizer class, from its rule: what would be written out for each is data there."""

from __future__ import annotations

import abc
import functools
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.optimizers import recipe
from thalweg.rules.base import Rule
from thalweg.rules.decaying import decayed


def signature(rule: Rule) -> inspect.Signature:
    """The signature of an optimizer class of this rule."""
    keyword, defaults = (
        inspect.Parameter.KEYWORD_ONLY,
        {**recipe.declared(rule), **{n: d for n, (d, _) in recipe.COMMON.items()}, **recipe.of_wrappers()},
    )
    variables = inspect.Parameter("variables", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
    return inspect.Signature(
        [variables, *(inspect.Parameter(name, keyword, default=value) for name, value in defaults.items())]
    )


class OfRule(abc.ABCMeta):  # noqa: D101  # its docstring is the property below
    # Signature and docstring are made when somebody asks: for all of our classes that takes longer than a step.

    @property
    def __signature__(cls) -> inspect.Signature | None:
        """What can be given; ``None`` where a constructor of the class's own tells it."""
        return signature(cls.rule) if cls._is_plain() else None  # type: ignore[attr-defined]

    @property
    def __doc__(cls) -> str | None:  # type: ignore[override]  # a str in typeshed
        """Its own, or else its rule's."""
        own: str | None = vars(cls).get("__doc__")
        return own or (docstring(cls) if "rule" in vars(cls) and cls._is_plain() else None)

    def _is_plain(cls) -> bool:
        from thalweg.optimizers.configured import ConfiguredOptimizer  # which imports this module

        return hasattr(cls, "rule") and cls.__init__ is ConfiguredOptimizer.__init__  # type: ignore[misc]


def words(
    rule: Rule,
    settings: Mapping[str, Any],
    convention: str | None,
    wrap: Sequence[str],
    accumulate: int,
    nonfinite: str,
) -> list[str]:
    """How an optimizer is set, as keywords: its hyperparameters, and what is not as it is by default."""
    said = [
        f"{name}={f'array{value.shape}' if isinstance(value, np.ndarray) else repr(value)}"
        for name, value in settings.items()
    ]
    first = {name: values[0] for name, values in rule.options.items()}
    said += [f"{name}={value!r}" for name, value in rule.chosen.items() if value != first[name]]
    common = {"convention": convention, "wrap": tuple(wrap), "accumulate": accumulate, "nonfinite": nonfinite}
    said += [f"{name}={value!r}" for name, value in common.items() if value != recipe.COMMON[name][0]]
    return said


def docstring(cls: Any) -> str:
    """The docstring of an optimizer class, from its rule."""
    rule: Rule = cls.rule
    full = decayed(rule)
    arguments = [
        "variables: a Variable, several with distinct names, or ``None``; float32 or float64, updated in place."
    ]
    for name, default in recipe.declared(rule).items():
        if name in full.options:
            values = " or ".join(f"``{value!r}``" for value in full.options[name])
            arguments.append(f"{name}: which form, {values}; {default!r} by default.")
        else:
            known = full if name in full.hyperparameters else full.form(**{full.switches[name]: True})
            h = known.hyperparameters[name]
            arguments.append(f"{name}: {h.doc}, in {h.interval}; a number or a schedule, {default!r} by default.")
    filled = {
        "conventions": ", ".join(f"``{library!r}``" for library in rule.conventions) or "there is none",
        "wrappers": ", ".join(f"``{name}``" for name in recipe.of_wrappers()),
        "name": rule.name,
    }
    arguments += [f"{name}: {text.format(**filled)}" for name, (_, text) in recipe.COMMON.items()]
    for name, (wrapper, h) in recipe.added().items():
        arguments.append(f"{name}: with ``wrap=[{wrapper!r}]``: {h.doc}, in {h.interval}; {h.default!r} by default.")
    raised = [
        "HyperparameterError: a hyperparameter or option is unknown or out of its range, or a hook is not callable.",
        "ParameterError: a variable's data cannot be updated in place.",
        "OptimizerError: several variables without distinct names.",
    ]
    lines = [
        rule.doc.strip(),
        "",
        "Args:",
        *map(_wrapped, arguments),
        "",
        "Raises:",
        *map(_wrapped, raised),
        "",
    ]
    example = [
        "Example:",
        "    >>> import numpy as np",
        "    >>> import thalweg as tw",
        '    >>> x = tw.Variable(np.array([1.0, 2.0]), name="x", needs_grad=True)',
        f"    >>> optimizer = tw.optimizers.{cls.__name__}(x, learning_rate=0.1)",
        "    >>> y = tw.wait(optimizer.step(grad=np.array([0.5, -0.5])))",
        "    >>> y is x, optimizer.iterations",
        "    (True, 1)",
        "",
    ]
    ours = cls.__module__.startswith("thalweg.")  # where another class is to be imported from, nobody knows
    source = textwrap.fill(f"Source: {rule.source}.", 116, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join([*lines, *(example if ours else []), source])


@functools.cache  # most lines are the same for every class
def _wrapped(text: str) -> str:
    return textwrap.fill(text, 116, initial_indent="    ", subsequent_indent="        ", break_on_hyphens=False)
