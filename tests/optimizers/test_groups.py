"""Groups: one optimizer over many variables, hyperparameters by group, found by the variables' names."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg import optimizers
from thalweg.errors import HyperparameterError, OptimizerError, StateMismatchError
from thalweg.graph import Variable, wait
from thalweg.optimizers import SGD, Adam, Group, LocalOptimizer, OptimizerSnapshot
from thalweg.schedules import Exp, Plateau

NAMES = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")


def variables(dtype: Any = np.float64) -> list[Variable]:
    made = []
    for seed, name in enumerate(NAMES):
        shape = (3,) if name.endswith("bias") else (4, 3)
        data = np.random.default_rng(seed).normal(size=shape).astype(dtype)
        made.append(Variable(data, name=name, needs_grad=True))
    return made


def gradients(seed: int, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(100 + seed)
    return {v.name or "": rng.normal(size=v.data.shape).astype(dtype) for v in variables()}


def content(optimizer: LocalOptimizer) -> Any:
    state = optimizer.state()
    arrays = {name: array.tobytes() for name, array in state.arrays.items()}
    return state.meta, arrays, [(v.data.tobytes(), v.version) for v in optimizer.variables]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", optimizers.registry)
def test_a_group_is_an_optimizer_of_its_own(kind: str, dtype: Any) -> None:
    """Bit for bit: what a variable becomes depends on its group's hyperparameters alone."""
    cls = optimizers.registry[kind]
    takes = "learning_rate" not in cls.rule.initial
    rate = Exp(0.5, gamma=0.5, decay_on_iteration=True) if takes else 0.5
    settings: list[dict[str, Any]] = [
        {"learning_rate": 0.03, "weight_decay": 0.125},
        {"learning_rate": rate, "weight_decay": 0.0},
        {"learning_rate": 0.0078125},
    ]
    groups = [{"variables": "*.bias", **settings[1]}, {"variables": ["decoder.weight"], **settings[2]}]
    together = cls(variables(dtype), groups=groups, **settings[0])
    own = {
        "encoder.weight": settings[0],
        "encoder.bias": settings[1],
        "decoder.weight": settings[0] | settings[2],
        "decoder.bias": settings[1],
    }
    apart = {v.name: cls(v, **own[v.name or ""]) for v in variables(dtype)}
    for t in range(4):
        grads = gradients(t, dtype)
        wait(together.step(grad=grads))
        for variable in together.variables:
            alone = apart[variable.name]
            wait(alone.step(grad=grads[variable.name or ""]))
            assert variable.data.tobytes() == alone.variable.data.tobytes(), variable.name
    state = together.state()
    for name, alone in apart.items():
        for key, array in alone.state().arrays.items():
            assert state.arrays[key].tobytes() == array.tobytes(), (name, key)


def test_the_order_of_variables_means_nothing() -> None:
    groups = [{"variables": "*.bias", "learning_rate": 0.5}]
    one, other = Adam(variables(), groups=groups), Adam(variables()[::-1], groups=groups)
    for t in range(3):
        wait(one.step(grad=gradients(t)))
        wait(other.step(grad=dict(reversed(gradients(t).items()))))
    for mine, yours in zip(one.variables, other.variables[::-1], strict=True):
        assert mine.name == yours.name
        assert mine.data.tobytes() == yours.data.tobytes()


def test_mixed_dtypes_with_groups_that_cross_them() -> None:
    def mixed() -> list[Variable]:
        return [
            Variable(v.data.astype(np.float32 if "en" in (v.name or "") else np.float64), name=v.name)
            for v in variables()
        ]

    grads = {v.name or "": np.ones(v.data.shape, v.data.dtype) for v in mixed()}
    optimizer = SGD(mixed(), learning_rate=1.0, groups=[{"variables": "*.bias", "learning_rate": 2.0}])
    before = [v.data.copy() for v in optimizer.variables]
    wait(optimizer.step(grad=grads))
    for variable, old in zip(optimizer.variables, before, strict=True):
        rate = 2.0 if (variable.name or "").endswith("bias") else 1.0
        np.testing.assert_array_equal(variable.data, old - old.dtype.type(rate))


