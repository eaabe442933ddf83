"""What every engine has to do: number, validate, remember, and after a restore go on to the same candidates."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import random
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import optuna
import pytest

import thalweg as tw
from thalweg.errors import SearchError, StateMismatchError, ValueMismatchError
from thalweg.search import digest_json
from thalweg.search.engine import Engine, Proposal, Told
from thalweg.search.engines import check_options, engine_class, engine_options, registry
from thalweg.search.optuna_engine import OptunaTrial
from thalweg.search.random_search import RandomSearch
from thalweg.search.space import Space
from thalweg.search.tpe import TPE

UNIT = {"type": "number", "minimum": 0, "maximum": 1}
MIXED = {
    "type": "object",
    "properties": {
        "rate": {"type": "number", "minimum": 1e-5, "maximum": 1e-1, "x-scale": "log"},
        "width": {"type": "integer", "minimum": 8, "maximum": 64, "multipleOf": 8},
        "model": {
            "oneOf": [
                {"type": "object", "properties": {"kind": {"const": "svc"}, "c": UNIT}, "required": ["kind"]},
                {
                    "type": "object",
                    "properties": {"kind": {"const": "knn"}, "k": {"enum": [1, 3, 5]}},
                    "required": ["kind"],
                },
            ]
        },
        "scale": {"type": "boolean"},
        "layers": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 4}, "maxItems": 3},
    },
}
CONTINUOUS = {"type": "array", "items": {"type": "number", "minimum": -2, "maximum": 3}, "minItems": 3, "maxItems": 3}
NUMERIC = {"cma_es", "cobyqa"}
MINE = ["auto", "random", "tpe", "cma_es", "cobyqa", "evolution", "halving"]


def space_of(kind):
    return Space.of(CONTINUOUS if kind in NUMERIC else MIXED, name="x")


def start_of(kind):
    if kind in NUMERIC:
        return {"x": [1.0, 1.0, 1.0]}
    return {"x": {"rate": 1e-3, "width": 16, "model": {"kind": "knn", "k": 3}, "scale": True, "layers": [2, 2]}}


def reward(candidate):
    """Deterministic and without ties; failing now and then."""
    mixed = int(digest_json(candidate.values)[:8], 16)
    return None if mixed % 11 == 0 else (mixed % 9973) / 9973


def make(kind, seed=3, **options):
    return engine_class(kind)(space_of(kind), seed=seed, start=start_of(kind), **options)


def ask(engine, count=1):
    return tw.wait(engine.ask(count))


def go(engine, iterations, count=1):
    """Ask and tell, and return the candidates."""
    candidates = []
    for _ in range(iterations):
        asked = ask(engine, count)
        engine.tell([Told(one.number, reward(one)) for one in asked])
        candidates += asked
    return candidates


# -- every engine -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MINE)
def test_candidates_are_numbered_valid_and_begin_with_the_start(kind):
    engine = make(kind)
    candidates = go(engine, 25)
    assert candidates[0].values == start_of(kind)
    assert candidates[0].origin == "start"
    numbers = [one.number for one in candidates]
    assert sorted(set(numbers)) == list(range(len(set(numbers))))
    for one in candidates:
        engine.space.check(one.values)
        assert one.origin
        assert 0 < one.resource <= 1
    engine.close()


@pytest.mark.parametrize("kind", MINE)
def test_the_start_comes_first_only_if_it_shall(kind):
    engine = make(kind, start_first=False)
    assert ask(engine)[0].origin != "start"
    without = engine_class(kind)(space_of(kind), seed=3)
    assert ask(without)[0].origin != "start"
    engine.close()
    without.close()


@pytest.mark.parametrize("kind", MINE)
def test_the_same_seed_gives_the_same_candidates_and_another_one_others(kind):
    first, second, other = make(kind, seed=0), make(kind, seed=0), make(kind, seed=1)
    assert go(first, 12) == go(second, 12)
    if kind != "cobyqa":  # it is deterministic, but for where it begins again
        assert go(other, 12) != go(make(kind, seed=0), 12)
    for engine in (first, second, other):
        engine.close()


@pytest.mark.parametrize("kind", MINE)
def test_an_engine_that_begins_anew_knows_nothing_and_says_numbers_as_they_are_counted(kind):
    engine, fresh = make(kind), make(kind)
    first = go(engine, 14)
    engine.begin_anew()
    assert engine.state() == fresh.state()
    engine.count_from(100)
    again = go(engine, 14)
    assert [(one.number, one.values) for one in again] == [(one.number, one.values) for one in first]
    texts = [(one.origin, another.origin) for one, another in zip(first, again, strict=True)]
    added = [re.sub(r"\b\d+\b", lambda found: str(100 + int(found[0])), before) for before, _ in texts]
    assert added == [after for _, after in texts]
    for each in (engine, fresh):
        each.close()


@pytest.mark.parametrize("kind", MINE)
@pytest.mark.parametrize("when", [0, 1, 7, 19])
def test_restored_engines_go_on_to_the_same_candidates(kind, when):
    engine = make(kind)
    count = 1 if engine.sequential else 3
    go(engine, when, count)
    ask(engine, count)  # and is killed before it was told
    told = json.loads(json.dumps(engine.state()))
    twin = make(kind)
    twin.restore(told)
    assert twin.state() == engine.state()
    assert twin.pending == engine.pending
    for one in (engine, twin):
        one.tell([Told(candidate.number, reward(candidate)) for candidate in one.pending])
    assert go(engine, 8, count) == go(twin, 8, count)
    assert json.dumps(engine.state()) == json.dumps(twin.state())
    engine.close()
    twin.close()


@pytest.mark.parametrize("kind", MINE)
def test_states_of_others_are_refused_and_change_nothing(kind):
    engine = make(kind)
    go(engine, 6)
    before = json.dumps(engine.state())
    other = engine_class(kind)(Space.of({**CONTINUOUS, "maxItems": 3, "items": UNIT}, name="x"), seed=3)
    with pytest.raises(StateMismatchError, match="space"):
        engine.restore(other.state())
    with pytest.raises(StateMismatchError, match="seed"):
        engine.restore(make(kind, seed=4).state())
    with pytest.raises(StateMismatchError, match="options"):
        engine.restore(make(kind, start_first=False).state())
    for damage in ("digests", "rewards", "engine", "pending"):
        state = json.loads(before)
        del state.get("inner" if kind == "auto" else "", state)[damage]
        with pytest.raises(StateMismatchError, match=r"damaged|saved search"):
            engine.restore(state)
    state = json.loads(before)
    state.get("inner" if kind == "auto" else "", state)["rewards"].pop()
    with pytest.raises(StateMismatchError):
        engine.restore(state)
    with pytest.raises(StateMismatchError):
        engine.restore(None)
    assert json.dumps(engine.state()) == before
    go(engine, 2)
    engine.close()
    other.close()


@pytest.mark.parametrize("kind", MINE)
def test_wrong_results_are_refused_before_anything_is_learnt(kind):
    engine = make(kind)
    (first,) = ask(engine)
    before = json.dumps(engine.state())
    for wrong, says in [
        ([Told(0, 1.0), Told(1, 1.0)], "candidate 1 was never asked for"),
        ([Told(0, 1.0), Told(0, 2.0)], "told twice"),
        ([Told(0, math.nan)], "finite"),
        ([Told(0, math.inf)], "finite"),
        ([Told(0, True)], "finite"),
        ([Told(0, "1")], "finite"),
        ([Told(-1, 1.0)], "never asked"),
        ([Told(True, 1.0)], "never asked"),
        ([Told(0, 1.0, (3,))], "text"),
        ([(0, 1.0)], "takes Told"),
    ]:
        with pytest.raises(SearchError, match=says):
            engine.tell(wrong)
        assert json.dumps(engine.state()) == before
    engine.tell([Told(first.number, 1)])
    assert engine.reward_of(0) == 1.0
    engine.close()


@pytest.mark.parametrize("kind", MINE)
def test_failures_only_do_not_stop_a_search(kind):
    engine = make(kind)
    for _ in range(30):
        engine.tell([Told(one.number, None) for one in ask(engine)])
    assert ask(engine)
    engine.close()


@pytest.mark.parametrize("kind", MINE)
def test_candidates_are_nobodys_but_their_receivers(kind):
    engine, untouched = make(kind), make(kind)
    for _ in range(8):
        (mine,), (other,) = ask(engine), ask(untouched)
        assert mine == other
        score = reward(mine)
        if kind in NUMERIC:
            mine.values["x"].clear()
        else:
            mine.values["x"]["layers"] = "changed"
        mine.values["more"] = 1
        engine.tell([Told(mine.number, score)])
        untouched.tell([Told(other.number, score)])
    engine.close()
    untouched.close()


@pytest.mark.parametrize("kind", MINE)
def test_global_random_numbers_are_neither_used_nor_changed(kind):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002, what others may use
    before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002, the same
    first = go(make(kind), 14)
    assert (random.getstate(), repr(np.random.get_state())) == before  # noqa: NPY002, the same
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002, the same
    assert go(make(kind), 14) == first


@pytest.mark.parametrize("kind", MINE)
def test_wrong_arguments(kind):
    for seed in (-1, 2**32, True, 1.0, None):
        with pytest.raises(SearchError, match="seed"):
            engine_class(kind)(space_of(kind), seed=seed)
    with pytest.raises(SearchError, match="start_first"):
        make(kind, start_first=1)
    with pytest.raises(ValueMismatchError):
        engine_class(kind)(space_of(kind), seed=0, start={"x": "wrong"})
    engine = make(kind)
    for count in (0, -1, True, 1.5):
        with pytest.raises(SearchError, match="count"):
            ask(engine, count)
    with pytest.raises(TypeError):
        engine_class(kind)(space_of(kind), seed=0, unknown=1)


@pytest.mark.parametrize("kind", MINE)
def test_a_candidate_may_be_told_again_and_restoring_knows(kind):
    engine = make(kind)
    go(engine, 12)
    engine.tell([Told(2, 5.0)])
    engine.tell([Told(3, None)])
    engine.tell([Told(3, 6.0)])
    assert (engine.reward_of(2), engine.reward_of(3)) == (5.0, 6.0)
    twin = make(kind)
    twin.restore(json.loads(json.dumps(engine.state())))
    assert go(engine, 6) == go(twin, 6)
    engine.close()
    twin.close()


# -- the base class -----------------------------------------------------------------------


class Counting(Engine):
    """Proposes integers in turn."""

    kind = "counting"

    async def _propose(self, count):
        if self.fail:
            raise RuntimeError("no")
        return [Proposal({"x": self.asked + k}, "counted") for k in range(count)]

    fail = False

    def _learn(self, results):
        if self.fail:
            raise RuntimeError("no")

    def _own_state(self):
        return {}

    def _restore_own(self, state):
        return


def test_a_failing_ask_or_tell_leaves_the_engine_as_it_was():
    engine = Counting(Space.of({"type": "integer", "minimum": 0, "maximum": 9}, name="x"), seed=0)
    ask(engine, 2)
    before = json.dumps(engine.state())
    engine.fail = True
    with pytest.raises(RuntimeError):
        ask(engine)
    with pytest.raises(RuntimeError):
        engine.tell([Told(0, 1.0)])
    engine.fail = False
    assert json.dumps(engine.state()) == before
    assert ask(engine)[0].number == 2


def test_two_asks_at_once_are_refused():
    async def both():
        engine = Counting(Space.of({"type": "integer", "minimum": 0, "maximum": 9}, name="x"), seed=0)
        engine._asking = True
        await engine.ask()

    with pytest.raises(SearchError, match="under way"):
        tw.wait(both())


def test_nothing_is_asked_for_when_all_was():
    engine = Counting(Space.of({"type": "integer", "minimum": 0, "maximum": 3}, name="x"), seed=0)
    assert not engine.exhausted
    ask(engine, 4)
    assert engine.exhausted
    assert ask(engine) == []


def test_every_registered_engine_of_this_part_is_there():
    for kind in MINE:
        found = engine_class(kind)
        assert found.kind == kind
        assert engine_options(kind)["start_first"] is True
        json.dumps(engine_options(kind))
    assert set(MINE) <= set(registry)
    with pytest.raises(SearchError, match="did you mean 'cobyqa'"):
        engine_class("cobyla")
    check_options("tpe", {"startup": 3})
    with pytest.raises(SearchError, match="did you mean 'startup'"):
        check_options("tpe", {"startups": 3})


# -- Optuna's samplers: the identical sequence ---------------------------------------------


def by_hand(trial):
    """The mixed space, as somebody would write it for Optuna."""
    values = {
        "rate": trial.suggest_float("x.rate", 1e-5, 1e-1, log=True),
        "width": trial.suggest_int("x.width", 8, 64, step=8),
    }
    if trial.suggest_categorical("x.model", ["svc", "knn"]) == "svc":
        values["model"] = {"kind": "svc", "c": trial.suggest_float("x.model[svc].c", 0.0, 1.0)}
    else:
        values["model"] = {"kind": "knn", "k": trial.suggest_categorical("x.model[knn].k", [1, 3, 5])}
    values["scale"] = trial.suggest_categorical("x.scale", [False, True])
    length = trial.suggest_int("x.layers.length", 0, 3)
    values["layers"] = [trial.suggest_int(f"x.layers.{k}", 1, 4) for k in range(length)]
    return {"x": values}


def numbers_by_hand(trial):
    return {"x": [trial.suggest_float(f"x.{k}", -2.0, 3.0) for k in range(3)]}


def optunas(sampler, suggest, count):
    """What Optuna's own loop tries."""
    tried = []

    def objective(trial):
        values = suggest(trial)
        tried.append(values)
        mixed = int(digest_json(values)[:8], 16)
        if mixed % 11 == 0:
            raise ArithmeticError
        return (mixed % 9973) / 9973

    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(objective, n_trials=count, catch=ArithmeticError)
    return tried


