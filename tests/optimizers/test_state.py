from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg import optimizers, transforms
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointCorruptError, CheckpointError, OptimizerError, StateMismatchError
from thalweg.graph import Variable, wait
from thalweg.optimizers import SGD, Adam, LocalOptimizer, Momentum, OptimizerSnapshot
from thalweg.schedules import Exp, Fixed, Inv, OptimizationState

SCHEDULES = {
    "a number": 0.05,
    "fixed": Fixed(0.05),
    "exp by epoch": Exp(0.05, gamma=0.7),
    "exp by iteration": Exp(0.05, gamma=0.7, decay_on_iteration=True),
    "inv by iteration": Inv(0.05, decay_on_iteration=True),
}


def made(kind: str, rate: Any, dtype: type = np.float32) -> LocalOptimizer:
    """A fresh optimizer over two fresh variables."""
    variables = [
        Variable(np.linspace(-1, 1, 12, dtype=dtype).reshape(3, 4), name="a"),
        Variable(np.asfortranarray(np.linspace(2, 3, 6, dtype=dtype).reshape(2, 3)), name="b/c"),
    ]
    hook = None if optimizers.registry[kind].rule.derived else transforms.bounds(-5, 5)
    optimizer = optimizers.registry[kind](variables, process_model=hook)
    optimizer.learning_rate = rate  # type: ignore[attr-defined]
    return optimizer


def go(optimizer: LocalOptimizer, first: int, last: int) -> None:
    """Steps first..last of a recorded gradient sequence, two to an epoch."""
    for t in range(first, last + 1):
        if t % 2 == 1:
            optimizer.optimization_state.begin_epoch()
        optimizer.optimization_state.begin_batch()
        rng = np.random.default_rng(t)
        grads = {v.name: rng.normal(size=v.data.shape).astype(v.data.dtype) for v in optimizer.variables}
        wait(optimizer.step(grad=grads))


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [
        (kind, schedule)
        for kind, cls in optimizers.registry.items()
        for schedule, rate in SCHEDULES.items()
        if not (callable(rate) and "learning_rate" in cls.rule.initial)
    ],
)
def test_ten_steps_are_four_and_a_dump_and_a_load_and_six(kind: str, schedule: str, tmp_path: Path) -> None:
    """Stride's dump and load know nothing of the optimizer's state."""
    straight = made(kind, SCHEDULES[schedule])
    go(straight, 1, 10)

    before = made(kind, SCHEDULES[schedule])
    go(before, 1, 4)
    before.dump(tmp_path / "x.ckpt")
    after = made(kind, 0.9)  # the saved rate or schedule replaces this
    memory = after.variables[0].data
    after.load(tmp_path / "x.ckpt")
    assert after.variables[0].data is memory
    go(after, 5, 10)

    for one, other in zip(straight.variables, after.variables, strict=True):
        assert one.data.tobytes() == other.data.tobytes()
    assert after.state().meta == straight.state().meta
    for name, array in straight.state().arrays.items():
        assert after.state().arrays[name].tobytes() == array.tobytes()


def test_a_snapshot_is_independent_and_goes_back() -> None:
    optimizer = made("adam", 0.1)
    go(optimizer, 1, 3)
    snapshot = optimizer.state()
    copies = {name: array.copy() for name, array in snapshot.arrays.items()}
    data = [variable.data.copy() for variable in optimizer.variables]
    go(optimizer, 4, 6)
    for name, array in snapshot.arrays.items():
        np.testing.assert_array_equal(array, copies[name])
    state = optimizer.optimization_state
    optimizer.restore(snapshot)
    assert optimizer.optimization_state is state
    assert optimizer.iterations == 3
    for variable, old in zip(optimizer.variables, data, strict=True):
        assert not np.array_equal(variable.data, old)  # the variables are not part of it
    assert sorted(snapshot.arrays) == [
        "slots/mean/a",
        "slots/mean/b/c",
        "slots/mean_square/a",
        "slots/mean_square/b/c",
    ]


