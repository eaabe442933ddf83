"""Values of changing length, lists within lists: networks, formulas, and the program of a kiln."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Made = tuple[dict[str, Any], Callable[[Any], float], Any]


def _object(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"kind": {"const": kind}, **properties}, "required": ["kind", *properties]}


def _one_of(kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"oneOf": [_object(kind, properties) for kind, properties in kinds.items()]}


def _number(low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high}


# -- networks: what the population of `evolution` was chosen with ----------------------------

_WIDTH = {"type": "integer", "minimum": 1, "maximum": 512, "x-scale": "log"}
_LAYERS = {
    "dense": {"width": _WIDTH},
    "conv": {"width": _WIDTH, "kernel": {"enum": [1, 3, 5, 7]}},
    "drop": {"rate": _number(0, 1)},
    "repeat": {"times": {"type": "integer", "minimum": 1, "maximum": 4}, "width": _WIDTH},
}
NETWORK = {
    "type": "object",
    "properties": {
        "layers": {"type": "array", "items": _one_of(_LAYERS), "maxItems": 10},
        "rate": {"type": "number", "minimum": 1e-5, "maximum": 1, "x-scale": "log"},
        "tricks": {"type": "array", "items": {"enum": list("abcdef")}, "maxItems": 4, "uniqueItems": True},
    },
}


def _network(rng: np.random.Generator) -> Made:
    """Edit distance to a network that is best: layers of the right kind, in the right order, with the right numbers."""
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

    return NETWORK, loss, None


# -- formulas: a sum of products, of which a table of numbers is ------------------------------

_INPUTS = ["u", "v", "w"]
_FACTORS = {
    "power": {"of": {"enum": _INPUTS}, "exponent": {"type": "integer", "minimum": 1, "maximum": 4}},
    "wave": {
        "of": {"enum": _INPUTS},
        "frequency": {**_number(0.5, 8), "x-scale": "log"},
        "phase": _number(0, 6.28),
    },
    "step": {"of": {"enum": _INPUTS}, "at": _number(-1, 1)},
}
FORMULA = {
    "type": "object",
    "properties": {
        "offset": _number(-2, 2),
        "terms": {
            "type": "array",
            "maxItems": 5,
            "items": {
                "type": "object",
                "properties": {
                    "weight": _number(-3, 3),
                    "factors": {"type": "array", "items": _one_of(_FACTORS), "minItems": 1, "maxItems": 3},
                },
                "required": ["weight", "factors"],
            },
        },
    },
}


def _computed(formula: dict[str, Any], table: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    found = np.full_like(table["u"], formula["offset"])
    for term in formula["terms"]:
        product = np.full_like(found, term["weight"])
        for factor in term["factors"]:
            x = table[factor["of"]]
            if factor["kind"] == "power":
                product *= x ** factor["exponent"]
            elif factor["kind"] == "wave":
                product *= np.sin(factor["frequency"] * x + factor["phase"])
            else:
                product *= x > factor["at"]
        found += product
    return found


def _formula(rng: np.random.Generator) -> Made:
    """The error of a formula at 80 points, by the deviation of what they are of: a formula with three terms."""
    table = {name: rng.uniform(-1, 1, 80) for name in _INPUTS}

    def factor() -> dict[str, Any]:
        kind, of = str(rng.choice(list(_FACTORS))), str(rng.choice(_INPUTS))
        return {
            "kind": kind,
            "of": of,
            "exponent": int(rng.integers(1, 4)),
            "frequency": float(rng.uniform(1, 5)),
            "phase": float(rng.uniform(0, 6.28)),
            "at": float(rng.uniform(-0.5, 0.5)),
        }

    terms = [
        {
            "weight": float(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 2.5)),
            "factors": [factor() for _ in range(int(rng.integers(1, 3)))],
        }
        for _ in range(3)
    ]
    wanted = _computed({"offset": float(rng.uniform(-1, 1)), "terms": terms}, table)
    spread = float(wanted.std())

    def loss(value: dict[str, Any]) -> float:
        error = np.sqrt(np.mean((_computed(value, table) - wanted) ** 2)) / spread
        return float(error + 0.01 * sum(len(term["factors"]) for term in value["terms"]))

    return FORMULA, loss, None


# -- the program of a kiln: phases, of which some repeat steps --------------------------------

HOURS = 24
_TO, _FOR = _number(20, 1200), _number(0.5, 8)
_STEP = {
    "type": "object",
    "properties": {"to": _TO, "hours": _number(0.5, 3)},
    "required": ["to", "hours"],
}
_PHASES = {
    "ramp": {"to": _TO, "hours": _FOR},
    "hold": {"hours": _FOR},
    "cycle": {
        "times": {"type": "integer", "minimum": 1, "maximum": 4},
        "steps": {"type": "array", "items": _STEP, "minItems": 1, "maxItems": 3},
    },
}
PROGRAM = {
    "type": "object",
    "properties": {
        "first": {"anyOf": [_number(20, 400), {"type": "null"}]},
        "phases": {"type": "array", "items": _one_of(_PHASES), "maxItems": 8},
    },
}


def _temperatures(program: dict[str, Any]) -> NDArray[np.float64]:
    """What a program makes of a day, each quarter of an hour: straight lines between its corners, then as it is."""
    now, hot = 0.0, 20.0 if program["first"] is None else program["first"]
    times, corners = [now], [hot]
    for phase in program["phases"]:
        if phase["kind"] == "cycle":
            parts = [(step["to"], step["hours"]) for step in phase["steps"]] * phase["times"]
        else:
            parts = [(phase["to"] if phase["kind"] == "ramp" else corners[-1], phase["hours"])]
        for to, hours in parts:
            now += hours
            times.append(now)
            corners.append(to)
    return np.interp(np.arange(0.0, HOURS, 0.25), times, corners)


def _program(rng: np.random.Generator) -> Made:
    """How far, in hundreds of degrees, a program is from one that is wanted, on average over a day."""

    def phase() -> dict[str, Any]:
        kind = str(rng.choice(list(_PHASES)))
        steps = [
            {"to": float(rng.uniform(100, 1100)), "hours": float(rng.uniform(0.5, 2.0))}
            for _ in range(int(rng.integers(1, 4)))
        ]
        return {
            "kind": kind,
            "to": float(rng.uniform(100, 1100)),
            "hours": float(rng.uniform(2, 6)),
            "times": int(rng.integers(1, 4)),
            "steps": steps,
        }

    ramp = {"kind": "ramp", "to": float(rng.uniform(400, 1100)), "hours": float(rng.uniform(2, 6))}
    wanted = _temperatures({"first": None, "phases": [ramp, *(phase() for _ in range(4))]})

    def loss(value: dict[str, Any]) -> float:
        error = float(np.mean(np.abs(_temperatures(value) - wanted))) / 100.0
        return error + 0.02 * len(value["phases"])

    return PROGRAM, loss, None


TASKS = {"network": _network, "formula": _formula, "program": _program}
