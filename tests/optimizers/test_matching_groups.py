"""Saved groups are those of the same variables, whatever they set and however they were written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytensor
import pytest
import torch

import thalweg as tw
from thalweg.errors import StateMismatchError
from thalweg.optimizers import LocalOptimizer, OptimizerSnapshot, registry
from thalweg.optimizers.jax import JaxOptimizer
from thalweg.optimizers.pytensor import symbolic
from thalweg.optimizers.torch import TorchOptimizer
from thalweg.schedules import Exp, Plateau

NAMES = ("l.w", "l.b", "m.w", "m.b")


def start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=3).astype(np.float32) for name in NAMES}


def grads(t: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(t + 1)
    return {name: rng.normal(size=3).astype(np.float32) for name in NAMES}


def local(kind: str, groups: list[dict[str, Any]], **options: Any) -> LocalOptimizer:
    return registry[kind]([tw.Variable(a, name=n) for n, a in start().items()], groups=groups, **options)


def go(optimizer: LocalOptimizer, first: int, last: int) -> None:
    for t in range(first, last):
        tw.wait(optimizer.step(grad=grads(t)))


def data(optimizer: LocalOptimizer) -> dict[str, bytes]:
    return {str(v.name): v.data.tobytes() for v in optimizer.variables}


def handed_on(source: LocalOptimizer, target: LocalOptimizer) -> None:
    """Restored, over the same data."""
    target.restore(source.state())
    for variable in target.variables:
        variable.data[...] = next(v.data for v in source.variables if v.name == variable.name)


def go_on_alike(source: LocalOptimizer, target: LocalOptimizer) -> None:
    go(source, 5, 8)
    go(target, 5, 8)
    assert data(source) == data(target)


@pytest.mark.parametrize("way", ["memory", "disk"])
def test_a_rate_that_was_set_in_a_group_comes_along(way: str, tmp_path: Path) -> None:
    groups = [{"variables": "*.w", "weight_decay": 0.1}, {"variables": "*.b"}]
    source, target = local("adamw", groups), local("adamw", groups)
    source.groups[0].learning_rate = 0.25
    source.groups[1].learning_rate = Exp(0.5, gamma=0.5, decay_on_iteration=True)
    go(source, 0, 5)
    if way == "disk":
        source.dump(tmp_path)
        target.load(tmp_path)
    else:
        handed_on(source, target)
    assert [g.settings.keys() for g in target.groups] == [g.settings.keys() for g in source.groups]
    assert target.groups[0].learning_rate == 0.25
    go_on_alike(source, target)


def test_what_only_the_target_sets_follows_the_saved_optimizer() -> None:
    source = local("adam", [{"variables": "*.w", "beta1": 0.5}], learning_rate=0.25)
    target = local("adam", [{"variables": "*.w", "learning_rate": Plateau(3.0)}])
    go(source, 0, 5)
    handed_on(source, target)
    assert target.groups[0].settings == {"beta1": 0.5}
    source.learning_rate = target.learning_rate = 0.125
    go_on_alike(source, target)


def test_a_scheduler_of_pytorch_may_have_moved_the_groups() -> None:
    def made() -> tuple[TorchOptimizer, dict[str, torch.nn.Parameter]]:
        ps = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in start().items()}
        by = {end: [(n, p) for n, p in ps.items() if n.endswith(end)] for end in ("l.w", "m.w", ".b")}
        tables: list[Any] = [
            {"params": by["l.w"], "weight_decay": 0.1},
            {"params": by["m.w"]},
            {"params": by[".b"], "lr": 0.5},
        ]
        return TorchOptimizer(tables, tw.AdamW(learning_rate=0.1)), ps

    def train(optimizer: TorchOptimizer, ps: dict[str, torch.nn.Parameter], first: int, last: int) -> None:
        for t in range(first, last):
            for name, grad in grads(t).items():
                ps[name].grad = torch.tensor(grad)
            optimizer.step()

    source, ps = made()
    scheduler = torch.optim.lr_scheduler.StepLR(source, 2, 0.5)
    for t in range(5):
        train(source, ps, t, t + 1)
        scheduler.step()
    target, others = made()
    target.restore(source.snapshot())
    rates = [[g[key] for key in ("lr", "weight_decay")] for g in source.param_groups]
    assert rates == [[0.025, 0.1], [0.025, 0.01], [0.125, 0.01]]
    assert [[g[key] for key in ("lr", "weight_decay")] for g in target.param_groups] == rates
    with torch.no_grad():
        for name, param in others.items():
            param.copy_(ps[name])
    train(source, ps, 5, 8)
    train(target, others, 5, 8)
    assert all(torch.equal(ps[name], others[name]) for name in ps)


def test_param_groups_that_were_alike_when_made_are_told_apart() -> None:
    def made() -> TorchOptimizer:
        ps = [(name, torch.nn.Parameter(torch.tensor(array))) for name, array in start().items()]
        return TorchOptimizer([{"params": ps[:1]}, {"params": ps[1:2]}, {"params": ps[2:]}], tw.Adam(learning_rate=0.1))

    source, target = made(), made()
    fresh = source.snapshot()
    source.param_groups[2]["lr"] = 0.01
    target.restore(source.snapshot())
    assert [group["lr"] for group in target.param_groups] == [0.1, 0.1, 0.01]
    target.restore(fresh)
    assert [group["lr"] for group in target.param_groups] == [0.1, 0.1, 0.1]


def test_param_groups_go_on_as_patterns_on_jax_and_back() -> None:
    ps = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in start().items()}
    tables: list[Any] = [
        {"params": [(n, p) for n, p in ps.items() if n.endswith(".b")], "lr": 0.5, "beta1": 0.5},
        {"params": [(n, p) for n, p in ps.items() if n.endswith(".w")], "weight_decay": 0.1, "lr": 0.25},
    ]
    there = TorchOptimizer(tables, tw.Nadam(weight_decay=0.2))

    def train(first: int, last: int) -> None:
        for t in range(first, last):
            for name, grad in grads(t).items():
                ps[name].grad = torch.tensor(grad)
            there.step()

    train(0, 5)
    patterns = [
        {"variables": ["*.w"], "weight_decay": 0.0, "learning_rate": 9.0},
        {"variables": ["*.b"], "beta1": 0.75, "learning_rate": 9.0},
    ]
    here = JaxOptimizer(tw.Nadam(groups=patterns))
    params: Any = {name: jnp.array(p.detach().numpy()) for name, p in ps.items()}
    state = here.restore(there.snapshot(), params)
    rates = [float(here.current(state, "learning_rate", group=k)) for k in (0, 1)]
    assert rates == [0.25, 0.5]
    train(5, 8)
    for t in range(5, 8):
        params, state = here.step(params, {name: jnp.array(grad) for name, grad in grads(t).items()}, state)
    for name, p in ps.items():
        np.testing.assert_allclose(np.array(params[name]), p.detach().numpy(), rtol=2e-6)
    before = there.snapshot()
    there.restore(here.snapshot(params, state))
    assert [group["lr"] for group in there.param_groups] == [0.5, 0.25]
    after = there.snapshot()
    np.testing.assert_allclose(after.meta["carried"], before.meta["carried"], rtol=1e-6)
    assert after.meta["carried"][1] != after.meta["carried"][2]


def test_order_and_words_do_not_matter_also_to_carried_numbers_schedules_and_arrays() -> None:
    rates = np.array([0.5, 0.25, 0.125])
    groups = [
        {"variables": "*.w", "momentum_decay": 0.5, "learning_rate": Plateau(0.5, factor=0.5, patience=0)},
        {"variables": ["m.b"], "weight_decay": rates},
    ]
    other = [
        {"variables": ["m.b"], "weight_decay": rates * 2},
        {"variables": ["m.w", "l.w"], "momentum_decay": 0.1, "learning_rate": Plateau(0.5, factor=0.5, patience=0)},
    ]
    source, target = local("nadam", groups), local("nadam", other)
    go(source, 0, 5)
    for loss in (1.0, 2.0, 3.0):
        source.observe(loss)
    handed_on(source, target)
    rows = source.state().meta["carried"]
    assert target.state().meta["carried"] == [rows[0], rows[2], rows[1]]
    assert target.groups[1].learning_rate(target.optimization_state) == 0.125  # type: ignore[operator]
    np.testing.assert_array_equal(target.groups[0].weight_decay, rates)  # type: ignore[arg-type]
    go_on_alike(source, target)
    handed_on(target, source)  # and back
    assert source.state().meta["carried"][0] == target.state().meta["carried"][0]


def test_groups_that_set_nothing_or_hold_nothing_are_none() -> None:
    idle = {"variables": "l.*"}
    unused = {"variables": "l.b", "learning_rate": Plateau(2.0)}
    taken = {"variables": ["*.b", "l.w"], "beta1": 0.5}
    for there, here in (
        ([idle], []),
        ([], [idle]),
        ([idle], [{"variables": ["l.w", "m.w"]}]),
        ([taken, unused], [taken]),
        ([taken], [copy.deepcopy(taken), copy.deepcopy(unused)]),
        ([taken, unused], [copy.deepcopy(taken), copy.deepcopy(unused)]),
    ):
        source, target = local("adam", there), local("adam", here)
        go(source, 0, 5)
        handed_on(source, target)
        go_on_alike(source, target)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([], "not the same hold 'l.w', 'm.w'"),
        ([{"variables": "*.w"}, {"variables": "*.b", "learning_rate": 0.5}], "not the same hold 'l.b', 'm.b'"),
        ([{"variables": "l.w", "learning_rate": 0.5}], "not the same hold 'm.w', 'l.w'"),
        ([{"variables": "*", "learning_rate": 0.5}], "not the same hold 'l.w', 'l.b', 'm.w', 'm.b'"),
        ([{"variables": "l.w"}, {"variables": "m.w"}], "not the same hold 'l.w', 'm.w'"),
    ],
    ids=str,
)
def test_other_members_are_refused_and_nothing_changes(groups: list[dict[str, Any]], words: str) -> None:
    source, target = local("sgd", [{"variables": "*.w", "learning_rate": 0.5}]), local("sgd", groups)
    go(source, 0, 5)
    go(target, 0, 2)
    before = target.state().meta, data(target)
    with pytest.raises(StateMismatchError, match=words):
        target.restore(source.state())
    assert (target.state().meta, data(target)) == before


def test_a_saved_variable_that_is_missing_here_is_missed_in_its_group() -> None:
    source = local("sgd", [{"variables": "*.w", "learning_rate": 0.5}])
    target = tw.SGD(
        [tw.Variable(np.ones(3, np.float32), name=name) for name in ("l.w", "l.b", "m.b")],
        groups=[{"variables": "*.w", "learning_rate": 0.5}],
    )
    with pytest.raises(StateMismatchError, match=r"not the same hold 'm\.w', 'l\.w'"):
        target.restore(source.state())


def test_groups_are_not_joined_where_their_pasts_differ() -> None:
    source = local("nadam", [{"variables": "*.w", "momentum_decay": 0.5}])
    go(source, 0, 5)
    snapshot = source.state()
    meta = copy.deepcopy(snapshot.meta)
    del meta["groups"][0]["momentum_decay"]  # as if it were set no more
    target = local("nadam", [])
    with pytest.raises(StateMismatchError, match="whose numbers from step to step differ by now"):
        target.restore(OptimizerSnapshot(snapshot.arrays, meta))


def test_a_compiled_step_on_jax_refuses_what_it_cannot_set() -> None:
    params = {name: jnp.array(array) for name, array in start().items()}
    source = local("adam", [{"variables": "*.w", "beta1": 0.5}], learning_rate=0.25)
    source.groups[0].learning_rate = 0.5
    without = JaxOptimizer(tw.Adam(groups=[{"variables": "*.w", "beta1": 0.5}]))
    with pytest.raises(StateMismatchError, match="set learning_rate, and here it does not"):
        without.restore(source.state(), params)
    source = local("adam", [{"variables": "*.w", "beta1": 0.5}], learning_rate=0.25)
    scheduled = JaxOptimizer(tw.Adam(groups=[{"variables": "*.w", "learning_rate": Exp(1.0)}]))
    with pytest.raises(StateMismatchError, match="did not set learning_rate"):
        scheduled.restore(source.state(), params)
    source.groups[0].learning_rate = 0.25  # as the optimizer's own
    state = without.restore(source.state(), params)
    assert float(without.current(state, "learning_rate", group=0)) == 0.25


def test_what_jax_cannot_set_is_told_with_what_to_do_and_that_does_it() -> None:
    """Whatever a scheduler of PyTorch wrote is the group's own, so that every group that comes from there sets it."""
    params = {name: jnp.array(array) for name, array in start().items()}
    source = local("adam", [{"variables": "*.w", "beta1": 0.5}], learning_rate=0.25)
    source.groups[0].learning_rate = 0.5
    without = JaxOptimizer(tw.Adam(groups=[{"variables": "*.w", "beta1": 0.75}]))
    told = r"group 0 \(from 0\) set learning_rate.* make the optimizer with learning_rate in this group, too, a number"
    with pytest.raises(StateMismatchError, match=told):
        without.restore(source.state(), params)
    made = JaxOptimizer(tw.Adam(groups=[{"variables": "*.w", "beta1": 0.75, "learning_rate": 1.0}]))
    state = made.restore(source.state(), params)
    assert [float(made.current(state, "learning_rate", group=k)) for k in (None, 0)] == [0.25, 0.5]
    source.groups[0].learning_rate = Exp(0.5)
    with pytest.raises(StateMismatchError, match=r"in this group, too, its schedule, Exp\(initial=0\.5"):
        without.restore(source.state(), params)


def test_a_graph_of_pytensor_refuses_what_it_cannot_set_and_takes_it_before_it_is_made() -> None:
    source = local("sgd", [{"variables": "*.w", "weight_decay": 0.5}])
    source.groups[0].learning_rate = 0.5
    go(source, 0, 1)
    target = tw.SGD(groups=[{"variables": "*.w", "weight_decay": 0.25}])
    shared = [pytensor.shared(array, name=name) for name, array in start().items()]
    symbolic(target).restore(source.state(), shared)
    assert target.groups[0].settings == {"learning_rate": 0.5, "weight_decay": 0.5}
    made = tw.SGD(groups=[{"variables": "*.w", "weight_decay": 0.25}])
    made.update(sum((one**2).sum() for one in shared), shared)
    with pytest.raises(StateMismatchError, match="set learning_rate, and here it does not"):
        symbolic(made).restore(source.state())
    assert made.groups[0].settings == {"weight_decay": 0.25}
