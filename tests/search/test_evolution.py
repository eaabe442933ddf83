"""Evolution: children are points of the space, whatever its shape; it beats random search where structure matters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

import thalweg as tw
from thalweg.errors import SearchError, StateMismatchError
from thalweg.search.engine import Told
from thalweg.search.evolution import Evolution
from thalweg.search.evolution_steps import crossed, mutated, sites
from thalweg.search.random_search import RandomSearch
from thalweg.search.space import Space

UNIT = {"type": "number", "minimum": 0, "maximum": 1}
LAYER = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "dense"}, "width": {"type": "integer", "minimum": 1, "maximum": 512}},
        },
        {
            "type": "object",
            "properties": {
                "kind": {"const": "conv"},
                "kernel": {"enum": [1, 3, 5, 7]},
                "width": {"type": "integer", "minimum": 1, "maximum": 512, "x-scale": "log"},
            },
        },
        {"type": "object", "properties": {"kind": {"const": "drop"}, "rate": UNIT}},
    ]
}
NETWORK = {
    "type": "object",
    "properties": {
        "layers": {"type": "array", "items": LAYER, "minItems": 1, "maxItems": 8},
        "rate": {"type": "number", "minimum": 1e-5, "maximum": 1, "x-scale": "log"},
        "grid": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.1},
        "tricks": {"type": "array", "items": {"enum": ["a", "b", "c", "d"]}, "maxItems": 3, "uniqueItems": True},
        "pair": {"type": "array", "prefixItems": [{"type": "boolean"}, UNIT], "items": UNIT, "maxItems": 4},
        "maybe": {"anyOf": [UNIT, {"type": "null"}]},
    },
}
SPACE = Space.of(NETWORK, name="net")


def ask(engine, count=1):
    return tw.wait(engine.ask(count))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_children_are_points_of_the_space_and_parents_stay(seed):
    rng = np.random.default_rng(seed)
    node = SPACE.nodes["net"]
    first, second = (SPACE.sample(rng)["net"] for _ in range(2))
    kept = [SPACE.encode({"net": parent}) for parent in (first, second)]
    for _ in range(10):
        child = crossed(node, first, second, rng)
        SPACE.check({"net": child})
        for _ in range(5):
            child = mutated(node, child, rng)
            SPACE.check({"net": child})
            SPACE.encode({"net": child})
    assert [SPACE.encode({"net": parent}) for parent in (first, second)] == kept


def test_every_kind_of_site_is_reached_and_changes_something():
    rng = np.random.default_rng(0)
    values = SPACE.sample(np.random.default_rng(5))["net"]
    kinds = {type(node).__name__ for _, node in sites(SPACE.nodes["net"], values)}
    assert kinds == {"Branch", "Real", "Whole", "Grid", "Items", "Distinct", "Choice"}
    changed = dict.fromkeys(values, 0)
    for _ in range(300):
        child = mutated(SPACE.nodes["net"], values, rng)
        for key in values:
            changed[key] += child[key] != values[key]
    assert min(changed.values()) > 0


def test_a_mutation_changes_one_site_only():
    space = Space.of({"properties": dict.fromkeys("abcd", UNIT)}, name="x")
    values = space.sample(np.random.default_rng(0))["x"]
    for seed in range(50):
        child = mutated(space.nodes["x"], values, np.random.default_rng(seed))
        assert sum(child[key] != values[key] for key in "abcd") == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 0, "maximum": 1},
        {"type": "integer", "minimum": 1, "maximum": 1000, "x-scale": "log"},
        {"type": "integer", "minimum": -6, "maximum": 9, "multipleOf": 3},
        {"type": "number", "minimum": 0, "maximum": 0.5, "multipleOf": 0.1},
        {"enum": ["a", "b"]},
        {"type": ["boolean", "null"]},
    ],
)
def test_a_mutated_choice_is_another_one(schema):
    space = Space.of(schema, name="x")
    rng = np.random.default_rng(0)
    for _ in range(200):
        value = space.sample(rng)["x"]
        child = mutated(space.nodes["x"], value, rng)
        assert child != value
        space.check({"x": child})


def test_switching_a_branch_keeps_what_both_have():
    space = Space.of(LAYER, name="x")
    rng = np.random.default_rng(0)
    kept = [
        child["width"] == 77
        for child in (mutated(space.nodes["x"], {"kind": "dense", "width": 77}, rng) for _ in range(100))
        if child["kind"] == "conv"
    ]
    assert kept
    assert all(kept)


def test_crossing_lists_makes_lengths_that_no_parent_has():
    space = Space.of({"type": "array", "items": {"enum": [1, 2]}, "maxItems": 8}, name="x")
    rng = np.random.default_rng(0)
    lengths = {len(crossed(space.nodes["x"], [1] * 3, [2] * 5, rng)) for _ in range(300)}
    assert {3, 5} < lengths
    assert lengths <= set(range(9))


def test_a_space_without_choice_has_one_candidate():
    engine = Evolution(Space.of({"const": 1}, name="x"), seed=0)
    assert [one.values for one in ask(engine, 3)] == [{"x": 1}]
    assert engine.exhausted


def test_candidates_are_children_of_the_best_after_the_beginning():
    engine = Evolution(SPACE, seed=0, population=6, startup=5)
    origins = []
    for _ in range(40):
        (one,) = ask(engine)
        origins.append(one.origin)
        engine.tell([Told(one.number, one.values["net"]["rate"])])
    assert all(origin == "random" for origin in origins[:5])
    assert all(origin.startswith(("mutation of ", "crossover of ")) for origin in origins[5:])


def test_a_member_that_is_told_again_is_judged_anew():
    engine = Evolution(SPACE, seed=0, population=2, startup=4, tournament=8)
    asked = ask(engine, 4)
    engine.tell([Told(one.number, float(one.number)) for one in asked])
    assert next(iter(engine._pool)) == 3
    engine.tell([Told(3, -1.0)])
    assert list(engine._pool)[:2] == [2, 1]
    engine.tell([Told(2, None)])
    assert 2 not in engine._pool
    origins = {one.origin for one in ask(engine, 20)}
    assert all("3" not in origin.split(" of ")[1].split(" and ")[0] for origin in origins)


def test_the_saved_population_has_to_be_the_candidates():
    engine = Evolution(SPACE, seed=0)
    engine.tell([Told(one.number, 1.0) for one in ask(engine, 5)])
    state = engine.state()
    state["engine"]["pool"][0][1] = 2.0
    with pytest.raises(StateMismatchError, match="member 0"):
        Evolution(SPACE, seed=0).restore(state)


def test_a_start_with_optional_parts_missing_has_children():
    schema = {"properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9, "default": 4}, "u": UNIT}}
    engine = Evolution(Space.of(schema, name="x"), seed=0, start={"x": {"u": 0.5}}, startup=1)
    (start,) = ask(engine)
    assert start.values == {"x": {"n": 4, "u": 0.5}}
    engine.tell([Told(0, 1.0)])
    assert {one.origin for one in ask(engine, 10)} == {"mutation of 0"}


def test_wrong_options():
    for wrong in ({"population": 1}, {"tournament": 0}, {"crossover": 1.1}, {"mutations": -1.0}, {"startup": 0}):
        with pytest.raises(SearchError):
            Evolution(SPACE, seed=0, **wrong)
    Evolution(SPACE, seed=0, crossover=0.0, mutations=0.0)


# -- a task with nested values of changing length -------------------------------------------

TARGET = [("conv", 3, 32), ("conv", 3, 64), ("drop", None, 0.3), ("dense", None, 128)]


def network_reward(net):
    """How near a network is to one that is best: order, kinds and numbers count, and so does the length."""
    total = -0.5 * abs(len(net["layers"]) - len(TARGET)) - 0.2 * abs(np.log10(net["rate"]) + 3)
    for layer, (kind, kernel, size) in zip(net["layers"], TARGET, strict=False):
        if layer["kind"] == kind:
            total += 1.0
            if kind == "drop":
                total -= abs(layer["rate"] - size)
            else:
                total -= 0.2 * abs(np.log(layer["width"] / size)) + 0.3 * (kernel not in (None, layer.get("kernel")))
    return float(total + 0.3 * ("b" in net["tricks"]) - 0.1 * len(net["tricks"]))


def best_of(kind, seed, count=150):
    engine = kind(SPACE, seed=seed)
    best = -np.inf
    for _ in range(count):
        (one,) = ask(engine)
        reward = network_reward(one.values["net"])
        engine.tell([Told(one.number, reward)])
        best = max(best, reward)
    return best


@pytest.mark.slow
def test_better_than_random_search_with_95_percent_confidence():
    differences = [best_of(Evolution, seed) - best_of(RandomSearch, seed) for seed in range(10)]
    interval = stats.bootstrap((differences,), np.mean, rng=np.random.default_rng(0), confidence_level=0.95)
    assert interval.confidence_interval.low > 0.0, differences