def test_state_goes_by_name_never_by_position(tmp_path: Path) -> None:
    x, y = (Variable(np.zeros(2), name=name) for name in "xy")
    optimizer = Momentum([x, y])
    wait(optimizer.step(grad={"x": np.ones(2), "y": np.full(2, 5.0)}))
    optimizer.dump(tmp_path)
    p, q = (Variable(np.zeros(2), name=name) for name in "xy")
    turned = Momentum([q, p])
    turned.load(tmp_path)
    np.testing.assert_array_equal(p.data, x.data)
    np.testing.assert_array_equal(q.data, y.data)
    np.testing.assert_array_equal(turned.state().arrays["slots/velocity/y"], [-0.05, -0.05])


def refused(optimizer: LocalOptimizer, *words: str, path: Path | None = None, snapshot: Any = None) -> None:
    """Loading is refused with all of these words, and nothing changes."""
    before = optimizer.state()
    data = [variable.data.copy() for variable in optimizer.variables]
    with pytest.raises(StateMismatchError) as caught:
        optimizer.restore(snapshot) if path is None else optimizer.load(path)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.details["differences"]
    after = optimizer.state()
    assert after.meta == before.meta
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], array)
    for variable, copy in zip(optimizer.variables, data, strict=True):
        np.testing.assert_array_equal(variable.data, copy)


def test_a_load_that_does_not_fit_lists_every_difference(tmp_path: Path) -> None:
    saved = Adam([Variable(np.zeros(2), name="x"), Variable(np.zeros(3), name="y"), Variable(np.zeros(1), name="w")])
    wait(saved.step(grad={"x": np.ones(2), "y": np.ones(3), "w": np.ones(1)}))
    saved.dump(tmp_path)
    other = Adam(
        [
            Variable(np.zeros(2, np.float32), name="x"),
            Variable(np.zeros((3, 1)), name="y"),
            Variable(np.zeros(4), name="z"),
        ]
    )
    refused(
        other,
        "missing: slots/mean/z",
        "missing: variables/z",
        "unexpected: slots/mean/w",
        "unexpected: variables/w",
        "slots/mean/x is (2,) float64, here (2,) float32",
        "variables/y is (3,) float64, here (3, 1) float64",
        "nothing was changed",
        path=tmp_path,
    )
    refused(SGD(Variable(np.zeros(2), name="x")), "rule 'adam', this is 'sgd'", path=tmp_path)


def test_hooks_must_be_the_same(tmp_path: Path) -> None:
    def filtered(g: np.ndarray) -> np.ndarray:
        return g

    def x() -> Variable:
        return Variable(np.zeros(2), name="x")

    weights = np.array([1.0, 0.0])
    saved = SGD(x(), process_grad=[transforms.mask(weights), filtered], process_model=transforms.bounds(0, 1))
    saved.dump(tmp_path)
    refused(SGD(x()), "process_grad was", "process_model was", "hand in the same one", path=tmp_path)
    other = SGD(x(), process_grad=[transforms.mask(weights[::-1]), filtered], process_model=transforms.bounds(0, 1))
    refused(other, "process_grad was", path=tmp_path)
    same = SGD(x(), process_grad=[transforms.mask(weights), filtered], process_model=transforms.bounds(0, 1))
    same.load(tmp_path)


def test_a_schedule_of_ones_own_is_handed_in_again(tmp_path: Path) -> None:
    def mine(state: OptimizationState) -> float:
        return 0.5 / (1 + state.curr_iter)

    saved = SGD(Variable(np.zeros(2), name="x"), learning_rate=mine)
    wait(saved.step(grad=np.ones(2)))
    saved.dump(tmp_path)
    refused(SGD(Variable(np.zeros(2), name="x")), "never saved", "hand it in again", path=tmp_path)
    again = SGD(Variable(np.zeros(2), name="x"), learning_rate=mine)
    again.load(tmp_path)
    assert again.current("learning_rate") == 0.25


def test_schedules_of_one_name_stay_where_they_are(tmp_path: Path) -> None:
    optimizer = Adam(Variable(np.zeros(2), name="x"), learning_rate=lambda state: 0.1, beta1=lambda state: 0.5)
    optimizer.dump(tmp_path)
    optimizer.load(tmp_path)
    optimizer.restore(optimizer.state())
    assert (optimizer.current("learning_rate"), optimizer.current("beta1")) == (0.1, 0.5)


