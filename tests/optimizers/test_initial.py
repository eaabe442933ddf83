"""What a rule reads at its first step only: it says so, and whatever would do nothing after that is refused."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from tests.optimizers import everywhere
from thalweg import optimizers, rules
from thalweg.errors import HyperparameterError
from thalweg.graph import Variable, wait
from thalweg.optimizers import get_updater
from thalweg.rules import Rule
from thalweg.runs.tuning import optimizer_faults, override_faults
from thalweg.schedules import Exp, Fixed, Plateau

INITIAL = [(kind, name) for kind, cls in optimizers.registry.items() for name in cls.rule.initial]
each = pytest.mark.parametrize(("kind", "name"), INITIAL)
FACES = ("numpy", "torch", "torch, shared kernel", "jax", "jax, jitted", "pytensor", "updater")


def variable() -> Variable:
    return Variable(np.array([1.0, -2.0, 0.5]), name="x", needs_grad=True)


def grads(steps: int, seed: int = 5) -> Iterator[np.ndarray]:
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield rng.normal(size=3)


# ------------------------------------------------------------------ the declaration


def forms() -> list[tuple[str, Rule]]:
    """Every rule, with each of its options."""
    several = [(name, rule) for name, rule in rules.registry.items()]
    for name, rule in rules.registry.items():
        for option, values in rule.options.items():
            several += [(f"{name}, {option}={value}", rule.form(**{option: value})) for value in values[1:]]
    return several


@pytest.mark.parametrize("rule", [rule for _, rule in forms()], ids=[name for name, _ in forms()])
def test_a_rule_declares_just_what_it_reads_at_its_first_step_only(rule: Rule) -> None:
    x, found = np.array([1.0, -2.0, 0.5]), set()
    for name, declared in rule.hyperparameters.items():
        one = rule.hyper()
        others = (0.5 * declared.default, 1.5 * declared.default, 0.5)
        value = next(v for v in others if v in declared.interval and v != declared.default)
        other = one._replace(**{name: value})
        begun, elsewhere = rule.init(x, one), rule.init(x, other)
        slots = range(len(rule.slot_names))
        if all(np.array_equal(begun[k], elsewhere[k]) for k in slots):
            continue  # the state does not start there
        state, used = begun, False
        for t, g in enumerate(grads(12), start=1):
            moved, after = rule.step(x, g, state, one, t=t)
            again = rule.step(x, g, state, other, t=t)
            used |= not all(np.array_equal(a, b) for a, b in zip((moved, *after), (again[0], *again[1]), strict=True))
            x, state = moved, after
        if not used:
            found.add(name)
    assert found == set(rule.initial)


def test_there_are_such() -> None:
    assert {("rprop", "learning_rate"), ("adagrad", "initial_accumulator")} == set(INITIAL)
    for _, rule in forms():
        assert all(rule.initial.values())
        wrapped = rules.decayed(rule) if rule.derived else rules.lookahead(rules.decayed(rule))
        assert wrapped.initial == rule.initial


# ------------------------------------------------------------------ schedules


@each
@pytest.mark.parametrize("schedule", [Exp(0.5, gamma=0.9), Fixed(0.5), Plateau(0.5), lambda s: 0.5], ids=range(4))
def test_a_schedule_for_it_is_refused(kind: str, name: str, schedule: Any) -> None:
    cls = optimizers.registry[kind]
    words = rf"{kind} reads {name} at its first step only.*would do nothing after it: give a number; "
    with pytest.raises(HyperparameterError, match=words) as caught:
        cls(**{name: schedule})
    assert cls.rule.initial[name] in str(caught.value)
    assert caught.value.details["name"] == name
    with pytest.raises(HyperparameterError, match=words):
        cls(variable(), groups=[{"variables": ["x"], name: schedule}])
    with pytest.raises(HyperparameterError, match=words):
        cls(**{name: schedule}, wrap=["lookahead", "ema"])
    for optimizer in (cls(), cls(variable())):
        before = optimizer.hyperparameters
        with pytest.raises(HyperparameterError, match=words):
            setattr(optimizer, name, schedule)
        assert optimizer.hyperparameters == before
    grouped = cls(variable(), groups=[{"variables": ["x"], name: 0.5}])
    with pytest.raises(HyperparameterError, match=words):
        setattr(grouped.groups[0], name, schedule)
    assert grouped.groups[0].settings == {name: 0.5}
    assert cls(**{name: 0.5}).hyperparameters[name] == 0.5


@each
def test_so_it_is_in_a_study(kind: str, name: str) -> None:
    table = {"kind": kind, name: {"kind": "exp", "initial": 0.5, "gamma": 0.9}}
    with pytest.raises(HyperparameterError, match=f"{kind} reads {name} at its first step only"):
        optimizers.build(table)
    (fault,) = optimizer_faults(table, "optimizer")
    assert fault.path == f"optimizer.{name}"
    assert "give a number" in str(fault)
    assert not optimizer_faults({"kind": kind, name: 0.5}, "optimizer")
    blocks = {
        kind_: override_faults({"kind": kind}, {name: 0.25}, "blocks.1.optimizer", begun=kind_) for kind_ in (0, 1)
    }
    assert not blocks[0]
    assert [fault.path for fault in blocks[1]] == [f"blocks.1.optimizer.{name}"]


@each
def test_so_it_is_for_param_groups_of_torch(kind: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    x = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(HyperparameterError, match=f"{kind} reads {name} at its first step only"):
        TorchOptimizer([{"params": [x], name: Exp(0.5, gamma=0.9)}], optimizers.registry[kind]())


# ------------------------------------------------------------------ setting it later


@each
def test_it_can_be_set_until_the_first_step(kind: str, name: str) -> None:
    cls = optimizers.registry[kind]
    optimizer, expected = cls(variable(), groups=[{"variables": ["x"], name: 0.25}]), cls(variable(), **{name: 0.5})
    setattr(optimizer.groups[0], name, 0.5)
    first, *rest = grads(3)
    for either in (optimizer, expected):
        wait(either.step(grad=first))
    assert optimizer.variable.data.tobytes() == expected.variable.data.tobytes()
    words = rf"{kind} read {name} at its first step, .*setting it now would do nothing; .*reset\(\) the optimizer first"
    for owner in (optimizer.groups[0], expected):
        with pytest.raises(HyperparameterError, match=words):
            setattr(owner, name, 0.75)
        assert getattr(owner, name) == 0.5
        setattr(owner, name, 0.5)  # what it is: a loop may say so in each pass
    for grad in rest:
        for either in (optimizer, expected):
            wait(either.step(grad=grad))
    assert optimizer.variable.data.tobytes() == expected.variable.data.tobytes()
    expected.reset()
    setattr(expected, name, 0.75)
    fresh = cls(Variable(expected.variable.data.copy(), name="x"), **{name: 0.75})
    for either in (expected, fresh):
        wait(either.step(grad=first))
    assert expected.variable.data.tobytes() == fresh.variable.data.tobytes()
    other = copy.deepcopy(fresh)
    with pytest.raises(HyperparameterError, match=words):
        setattr(other, name, 0.5)


def test_neither_is_a_step_size() -> None:
    optimizer, expected = tw.Rprop(variable()), tw.Rprop(variable(), learning_rate=0.5)
    first, second = grads(2)
    wait(optimizer.step(step_size=0.5, grad=first))
    wait(expected.step(grad=first))
    before = optimizer.variable.data.copy()
    np.testing.assert_array_equal(before, expected.variable.data)
    with pytest.raises(HyperparameterError, match="rprop read learning_rate at its first step"):
        wait(optimizer.step(step_size=0.25, grad=second))
    np.testing.assert_array_equal(optimizer.variable.data, before)
    wait(optimizer.step(grad=second))
    wait(expected.step(grad=second))
    np.testing.assert_array_equal(optimizer.variable.data, expected.variable.data)


@each
def test_it_can_be_set_where_no_step_was_made_of_what_was_loaded(kind: str, name: str, tmp_path: Path) -> None:
    """Whether a step was made is the state's, also after loading."""
    cls = optimizers.registry[kind]
    source = cls(variable(), **{name: 0.5})
    source.dump(tmp_path / "none")
    wait(source.step(grad=np.ones(3)))
    source.dump(tmp_path / "one")
    for folder, refused in (("none", False), ("one", True), ("none", False)):
        target = cls(variable())
        target.load(tmp_path / folder)
        assert target.hyperparameters[name] == 0.5
        with pytest.raises(HyperparameterError) if refused else contextlib.nullcontext():
            setattr(target, name, 0.75)


