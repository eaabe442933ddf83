"""The tasks of the search contest: a schema, and a loss of a value that fits it. Less is better."""

from __future__ import annotations

import json
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Json = Any
NAME = "x"  # what the searched value is called
DIMENSIONS = 8
STUDY = Path(__file__).resolve().parents[2] / "studies" / "digits-search.toml"


@dataclass(frozen=True)
class Task:
    """What is searched, how often, and from where."""

    schema: dict[str, Any]
    loss: Callable[[Json], float]
    start: Json = None


def task(name: str, seed: int, cache_in: str | None = None, rows: int | None = None) -> Task:
    """A task by name; the seed decides where its optimum and its start are.

    Digits only: losses are kept in the folder ``cache_in``, and only the first ``rows`` are used.
    """
    if name == "digits":
        return _digits(cache_in, rows)
    return {"ackley": _ackley, "rosenbrock": _rosenbrock, "network": _network}[name](seed)


def box(low: float, high: float) -> dict[str, Any]:
    number = {"type": "number", "minimum": low, "maximum": high}
    return {"type": "array", "items": number, "minItems": DIMENSIONS, "maxItems": DIMENSIONS}


def _shifted(low: float, high: float, seed: int) -> tuple[np.ndarray, list[float]]:
    """An optimum in the inner half of each axis, and a start anywhere: neither is the middle, nor the other."""
    rng = np.random.default_rng([1905, seed])
    middle, width = (low + high) / 2, high - low
    return middle + width * rng.uniform(-0.25, 0.25, DIMENSIONS), rng.uniform(low, high, DIMENSIONS).tolist()


def _ackley(seed: int) -> Task:
    low, high = -32.768, 32.768
    optimum, start = _shifted(low, high, seed)

    def loss(x: list[float]) -> float:
        z = np.array(x) - optimum
        far, waves = np.exp(-0.2 * np.sqrt(np.mean(z**2))), np.exp(np.mean(np.cos(2 * np.pi * z)))
        return float(20.0 + np.e - 20.0 * far - waves)

    return Task(box(low, high), loss, start)


def _rosenbrock(seed: int) -> Task:
    low, high = -5.0, 5.0
    optimum, start = _shifted(low, high, seed)

    def loss(x: list[float]) -> float:
        z = np.array(x) - optimum + 1.0
        return float(np.sum(100.0 * (z[1:] - z[:-1] ** 2) ** 2 + (1.0 - z[:-1]) ** 2))

    return Task(box(low, high), loss, start)


# -- nested values of changing length -------------------------------------------------------

_WIDTH = {"type": "integer", "minimum": 1, "maximum": 512, "x-scale": "log"}
_LAYERS = {
    "dense": {"width": _WIDTH},
    "conv": {"width": _WIDTH, "kernel": {"enum": [1, 3, 5, 7]}},
    "drop": {"rate": {"type": "number", "minimum": 0, "maximum": 1}},
    "repeat": {"times": {"type": "integer", "minimum": 1, "maximum": 4}, "width": _WIDTH},
}


def _object(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"kind": {"const": kind}, **properties}, "required": ["kind", *properties]}


NETWORK = {
    "type": "object",
    "properties": {
        "layers": {
            "type": "array",
            "items": {"oneOf": [_object(kind, properties) for kind, properties in _LAYERS.items()]},
            "maxItems": 10,
        },
        "rate": {"type": "number", "minimum": 1e-5, "maximum": 1, "x-scale": "log"},
        "tricks": {"type": "array", "items": {"enum": list("abcdef")}, "maxItems": 4, "uniqueItems": True},
    },
}


def _network(seed: int) -> Task:
    """Edit distance to a network that is best: layers of the right kind, in the right order, with the right numbers."""
    rng = np.random.default_rng([2004, seed])
    kinds = [str(rng.choice(list(_LAYERS))) for _ in range(5)]
    best = [
        {
            "kind": kind,
            "width": int(rng.integers(8, 256)),
            "kernel": 3,
            "rate": float(rng.uniform(0.1, 0.5)),
            "times": 2,
        }
        for kind in kinds
    ]

    def unlike(layer: dict[str, Any], wanted: dict[str, Any]) -> float:
        if layer["kind"] != wanted["kind"]:
            return 1.0
        width = abs(np.log2(layer["width"] / wanted["width"])) / 9 if "width" in layer else 0.0
        others = [0.3 * (layer[key] != wanted[key]) for key in ("kernel", "times") if key in layer]
        rate = abs(layer["rate"] - wanted["rate"]) if "rate" in layer else 0.0
        return float(min(width + sum(others) + rate, 1.0))

    def loss(value: dict[str, Any]) -> float:
        layers = value["layers"]
        table = np.zeros((len(layers) + 1, len(best) + 1))
        table[:, 0], table[0, :] = range(len(layers) + 1), range(len(best) + 1)
        for i, layer in enumerate(layers, 1):
            for j, wanted in enumerate(best, 1):
                change = table[i - 1, j - 1] + unlike(layer, wanted)
                table[i, j] = min(change, table[i - 1, j] + 1.0, table[i, j - 1] + 1.0)
        tricks = 0.25 * len(set(value["tricks"]) ^ {"a", "d"})
        return float(table[-1, -1] + tricks + 0.2 * abs(np.log10(value["rate"]) + 3.0))

    return Task(NETWORK, loss)


# -- a pipeline for digits ------------------------------------------------------------------


@cache
def _study() -> dict[str, Any]:
    return dict(tomllib.loads(STUDY.read_text(encoding="utf-8"))["problem"])


@cache
def _rows(count: int | None) -> Any:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import StratifiedKFold

    features, labels = (part[:count] for part in load_digits(return_X_y=True))
    return features, labels, list(StratifiedKFold(3, shuffle=True, random_state=0).split(features, labels))


def _digits(cache_in: str | None, rows: int | None) -> Task:
    """The error of the study's pipelines in three folds. The seed is the search's alone."""
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
            file.write_text(json.dumps(error), encoding="utf-8")
        return error

    return Task(schema, loss)
