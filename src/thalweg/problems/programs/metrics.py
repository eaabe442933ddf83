"""How good an output is: by name, so that studies can say it. Each is from 0, wrong, to 1, right."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from thalweg.errors import StudyError
from thalweg.search.values import Json

Metric = Callable[[Json, Json], float]
"""From what was expected and what came to a number, 0 to 1."""

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def exact(expected: Json, got: Json) -> float:
    """1 if both are the same; texts without the spaces around them.

    Example:
        >>> from thalweg.problems.programs.metrics import exact
        >>> exact("Yes", " Yes\\n"), exact("Yes", "yes"), exact(1, True)
        (1.0, 0.0, 0.0)
    """
    if isinstance(expected, str) and isinstance(got, str):
        return float(expected.strip() == got.strip())
    return float(type(expected) is type(got) and expected == got)


def matches(expected: Json, got: Json) -> float:
    """1 if both are the same but for case, punctuation and spaces around them.

    Example:
        >>> from thalweg.problems.programs.metrics import matches
        >>> matches("Yes", " yes."), matches("Yes", "Yes, it is")
        (1.0, 0.0)
    """
    return float(_plain(expected) == _plain(got))


def starts_with(expected: Json, got: Json) -> float:
    """1 if the output begins with what was expected, after spaces.

    Example:
        >>> from thalweg.problems.programs.metrics import starts_with
        >>> starts_with("Yes", " Yes, it is."), starts_with("Yes", "It is. Yes.")
        (1.0, 0.0)
    """
    return float(str(got).strip().startswith(str(expected).strip()))


def contains(expected: Json, got: Json) -> float:
    """1 if the output contains what was expected, whatever the case.

    Example:
        >>> from thalweg.problems.programs.metrics import contains
        >>> contains("paris", "It is Paris."), contains("paris", "It is Rome.")
        (1.0, 0.0)
    """
    return float(str(expected).strip().casefold() in str(got).casefold())


def numeric(expected: Json, got: Json) -> float:
    """1 if the last number of the output is the expected one, to a relative 1e-6.

    Example:
        >>> from thalweg.problems.programs.metrics import numeric
        >>> numeric(1200, "So 3 times 400 is 1,200."), numeric("0.5", 0.25)
        (1.0, 0.0)
    """
    one, other = _number(expected), _number(got)
    return float(one is not None and other is not None and math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9))


METRICS: dict[str, Metric] = {
    "exact": exact,
    "matches": matches,
    "starts_with": starts_with,
    "contains": contains,
    "numeric": numeric,
}
"""The metrics that a study can name."""


def register_metric(name: str, metric: Metric) -> None:
    """Let studies name a metric of your own, in this process.

    Args:
        name: what studies call it.
        metric: ``metric(expected, got)``, from 0 to 1.

    Raises:
        StudyError: the name is taken by another one.
    """
    if METRICS.get(name, metric) is not metric:
        raise StudyError(f"There is a metric {name!r} already; choose another name.")
    METRICS[name] = metric


def score(name: str, expected: Json, got: Json) -> float:
    """The metric of a name; of a list of expected values the best counts.

    Raises:
        StudyError: there is none, or it gave no finite number.
    """
    if name not in METRICS:
        raise StudyError(f"There is no metric {name!r}; there are {', '.join(METRICS)}. Others: register_metric.")
    answers = expected if isinstance(expected, list) else [expected]
    values = [float(METRICS[name](answer, got)) for answer in answers]
    if not values or not all(map(math.isfinite, values)):
        raise StudyError(f"The metric {name!r} gave {values} for {expected!r} and {got!r}; expected finite numbers.")
    return max(values)


def _plain(value: Json) -> str:
    return str(value).strip().strip(".,;:!?\"'`()[] \n\t").casefold()


def _number(value: Json) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = _NUMBER.findall(str(value))
    return float(found[-1].replace(",", "")) if found else None
