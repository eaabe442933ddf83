"""The base class of reward optimizers: what it acts on, all-or-nothing steps, state by name, configurations."""

import asyncio
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from pydantic import BaseModel

import thalweg as tw
from thalweg.errors import (
    HyperparameterError,
    OptimizerError,
    SchemaError,
    SearchError,
    StateMismatchError,
    UninitializedError,
    ValueMismatchError,
)
from thalweg.search import Reward, RewardOptimizer, SampleReward, StructuredVariable, contains_schema
from thalweg.search.naming import auto_name

SCHEMA = {"type": "object", "properties": {"length": {"type": "number"}}}
RECORD = {"type": "object", "properties": {"rewards": {"type": "array", "items": {"type": ["number", "null"]}}}}


class Step(RewardOptimizer):
    """Add a step to the length, whatever the reward.

    More words that are no part of the description.
    """

    def __init__(self, step=1.0, **arguments):
        super().__init__(**{"schema": SCHEMA, **arguments})
        self.step = step
        self.record = self.add_variable("record", {"rewards": []}, RECORD)
        self.seen = []

    def optimize(self, trainable_variable, reward=None):
        self.seen.append((trainable_variable.name, reward, self.iterations))
        number = None if reward is None else float(reward)
        self.record.update({"rewards": [*self.record.get("rewards"), number]})
        trainable_variable.update({"length": trainable_variable.get("length") + self.step})

    def finalize(self, trainable_variable):
        trainable_variable.update({"length": round(trainable_variable.get("length"))})

    def get_config(self):
        return {**super().get_config(), "step": self.step}


class AsyncStep(Step):
    async def optimize(self, trainable_variable, reward=None):
        await asyncio.sleep(0)
        super().optimize(trainable_variable, reward)

    async def finalize(self, trainable_variable):
        await asyncio.sleep(0)
        super().finalize(trainable_variable)


def setting(length=1.0, **more):
    schema = {"type": "object", "properties": {"length": {"type": "number", "maximum": 9}, "n": {"type": "integer"}}}
    return StructuredVariable({"length": length, "n": 3}, schema, **{"name": "setting", **more})


def other(**more):
    return StructuredVariable(
        {"text": "a"}, {"type": "object", "properties": {"text": {}}}, **{"name": "other", **more}
    )


def step(optimizer, variables, reward=None):
    tw.wait(optimizer.apply_optimization(variables, reward))


# -- steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Step, AsyncStep])
def test_plain_functions_and_coroutines_are_both_fine(kind):
    variable, optimizer = setting(1.4), kind()
    for reward in (None, 0.5, 1):
        step(optimizer, [variable], reward)
    assert variable.json() == {"length": 4.4, "n": 3}
    assert optimizer.seen == [("setting", None, 1), ("setting", 0.5, 2), ("setting", 1.0, 3)]
    tw.wait(optimizer.finalize_variable_values([variable]))
    assert variable.get("length") == 4
    assert optimizer.iterations == 3


def test_the_reward_has_the_page_s_place_and_name():
    variable, optimizer = setting(), Step()
    tw.wait(optimizer.apply_optimization([variable], reward=0.5))
    tw.wait(optimizer.apply_optimization(trainable_variables=(v for v in [variable]), reward=np.float32(0.5)))
    assert [reward for _, reward, _ in optimizer.seen] == [0.5, 0.5]
    assert all(type(reward) is float for _, reward, _ in optimizer.seen)


def test_rewards_per_sample_arrive_with_their_words():
    variable, optimizer = setting(), Step()
    samples = [SampleReward(1.0), SampleReward(0.0, "the units are missing", tokens=7), SampleReward(0.5, "late")]
    step(optimizer, [variable], samples)
    step(optimizer, [variable], Reward(0.25, tuple(samples)))
    first, second = (reward for _, reward, _ in optimizer.seen)
    assert (first.value, first.samples) == (0.5, tuple(samples))
    assert first.feedback == ("the units are missing", "late")
    assert float(second) == 0.25
    assert optimizer.record.get("rewards") == [0.5, 0.25]