@pytest.fixture
def silent():
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(level)


@pytest.mark.parametrize("seed", [0, 11])
@pytest.mark.parametrize(
    ("kind", "suggest", "options", "sampler"),
    [
        ("random", by_hand, {}, lambda seed: optuna.samplers.RandomSampler(seed=seed)),
        ("tpe", by_hand, {}, lambda seed: optuna.samplers.TPESampler(seed=seed)),
        (
            "tpe",
            by_hand,
            {"multivariate": False},
            lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=False),
        ),
        (
            "tpe",
            by_hand,
            {"group": True, "startup": 5, "draws": 12},
            lambda seed: optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, n_startup_trials=5, n_ei_candidates=12
            ),
        ),
        ("tpe", numbers_by_hand, {}, lambda seed: optuna.samplers.TPESampler(seed=seed)),
        ("cma_es", numbers_by_hand, {}, lambda seed: optuna.samplers.CmaEsSampler(seed=seed)),
        (
            "cma_es",
            numbers_by_hand,
            {"population": 5, "adapt_rate": True},
            lambda seed: optuna.samplers.CmaEsSampler(seed=seed, popsize=5, lr_adapt=True),
        ),
        (
            "cma_es",
            numbers_by_hand,
            {"separable": True},
            lambda seed: optuna.samplers.CmaEsSampler(seed=seed, use_separable_cma=True),
        ),
        (
            "cma_es",
            numbers_by_hand,
            {"margin": True},
            lambda seed: optuna.samplers.CmaEsSampler(seed=seed, with_margin=True),
        ),
    ],
)
@pytest.mark.usefixtures("silent")
def test_the_same_trials_as_optuna(kind, suggest, options, sampler, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        expected = optunas(sampler(seed), suggest, 45)
    space = Space.of(MIXED if suggest is by_hand else CONTINUOUS, name="x")
    engine = engine_class(kind)(space, seed=seed, **options)
    assert [one.values for one in go(engine, 45)] == expected


@pytest.mark.usefixtures("silent")
def test_a_space_is_a_search_space_of_optunas(tmp_path):
    space = Space.of(MIXED, name="x")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=5))
    tried = []
    study.optimize(lambda trial: tried.append(space.suggest(OptunaTrial(trial))) or 0.0, n_trials=10)
    assert [one.values for one in ask(RandomSearch(space, seed=5), 10)] == tried


