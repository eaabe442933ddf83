"""Search from Python: the page's face, and what it does with the peers' mistakes."""

import asyncio
import json

import numpy as np
import pytest

from thalweg.errors import HyperparameterError, SearchError, StateMismatchError, ThalwegError
from thalweg.graph import wait
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.runs import Feedback
from thalweg.search import Reward, SampleReward, Search, StructuredVariable
from thalweg.search.trials import Scored

NUMBER = {"type": "number", "minimum": -5, "maximum": 5}


def variable(name="point", **start):
    start = start or {"x": 4.0, "y": -4.0}
    schema = {"type": "object", "properties": dict.fromkeys(start, NUMBER), "required": list(start)}
    return StructuredVariable(start, schema, name=name)


def reward_of(*variables):
    return -sum((value - 1.0) ** 2 for one in variables for value in one.json().values())


def optimize(search, variables, steps):
    for _ in range(steps):
        wait(search.apply_optimization(variables, reward_of(*variables)))
    wait(search.finalize_variable_values(variables))
    return [one.json() for one in variables]


@pytest.mark.parametrize("kind", ["random", "tpe", "cma_es", "cobyqa", "evolution", "auto"])
def test_it_gets_better_and_ends_at_the_best_that_was_seen(kind):
    point = variable()
    first, rewards = reward_of(point), []
    search = Search(kind, seed=3)
    for _ in range(40):
        rewards.append(reward_of(point))
        wait(search.apply_optimization([point], rewards[-1]))
    wait(search.finalize_variable_values([point]))
    assert reward_of(point) == max(rewards) > first
    assert search.iterations == 40


def test_several_variables_are_searched_together():
    a, b = variable("a"), variable("b", z=-3.0)
    search = Search("tpe", seed=0)
    optimize(search, [a, b], 30)
    assert {tuple(sorted(values)) for values in search._values.values()} == {("a", "b")}
    assert len({json.dumps([v["a"], v["b"]]) for v in search._values.values()}) == 31
    assert reward_of(a, b) > -60


def test_variables_that_start_alike_share_nothing():
    start = {"x": 0.0}
    schema = {"type": "object", "properties": {"x": NUMBER}}
    a, b = (StructuredVariable(start, schema, name=name) for name in "ab")
    optimize(Search("random", seed=1), [a], 5)
    assert b.json() == start == {"x": 0.0}


def test_every_variable_that_fits_gets_its_turn():
    """The peer never selected variables that it had not visited."""
    a, b = variable("a"), variable("b")
    search = Search("evolution", seed=0)
    optimize(search, [a, b], 40)
    for name in ("a", "b"):
        assert len({json.dumps(values[name], sort_keys=True) for values in search._values.values()}) > 10


def test_one_seed_one_search_and_seed_zero_is_a_seed():
    found = {}
    for label, seed in (("a", 0), ("b", 0), ("c", 1)):
        np.random.seed(len(label))  # noqa: NPY002 (global random numbers must play no part)
        point = variable()
        search = Search("tpe", seed=seed)
        optimize(search, [point], 15)
        found[label] = [search.values(number) for number in range(15)]
    assert found["a"] == found["b"] != found["c"]


def test_rewards_of_samples_keep_a_lucky_batch_from_winning():
    """Two candidates, one good, one as noise has it: the samples are looked at again before it is believed."""
    generator = np.random.default_rng(7)
    schema = {"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}
    wins = 0
    for seed in range(20):
        choice = StructuredVariable({"good": False}, schema, name="choice")
        search = Search("random", seed=seed)
        for _ in range(20):
            mean = 1.0 if choice.json()["good"] else 0.0
            rewards = [SampleReward(mean + float(generator.normal())) for _ in range(4)]
            wait(search.apply_optimization([choice], Reward.of(rewards)))
        wait(search.finalize_variable_values([choice]))
        wins += choice.json()["good"]
    assert wins >= 18


def test_state_goes_on_to_the_same_candidates():
    point = variable()
    search = Search("tpe", seed=2, options={"startup": 4})
    for _ in range(9):
        wait(search.apply_optimization([point], reward_of(point)))
    store = {}
    search.save_own_variables(store)
    store = json.loads(json.dumps(store))
    again, other = Search.from_config(json.loads(json.dumps(search.get_config()))), variable()
    again.bind([other])
    again.load_own_variables(store)
    other.assign(point.json())
    for _ in range(6):
        for one, values in ((search, point), (again, other)):
            wait(one.apply_optimization([values], reward_of(values)))
        assert point.json() == other.json()
    assert again.iterations == search.iterations == 15


def test_a_state_of_another_search_is_refused_and_nothing_changes():
    point = variable()
    search = Search("tpe", seed=2)
    optimize(search, [point], 4)
    store = {}
    search.save_own_variables(store)
    for made in (Search("tpe", seed=3), Search("random", seed=2), Search("tpe", seed=2, options={"startup": 3})):
        made.bind([variable()])
        before = made.state().arrays["search"].tobytes()
        with pytest.raises(StateMismatchError):
            made.load_own_variables(store)
        assert made.state().arrays["search"].tobytes() == before
    elsewhere = Search("tpe", seed=2)
    elsewhere.bind([variable("elsewhere")])
    with pytest.raises(StateMismatchError, match="elsewhere"):
        elsewhere.load_own_variables(store)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "good", True, []])