PATTERNS = [
    ("*.bias", {"encoder.bias", "decoder.bias"}),
    ("encoder.*", {"encoder.weight", "encoder.bias"}),
    ("encoder.bias", {"encoder.bias"}),
    (["encoder.bias", "*.weight"], {"encoder.bias", "encoder.weight", "decoder.weight"}),
    ("[de]*coder.bias", {"encoder.bias", "decoder.bias"}),
    ("?????er.bias", {"encoder.bias", "decoder.bias"}),
    ("*", set(NAMES)),
]


@pytest.mark.parametrize(("pattern", "held"), PATTERNS, ids=[str(pattern) for pattern, _ in PATTERNS])
def test_patterns(pattern: Any, held: set[str]) -> None:
    optimizer = SGD(variables(), learning_rate=1.0, groups=[{"variables": pattern, "learning_rate": 0.0}])
    before = {v.name: v.data.copy() for v in optimizer.variables}
    wait(optimizer.step(grad={name: np.ones(array.shape) for name, array in before.items()}))
    for variable in optimizer.variables:
        moved = not np.array_equal(variable.data, before[variable.name])
        assert moved is (variable.name not in held), variable.name
    assert {name for name in NAMES if optimizer.groups[0].holds(name)} == held


@pytest.mark.parametrize("name", ["w[0]", "layer[a-z]", "a*b", "what?", "w[]", "[!x]"])
def test_a_name_means_itself_whatever_signs_are_in_it(name: str) -> None:
    x, y = Variable(np.zeros(1), name=name), Variable(np.zeros(1), name="other")
    optimizer = SGD([x, y], learning_rate=1.0, groups=[{"variables": [name], "learning_rate": 3.0}])
    wait(optimizer.step(grad={name: np.ones(1), "other": np.ones(1)}))
    assert (x.data[0], y.data[0]) == (-3.0, -1.0)
    rebound = SGD(groups=[{"variables": name, "learning_rate": 3.0}]).bind([y, x])
    wait(rebound.step(grad={name: np.ones(1), "other": np.ones(1)}))
    assert (x.data[0], y.data[0]) == (-6.0, -1.01)


def test_the_first_group_that_holds_a_variable_has_it() -> None:
    groups = [{"variables": "encoder.*", "learning_rate": 2.0}, {"variables": "*.bias", "learning_rate": 3.0}]
    optimizer = SGD(variables(), learning_rate=1.0, groups=groups)
    before = {v.name: v.data.copy() for v in optimizer.variables}
    wait(optimizer.step(grad={name: np.ones(array.shape) for name, array in before.items()}))
    rates = {"encoder.weight": 2.0, "encoder.bias": 2.0, "decoder.weight": 1.0, "decoder.bias": 3.0}
    for variable in optimizer.variables:
        name = variable.name or ""
        np.testing.assert_array_equal(variable.data, before[name] - rates[name])


def test_what_is_set_on_the_optimizer_holds_where_the_group_says_nothing() -> None:
    x, y = Variable(np.zeros(1), name="x"), Variable(np.zeros(1), name="y")
    optimizer = SGD([x, y], learning_rate=1.0, groups=[{"variables": "y", "weight_decay": 0.0}])
    optimizer.learning_rate = 4.0
    wait(optimizer.step(grad={"x": np.ones(1), "y": np.ones(1)}))
    assert (x.data[0], y.data[0]) == (-4.0, -4.0)
    optimizer.groups[0].learning_rate = 8.0
    optimizer.learning_rate = 2.0
    wait(optimizer.step(grad={"x": np.ones(1), "y": np.ones(1)}))
    assert (x.data[0], y.data[0]) == (-6.0, -12.0)
    wait(optimizer.step(step_size=1.0, grad={"x": np.ones(1), "y": np.ones(1)}))  # of all, exactly as given
    assert (x.data[0], y.data[0]) == (-7.0, -13.0)


