"""From what a run has chosen to a pipeline of scikit-learn that can be fitted: by names, without a pickle."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np

from thalweg.errors import RunError
from thalweg.problems.sklearn.estimators import make_pipeline
from thalweg.runs.files import read_small
from thalweg.runs.record import parsed

LARGEST_SEED = 2**32 - 1  # that NumPy's older generators take, which scikit-learn makes


def load_pipeline(run: Path | str, *, steps: Sequence[str] | None = None, seed: int | None = None) -> Any:
    """The pipeline that a run of kind ``"sklearn"`` has chosen, not fitted: fit it on all the rows that you have.

    Args:
        run: the run's folder, its ``result.json``, or what ``thalweg export`` wrote of it.
        steps: the order of the steps; default: what ``study.toml`` beside the file says.
        seed: the random state of each estimator that has one, an integer; default: that of the study, as in the run.

    Returns:
        A ``sklearn.pipeline.Pipeline``.

    Raises:
        RunError: there is no result, it is no pipeline's, no study beside it says the order of the steps, or the seed
            is no integer from 0 to 2^32 - 1.
        SearchError: it names estimators or parameters that there are not.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> import json, tempfile
        >>> from thalweg.problems.sklearn import load_pipeline
        >>> value = {"scale": {"kind": "standard_scaler"}, "model": {"kind": "ridge", "alpha": 0.5}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "result.json")
        ...     _ = path.write_text(json.dumps({"pipeline": value}))
        ...     load_pipeline(path, steps=["scale", "model"], seed=0)
        Pipeline(steps=[('scale', StandardScaler()),
                        ('model', Ridge(alpha=0.5, random_state=0))])
    """
    path = Path(run)
    try:
        path = path / "result.json" if path.is_dir() else path
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise RunError(f"{path} cannot be read: {error.strerror}.") from error
    value = _value(path)
    given: Any = seed
    whose = "the seed" if seed is not None else f"the seed of {path.parent / 'study.toml'}"
    if steps is None or seed is None:
        study = _study(path.parent)
        table = study.get("problem")
        found = table.get("steps") if isinstance(table, dict) and table.get("kind") == "sklearn" else None
        steps = steps if steps is not None else found
        given = seed if seed is not None else study.get("seed", 0)
    if not isinstance(steps, (list, tuple)):
        raise RunError(
            f"In which order the steps of {path} come is not known: there is no study.toml of kind sklearn beside it. "
            f"Give steps, some order of {sorted(value)}."
        )
    if not all(isinstance(step, str) for step in steps):
        raise RunError(
            f"The order of the steps of {path} cannot be used: steps are names, and not all in it are texts. Give "
            f"steps, some order of {sorted(value)}."
        )
    if sorted(steps) != sorted(value):
        raise RunError(f"{path} has the steps {sorted(value)}, not {sorted(steps)}.")
    return make_pipeline(value, steps, _whole(given, whose))


def _whole(seed: Any, what: str) -> int:
    """A seed as Python's integer: NumPy's are as good."""
    if not isinstance(seed, bool | np.bool_):
        with suppress(TypeError):
            if 0 <= (number := operator.index(seed)) <= LARGEST_SEED:
                return number
    raise RunError(f"{what} is {brief(seed)}; a seed is an integer from 0 to 2^32 - 1, such as 0.")


def _value(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_small(path))
    except FileNotFoundError as error:
        raise RunError(
            f"There is no {path}. Give the folder of a run that has ended; of one that is going on, `thalweg export` "
            "writes what was best at its newest checkpoint."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from error
    value = found.get("pipeline") if isinstance(found, dict) else None
    if not isinstance(value, dict):
        raise RunError(f"{path} holds no pipeline; is it of a run of kind sklearn?")
    return value


def _study(folder: Path) -> dict[str, Any]:
    try:
        return parsed(read_small(folder / "study.toml"))
    except (OSError, ValueError):
        return {}
