"""Structured variables: validated, copied, never aliased, and variables of the same graph as arrays."""

import asyncio
import builtins
import copy
import pickle
import re
import subprocess
import sys
from datetime import date
from enum import StrEnum

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, field_validator

import thalweg as tw
from thalweg.errors import (
    AdjointReturnError,
    GradientDtypeError,
    GraphError,
    MissingExtraError,
    ModifiedSinceForwardError,
    SchemaError,
    SearchError,
    ValueMismatchError,
)
from thalweg.search import StructuredVariable, checking

SCHEMA = {
    "type": "object",
    "properties": {
        "length": {"type": "number", "exclusiveMinimum": 0},
        "bands": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["length"],
    "additionalProperties": False,
}


class Kind(StrEnum):
    BOX = "box"
    GAUSS = "gauss"


class Smoothing(BaseModel):
    """How to smooth."""

    length: float = Field(1.0, gt=0)
    passes: int = 1
    kind: Kind = Kind.GAUSS


def setting(**more):
    return StructuredVariable({"length": 2.0, "bands": [1, 2]}, SCHEMA, **{"name": "setting", **more})


# -- copies -----------------------------------------------------------------------------------


def test_what_goes_in_is_copied():
    value = {"length": 2.0, "bands": [1]}
    variable = StructuredVariable(value, SCHEMA)
    value["bands"].append("no band")
    assert variable.json() == {"length": 2.0, "bands": [1]}
    new = {"length": 3.0, "bands": [5]}
    variable.assign(new)
    new["bands"].append("no band")
    part = [7]
    variable.update({"bands": part})
    part.append("no band")
    assert variable.json() == {"length": 3.0, "bands": [7]}


@pytest.mark.parametrize(
    "read", [lambda v: v.json(), lambda v: v.data, lambda v: {"bands": v.get("bands")}], ids=["json", "data", "get"]
)
def test_what_comes_out_is_a_copy(read):
    variable = setting()
    read(variable)["bands"].append("no band")
    assert variable.json()["bands"] == [1, 2]
    assert variable.version == 0


def test_the_schema_is_copied_both_ways():
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}}
    variable = StructuredVariable({"a": "x"}, schema)
    schema["properties"]["a"]["enum"].append("y")
    variable.schema()["properties"]["a"]["enum"].append("y")
    with pytest.raises(ValueMismatchError):
        variable.assign({"a": "y"})


def test_variables_from_one_value_share_no_state():
    initial = {"length": 1.0, "bands": []}
    one, other = StructuredVariable(initial, SCHEMA), StructuredVariable(initial, SCHEMA)
    one.update({"bands": [3]})
    assert other.json() == initial == {"length": 1.0, "bands": []}
    model = Smoothing()
    first, second = StructuredVariable(model), StructuredVariable(model)
    first.update({"passes": 5})
    assert (second.get("passes"), model.passes) == (1, 1)


def test_a_copy_has_its_own_value_and_a_detached_one_shares_it_until_one_is_assigned():
    variable = setting(trainable=False, description="what it is for")
    variable.update({"length": 4.0})
    copied, detached = variable.copy(), variable.detach()
    assert (copied.version, detached.version) == (0, 1)
    for other in (copied, detached):
        assert (other.name, other.trainable, other.description) == ("setting", False, "what it is for")
        assert other.json() == variable.json()
        assert other.schema() == variable.schema()
    detached.update({"length": 5.0})
    copied.update({"length": 6.0})
    assert variable.get("length") == 4.0
    assert variable.copy(name="other", value={"length": 1.0}).json() == {"length": 1.0}
    assert variable.detach(value={"length": 1.0}).version == 0
    assert variable.alike(name="alike").name == "alike"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))], ids=["copy", "pickle"])
