"""COBYQA asked and told: no thread left, no lock held, failures survived, exact after a restore."""

from __future__ import annotations

import gc
import itertools
import json
import math
import subprocess
import sys
import threading

import numpy as np
import pytest
from scipy.optimize import minimize

import thalweg as tw
from thalweg.errors import SchemaError, SearchError, StateMismatchError
from thalweg.search.cobyqa import COBYQA, bent
from thalweg.search.engine import Told
from thalweg.search.space import Space
from thalweg.search.turned import Turned


def box(n, low=-5.0, high=5.0, **more):
    number = {"type": "number", "minimum": low, "maximum": high, **more}
    return Space.of({"type": "array", "items": number, "minItems": n, "maxItems": n}, name="x")


def ask(engine):
    (candidate,) = tw.wait(engine.ask())
    return candidate


def run(engine, reward, count):
    rewards = []
    for _ in range(count):
        candidate = ask(engine)
        rewards.append(reward(candidate.values["x"]))
        engine.tell([Told(candidate.number, rewards[-1])])
    return rewards


def bowl(x):
    return -float(sum((value - 1.3) ** 2 for value in x))


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "thalweg-minimizer"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    gc.collect()
    assert threads() == []


def test_a_bowl_is_found_at_once():
    engine = COBYQA(box(4), seed=0, start={"x": [-4.0] * 4})
    rewards = run(engine, bowl, 40)
    assert rewards[0] == bowl([-4.0] * 4)
    assert rewards[1] == bowl([0.0] * 4)  # the middle is better than the start, so the search begins there
    assert max(rewards) > -1e-4
    engine.close()


def test_it_begins_at_the_better_of_start_and_middle():
    engine = COBYQA(box(2), seed=0, start={"x": [1.0, 1.5]}, radius=0.05)
    run(engine, bowl, 2)
    third = ask(engine)
    assert abs(third.values["x"][0] - 1.0) < 1.0  # 0.05 of the axis is half a unit
    engine.close()


def test_the_steps_are_those_of_scipys_own():
    tried = []

    def objective(u):
        tried.append(u.tolist())
        return -bowl(-5.0 + 10.0 * u)

    minimize(
        objective,
        [0.5] * 3,
        method="COBYQA",
        bounds=[(0, 1)] * 3,
        options={"initial_tr_radius": 0.3, "final_tr_radius": 1e-4, "maxfev": 30},
    )
    engine = COBYQA(box(3), seed=0, bend=False)
    ours = [ask_and_tell(engine) for _ in range(20)]
    assert np.allclose(ours, -5.0 + 10.0 * np.array(tried[:20]), atol=1e-12)
    engine.close()


def test_bent_losses_keep_their_order():
    t = bent([5.0, 1.0, 3.0, 100.0])
    losses = [-1e9, -10.0, 0.0, 0.7, 0.79, 0.8, 0.81, 1.0, 1.001, 3.0, 1e6, 1e300]
    values = [t(loss) for loss in losses]
    assert values == sorted(set(values))
    assert t(0.0) - t(-1.0) == pytest.approx(t(-1.0) - t(-2.0))  # linear below
    assert bent([2.0, 2.0, 2.0])(7.0) == 7.0


def test_a_long_valley_is_followed_faster_when_losses_are_bent():
    def valley(x):
        return -sum(100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in itertools.pairwise(x))

    def best(**options):
        found = []
        for seed in range(4):
            engine = COBYQA(box(6), seed=seed, start={"x": [-2.0 + 0.3 * seed] * 6}, **options)
            found.append(max(run(engine, valley, 50)))
            engine.close()
        return float(np.median(found))

    assert best() > best(bend=False)


def ask_and_tell(engine):
    candidate = ask(engine)
    engine.tell([Told(candidate.number, bowl(candidate.values["x"]))])
    return candidate.values["x"]


def test_a_logarithmic_axis_is_searched_in_its_logarithm():
    engine = COBYQA(box(2, 1e-6, 1.0, **{"x-scale": "log"}), seed=0)
    rewards = run(engine, lambda x: -sum((math.log10(value) + 4.0) ** 2 for value in x), 30)
    assert max(rewards) > -1e-3
    engine.close()


def test_one_candidate_at_a_time():
    engine = COBYQA(box(2), seed=0)
    assert engine.sequential
    assert len(tw.wait(engine.ask(4))) == 1
    with pytest.raises(SearchError, match="tell candidate 0 first"):
        tw.wait(engine.ask())
    engine.close()