def test_one_variable_may_come_alone():
    variable = setting()
    step(Step(), variable)
    assert variable.get("length") == 2.0


def test_it_acts_on_variables_whose_schema_contains_its_own_and_says_what_it_left_alone():
    field = tw.Variable(np.zeros(3), name="field", needs_grad=True)
    mine, frozen, foreign = setting(), setting(name="frozen", trainable=False), other()
    optimizer = Step()
    assert optimizer.matched is None
    step(optimizer, [field, foreign, mine, frozen], 1.0)
    assert optimizer.matched.acted == (mine,)
    assert [(variable.name, reason) for variable, reason in optimizer.matched.left] == [
        ("field", "it holds an array"),
        ("other", "its schema does not contain the optimizer's"),
        ("frozen", "it is not trainable"),
    ]
    assert [name for name, _, _ in optimizer.seen] == ["setting"]
    assert (frozen.version, foreign.version, field.version) == (0, 0, 0)
    frozen.trainable = True
    assert optimizer.matching([field, frozen]).acted == (frozen,)


def test_if_none_matches_that_is_an_error_and_no_step():
    optimizer = Step(name="step")
    for call in (optimizer.apply_optimization, optimizer.finalize_variable_values):
        with pytest.raises(
            SearchError, match=re.escape("'step' acts on variables with length, and none of those given")
        ):
            tw.wait(call([other(), setting(trainable=False)]))
        with pytest.raises(SearchError, match="none were given"):
            tw.wait(call([]))
    assert (optimizer.iterations, optimizer.matched, optimizer.seen) == (0, None, [])


@pytest.mark.parametrize("variables", [["setting"], [None], [{"length": 1.0}]])
def test_what_is_no_variable_is_refused(variables):
    with pytest.raises(SearchError, match="variable 1 given to 'step' is a"):
        step(Step(name="step"), [setting(), *variables])


def test_a_variable_that_is_given_twice_is_refused():
    variable = setting()
    with pytest.raises(SearchError, match="is given to 'step' twice"):
        step(Step(name="step"), [variable, variable])
    assert variable.version == 0


BAD = {
    "nan": math.nan,
    "inf": math.inf,
    "array-nan": np.array(math.nan),
    "bool": True,
    "numpy-bool": np.bool_(True),
    "text": "0.5",
    "complex": 1j,
    "array": np.array([0.5]),
    "none-inside": [None],
    "numbers-inside": [0.5, 0.5],
    "no-samples": [],
    "dict": {"reward": 1.0},
    "huge": 10**400,
}


@pytest.mark.parametrize("case", BAD)
def test_a_reward_that_is_none_changes_nothing(case):
    variable, optimizer = setting(), Step()
    with pytest.raises(SearchError):
        step(optimizer, [variable], BAD[case])
    assert (variable.version, optimizer.iterations, optimizer.seen) == (0, 0, [])


@pytest.mark.parametrize(
    "make",
    [
        lambda: SampleReward(math.nan),
        lambda: SampleReward(True),
        lambda: SampleReward(1.0, None),
        lambda: SampleReward(1.0, tokens=-1),
        lambda: SampleReward(1.0, tokens=1.5),
        lambda: SampleReward(1.0, money=-0.1),
        lambda: SampleReward(1.0, money=math.inf),
        lambda: Reward(math.inf),
        lambda: Reward(1.0, (0.5,)),
    ],
)
def test_rewards_are_checked_when_they_are_made(make):
    with pytest.raises(SearchError):
        make()


def test_the_mean_of_samples_does_not_depend_on_their_order():
    rewards = [1e16, 1.0, -1e16, 1.0]
    means = {Reward.of([SampleReward(r) for r in order]).value for order in (rewards, rewards[::-1], sorted(rewards))}
    assert means == {0.5}