def test_a_variable_goes_to_another_process(duplicate):
    variable = setting(trainable=False, description="words")
    variable.update({"length": 4.0})
    other = duplicate(variable)
    assert repr(other) == repr(variable)
    assert (other.version, other.description, other.schema()) == (1, "words", variable.schema())
    other.update({"length": 5.0})
    assert variable.get("length") == 4.0
    with pytest.raises(ValueMismatchError):
        other.update({"length": -5.0})
    assert duplicate(StructuredVariable(Smoothing())).data_model is Smoothing


def test_deep_values_are_checked_and_their_paths_are_cut():
    node = {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"n": {"$ref": "#"}}}]}
    deep, wrong = None, 5
    for _ in range(98):
        deep, wrong = {"n": deep}, {"n": wrong}
    variable = StructuredVariable(deep, node)
    with pytest.raises(ValueMismatchError, match=r"at n\.n\.n\.n\.n\.n\.n\.n\.\.\.n\.n\.n: 5 is not"):
        variable.assign(wrong)


# -- validation ----------------------------------------------------------------------------

WRONG = {
    "bound": ({"length": 0.0}, r"does not fit its schema at length: 0.0 is less than or equal to the minimum of 0"),
    "type": ({"length": "2"}, r"at length: '2' is not of type 'number'"),
    "inside": ({"length": 1.0, "bands": [1, 2.0]}, r"at bands\.1: 2.0 is not of type 'integer'"),
    "boolean-for-integer": ({"length": 1.0, "bands": [True]}, r"at bands\.0: True is not of type 'integer'"),
    "missing": ({}, r"'length' is a required property"),
    "unknown": ({"length": 1.0, "lenght": 2.0}, r"'lenght' was unexpected"),
    "no-object": ([1.0], r"\[1.0\] is not of type 'object'"),
    "no-json": ({"length": np.float64(1.0)}, r"no JSON value at length: got a float64; give the Python number"),
    "nan": ({"length": float("nan")}, r"no JSON value at length: got nan"),
    "none": (None, r"None is not of type 'object'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_value_that_does_not_fit_changes_nothing(case):
    value, message = WRONG[case]
    variable = setting()
    with pytest.raises(ValueMismatchError, match=f"the value of 'setting'.*{message}"):
        variable.assign(value)
    with pytest.raises(ValueMismatchError, match=message):
        variable.data = value
    with pytest.raises(ValueMismatchError, match=message):
        StructuredVariable(value, SCHEMA)
    assert (variable.json(), variable.version) == ({"length": 2.0, "bands": [1, 2]}, 0)


def test_an_update_is_all_or_nothing():
    variable = setting()
    with pytest.raises(ValueMismatchError, match="at length"):
        variable.update({"bands": [3], "length": -1.0})
    assert (variable.json(), variable.version) == ({"length": 2.0, "bands": [1, 2]}, 0)
    variable.update({"bands": [3]})
    assert (variable.json(), variable.version) == ({"length": 2.0, "bands": [3]}, 1)
    variable.update({})
    assert variable.version == 2


@pytest.mark.parametrize("partial", [None, [("length", 1.0)], "length", Smoothing()])
def test_an_update_takes_a_dict(partial):
    with pytest.raises(ValueMismatchError, match="give a dict of the entries"):
        setting().update(partial)


def test_a_value_may_be_anything_that_json_is():
    for value, kind in ((3.5, "number"), ("text", "string"), ([1], "array"), (None, "null"), (True, "boolean")):
        variable = StructuredVariable(value, {"type": kind})
        assert variable.json() == value
        assert type(variable.json()) is type(value)
        assert variable.data == value
        with pytest.raises(ValueMismatchError, match="has no keys"):
            variable.update({"a": 1})
        with pytest.raises(ValueMismatchError, match="has no keys"):
            variable.get("a")


def test_get_has_a_default():
    variable = setting()
    assert variable.get("length") == 2.0
    assert variable.get("nothing") is None
    assert variable.get("nothing", 3) == 3


def test_how_many_faults_there_are_is_told_and_long_values_are_cut():
    with pytest.raises(ValueMismatchError, match=r"\(1 more\)"):
        setting().assign({"length": -1.0, "bands": [0.5]})
    with pytest.raises(ValueMismatchError) as caught:
        setting().assign({"length": "long" * 10_000})
    assert len(str(caught.value)) < 500


def test_recursive_values_are_checked_all_the_way_down():
    node = {"type": "object", "properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}}}
    variable = StructuredVariable({"next": {"next": {"n": 1}}}, node)
    with pytest.raises(ValueMismatchError, match=r"at next\.next\.n"):
        variable.assign({"next": {"next": {"n": "one"}}})


# -- Pydantic models ---------------------------------------------------------------------


def test_a_model_s_instance_gives_value_and_schema():
    variable = StructuredVariable(Smoothing(length=2.0), name="smoothing")
    assert variable.json() == {"length": 2.0, "passes": 1, "kind": "gauss"}
    assert variable.data_model is Smoothing
    assert variable.schema()["properties"]["length"]["exclusiveMinimum"] == 0
    variable.assign(Smoothing(length=3.0, kind=Kind.BOX))
    assert variable.json() == {"length": 3.0, "passes": 1, "kind": "box"}


def test_defaults_of_a_model_are_filled_in():
    variable = StructuredVariable({}, data_model=Smoothing)
    assert variable.json() == {"length": 1.0, "passes": 1, "kind": "gauss"}
    assert setting().data_model is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"length": 0.0}, "does not fit Smoothing at length: input should be greater than 0"),
        ({"passes": "3"}, "at passes: input should be a valid integer"),
        ({"passes": 3.0}, "at passes: input should be a valid integer"),
        ({"passes": True}, "at passes: input should be a valid integer"),
        ({"kind": "fir"}, "at kind: input should be 'box' or 'gauss'"),
        (
            {"lenght": 3.0},
            r"Smoothing has nothing at lenght, which the value of 's' has \(known: kind, length, passes\)",
        ),
        ({"length": -1.0, "passes": "x"}, r"\(1 more\)"),
        ([], "does not fit Smoothing: input should be an object"),
        (RootModel[int](3), r"is a RootModel\[int\]; expected a Smoothing"),
    ],
)
def test_a_model_is_held_to_the_letter(value, message):
    variable = StructuredVariable(Smoothing(), name="s")
    with pytest.raises(ValueMismatchError, match=message):
        variable.assign(value)
    assert (variable.json(), variable.version) == ({"length": 1.0, "passes": 1, "kind": "gauss"}, 0)