def test_two_searches_and_scipys_own_do_not_wait_for_each_other():
    engines = [COBYQA(box(2), seed=0) for _ in range(3)]
    for _ in range(10):
        for engine in engines:
            run(engine, bowl, 1)
        found = minimize(lambda x: float(x @ x), [1.0, 1.0], method="COBYQA", options={"maxfev": 12})
        assert found.nfev <= 12
    assert len(threads()) == 3
    for engine in engines:
        engine.close()


def test_failures_are_worse_than_everything():
    def reward(x):
        return None if x[0] > 2.0 else -((x[0] - 1.5) ** 2) - (x[1] + 1.0) ** 2

    engine = COBYQA(box(2), seed=0)
    rewards = run(engine, reward, 40)
    assert None in rewards
    assert max(value for value in rewards if value is not None) > -1e-2
    engine.close()


def test_when_start_and_middle_fail_it_looks_elsewhere():
    def reward(x):
        return None if max(abs(value) for value in x) < 2.0 else bowl(x)

    engine = COBYQA(box(2), seed=1, start={"x": [0.5, 0.5]})
    rewards = run(engine, reward, 30)
    assert rewards[:2] == [None, None]
    assert sum(value is not None for value in rewards) > 10
    engine.close()


def test_it_begins_anew_when_it_has_converged():
    def reward(x):  # a local optimum at −2, the global one at 3
        return max(-((x[0] + 2.0) ** 2), 1.0 - (x[0] - 3.0) ** 2)

    engine = COBYQA(box(1), seed=0, start={"x": [-2.1]}, radius=0.05, precision=0.01)
    rewards = run(engine, reward, 80)
    assert max(rewards) > 0.99
    engine.close()


def test_closing_ends_the_thread_and_asking_takes_up_again():
    engine, twin = COBYQA(box(3), seed=0), COBYQA(box(3), seed=0)
    assert run(engine, bowl, 12) == run(twin, bowl, 12)
    engine.close()
    engine.close()
    assert len(threads()) == 1
    assert run(engine, bowl, 8) == run(twin, bowl, 8)
    candidate = ask(engine)
    engine.close()  # while a candidate is out
    assert candidate == ask(twin)
    for one in (engine, twin):
        one.tell([Told(candidate.number, -1.0)])
    assert ask(engine) == ask(twin)
    engine.close()
    twin.close()


def test_a_collected_engine_leaves_no_thread():
    engine = COBYQA(box(2), seed=0)
    run(engine, bowl, 8)
    assert len(threads()) == 1
    del engine
    gc.collect()
    assert threads() == []


def test_restoring_ends_the_threads_of_before_also_when_it_fails():
    engine = COBYQA(box(2), seed=0)
    run(engine, bowl, 8)
    state = json.loads(json.dumps(engine.state()))
    run(engine, bowl, 4)
    engine.restore(state)
    assert len(threads()) == 1
    damaged = json.loads(json.dumps(state))
    damaged["digests"][5] = damaged["digests"][4]
    with pytest.raises(StateMismatchError, match="another candidate 5"):
        engine.restore(damaged)
    assert len(threads()) == 1
    run(engine, bowl, 1)
    engine.close()


def test_the_interpreter_ends_though_a_search_is_open():
    code = """
import thalweg as tw
from thalweg.search.cobyqa import COBYQA, bent
from thalweg.search.engine import Told
from thalweg.search.space import Space
engine = COBYQA(Space.of({"type": "number", "minimum": 0, "maximum": 1}, name="x"), seed=0)
for _ in range(4):
    (one,) = tw.wait(engine.ask())
    engine.tell([Told(one.number, one.values["x"])])
tw.wait(engine.ask())
print("done")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_what_it_cannot_search():
    with pytest.raises(SchemaError, match="at most 50 numbers"):
        COBYQA(box(51), seed=0)
    with pytest.raises(SchemaError, match="no continuous number"):
        COBYQA(Space.of({"properties": {"n": {"type": "boolean"}}}, name="x"), seed=0)
    for wrong in (
        {"radius": 0.6},
        {"radius": 0.0},
        {"precision": 0.4},
        {"points": 2},
        {"points": 7},
        {"radius": math.nan},
    ):
        with pytest.raises(SearchError):
            COBYQA(box(2), seed=0, **wrong)


def test_an_error_of_the_minimizer_is_raised_to_the_asker():
    def fails(objective):
        objective(np.zeros(1))
        raise ArithmeticError("lost")

    turned = Turned(fails)
    assert turned.ask() is not None
    turned.answer(1.0)
    with pytest.raises(ArithmeticError, match="lost"):
        turned.ask()
    turned.close()