def test_a_groups_hyperparameters_are_read_and_set_as_the_optimizers_are() -> None:
    optimizer = Adam(variables(), groups=[{"variables": "*.bias", "beta1": 0.5}])
    (group,) = optimizer.groups
    assert isinstance(group, Group)
    assert (group.variables, group.beta1, group.settings) == (("*.bias",), 0.5, {"beta1": 0.5})
    assert repr(group) == "Group(*.bias; beta1=0.5)"
    with pytest.raises(AttributeError, match="this group sets no 'beta2'; it sets: beta1"):
        _ = group.beta2
    for name, value, words in (
        ("beta1", 1.0, "beta1"),
        ("beta1", "0.5", "beta1"),
        ("learning_rate", -1.0, "learning_rate"),
        ("lr", 0.1, "did you mean 'learning_rate'"),
        ("variables", ("x",), "there is no hyperparameter"),
    ):
        with pytest.raises(HyperparameterError, match=words):
            setattr(group, name, value)
    assert group.settings == {"beta1": 0.5}
    group.beta1 = Exp(0.5, gamma=0.5)
    assert group.beta1 == Exp(0.5, gamma=0.5)


WRONG: list[tuple[Any, str]] = [
    ("*.bias", "give a list of tables"),
    ({"variables": "*.bias"}, "give a list of tables"),
    (["*.bias"], "give tables such as"),
    ([{"learning_rate": 0.1}], "give tables such as"),
    ([{"variables": []}], "give names or patterns"),
    ([{"variables": [1]}], "give names or patterns"),
    ([{"variables": None}], "give names or patterns"),
    ([{"variables": 3}], "give names or patterns"),
    ([{"variables": "*.bias", "lr": 0.1}], "did you mean 'learning_rate'"),
    ([{"variables": "*.bias", "learning_rate": -0.1}], "learning_rate is -0.1"),
    ([{"variables": "*.bias", "decay": "coupled"}], "'decay'"),
    ([{"variables": "*.bais"}], "there is no variable for a group: '*.bais'"),
    ([{"variables": ["*.bias", "encoder.wight"]}], "did you mean 'encoder.weight'"),
]


@pytest.mark.parametrize(("groups", "words"), WRONG, ids=str)
def test_groups_that_are_none_are_refused(groups: Any, words: str) -> None:
    with pytest.raises(HyperparameterError) as caught:
        SGD(variables(), groups=groups)
    assert words in str(caught.value)


def test_a_pattern_that_holds_nothing_is_found_when_variables_are_bound() -> None:
    optimizer = SGD(groups=[{"variables": "*.bias", "learning_rate": 0.5}])
    with pytest.raises(HyperparameterError, match=r"variable for a group: '\*\.bias'"):
        optimizer.bind(Variable(np.zeros(1), name="x"))
    assert optimizer.variables == ()
    optimizer.bind(variables())
    before = content(optimizer)
    with pytest.raises(HyperparameterError):
        optimizer.bind(Variable(np.zeros(1), name="x"))
    assert content(optimizer) == before


def test_a_variable_without_a_name_is_called_variable() -> None:
    x = Variable(np.zeros(1))
    wait(SGD(x, groups=[{"variables": "variable", "learning_rate": 2.0}]).step(grad=np.ones(1)))
    assert x.data[0] == -2.0
    with pytest.raises(OptimizerError, match="no name"):
        SGD([x, Variable(np.zeros(1), name="y")])


def test_what_was_given_is_not_kept() -> None:
    table = {"variables": ["*.bias"], "learning_rate": 2.0}
    optimizer = SGD(variables(), groups=[table])
    table["learning_rate"] = 5.0
    table["variables"].append("encoder.weight")  # type: ignore[attr-defined]
    assert optimizer.groups[0].settings == {"learning_rate": 2.0}
    assert not optimizer.groups[0].holds("encoder.weight")


# -- in and out --


def grouped(**options: Any) -> Adam:
    return Adam(
        variables(),
        groups=[
            {"variables": "*.bias", "learning_rate": 0.5, "weight_decay": 0.0},
            {"variables": ["decoder.weight"], "beta1": Exp(0.5, gamma=0.5, decay_on_iteration=True)},
        ],
        weight_decay=0.1,
        **options,
    )


def test_config_round_trip() -> None:
    optimizer = grouped()
    optimizer.groups[0].beta2 = 0.5
    config = json.loads(json.dumps(optimizer.get_config()))
    again = Adam.from_config(config, variables())
    assert again.get_config() == optimizer.get_config()
    assert [group.settings for group in again.groups] == [group.settings for group in optimizer.groups]
    for t in range(3):
        wait(optimizer.step(grad=gradients(t)))
        wait(again.step(grad=gradients(t)))
    assert content(again) == content(optimizer)