def test_what_is_dropped_deep_inside_is_found():
    class Outer(BaseModel):
        inner: list[Smoothing] = []

    with pytest.raises(ValueMismatchError, match=r"Outer has nothing at inner\.1\.depth"):
        StructuredVariable({"inner": [{}, {"depth": 1}]}, data_model=Outer)


def test_a_model_that_was_changed_behind_its_own_back_is_refused():
    model = Smoothing()
    model.length = -1.0
    with pytest.raises(ValueMismatchError, match="at length: input should be greater than 0"):
        StructuredVariable(model)
    model.length = "long"
    with pytest.raises(ValueMismatchError, match="cannot be written as JSON"):
        StructuredVariable(model)


def test_aliases_validators_computed_fields_and_dates_survive_a_round():
    class Rich(BaseModel):
        model_config = ConfigDict(extra="forbid")
        wide: float = Field(1.0, alias="wideWidth")
        day: date = date(2026, 1, 2)
        text: str = ""

        @field_validator("text")
        @classmethod
        def stripped(cls, text):
            return text.strip()

        @computed_field
        @property
        def twice(self) -> float:
            return 2 * self.wide

    variable = StructuredVariable(Rich(text=" a "))
    assert variable.json() == {"wideWidth": 1.0, "day": "2026-01-02", "text": "a"}
    variable.assign(variable.json())
    variable.update({"wideWidth": 3, "text": " b"})
    assert variable.json() == {"wideWidth": 3.0, "day": "2026-01-02", "text": "b"}
    assert set(variable.schema()["properties"]) == {"wideWidth", "day", "text"}