# -- all or nothing --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Step, AsyncStep])
def test_a_step_that_fails_half_way_changes_nothing(kind):
    near, far = setting(1.0, name="near"), setting(8.5, name="far")  # far is at most 9
    optimizer = kind()
    step(optimizer, [near])
    before = near.version
    with pytest.raises(ValueMismatchError, match="'far' does not fit"):
        step(optimizer, [near, far], 0.5)
    assert (near.get("length"), far.get("length"), near.version, far.version) == (2.0, 8.5, before, 0)
    assert (optimizer.iterations, optimizer.record.get("rewards")) == (1, [None])
    step(optimizer, [near], 0.5)
    assert optimizer.iterations == 2


def test_a_variable_that_was_added_in_a_step_that_fails_is_none():
    class Late(Step):
        def optimize(self, trainable_variable, reward=None):
            self.add_variable("late", 1, {"type": "integer"})
            if reward is None:
                raise ArithmeticError
            super().optimize(trainable_variable, reward)

    late = Late()
    with pytest.raises(ArithmeticError):
        step(late, [setting()])
    assert [variable.name for variable in late.variables] == ["iteration", "record"]
    step(late, [setting()], 0.5)
    assert [variable.name for variable in late.variables] == ["iteration", "record", "late"]


def test_a_step_that_is_cancelled_changes_nothing():
    class Slow(Step):
        async def optimize(self, trainable_variable, reward=None):
            super().optimize(trainable_variable, reward)
            if not self.begun.is_set():  # only the first one has to be cancelled
                self.begun.set()
                await asyncio.Event().wait()

    async def run():
        variable, slow = setting(), Slow()
        slow.begun = asyncio.Event()
        task = asyncio.create_task(slow.apply_optimization([variable]))
        await slow.begun.wait()
        assert variable.get("length") == 2.0
        with pytest.raises(OptimizerError, match="is under way"):
            await slow.apply_optimization([variable])
        with pytest.raises(OptimizerError, match="is under way"):
            await slow.finalize_variable_values([variable])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return variable, slow

    variable, slow = tw.wait(run())
    assert (variable.get("length"), variable.version, slow.iterations) == (1.0, 0, 0)


def test_a_finalize_that_fails_changes_nothing():
    class Bad(Step):
        def finalize(self, trainable_variable):
            trainable_variable.update({"length": 0.0 if trainable_variable.name == "near" else 10.0})

    near, far = setting(1.0, name="near"), setting(8.5, name="far")
    with pytest.raises(ValueMismatchError):
        tw.wait(Bad().finalize_variable_values([near, far]))
    assert (near.get("length"), near.version) == (1.0, 0)


# -- what it is --------------------------------------------------------------------------


class Model(BaseModel):
    length: float = 0.0


def test_the_schema_may_come_from_a_model_and_is_copied():
    optimizer = Step(schema=None, data_model=Model)
    assert optimizer.schema()["properties"]["length"]["type"] == "number"
    optimizer.schema()["properties"].clear()
    assert optimizer.schema()["properties"]
    schema = {"type": "object", "properties": {"length": {"type": "number"}}}
    optimizer = Step(schema=schema, data_model=Model)  # the schema goes first
    schema["properties"]["length"]["type"] = "string"
    assert optimizer.schema() == SCHEMA
    assert Step(schema={}).matching([setting(), other()]).left == ()  # no demand: every structured variable


def test_there_has_to_be_a_schema():
    with pytest.raises(SchemaError, match="Step got neither schema nor data_model"):
        Step(schema=None)
    with pytest.raises(SchemaError, match="no JSON Schema"):
        Step(schema={"type": "objekt"})
    with pytest.raises(SchemaError, match="the data model is"):
        Step(schema=None, data_model=dict)


@pytest.mark.parametrize(
    ("argument", "guess"), [("stepp", "step"), ("shema", "schema"), ("nam", "name"), ("desription", "description")]
)
def test_an_unknown_argument_is_refused_with_the_nearest_known_one(argument, guess):
    with pytest.raises(
        HyperparameterError, match=f"no argument of Step '{argument}'; did you mean '{guess}'"
    ) as caught:
        Step(**{argument: 1})
    assert isinstance(caught.value, ValueError)
    assert caught.value.details["nearest"] == guess
    with pytest.raises(HyperparameterError, match=f"'{argument}'; did you mean '{guess}'"):
        Step.from_config({argument: 1})


