"""The forms of a rule, each made once: with other options the variant's texts, by a convention a library's options and
defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thalweg.rules.keeping import kept_with_rule

if TYPE_CHECKING:
    from thalweg.rules.base import Rule


@kept_with_rule
def in_form(rule: Rule, options: tuple[tuple[str, Any], ...]) -> Rule:
    """A rule in the form that all its options decide; defaults that were changed stay, where it has them yet.

    Args:
        rule: the rule, in any of its forms.
        options: all its options with their values.

    Returns:
        The rule in that form; the same object each time.
    """
    chosen = dict(options)
    if rule.variant is None or chosen == dict(rule.chosen):
        return rule
    defaults = {n: h.default for n, h in rule.hyperparameters.items()}
    made = replace(rule, **rule.variant(**chosen), chosen=chosen)
    kept = {n: d for n, d in defaults.items() if n in made.hyperparameters and d != made.hyperparameters[n].default}
    return made.with_defaults(**kept) if kept else made


@kept_with_rule
def by_convention(rule: Rule, library: str) -> Rule:
    """A rule in the form, and with the defaults, of one of its conventions.

    Args:
        rule: the rule.
        library: a key of its ``conventions``.

    Returns:
        The rule as that library computes it; the same object each time.
    """
    given = dict(rule.conventions[library])
    if "weight_decay" not in rule.hyperparameters:  # what it says of weight decay is for the rule with decay
        given = {name: value for name, value in given.items() if name not in ("decay", "weight_decay")}
    options = {name: given.pop(name) for name in list(given) if name in rule.options}
    made = rule.form(**options) if options else rule
    return made.with_defaults(**given) if given else made
