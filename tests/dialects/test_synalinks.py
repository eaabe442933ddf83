"""The page on Synalinks' base optimizer, name by name."""

import inspect
import warnings

import numpy as np
import pytest
from pydantic import BaseModel, Field

import thalweg as tw
from thalweg.dialects import synalinks
from thalweg.dialects.synalinks import DataModel, Empty, Iteration, Optimizer, Variable
from thalweg.errors import HyperparameterError, SchemaError, ValueMismatchError


class Instructions(DataModel):
    """What to tell."""

    instructions: str = "Answer."
    examples: list[str] = Field(default_factory=list)


class Shout(Optimizer):
    """Write in capitals.

    And so on.
    """

    async def optimize(self, trainable_variable, reward=None):
        self.reward = reward
        trainable_variable.update({"instructions": trainable_variable.get("instructions").upper()})

    async def finalize(self, trainable_variable):
        trainable_variable.update({"instructions": trainable_variable.get("instructions") + "!"})


def variable(**more):
    return Variable(**{"initializer": Empty(data_model=Instructions), "data_model": Instructions, **more})


def shout(**more):
    return Shout(**{"data_model": Instructions, "name": "shout", **more})


def test_the_page_s_signatures():
    def parameters(function):
        return [(p.name, p.default, str(p.kind)) for p in list(inspect.signature(function).parameters.values())[1:]]

    def plain(*names):
        return [(name, default, "POSITIONAL_OR_KEYWORD") for name, default in names]

    empty = inspect.Parameter.empty
    init = parameters(Optimizer.__init__)
    assert [(n, d) for n, d, _ in init[:4]] == [(n, None) for n in ("schema", "data_model", "name", "description")]
    assert init[4][0] == "kwargs"
    for method, names in {
        "schema": (),
        "apply_optimization": (("trainable_variables", empty), ("reward", None)),
        "finalize_variable_values": (("trainable_variables", empty),),
        "optimize": (("trainable_variable", empty), ("reward", None)),
        "finalize": (("trainable_variable", empty),),
        "save_own_variables": (("store", empty),),
        "load_own_variables": (("store", empty),),
        "get_config": (),
    }.items():
        found = [(n, d) for n, d, _ in parameters(getattr(Optimizer, method))]
        assert found == list(names), method
    for coroutine in ("apply_optimization", "finalize_variable_values", "optimize", "finalize"):
        assert inspect.iscoroutinefunction(getattr(Optimizer, coroutine))
    assert isinstance(Optimizer.variables, property)
    assert isinstance(Optimizer.iterations, property)


def test_a_step_and_the_end():
    optimizer, trained, other = shout(), variable(), Variable(initializer=Iteration(), data_model=Iteration)
    tw.wait(optimizer.apply_optimization([trained, other], reward=0.5))
    assert trained.json() == {"instructions": "ANSWER.", "examples": []}
    assert (other.json(), optimizer.reward) == ({"iteration": 0}, 0.5)
    assert optimizer.iterations.json() == {"iteration": 1}
    assert optimizer.iterations.json().get("iteration") == 1
    tw.wait(optimizer.finalize_variable_values([trained, other]))
    assert trained.get("instructions") == "ANSWER.!"


def test_a_step_that_concerns_nothing_does_nothing():
    optimizer = shout()
    tw.wait(optimizer.apply_optimization([Variable(initializer=Iteration(), data_model=Iteration)]))
    tw.wait(optimizer.apply_optimization([]))
    tw.wait(optimizer.finalize_variable_values([]))
    assert optimizer.iterations.get("iteration") == 2


def test_optimize_and_finalize_are_for_subclasses():
    optimizer = Optimizer(data_model=Instructions)
    with pytest.raises(NotImplementedError, match=r"optimize\(\)"):
        tw.wait(optimizer.apply_optimization([variable()]))
    with pytest.raises(NotImplementedError, match=r"finalize\(\)"):
        tw.wait(optimizer.finalize_variable_values([variable()]))
    assert optimizer.iterations.get("iteration") == 0


def test_name_description_and_repr():
    optimizer = shout()
    assert repr(optimizer) == "<Optimizer name=shout description=Write in capitals.>"
    assert repr(shout(name="a", description="b")) == "<Optimizer name=a description=b>"
    assert shout(name=None).name.startswith("shout")
    assert not optimizer.built


def test_schema_or_data_model():
    by_model = shout()
    by_schema = shout(schema=Instructions.schema(), data_model=None)
    assert by_model.schema() == by_schema.schema() == synalinks.standardize_schema(Instructions.model_json_schema())
    for nothing in ({}, {"schema": {}}, {"schema": None, "data_model": None}):
        with pytest.raises(ValueError, match="neither schema nor data_model"):
            Optimizer(**nothing)
    with pytest.raises(ValueError, match="'scheme'"):
        Optimizer(scheme={})

    class Teller:
        def schema(self):
            return Instructions.schema()

    assert shout(data_model=Teller()).schema() == by_model.schema()