def test_optuna_is_left_as_it_is(caplog, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    level, filters = optuna.logging.get_verbosity(), list(warnings.filters)
    loggers = {name: copy.copy(logging.getLogger(name).filters) for name in list(logging.root.manager.loggerDict)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for engine in (make("tpe", group=True), make("cma_es", adapt_rate=True), make("tpe"), make("random")):
            go(engine, 14)
    assert optuna.logging.get_verbosity() == level
    assert warnings.filters == filters
    assert loggers == {name: logging.getLogger(name).filters for name in loggers}
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert not os.listdir(tmp_path)
    optuna.create_study()
    assert "A new study created" in caplog.text  # the user's own


def test_rewards_that_are_told_again_count():
    """The lucky candidate does not stay the best: what follows is what the better-founded rewards give."""
    corrected, fresh = make("tpe"), make("tpe")
    asked, others = ask(corrected, 15), ask(fresh, 15)
    assert asked == others
    corrected.tell([Told(one.number, reward(one) or 0.0) for one in asked])
    new = [Told(one.number, -float(one.number)) for one in asked]
    corrected.tell(new)
    fresh.tell(new)
    assert ask(corrected) == ask(fresh)
    assert len(ask(corrected, 3)) == 3


# -- finite spaces ------------------------------------------------------------------------

SMALL = {"properties": {"a": {"enum": ["p", "q", "r"]}, "b": {"type": "boolean"}, "c": {"type": ["boolean", "null"]}}}


@pytest.mark.parametrize(
    ("kind", "options"), [("random", {}), ("tpe", {"distinct": True}), ("evolution", {}), ("auto", {})]
)
def test_every_point_of_a_finite_space_once(kind, options):
    engine = engine_class(kind)(Space.of(SMALL, name="x"), seed=0, **options)
    candidates = []
    while not engine.exhausted:
        asked = ask(engine, 4)
        engine.tell([Told(one.number, reward(one)) for one in asked])
        candidates += asked
        assert len(candidates) <= 18
    assert len({digest_json(one.values) for one in candidates}) == len(candidates) == 18
    assert ask(engine, 3) == []
    twin = engine_class(kind)(Space.of(SMALL, name="x"), seed=0, **options)
    twin.restore(engine.state())
    assert twin.exhausted


def test_repetitions_of_tpe_are_known_to_be_exhausting():
    engine = TPE(Space.of({"type": "boolean"}, name="x"), seed=0)
    for _ in range(40):
        if not engine.exhausted:
            go(engine, 1)
    assert engine.exhausted
    assert ask(engine) == []


def test_a_start_that_the_space_cannot_express_is_scored_all_the_same():
    schema = {"properties": {"text": {"type": "string", "x-pool": ["a", "b"]}, "n": {"type": "integer"}}}
    schema["properties"]["n"] |= {"minimum": 0, "maximum": 9}
    space = Space.of(schema, name="x")
    start = {"x": {"text": "neither", "n": 3}}
    engine = TPE(space, seed=0, start=start)
    first = ask(engine, 2)
    assert first[0].values == start
    assert first[1].values["x"]["text"] in ("a", "b")
    engine.tell([Told(0, 1.0), Told(1, 2.0)])
    engine.tell([Told(0, 1.5)])
    go(engine, 15)


@pytest.mark.parametrize(
    ("kind", "options"), [("random", {}), ("tpe", {"distinct": True}), ("tpe", {}), ("evolution", {}), ("auto", {})]
)
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("pool", [["a"], ["a", "b", "c"]])
def test_a_start_outside_its_pool_takes_no_value_of_it_away(kind, options, count, pool):
    space = Space.of({"type": "string", "x-pool": pool}, name="x")
    engine = engine_class(kind)(space, seed=0, start={"x": "mine"}, **options)
    tried = []
    for _ in range(60):
        asked = ask(engine, count)
        engine.tell([Told(one.number, float(len(tried))) for one in asked])
        tried += [one.values["x"] for one in asked]
        twin = engine_class(kind)(space, seed=0, start={"x": "mine"}, **options)
        twin.restore(engine.state())
        assert twin.exhausted == engine.exhausted == (set(tried) >= {"mine", *pool})
        if engine.exhausted:
            break
    assert engine.exhausted
    assert tried[0] == "mine"
    assert set(tried) == {"mine", *pool}
    alone = engine_class(kind)(space, seed=0, start={"x": "mine"}, start_first=False, **options)
    assert {one.values["x"] for _ in range(60) for one in ask(alone, count)} == set(pool)


def test_halving_tries_a_whole_pool_that_the_start_is_not_in():
    engine = engine_class("halving")(
        Space.of({"type": "string", "x-pool": ["a", "b"]}, name="x"), seed=0, start={"x": "mine"}
    )
    tried = set()
    while not engine.exhausted:
        for one in ask(engine):
            engine.tell([Told(one.number, 0.0)])
            tried.add(one.values["x"])
    assert tried == {"mine", "a", "b"}


# -- what is missing ----------------------------------------------------------------------


@pytest.mark.parametrize(("package", "module"), [("optuna", "tpe"), ("optuna", "random_search"), ("cmaes", "cma_es")])
def test_a_missing_extra_is_named(package, module, tmp_path):
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('no', name={package!r})", encoding="utf-8")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from thalweg.errors import MissingExtraError
try:
    import thalweg.search.{module}
except MissingExtraError as error:
    assert "thalweg[search]" in str(error), error
else:
    raise SystemExit("it was imported")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_thread_is_started_by_optuna():
    before = threading.active_count()
    go(make("tpe"), 12)
    go(make("cma_es"), 12)
    assert threading.active_count() == before