class Asymmetric(BaseModel):
    x: int = Field(validation_alias="inX", serialization_alias="outX")


class Within(BaseModel):
    parts: list[Asymmetric | None]


@pytest.mark.parametrize(
    ("value", "model"),
    [
        (Asymmetric(inX=1), None),
        ({"inX": 1}, Asymmetric),
        (Within(parts=[None, Asymmetric(inX=1)]), None),
        ({"parts": [{"inX": 1}]}, Within),
    ],
)
def test_a_field_that_is_read_under_one_name_and_written_under_another_is_named(value, model):
    says = r"Asymmetric\.x is read as inX and written as outX: give it one alias\.$"
    with pytest.raises(ValueMismatchError, match=says):
        StructuredVariable(value, data_model=model, name="v")


class Letters(BaseModel):
    model_config = ConfigDict(frozen=True)
    some: frozenset[str] = Field(frozenset("hgfedcba"), alias="someOfThem")


class Sets(BaseModel):
    plain: set[str] = Field(set("hgfedcba"), alias="plainOnes")
    numbers: set[int] = {10, 9, 1, 100}
    inside: dict[int, tuple[set[str], int]] = {7: (set("hgfedcba"), 1)}
    listed: list[str] = ["z", "a"]
    root: RootModel[set[str]] = RootModel[set[str]](set("hgfedcba"))
    of_sets: set[frozenset[str]] = {frozenset("ba"), frozenset("hgfedcb")}
    of_models: set[Letters] = {Letters(), Letters(someOfThem=frozenset("ba"))}


def test_a_set_is_written_in_one_order_in_every_process():
    letters = list("abcdefgh")
    variable = StructuredVariable(Sets(), name="v")
    assert variable.json() == {
        "plainOnes": letters,
        "numbers": [1, 9, 10, 100],
        "inside": {"7": [letters, 1]},
        "listed": ["z", "a"],
        "root": letters,
        "of_sets": [["a", "b"], list("bcdefgh")],
        "of_models": [{"someOfThem": letters}, {"someOfThem": ["a", "b"]}],
    }
    variable.update({"plainOnes": ["q", "b"], "listed": ["q", "b"]})
    assert (variable.get("plainOnes"), variable.get("listed")) == (["b", "q"], ["q", "b"])


def test_a_schema_beside_a_model_asks_for_more():
    schema = {"type": "object", "properties": {"length": {"maximum": 5}}}
    variable = StructuredVariable(Smoothing(), schema, Smoothing)
    assert variable.schema() == schema
    for wrong in ({"length": 6.0}, {"length": -1.0}):
        with pytest.raises(ValueMismatchError, match="at length"):
            variable.update(wrong)
    assert StructuredVariable(Smoothing(length=2.0), {"type": "object"}).data_model is None


# -- refusals ------------------------------------------------------------------------------


def test_there_has_to_be_a_schema():
    with pytest.raises(SchemaError, match="'x' has neither schema nor data_model"):
        StructuredVariable({"a": 1}, name="x")
    with pytest.raises(SchemaError, match="no JSON Schema at type"):
        StructuredVariable({"a": 1}, {"type": "objekt"})
    with pytest.raises(SchemaError, match="the data model is"):
        StructuredVariable({"a": 1}, data_model=dict)
    assert StructuredVariable({"a": 1}, {}).json() == {"a": 1}


@pytest.mark.parametrize("name", ["", "  ", 3, "a\nb", "\ud800", b"x"])
def test_a_name_can_be_printed(name):
    with pytest.raises(SearchError, match="the name of a structured variable"):
        setting(name=name)
    variable = setting()
    with pytest.raises(SearchError, match="the name of a structured variable"):
        variable.name = name
    assert variable.name == "setting"


def test_trainable_is_true_or_false():
    with pytest.raises(SearchError, match="trainable of 'setting' is 1"):
        setting(trainable=1)
    variable = setting()
    variable.trainable = False
    assert not variable.trainable
    variable.update({"length": 9.0})  # by hand it may be changed