@pytest.mark.parametrize("way", ["disk", "memory"])
def test_dump_and_load(way: str, tmp_path: Path) -> None:
    optimizer, other = grouped(), grouped()
    for t in range(2):
        wait(optimizer.step(grad=gradients(t)))
    optimizer.groups[0].learning_rate = 0.25
    optimizer.groups[1].beta1 = 0.75
    if way == "disk":
        optimizer.dump(tmp_path)
        other.load(tmp_path)
    else:
        other.restore(optimizer.state())
        for mine, yours in zip(other.variables, optimizer.variables, strict=True):
            mine.data[...] = yours.data
    assert [group.settings for group in other.groups] == [group.settings for group in optimizer.groups]
    for t in range(2, 4):
        wait(optimizer.step(grad=gradients(t)))
        wait(other.step(grad=gradients(t)))
    assert content(optimizer)[:2] == content(other)[:2]
    assert [v.data.tobytes() for v in optimizer.variables] == [v.data.tobytes() for v in other.variables]


def test_other_groups_are_refused_with_a_list_and_no_effect(tmp_path: Path) -> None:
    optimizer = grouped()
    wait(optimizer.step(grad=gradients(0)))
    optimizer.dump(tmp_path)
    bias: dict[str, Any] = {"variables": "*.bias", "learning_rate": 0.5, "weight_decay": 0.0}
    weight: dict[str, Any] = {"variables": ["decoder.weight"], "beta1": 0.5}
    cases: list[tuple[list[dict[str, Any]], list[str]]] = [
        ([], ["groups were of [['*.bias'], ['decoder.weight']], here they are of []"]),
        ([bias], ["here they are of [['*.bias']]"]),
        ([{**bias, "variables": "encoder.bias"}, weight], ["here they are of [['encoder.bias'], ['decoder.weight']]"]),
        ([{**bias, "variables": ["*.bias", "decoder.weight"]}], ["not the same hold"]),
    ]
    for groups, words in cases:
        other = Adam(variables(), groups=groups)
        wait(other.step(grad=gradients(1)))
        before = content(other)
        with pytest.raises(StateMismatchError) as caught:
            other.load(tmp_path)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert "nothing was changed" in str(caught.value)
        assert content(other) == before


def test_a_saved_group_that_was_tampered_with_is_refused() -> None:
    optimizer = grouped()
    wait(optimizer.step(grad=gradients(0)))
    snapshot = optimizer.state()
    for change, words in (
        (lambda g: g[0].update(learning_rate=-1.0), "learning_rate is -1.0"),
        (lambda g: g[0].update(learning_rate="x"), "learning_rate is 'x'"),
        (lambda g: g[1].update(beta1={"kind": "expo"}), "expo"),
        (lambda g: g[1].update(variables="decoder.weight"), "groups were of"),
        (lambda g: g.pop(), "groups were of"),
        (lambda g: g.append(7), "groups were of"),
    ):
        meta = json.loads(json.dumps(snapshot.meta))
        change(meta["groups"])
        before = content(optimizer)
        with pytest.raises(StateMismatchError, match=words.replace("(", r"\(")):
            optimizer.restore(OptimizerSnapshot(snapshot.arrays, meta))
        assert content(optimizer) == before


def test_a_schedule_with_a_memory_is_restored_in_a_group() -> None:
    def made() -> SGD:
        return SGD(variables(), groups=[{"variables": "*.bias", "learning_rate": Plateau(1.0, factor=0.5, patience=0)}])

    optimizer, other = made(), made()
    fresh = optimizer.state()
    for loss in (3.0, 4.0, 5.0):
        optimizer.observe(loss)
    assert optimizer.groups[0].learning_rate(optimizer.optimization_state) == 0.25  # type: ignore[operator]
    other.restore(optimizer.state())
    assert other.groups[0].learning_rate(other.optimization_state) == 0.25  # type: ignore[operator]
    optimizer.restore(fresh)
    assert optimizer.groups[0].learning_rate(optimizer.optimization_state) == 1.0  # type: ignore[operator]
    without = json.loads(json.dumps(fresh.meta))
    del without["schedules"]
    with pytest.raises(StateMismatchError, match=r"missing: the state of the schedule at groups\.0\.learning_rate"):
        optimizer.restore(OptimizerSnapshot(fresh.arrays, without))