@each
def test_an_updater_s_optimizer_refuses_it_once_a_key_has_state(kind: str, name: str) -> None:
    """At the setting: accepted, it would let every update of that key fail."""
    recipe = optimizers.registry[kind](groups=[{"variables": ["w"], name: 0.25}])
    update, w, v = get_updater(recipe), np.ones(2), np.ones(2)
    setattr(recipe, name, 0.75)
    setattr(recipe.groups[0], name, 0.5)
    update("w", np.ones(2), w)
    for several in (update, copy.deepcopy(update)):
        for owner in (several.optimizer, several.optimizer.groups[0]):
            present = getattr(owner, name)
            with pytest.raises(HyperparameterError, match=f"{kind} read {name} at its first step.*make another"):
                setattr(owner, name, 0.125)
            assert getattr(owner, name) == present
            setattr(owner, name, present)
        several("w", np.ones(2), w)
        several("v", np.ones(2), v)
    expected, found = np.ones(2), np.ones(2)
    get_updater(optimizers.registry[kind](**{name: 0.75}))("u", np.ones(2), expected)
    update("u", np.ones(2), found)
    np.testing.assert_array_equal(found, expected)


@each
def test_it_can_be_set_again_when_the_updater_is_gone_or_has_restored_what_had_not_begun(kind: str, name: str) -> None:
    recipe = optimizers.registry[kind]()
    update = get_updater(recipe)
    empty = update.state()
    update("w", np.ones(2), np.ones(2))
    update.restore(empty)
    setattr(recipe, name, 0.5)
    update("w", np.ones(2), np.ones(2))
    with pytest.raises(HyperparameterError, match=f"{kind} read {name} at its first step"):
        setattr(recipe, name, 0.25)
    del update
    setattr(recipe, name, 0.25)
    assert getattr(recipe, name) == 0.25


