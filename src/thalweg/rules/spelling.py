"""Errors for a name that nobody knows, naming the nearest one that exists."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable

from thalweg.errors import HyperparameterError

_CLOSE = 0.57  # of 1; "learning_rate" and "multivariate" have 0.56, "beta1" and "b1" 0.571
_CLOSER = 0.75  # for what is spelled right, and is of another library: Keras's "beta_1" is not Rprop's "eta_plus"
USUAL: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate", "initial"),
    "eta": ("learning_rate",),
    "alpha": ("rho", "learning_rate"),
    "step_size": ("learning_rate", "period", "up"),
    "b1": ("beta1",),
    "beta_1": ("beta1",),
    "beta_2": ("beta2",),
    "b2": ("beta2",),
    "betas": ("beta1 and beta2",),
    "eps": ("epsilon",),
    "etas": ("eta_minus and eta_plus",),
    "step_sizes": ("min_step and max_step",),
    "gradient_accumulation_steps": ("accumulate",),
    "ema_momentum": ("ema_decay",),
    "base_lr": ("initial",),
    "init_value": ("initial",),
    "init_lr": ("initial",),
    "initial_learning_rate": ("initial",),
    "learning_rate": ("initial", "peak", "then"),
    "max_lr": ("peak",),
    "peak_value": ("peak", "then"),
    "warmup_target": ("then",),
    "eta_min": ("minimum", "final"),
    "min_lr": ("minimum", "final"),
    "end_value": ("final", "minimum"),
    "end_learning_rate": ("final", "minimum"),
    "T_max": ("period", "duration"),
    "T_0": ("period",),
    "first_decay_steps": ("period",),
    "decay_steps": ("period", "duration"),
    "total_iters": ("duration",),
    "total_steps": ("duration", "period"),
    "transition_steps": ("duration", "period"),
    "steps": ("duration", "period"),
    "epochs": ("duration", "period"),
    "step_size_up": ("up",),
    "step_size_down": ("down",),
    "decay_rate": ("gamma",),
    "exponent": ("power",),
    "start_factor": ("fraction",),
    "milestones": ("boundaries",),
    "values": ("levels",),
    "boundaries_and_scales": ("boundaries and factor",),
    "anneal_strategy": ("annealing",),
    "schedulers": ("schedules", "factors"),
    "max_norm": ("limit",),
    "max_delta": ("limit",),
    "clip_value": ("limit",),
    "clipping": ("limit",),
    "min": ("lower", "minimum"),
    "max": ("upper", "peak"),
    "low": ("lower",),
    "high": ("upper",),
    "std": ("sigma",),
}
"""What other libraries call a hyperparameter, and what it can be here: whatever is known comes first."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` most likely stands for, or ``None``.

    Args:
        name: what was written.
        known: the names that exist.

    Returns:
        The closest known name, if any is close; the first, where one name stands for several of ours.

    Example:
        >>> from thalweg.rules.spelling import nearest
        >>> nearest("learning_rat", ["learning_rate", "beta1"])
        'learning_rate'
        >>> nearest("lr", ["learning_rate", "beta1"])
        'learning_rate'
        >>> nearest("beta1", ["b1", "b2"])
        'b1'
        >>> nearest("relative", ["abs", "rel"])
        'rel'
        >>> nearest("adma", ["adam", "adamax"])
        'adam'
    """
    names = list(known)
    if name in names:
        return name
    usual = _usual(name, names) or [one for one in names if name in USUAL.get(one, ())]
    if usual:
        return usual[0]
    mixed = [one for one in names if sorted(one) == sorted(name)]  # letters that changed places
    if mixed:
        return mixed[0]
    close = difflib.get_close_matches(name, names, n=1, cutoff=_CLOSER if name in USUAL else _CLOSE)
    longer = [one for one in names if len(one) > 2 and name.startswith(one)]
    return next(iter(close + longer), None)


def _usual(name: str, names: Container[str]) -> list[str]:
    """The known names that another library's name stands for."""
    several = (meant.split(" and ") for meant in USUAL.get(name, ()))
    return next((meant for meant in several if all(one in names for one in meant)), [])


def unknown(what: str, name: str, known: Iterable[str], *, advice: str | None = None) -> HyperparameterError:
    """The error for an unknown name.

    Args:
        what: what was looked for, for instance ``"hyperparameter of adam"``.
        name: what was written.
        known: the names that exist.
        advice: what to do instead, where no other name means the same.

    Returns:
        The error, ready to be raised; ``details["nearest"]`` holds the suggestion.

    Example:
        >>> from thalweg.rules.spelling import unknown
        >>> print(unknown("schedule", "expp", ["exp", "fixed"]))
        there is no schedule 'expp'; did you mean 'exp'? (known: exp, fixed)
        >>> print(unknown("schedule", "foo", ["exp", "fixed"]))
        there is no schedule 'foo' (known: exp, fixed)
        >>> print(unknown("hyperparameter", "betas", ["beta1", "beta2"]))
        there is no hyperparameter 'betas'; did you mean 'beta1' and 'beta2'? (known: beta1, beta2)
        >>> print(unknown("hyperparameter", "fused", ["beta1"], advice="leave it out"))
        there is no hyperparameter 'fused': leave it out (known: beta1)
    """
    names = sorted(known)
    usual = _usual(name, names)
    guess = None if advice and not usual else nearest(name, names)
    meant = " and ".join(map(repr, usual or (guess,)))
    hint = f"; did you mean {meant}?" if guess else f": {advice}" if advice else ""
    listing = ", ".join(names) or "none"
    return HyperparameterError(
        f"there is no {what} {name!r}{hint} (known: {listing})", name=name, nearest=guess, known=names
    )