def test_a_structured_value_has_no_gradient():
    with pytest.raises(GradientDtypeError, match="'setting' was told needs_grad=True"):
        setting(needs_grad=True)
    variable = setting()
    with pytest.raises(GradientDtypeError):
        variable.needs_grad = True
    with pytest.raises(GradientDtypeError):
        variable.as_parameter()
    with pytest.raises(GradientDtypeError):
        StructuredVariable(1.5, {"type": "number"}, needs_grad=True)
    variable.needs_grad = False
    assert (variable.needs_grad, variable.grad, variable.shape, variable.dtype) == (False, None, None, None)
    with pytest.raises(GraphError, match="nothing that needed a gradient led to it"):
        tw.wait(variable.adjoint())


def test_a_missing_library_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "jsonschema":
            raise ModuleNotFoundError("No module named 'jsonschema'", name="jsonschema")
        return real(name, *args, **kwargs)

    checking._kind.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'thalweg[search]'")) as caught:
        setting()
    assert caught.value.details["extra"] == "search"
    assert StructuredVariable(Smoothing()).get("passes") == 1  # models need no other library


def test_importing_brings_no_library_of_engines_or_models():
    code = "import sys, thalweg.search; print({'optuna', 'httpx', 'jsonschema', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (setting(), "StructuredVariable('setting', length=2.0, bands=[1, 2])"),
        (setting(name=None, trainable=False), "StructuredVariable(length=2.0, bands=[1, 2], not trainable)"),
        (StructuredVariable("a" * 100, {}), f"StructuredVariable('{'a' * 27}...{'a' * 8}')"),
        (StructuredVariable(dict.fromkeys("abcde", 1), {}), "StructuredVariable(a=1, b=1, c=1, d=1, ...)"),
    ],
    ids=["named", "fixed", "long", "many"],
)
def test_repr(variable, text):
    assert repr(variable) == text


# -- in the graph ---------------------------------------------------------------------------


class Smooth(tw.Operator):
    """A weighted mean with the neighbor: y = (1 − w) x + w x shifted; w is a setting."""

    def forward(self, x, setting):
        w = setting.get("w")
        return tw.Variable((1 - w) * x.data + w * np.roll(x.data, 1))

    def adjoint(self, grad, x, setting):
        w = setting.get("w")
        return (1 - w) * grad + w * np.roll(grad, -1), None


def weight(w=0.25):
    return StructuredVariable({"w": w}, {"type": "object", "properties": {"w": {"type": "number"}}}, name="weight")


def field():
    return tw.Variable(np.array([1.0, 2.0, 4.0]), name="x", needs_grad=True)


def test_an_operator_takes_a_field_and_a_setting_and_the_gradient_goes_to_the_field():
    x, w = field(), weight()
    y = tw.wait(Smooth()(x, w))
    seed = np.array([1.0, 0.0, 0.0])
    tw.wait(y.adjoint(seed))
    assert np.array_equal(x.grad, 0.75 * seed + 0.25 * np.roll(seed, -1))
    assert w.grad is None
    x.clear_grad()
    tw.wait(tw.wait(Smooth()(x, setting=w)).adjoint(seed))  # by keyword as well
    assert w.grad is None
    assert tw.check_adjoint(Smooth(), field(), w).ok
    assert {node.op for node in y.graph.toposort(y.node)} == {x, y.node.op}


def test_a_gradient_for_the_setting_is_not_asked_for_and_goes_nowhere():
    class Generous(Smooth):
        def adjoint(self, grad, x, setting):
            return grad, np.ones(7)

    x, w = field(), weight()
    tw.wait(tw.wait(Generous()(x, w)).adjoint(np.ones(3)))
    assert w.grad is None

    class Short(Smooth):
        def adjoint(self, grad, x, setting):
            return (grad,)

    with pytest.raises(AdjointReturnError, match="1 gradients for 2 Variable inputs"):
        tw.wait(tw.wait(Short()(x, w)).adjoint(np.ones(3)))