def test_get_config_and_from_config():
    config = shout().get_config()
    assert config == {"name": "shout", "description": "Write in capitals.", "schema": Instructions.schema()}
    assert Shout.from_config(config).get_config() == config


def test_own_variables_go_by_their_place():
    optimizer = shout()
    extra = variable(name="iteration", trainable=False)
    optimizer._track_variable(extra)
    optimizer._track_variable(extra)  # once is enough
    assert optimizer.variables == [optimizer.iterations, extra]
    store = {}
    optimizer.save_own_variables(store)
    assert list(store) == ["0", "1"]
    assert [array.item() for array in store.values()] == [
        '{"iteration":0}',
        '{"instructions":"Answer.","examples":[]}',
    ]
    tw.wait(optimizer.apply_optimization([variable()]))
    extra.update({"instructions": "Ö \x00"})
    optimizer.save_own_variables(store)
    fresh = shout()
    fresh._track_variable(variable())
    fresh.load_own_variables(store)
    assert [v.json() for v in fresh.variables] == [v.json() for v in optimizer.variables]
    with pytest.raises(TypeError, match="cannot be tracked"):
        optimizer._track_variable("extra")


def test_a_store_can_be_saved_without_pickle(tmp_path):
    optimizer, store = shout(), {}
    tw.wait(optimizer.apply_optimization([variable()]))
    optimizer.save_own_variables(store)
    np.savez(tmp_path / "state.npz", **store)
    fresh = shout()
    with np.load(tmp_path / "state.npz", allow_pickle=False) as loaded:
        fresh.load_own_variables(dict(loaded))
    assert fresh.iterations.get("iteration") == 1


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ({}, "it has 0 variables, and the optimizer has 1 variables"),
        ({"0": {"iteration": 5}, "1": {"iteration": 5}}, "it has 2 variables"),
        ({"iteration": {"iteration": 5}}, "it has the keys iteration"),
    ],
)
def test_a_store_of_other_variables_is_skipped_with_a_warning(store, said):
    optimizer = shout()
    with pytest.warns(UserWarning, match=f"The saved state of optimizer 'shout' is skipped: {said}") as caught:
        optimizer.load_own_variables(store)
    assert caught[0].filename == __file__
    assert optimizer.iterations.get("iteration") == 0


def test_a_value_that_does_not_fit_is_an_error_and_changes_nothing():
    optimizer = shout()
    optimizer._track_variable(variable())
    for wrong in ({"instructions": 3}, np.array("no json"), np.array('{"instructions":NaN}')):
        with pytest.raises(ValueMismatchError), warnings.catch_warnings():
            optimizer.load_own_variables({"0": {"iteration": 5}, "1": wrong})
    assert optimizer.iterations.get("iteration") == 0


def test_a_step_counts_even_if_its_json_is_changed_by_hand():
    optimizer = shout()
    optimizer.iterations.json().update({"iteration": 5})  # a copy: changes nothing
    assert optimizer.iterations.get("iteration") == 0
    optimizer.iterations.update({"iteration": 5})
    tw.wait(optimizer.apply_optimization([variable()]))
    assert optimizer.iterations.get("iteration") == 6


def test_empty_values_fit_their_models():
    class Inner(BaseModel):
        a: int
        b: float | None

    class Everything(BaseModel):
        text: str
        number: float
        flag: bool
        inner: Inner
        items: list[Inner]
        kind: str = Field(json_schema_extra={"enum": ["x", "y"]})
        choice: int | str
        children: "list[Everything]"
        parent: "Everything | None" = None
        given: int = 3

    value = Empty(data_model=Everything)()
    assert value == {
        **{"text": "", "number": 0.0, "flag": False, "inner": {"a": 0, "b": None}, "items": [], "kind": "x"},
        **{"choice": 0, "children": [], "parent": None, "given": 3},
    }
    made = Variable(Empty(data_model=Everything), Everything)
    assert made.json() == value

    class Endless(BaseModel):
        again: "Endless"

    with pytest.raises(SchemaError, match="Endless requires another Endless"):
        Empty(data_model=Endless)()


def test_copies_of_variables():
    trained = variable(name="v", trainable=False)
    trained.update({"instructions": "Other."})
    for other in (trained.copy(), trained.detach()):
        assert isinstance(other, Variable)
        assert (other.json(), other.name, other.trainable) == (trained.json(), "v", False)
    assert trained.detach().version == 1
    assert trained.copy(initializer={"instructions": "New."}).json() == {"instructions": "New.", "examples": []}
    assert trained.detach(initializer={}).json() == {"instructions": "Answer.", "examples": []}
    assert trained.detach(initializer={}).version == 0
    assert Variable({"a": 1}, schema={"type": "object"}).json() == {"a": 1}


def test_each_known_argument_is_named_once():
    """A class and its base take the same ones."""
    with pytest.raises(HyperparameterError, match=r"no argument of Shout 'zzz' \(known: ") as caught:
        shout(zzz=1)
    assert caught.value.details["known"] == ["data_model", "description", "name", "schema"]