def test_what_is_no_reward_is_refused_before_anything_changes(bad):
    point = variable()
    search = Search("random", seed=0)
    wait(search.apply_optimization([point], reward_of(point)))
    before = point.json(), search.iterations
    with pytest.raises(SearchError):
        wait(search.apply_optimization([point], bad))
    assert (point.json(), search.iterations) == before


def test_values_that_somebody_else_assigned_are_noticed():
    point = variable()
    search = Search("random", seed=0)
    wait(search.apply_optimization([point], reward_of(point)))
    point.assign({"x": 0.0, "y": 0.0})
    with pytest.raises(SearchError, match="no longer have the values"):
        wait(search.apply_optimization([point], 1.0))


def test_other_variables_need_a_search_of_their_own():
    search = Search("random", seed=0)
    wait(search.apply_optimization([variable("a")], -1.0))
    with pytest.raises(SearchError, match="other variables"):
        wait(search.apply_optimization([variable("b")], -1.0))


def test_a_space_that_was_tried_out_stays_at_its_best():
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2, 3]}}, "required": ["n"]}
    choice = StructuredVariable({"n": 1}, schema, name="choice")
    search = Search("random", seed=0)
    for _ in range(8):
        wait(search.apply_optimization([choice], float(choice.json()["n"])))
    assert search.engine.asked == 3
    assert choice.json() == {"n": 3}


def test_a_failing_engine_changes_nothing_and_the_same_reward_may_be_told_again(monkeypatch):
    point = variable()
    search = Search("random", seed=0)
    wait(search.apply_optimization([point], reward_of(point)))
    before, reward = point.json(), reward_of(point)

    async def broken(count):
        raise OSError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(search.engine, "_propose", broken)
        with pytest.raises(OSError, match="no answer"):
            wait(search.apply_optimization([point], reward))
    assert point.json() == before
    assert search.iterations == 1
    wait(search.apply_optimization([point], reward))
    assert search.scores.count(1) == 1
    assert search.iterations == 2


def test_two_steps_at_once_are_refused():
    async def both():
        point, search = variable(), Search("random", seed=0)
        first = asyncio.ensure_future(search.apply_optimization([point], -1.0))
        second = asyncio.ensure_future(search.apply_optimization([point], -1.0))
        return await asyncio.gather(first, second, return_exceptions=True)

    found = wait(both())
    assert sum(isinstance(one, Exception) for one in found) <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"candidates": 0},
        {"rescore": -1},
        {"finalists": 0},
        {"confidence": 0.4},
        {"seed": -1},
        {"options": {"startups": 3}},
    ],
)
def test_arguments_that_are_wrong(arguments):
    with pytest.raises(SearchError):
        Search("tpe", **arguments)