@each
def test_on_jax(kind: str, name: str) -> None:
    jax = pytest.importorskip("jax")
    from thalweg.optimizers.jax import JaxOptimizer

    cls = optimizers.registry[kind]
    optimizer, x, g = JaxOptimizer(cls()), jax.numpy.ones(3), jax.numpy.asarray([1.0, -2.0, 0.5])
    state = optimizer.set(optimizer.init(x), **{name: 0.5})
    there = JaxOptimizer(cls(**{name: 0.5}))
    x1, state = optimizer.step(x, g, state)
    np.testing.assert_array_equal(x1, there.step(x, g, there.init(x))[0])
    with pytest.raises(HyperparameterError, match=f"{kind} read {name} at its first step"):
        optimizer.set(state, **{name: 0.25})
    assert float(optimizer.current(optimizer.set(state, **{name: 0.5}), name)) == 0.5
    with pytest.raises(HyperparameterError, match=f"{kind} read {name} at its first step"):
        jax.jit(lambda s: optimizer.set(s, **{name: 0.25}))(state)


@each
def test_on_pytensor(kind: str, name: str) -> None:
    pytest.importorskip("pytensor")
    made = everywhere.FACES["pytensor"](optimizers.registry[kind], {"x": np.ones(3)})
    reference = optimizers.registry[kind](Variable(np.ones(3), name="x"), **{name: 0.5})
    setattr(made.optimizer, name, 0.5)
    made.step({"x": np.array([1.0, -2.0, 0.5])})
    wait(reference.step(grad=np.array([1.0, -2.0, 0.5])))
    np.testing.assert_allclose(made.values()["x"], reference.variable.data, rtol=1e-13)
    with pytest.raises(HyperparameterError, match=f"{kind} read {name} at its first step"):
        setattr(made.optimizer, name, 0.25)
    assert made.optimizer.hyperparameters[name] == 0.5


@pytest.mark.parametrize("kernel", ["shared", "native"])
def test_a_scheduler_of_pytorchs_is_told_once(kernel: str) -> None:
    """As in PyTorch, whose own Rprop does not look at the rate again, and says nothing."""
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    params = [torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2)]
    ours = TorchOptimizer([params[0]], tw.Rprop(convention="torch", learning_rate=0.1), kernel=kernel)
    theirs = torch.optim.Rprop([params[1]], lr=0.1)
    schedulers = [torch.optim.lr_scheduler.LinearLR(one, 0.5, total_iters=4) for one in (ours, theirs)]
    for t, grad in enumerate(grads(6)):
        for param in params:
            param.grad = torch.tensor(grad)
        theirs.step()
        told = pytest.warns(UserWarning, match="reads it at a parameter's first step only")
        with told if t == 1 else warnings.catch_warnings():
            ours.step()
        for scheduler in schedulers:
            scheduler.step()
        torch.testing.assert_close(params[0].detach(), params[1].detach(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("way", ["step", "scheduler", "hooks", "scaler", "subclass"])
def test_that_warning_points_at_the_line_that_made_the_step(way: str) -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    class Own(TorchOptimizer):
        """A class of the user's, whose step is the user's line."""

        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    x = torch.nn.Parameter(torch.ones(2))
    made = Own if way == "subclass" else TorchOptimizer
    optimizer = made([x], tw.Rprop(learning_rate=0.1))
    if way == "scheduler":
        torch.optim.lr_scheduler.StepLR(optimizer, step_size=5)
    if way == "hooks":
        optimizer.register_step_pre_hook(lambda *given: None)
    scaler = torch.amp.GradScaler("cpu", enabled=way == "scaler")

    def step() -> Any:
        x.grad = torch.ones(2)
        if way == "scaler":
            scaler.scale(torch.ones(()))  # which makes its number
            scaler.step(optimizer)
            scaler.update()
            return None
        return optimizer.step()

    step()
    optimizer.param_groups[0]["lr"] = 0.5
    with pytest.warns(UserWarning, match="reads it at a parameter's first step only") as caught:
        step()
    (warning,) = caught
    assert warning.filename == __file__
    source = Path(__file__).read_text(encoding="utf-8").splitlines()[warning.lineno - 1].strip()
    assert source == {"scaler": "scaler.step(optimizer)", "subclass": "return super().step(closure)"}.get(
        way, "return optimizer.step()"
    )
