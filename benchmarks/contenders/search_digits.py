"""The pipeline of studies/digits-search.toml: the mean error of a pipeline in three folds of the bundled digits."""

from __future__ import annotations

import json
import os
import tomllib
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

STUDY = Path(__file__).resolve().parents[2] / "studies" / "digits-search.toml"


@cache
def _study() -> dict[str, Any]:
    return dict(tomllib.loads(STUDY.read_text(encoding="utf-8"))["problem"])


@cache
def _rows(count: int | None) -> Any:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import StratifiedKFold

    features, labels = (part[:count] for part in load_digits(return_X_y=True))
    return features, labels, list(StratifiedKFold(3, shuffle=True, random_state=0).split(features, labels))


def make(cache_in: str | None, rows: int | None) -> tuple[dict[str, Any], Callable[[Any], float], None]:
    """Schema and loss; there is no start. The data are the same for each instance, whose seed is the search's alone."""
    from thalweg.problems.sklearn.estimators import make_pipeline
    from thalweg.search import digest_json

    study = _study()
    schema = {"type": "object", "properties": {step: study["space"][step] for step in study["steps"]}}
    known = Path(cache_in) if cache_in is not None else None

    def loss(value: dict[str, Any]) -> float:
        file = known / digest_json(value) if known is not None else None
        if file is not None and file.exists():
            return float(json.loads(file.read_text(encoding="utf-8")))
        features, labels, folds = _rows(rows)
        errors = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence
            for fit, score in folds:
                pipeline = make_pipeline(value, study["steps"], 0).fit(features[fit], labels[fit])
                errors.append(1.0 - pipeline.score(features[score], labels[score]))
        error = float(np.mean(errors))
        if file is not None:
            begun = file.with_name(f"{file.name}.{os.getpid()}")
            begun.write_text(json.dumps(error), encoding="utf-8")
            begun.replace(file)  # whole, whoever reads it now
        return error

    return schema, loss, None
