"""How the figures of an iteration are said in one line, wherever that is: the misfit, or what a search has found; and
how many there are of something."""

from __future__ import annotations

from collections.abc import Mapping

SEARCH_FIGURES = ("best", "best_low", "best_high", "best_candidate", "best_samples", "last_samples", "samples")


def some(count: int, noun: str) -> str:
    """So many of what a noun names.

    Example:
        >>> from thalweg.runs.telling import some
        >>> some(1, "iteration"), some(2, "block")
        ('1 iteration', '2 blocks')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {several(noun)}"


def several(noun: str) -> str:
    """What more than one of it are called, by the rules of English that have no exceptions.

    Example:
        >>> from thalweg.runs.telling import several
        >>> several("shot"), several("dish"), several("body"), several("assay")
        ('shots', 'dishes', 'bodies', 'assays')
    """
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def on_some(count: float | None, total: float | None, noun: str = "") -> str:
    """How many samples a mean is of, to be said behind it; nothing where that is not known, as in runs of before.

    Args:
        count: of how many it is.
        total: of how many it could be.
        noun: what one is called.

    Example:
        >>> from thalweg.runs.telling import on_some
        >>> on_some(1, 4, "fold"), on_some(1, 1, "fold"), on_some(1, 4), on_some(None, 4)
        (' on 1 of 4 folds', ' on 1 of 1 fold', ' on 1 of 4', '')
    """
    if count is None or total is None:
        return ""
    name = f" {noun if total == 1 else several(noun)}" if noun else ""
    return f" on {count:.0f} of {total:.0f}{name}"


def line_of(misfit: float, metrics: Mapping[str, float], gap: str = "  ", item_name: str = "sample") -> str:
    """The figures of an iteration.

    Args:
        misfit: the loss an item.
        metrics: by name.
        gap: between two figures.
        item_name: what a sample of a search is called.

    Example:
        >>> from thalweg.runs.telling import line_of
        >>> line_of(0.25, {"model_error": 0.5})
        'misfit 2.5000e-01  model_error 0.5'
        >>> line_of(0.25, {"model_error": float("nan"), "evaluations": 3.0})
        'misfit 2.5000e-01  model_error nan  evaluations 3'
        >>> line_of(-0.5, {"best": 0.75, "best_low": 0.7, "best_high": 0.8, "best_candidate": 3.0, "failed": 0.0})
        'best reward 0.75 (0.7 to 0.8), candidate 3  last 0.5  failed 0'
        >>> line_of(-0.5, {"best": 0.75, "best_samples": 4.0, "last_samples": 1.0, "samples": 4.0}, item_name="fold")
        'best reward 0.75 on 4 of 4 folds  last 0.5 on 1 of 4'
    """
    parts = [f"misfit {misfit:.4e}"]
    if "best" in metrics:
        low, high = metrics.get("best_low"), metrics.get("best_high")
        band = f" ({low:.4g} to {high:.4g})" if low is not None and high is not None and low != high else ""
        number = f", candidate {metrics['best_candidate']:.0f}" if "best_candidate" in metrics else ""
        samples = metrics.get("samples")
        best, last = (
            on_some(metrics.get("best_samples"), samples, item_name),
            on_some(metrics.get("last_samples"), samples),
        )
        parts = [f"best reward {metrics['best'] + 0.0:.4g}{band}{best}{number}", f"last {0.0 - misfit:.4g}{last}"]
    parts += [
        f"{name} {int(value)}" if float(value).is_integer() and abs(value) < 1e15 else f"{name} {value:.4g}"
        for name, value in metrics.items()
        if not ("best" in metrics and name in SEARCH_FIGURES)
    ]
    return gap.join(parts)


def within(line: str, width: int, gap: str) -> str:
    """A line of figures without the last ones if they would not fit; half a number is worse than none.

    Args:
        line: figures with gaps between them.
        width: characters that there are.
        gap: what is between two figures.

    Example:
        >>> from thalweg.runs.telling import within
        >>> within("misfit 0.25   model_error 0.5   step_norm 1e-3", 40, "   ")
        'misfit 0.25   model_error 0.5   …'
    """
    more = ""
    while len(line) + len(more) > width and gap in line:
        line, more = line[: line.rindex(gap)], f"{gap}…"
    return line + more