def test_carried_numbers_are_kept_for_each_group(tmp_path: Path) -> None:
    """Nadam's product of momenta depends on its own hyperparameters."""

    def made() -> LocalOptimizer:
        return optimizers.registry["nadam"](variables(), groups=[{"variables": "*.bias", "momentum_decay": 0.5}])

    straight, first, second = made(), made(), made()
    for t in range(5):
        wait(straight.step(grad=gradients(t)))
    for t in range(3):
        wait(first.step(grad=gradients(t)))
    rows = first.state().meta["carried"]
    assert len(rows) == 2
    assert rows[0] != rows[1]
    first.dump(tmp_path)
    second.load(tmp_path)
    assert second.state().meta["carried"] == rows  # before any step
    third = made()
    third.load(tmp_path)
    third.reset()
    for variable, start in zip(third.variables, variables(), strict=True):
        variable.data[...] = start.data
    for t in range(5):
        wait(third.step(grad=gradients(t)))  # from where they start, not from where they were
    assert content(third)[:2] == content(straight)[:2]
    for t in range(3, 5):
        wait(second.step(grad=gradients(t)))
    assert content(straight)[:2] == content(second)[:2]
    assert [v.data.tobytes() for v in straight.variables] == [v.data.tobytes() for v in second.variables]
    for change in ([], [[1.0]], [[1.0], [None]], [[1.0], [float("nan")]], "x"):
        meta = {**first.state().meta, "carried": change}
        before = content(second)
        with pytest.raises(StateMismatchError, match="carried"):
            second.restore(OptimizerSnapshot(first.state().arrays, meta))
        assert content(second) == before


def test_many_variables_in_many_groups() -> None:
    several = [Variable(np.zeros(2, np.float32), name=f"layer{k}.{what}") for k in range(100) for what in ("w", "b")]
    groups = [{"variables": f"layer{k}.b", "learning_rate": float(k)} for k in range(100)]
    optimizer = SGD(several, learning_rate=0.5, groups=groups)
    wait(optimizer.step(grad={v.name or "": np.ones(2, np.float32) for v in several}))
    for k in range(100):
        np.testing.assert_array_equal(several[2 * k].data, [-0.5, -0.5])
        np.testing.assert_array_equal(several[2 * k + 1].data, [-k, -k])


@pytest.mark.parametrize("kind", ["adam", "nadam", "schedule_free_adamw"])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_deep_copy_is_a_twin_over_copies_of_the_variables(kind: str, steps: int) -> None:
    bias: dict[str, Any] = {"variables": "*.bias", "learning_rate": Exp(0.5, gamma=0.5, decay_on_iteration=True)}
    optimizer = optimizers.registry[kind](variables(), groups=[bias], accumulate=2, nonfinite="skip")
    for t in range(2 * steps + 1):
        wait(optimizer.step(grad=gradients(t)))
    twin = copy.deepcopy(optimizer)
    for mine, yours in zip(optimizer.variables, twin.variables, strict=True):
        assert mine is not yours
        assert not np.shares_memory(mine.data, yours.data)
    assert twin.rule is optimizer.rule
    assert content(twin)[:2] == content(optimizer)[:2]
    before = content(optimizer)
    wait(twin.step(grad=gradients(7)))
    twin.groups[0].learning_rate = 0.25
    assert content(optimizer) == before
    wait(optimizer.step(grad=gradients(7)))
    optimizer.groups[0].learning_rate = 0.25
    for t in range(8, 12):
        wait(twin.step(grad=gradients(t)))
        wait(optimizer.step(grad=gradients(t)))
    assert content(twin)[:2] == content(optimizer)[:2]
    assert [v.data.tobytes() for v in twin.variables] == [v.data.tobytes() for v in optimizer.variables]


def test_what_cannot_be_copied_says_what_can() -> None:
    optimizer = grouped()
    for act in (copy.copy, pickle.dumps):
        with pytest.raises(OptimizerError, match=r"use copy\.deepcopy, or get_config\(\) and state\(\)"):
            act(optimizer)