def places(value, path=()):
    """Everything that is in a JSON value, by path."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from places(entry, (*path, key))


def spoilt(value, generator):
    """A copy in which one entry is gone, or something else."""
    value = json.loads(json.dumps(value))
    found = [path for path in places(value) if path]
    *above, last = found[generator.integers(len(found))]
    holder = value
    for key in above:
        holder = holder[key]
    others = [None, [], {}, -1, 2**62, "x", True, [[]], 0, 0.5, float("nan"), float("inf"), "9" * 5000]
    choice = generator.integers(len(others) + 4)
    if choice < len(others):
        holder[last] = others[choice]
    else:
        del holder[last]
    return value


@pytest.mark.parametrize("kind", ["random", "tpe", "cma_es", "evolution", "halving"])
def test_a_damaged_state_is_refused_in_our_own_words_or_can_be_gone_on_with(kind):
    generator = np.random.default_rng(7)
    search = Search(kind, seed=0, candidates=2)
    search.bind([variable()], samples=6)

    def step():
        rounds = []
        for trial in wait(search.propose()):
            x = trial.candidate.values["point"]["x"]
            rewards = {i: SampleReward(i - x * x) for i in range(3)}
            rounds.append(Scored(trial.candidate.number, rewards, {}, trial.again))
        wait(search.apply(Feedback(0.0, {}, rewards=tuple(rounds))))

    def snapshot(store):
        data = np.frombuffer(json.dumps(store).encode(), np.uint8)
        return OptimizerSnapshot({"search": data}, {"kind": kind})

    for _ in range(4):
        step()
    wait(search.propose())
    good = search.state()
    store = json.loads(good.arrays["search"].tobytes())
    refused = 0
    for _ in range(80):
        before = search.state().arrays["search"].tobytes()
        try:
            search.restore(snapshot(spoilt(store, generator)))
        except ThalwegError:
            refused += 1
            assert search.state().arrays["search"].tobytes() == before, "all or nothing"
            continue
        step()
        search.best_of(4)
        search.restore(good)
    assert refused > 40
    for nonsense in ([], 3, "x", None):
        with pytest.raises(StateMismatchError):
            search.restore(snapshot(nonsense))


# -- evaluations that fail -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "tpe", "cma_es", "cobyqa", "evolution", "auto"])
def test_failed_evaluations_are_counted_and_never_the_best(kind):
    point = variable()
    search = Search(kind, seed=3)
    failed = 0
    for _ in range(40):
        if point.json()["x"] > 0.0 and search.iterations:  # the best ones
            failed += 1
            wait(search.fail([point], ValueError("x is too large")))
        else:
            wait(search.apply_optimization([point], reward_of(point)))
    wait(search.finalize_variable_values([point]))
    assert point.json()["x"] <= 0.0 or point.json() == {"x": 4.0, "y": -4.0}
    assert 0 < failed == search.metrics()["failed"]
    assert search.iterations == 40


def test_the_engine_is_told_of_a_failure_as_in_a_run():
    point, told = variable(), []
    search = Search("random", seed=0)
    wait(search.apply_optimization([point], -1.0))
    tell = search.engine.tell
    search.engine.tell = lambda results: (told.extend(results), tell(results))
    wait(search.fail([point], OSError("no\nanswer")))
    assert [(one.number, one.reward, one.feedback) for one in told] == [(1, None, ("answer",))]
    wait(search.fail([point], "the oven was cold"))
    assert told[-1].feedback == ("the oven was cold",)
    assert len(search.scores.failed) == 2


def test_a_start_that_fails_and_a_space_of_which_all_fails():
    choice = StructuredVariable(
        {"n": 1}, {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}, name="choice"
    )
    search = Search("random", seed=0)
    for _ in range(4):
        wait(search.fail([choice], "broken"))
    assert len(search.scores.failed) == 2
    before = choice.json()
    wait(search.finalize_variable_values([choice]))
    assert choice.json() == before


def test_a_failure_is_in_the_state():
    point = variable()
    search = Search("tpe", seed=2, options={"startup": 3})
    for step in range(8):
        wait(search.fail([point], "odd") if step % 2 else search.apply_optimization([point], reward_of(point)))
    store = {}
    search.save_own_variables(store)
    again, other = Search.from_config(search.get_config()), variable()
    again.bind([other])
    again.load_own_variables(json.loads(json.dumps(store)))
    other.assign(point.json())
    for one, values in ((search, point), (again, other)):
        wait(one.fail([values], "odd"))
    assert point.json() == other.json()
    assert again.metrics()["failed"] == search.metrics()["failed"] == 5


def test_what_is_no_reward_says_how_a_failure_is_told():
    with pytest.raises(SearchError, match=r"Search\.fail"):
        wait(Search("random", seed=0).apply_optimization([variable()], float("nan")))


@pytest.mark.parametrize("name", ["startup", "start_up"])
def test_an_option_of_the_engine_given_to_the_search_is_told_where_it_goes(name):
    with pytest.raises(SearchError, match=r"give options=\{'startup': 3\}") as caught:
        Search("tpe", **{name: 3})
    assert caught.value.details["nearest"] == "startup"
    assert "BoundSearch" not in str(caught.value)
    assert Search("tpe", options={"startup": 3}).options == {"startup": 3}


def test_a_misspelt_argument_of_a_search_names_the_one_that_is_there():
    with pytest.raises(
        HyperparameterError, match="no argument of Search 'candidate'; did you mean 'candidates'"
    ) as caught:
        Search("tpe", candidate=3)
    assert caught.value.details["nearest"] == "candidates"
