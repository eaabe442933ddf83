"""How what a search has chosen compares with its start, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from thalweg.runs.compared import ScoredOn
from thalweg.runs.telling import some

METHOD = "the wider of Student's t and a paired bootstrap"
_ROUNDING = 1e-12


def against_start(search: Mapping[str, Any]) -> tuple[str, str] | None:
    """How the chosen candidate compares with the start on the test samples, as name and text; None where it was not
    compared.

    Args:
        search: what a run says of its search.

    Raises:
        LookupError, TypeError, ValueError: it is damaged.

    Example:
        >>> from thalweg.runs.against import against_start
        >>> found = {"mean": -0.02189, "low": -0.0784, "high": 0.02917, "samples": 4}
        >>> name, text = against_start({"difference": found, "scored_on": {"item_name": "fold"}})
        >>> name
        'worse than the start'
        >>> text
        'by 0.0219 (4 test folds), 95 % between -0.0784 and +0.0292: the two cannot be told apart'
    """
    if "difference" not in search:
        return None
    found = search["difference"]
    mean, low, high = _rounded(found)
    name = "as good as the start"
    by = ""
    if found["mean"]:
        name, by = "better than the start" if found["mean"] > 0 else "worse than the start", f"by {mean.lstrip('+-')} "
    text = f"{by}({_samples(search)})"
    if not low:
        why = "one difference says nothing of luck" if _count(search) == 1 else "all differences are equal"
        return name, f"{text}; no interval: {why}"
    apart = ": the two cannot be told apart" if found["low"] <= 0.0 <= found["high"] else ""
    return name, f"{text}, 95 % between {low} and {high}{apart}"


def difference_cell(search: Mapping[str, Any]) -> str:
    """The same, as short as a table's cell wants it.

    Args:
        search: what a run says of its search, with a ``difference``.

    Example:
        >>> from thalweg.runs.against import difference_cell
        >>> found = {"mean": 0.04625, "low": 0.01, "high": 0.08, "samples": 5}
        >>> difference_cell({"difference": found, "scored_on": {"item_name": "fold"}})
        '+0.0462 (+0.0100 to +0.0800), 5 test folds'
    """
    mean, low, high = _rounded(search["difference"])
    return f"{mean} ({f'{low} to {high}' if low else 'no interval'}), {_samples(search)}"


def _rounded(found: Mapping[str, Any]) -> tuple[str, str, str]:
    """Mean and ends with the same number of decimals: three figures of half the width. Without an interval the mean."""
    half = (found["high"] - found["low"]) / 2 if "low" in found else 0.0
    if not half > _ROUNDING * abs(found["mean"]):  # of a run of before there may be one without width
        return f"{found['mean']:+.4g}", "", ""
    decimals = max(0, 2 - math.floor(math.log10(half)))
    mean, low, high = (f"{found[name]:+.{decimals}f}" for name in ("mean", "low", "high"))
    return mean, low, high


def _count(search: Mapping[str, Any]) -> int | None:
    """How many samples the difference is of; runs of before say it of the winner."""
    found = search["difference"]
    count: int | None = found.get("samples", search.get("winner", {}).get("test", {}).get("samples"))
    return count


def _samples(search: Mapping[str, Any]) -> str:
    noun = f"test {ScoredOn.read(search.get('scored_on')).item_name}"
    count = _count(search)
    return "test samples" if count is None else some(count, noun)