def test_a_schedule_of_another_hyperparameter_does_not_stand_in() -> None:
    def rate(state: OptimizationState) -> float:
        return 0.5

    saved = Adam(Variable(np.zeros(2), name="x"), beta1=rate).state()
    elsewhere = Adam(Variable(np.zeros(2), name="x"), beta2=rate)
    refused(elsewhere, "beta1 was", "rate, a callable of your own", "here it is 0.9", snapshot=saved)


@pytest.mark.parametrize("keep", [0, -1, 1.5, True, "2"])
def test_dump_refuses_to_keep_what_is_no_count_before_anything_is_written(tmp_path: Path, keep: Any) -> None:
    optimizer = SGD(Variable(np.zeros(1), name="x"))
    with pytest.raises(CheckpointError, match=r"keep is .*at least 1"):
        optimizer.dump(tmp_path / "new", keep=keep)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.pop("rule"), "rule None"),
        (lambda m: m.update(updates=-1), "updates is -1"),
        (lambda m: m.update(updates=None), "updates is None"),
        (lambda m: m.pop("optimization_state"), "optimization_state"),
        (lambda m: m["optimization_state"].update(curr_iter=-3), "curr_iter is -3"),
        (lambda m: m["optimization_state"].update(more=1), "more"),
        (lambda m: m.pop("hyperparameters"), "missing hyperparameter: beta1"),
        (lambda m: m["hyperparameters"].update(beta1=1.5), "beta1 is 1.5"),
        (lambda m: m["hyperparameters"].update(beta3=0.5), "beta3"),
        (lambda m: m["hyperparameters"].update(beta1={"kind": "expo"}), "expo"),
        (lambda m: m["hyperparameters"].update(beta1={"callable": ["x"]}), "beta1 was"),
        (lambda m: m["hyperparameters"].update(beta3={"callable": "x"}), "beta3 was"),
    ],
)
def test_meta_that_was_tampered_with_is_refused(change: Any, words: str) -> None:
    optimizer = made("adam", 0.1)
    go(optimizer, 1, 2)
    snapshot = optimizer.state()
    change(snapshot.meta)
    refused(optimizer, words, snapshot=snapshot)


def test_arrays_that_were_tampered_with_are_refused() -> None:
    optimizer = made("adam", 0.1)
    snapshot = optimizer.state()
    arrays: dict[str, Any] = {**snapshot.arrays, "slots/mean/a": [1, 2]}
    refused(optimizer, "not an array", snapshot=OptimizerSnapshot(arrays, snapshot.meta))


def test_dump_keeps_two_generations_and_load_can_name_one(tmp_path: Path) -> None:
    x = Variable(np.zeros(1), name="x")
    optimizer = SGD(x, learning_rate=1.0)
    for _ in range(4):
        wait(optimizer.step(grad=np.ones(1)))
        optimizer.dump(tmp_path)
    assert CheckpointStore(tmp_path).generations() == [3, 4]
    optimizer.load(tmp_path, generation=3)
    assert x.data[0] == -3.0
    assert optimizer.iterations == 3


def test_damage_is_noticed_before_anything_changes(tmp_path: Path) -> None:
    x = Variable(np.zeros(100), name="x")
    optimizer = Momentum(x)
    wait(optimizer.step(grad=np.ones(100)))
    optimizer.dump(tmp_path)
    file = tmp_path / "000001" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    before = x.data.copy()
    with pytest.raises(CheckpointCorruptError, match=r"state\.safetensors entry"):
        optimizer.load(tmp_path)
    np.testing.assert_array_equal(x.data, before)


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    optimizer = SGD(Variable(np.zeros(1), name="x"))
    with pytest.raises(CheckpointError, match="no generation"):
        optimizer.load(tmp_path)
    CheckpointStore(tmp_path).save({}, {"hello": 1})
    with pytest.raises(StateMismatchError, match="no optimizer state"):
        optimizer.load(tmp_path)
    for act in (SGD().dump, SGD().load):
        with pytest.raises(OptimizerError, match="bind"):
            act(tmp_path)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    optimizer = made("adam", 0.1)
    optimizer.dump(tmp_path)
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == [
        "manifest.json",
        "state.safetensors",
    ]