@pytest.mark.parametrize("arguments", [{"name": ""}, {"name": 3}, {"name": "a\n"}, {"description": 3}])
def test_name_and_description_are_text(arguments):
    with pytest.raises(SearchError, match="expected text"):
        Step(**arguments)


def test_name_description_and_repr():
    assert repr(Step(name="mine")) == "<Step name='mine' description='Add a step to the length, whatever the reward.'>"
    assert Step(description="").description == ""
    assert AsyncStep().description == ""  # a class without words of its own has no description


def test_automatic_names_are_counted_and_the_same_in_every_process():
    code = """
from thalweg.search import RewardOptimizer

class HillClimb(RewardOptimizer):
    def optimize(self, trainable_variable, reward=None): ...
    def finalize(self, trainable_variable): ...

print([HillClimb({}).name for _ in range(3)], HillClimb({}, name="mine").name, HillClimb({}).name)
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout
        for _ in range(2)
    ]
    assert runs == ["['hill_climb', 'hill_climb_1', 'hill_climb_2'] mine hill_climb_3\n"] * 2


def test_names_are_counted_per_class_name():
    assert [auto_name("OnlyUsedHere"), auto_name("OnlyUsedHereToo"), auto_name("OnlyUsedHere")] == [
        "only_used_here",
        "only_used_here_too",
        "only_used_here_1",
    ]


def test_optimize_and_finalize_have_to_be_written():
    with pytest.raises(TypeError, match="abstract"):
        RewardOptimizer(SCHEMA)

    class Half(RewardOptimizer):
        def optimize(self, trainable_variable, reward=None):
            pass

    with pytest.raises(TypeError, match="finalize"):
        Half(SCHEMA)


def test_its_own_variables():
    optimizer = Step()
    assert [variable.name for variable in optimizer.variables] == ["iteration", "record"]
    optimizer.variables.clear()
    assert len(optimizer.variables) == 2
    assert not any(variable.trainable for variable in optimizer.variables)
    with pytest.raises(SearchError, match="has a variable 'record' already"):
        optimizer.add_variable("record", {}, {})
    with pytest.raises(SearchError, match="has a variable 'iteration' already"):
        optimizer.add_variable("iteration", {}, {})


# -- state -----------------------------------------------------------------------------------


def test_state_goes_by_name_and_through_json():
    first, second = Step(), Step()
    step(first, [setting()], 0.5)
    store = {}
    first.save_own_variables(store)
    assert store == {"iteration": {"iteration": 1}, "record": {"rewards": [0.5]}}
    store["record"]["rewards"].append(7.0)  # a copy
    assert first.record.get("rewards") == [0.5]
    first.save_own_variables(store)
    second.load_own_variables(dict(reversed(json.loads(json.dumps(store)).items())))
    assert (second.iterations, second.record.get("rewards")) == (1, [0.5])
    store["record"]["rewards"].append(7.0)
    assert second.record.get("rewards") == [0.5]
    step(second, [setting()], 0.25)
    assert (second.iterations, first.iterations) == (2, 1)


STATES = {
    "missing": ({"iteration": {"iteration": 1}}, r"'record' is missing"),
    "unknown": (
        {"iteration": {"iteration": 1}, "record": {"rewards": []}, "best": {}},
        r"'best' is none of its variables",
    ),
    "renamed": ({"iteration": {"iteration": 1}, "recrod": {"rewards": []}}, r"'record' is missing; 'recrod' is none"),
    "empty": ({}, r"'iteration' is missing; 'record' is missing"),
    "value": ({"iteration": {"iteration": 1}, "record": {"rewards": ["a"]}}, r"the value of 'record' does not fit"),
    "count": ({"iteration": {"iteration": -1}, "record": {"rewards": []}}, r"the value of 'iteration' does not fit"),
    "no-json": ({"iteration": {"iteration": 1}, "record": {"rewards": [math.nan]}}, r"'record' is no JSON value"),
    "array": ({"iteration": np.zeros(1), "record": {"rewards": []}}, r"'iteration' is no JSON value"),
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_that_does_not_fit_is_refused_before_anything_changes(case):
    state, message = STATES[case]
    optimizer = Step(name="step")
    step(optimizer, [setting()], 0.5)
    with pytest.raises(StateMismatchError, match=message) as caught:
        optimizer.load_own_variables(state)
    assert str(caught.value).startswith("this state is not one of 'step', a Step: ")
    assert (optimizer.iterations, optimizer.record.get("rewards")) == (1, [0.5])


# -- configurations ------------------------------------------------------------------------


def test_a_configuration_goes_through_json_and_makes_the_same_optimizer():
    first = Step(2.5, name="mine", description="words")
    config = first.get_config()
    assert config == {"name": "mine", "description": "words", "schema": SCHEMA, "step": 2.5}
    second = Step.from_config(json.loads(json.dumps(config)))
    assert type(second) is Step
    assert second.get_config() == config
    assert (second.step, second.schema()) == (2.5, first.schema())
    assert contains_schema(second.schema(), first.schema(), strict=True)
    config["schema"]["properties"].clear()
    assert first.schema() == second.schema() == SCHEMA


def test_a_configuration_of_a_model_is_its_schema():
    first = Step(schema=None, data_model=Model)
    assert Step.from_config(first.get_config()).schema() == first.schema()


class Fixed(RewardOptimizer):
    def __init__(self, rate, name=None):
        super().__init__(SCHEMA, name=name)
        self.rate = rate

    def optimize(self, trainable_variable, reward=None):
        pass

    def finalize(self, trainable_variable):
        pass

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


def test_a_class_with_arguments_of_its_own_is_configured_by_those():
    first = Fixed(0.5, name="fixed")
    assert first.get_config() == {"name": "fixed", "rate": 0.5}
    assert Fixed.from_config(first.get_config()).rate == 0.5
    with pytest.raises(HyperparameterError, match="the configuration of Fixed lacks rate"):
        Fixed.from_config({"name": "fixed"})
    with pytest.raises(HyperparameterError, match="no argument of Fixed 'schema'"):
        Fixed.from_config({"rate": 0.5, "schema": SCHEMA})


def test_a_configuration_that_is_no_json_is_refused():
    with pytest.raises(ValueMismatchError, match="the configuration of Step is no JSON value at step: got a float64"):
        Step.from_config({**Step().get_config(), "step": np.float64(1.0)})
    with pytest.raises(ValueMismatchError, match=r"at schema\.enum: got a tuple"):
        Step.from_config({"schema": {"enum": (1, 2)}})


# -- the forgotten call ---------------------------------------------------------------------


class Forgetful(Step):
    def __init__(self):
        self.step = 1.0


USES = {
    "schema": lambda o: o.schema(),
    "variables": lambda o: o.variables,
    "iterations": lambda o: o.iterations,
    "matched": lambda o: o.matched,
    "matching": lambda o: o.matching([]),
    "apply_optimization": lambda o: tw.wait(o.apply_optimization([setting()])),
    "finalize_variable_values": lambda o: tw.wait(o.finalize_variable_values([setting()])),
    "save_own_variables": lambda o: o.save_own_variables({}),
    "load_own_variables": lambda o: o.load_own_variables({}),
    "get_config": lambda o: o.get_config(),
    "add_variable": lambda o: o.add_variable("a", {}, {}),
}


@pytest.mark.parametrize("use", USES)
def test_a_forgotten_super_call_is_caught_when_the_optimizer_is_used(use):
    with pytest.raises(UninitializedError, match=r"Forgetful did not call super\(\).__init__\(\)") as caught:
        USES[use](Forgetful())
    assert isinstance(caught.value, RuntimeError)


def test_a_forgotten_super_call_does_not_hide_the_object():
    assert repr(Forgetful()) == "<Forgetful, which did not call super().__init__()>"