@pytest.mark.parametrize("change", [lambda w: w.assign({"w": 0.5}), lambda w: w.update({"w": 0.25})])
def test_a_setting_that_changed_after_the_forward_is_noticed(change):
    x, w = field(), weight()
    y = tw.wait(Smooth()(x, w))
    change(w)
    with pytest.raises(ModifiedSinceForwardError, match=r"input 'setting' of 'Smooth'.*version 0 then, 1 now"):
        tw.wait(y.adjoint(np.ones(3)))
    assert x.grad is None


def test_a_refused_assignment_leaves_the_adjoint_right():
    x, w = field(), weight()
    y = tw.wait(Smooth()(x, w))
    with pytest.raises(ValueMismatchError):
        w.assign({"w": "half"})
    tw.wait(y.adjoint(np.ones(3)))
    assert np.array_equal(x.grad, np.ones(3))


def test_a_structured_result_of_an_array_has_no_gradient():
    class Choose(tw.Operator):
        def forward(self, x):
            return StructuredVariable({"largest": int(np.argmax(x.data))}, {"type": "object"}), tw.Variable(2 * x.data)

        def adjoint(self, chosen, doubled, x):
            assert chosen is None
            return 2 * doubled

    x = field()
    chosen, doubled = tw.wait(Choose()(x))
    assert chosen.json() == {"largest": 2}
    assert not chosen.needs_grad
    tw.wait(doubled.adjoint(np.ones(3)))
    assert np.array_equal(x.grad, [2.0, 2.0, 2.0])
    with pytest.raises(GraphError, match="nothing that needed a gradient"):
        tw.wait(chosen.adjoint())


def test_an_operator_may_return_its_setting_and_history_goes_with_the_new_one():
    class Pass(tw.Operator):
        def forward(self, setting):
            return setting

        def adjoint(self, grad, setting):
            return None

    w = weight()
    same = tw.wait(Pass()(w))
    assert same is not w
    assert isinstance(same, StructuredVariable)
    w.update({"w": 0.5})
    assert same.get("w") == 0.25


def test_settings_are_read_by_operators_that_run_at_the_same_time():
    async def several():
        x, w = field(), weight()
        results = await asyncio.gather(*(Smooth()(x, w) for _ in range(5)))
        for result in results:
            await result.adjoint(np.ones(3))
        return x.grad

    assert np.array_equal(tw.wait(several()), np.full(3, 5.0))


SVC = {
    "type": "object",
    "properties": {"kind": {"const": "svc"}, "C": {"type": "number", "maximum": 10}, "gamma": {"type": "number"}},
    "required": ["kind", "C", "gamma"],
}
TREE = {
    "type": "object",
    "properties": {"kind": {"const": "tree"}, "depth": {"type": "integer"}},
    "required": ["kind", "depth"],
}


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ({"kind": "svc", "C": 1.0}, "at model: 'gamma' is a required property"),
        ({"kind": "svc", "C": 100.0, "gamma": 1.0}, "at model.C: 100.0 is greater than the maximum of 10"),
        ({"kind": "tree", "depth": 1.5}, "at model.depth: 1.5 is not of type 'integer'"),
        ({"kind": "svcc", "C": 1.0}, "at model: model.kind is 'svcc', and there are 'svc', 'tree'"),
    ],
)
def test_a_fault_within_a_union_is_told_of_the_branch_that_was_meant(model, text):
    schema = {"type": "object", "properties": {"model": {"oneOf": [SVC, TREE]}}, "required": ["model"]}
    with pytest.raises(ValueMismatchError, match=re.escape(text)):
        StructuredVariable({"model": model}, schema, name="start")


def test_a_union_with_a_branch_that_is_false_is_told_as_any_other():
    for branches, text in (([{"type": "integer"}, False], "'a' is not valid under any"), ([False, False], "at x")):
        schema = {"type": "object", "properties": {"x": {"anyOf": branches}}}
        with pytest.raises(ValueMismatchError, match=text):
            StructuredVariable({"x": "a"}, schema)
