"""A study that changes while its run goes on: what is changed holds from there on, and all else is as it was."""

import shutil

import numpy as np
import pytest

from tests.runs.going import Stopping, go_on, run, stop_after, stopped
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.runs import History, Run


def settings(out):
    return CheckpointStore(out / "checkpoints").meta()["optimizer"]


@pytest.fixture
def in_block_1(tmp_path, document, kinds):
    document["blocks"][0]["optimizer"] = {"learning_rate": 0.04}
    document["blocks"][1] |= {"iterations": 4, "optimizer": {"learning_rate": 0.02}}
    document["blocks"].append({"iterations": 2, "optimizer": {"beta2": 0.9}})
    stop_after(document, kinds, tmp_path / "run", 6)
    return tmp_path / "run"


def test_a_setting_of_the_present_block_holds_from_here_on(in_block_1, kinds):
    go_on(in_block_1, kinds, "blocks.1.optimizer.learning_rate=0.005")
    rates = History(in_block_1).iterations()["learning_rate"]
    assert rates.tolist() == [0.04] * 4 + [0.02] * 2 + [0.005] * 4


def test_a_setting_of_a_later_block_holds_from_that_on(in_block_1, kinds):
    go_on(in_block_1, kinds, "blocks.2.optimizer.learning_rate=0.005")
    rates = History(in_block_1).iterations()["learning_rate"]
    assert rates.tolist() == [0.04] * 4 + [0.02] * 4 + [0.005] * 2
    assert settings(in_block_1)["hyperparameters"]["beta2"] == 0.9


def test_what_no_block_has_set_is_the_optimizers(in_block_1, kinds):
    before = settings(in_block_1)
    go_on(in_block_1, kinds, "optimizer.beta1=0.5", "blocks.2.iterations=3")
    after = settings(in_block_1)
    changed = {name for name, value in before["hyperparameters"].items() if after["hyperparameters"][name] != value}
    assert changed == {"beta1", "beta2"}  # the second by block 2
    assert after["hyperparameters"]["beta1"] == 0.5
    assert History(in_block_1).iterations()["learning_rate"][-1] == 0.02


def test_a_setting_that_a_block_has_replaced_is_refused(in_block_1, kinds):
    with pytest.raises(
        RunError, match=r"no effect: block 2 has set learning_rate.*blocks\.1\.optimizer\.learning_rate"
    ):
        Run.resume(in_block_1, kinds=kinds, overrides=["optimizer.learning_rate=0.5"])
    with pytest.raises(RunError, match=r"blocks\.0\.optimizer\.learning_rate cannot change any more"):
        Run.resume(in_block_1, kinds=kinds, overrides=["blocks.0.optimizer.learning_rate=0.5"])
    Run.resume(in_block_1, kinds=kinds, overrides=['blocks.0.name="first"'])  # which decides nothing


def test_a_whole_table_is_changed_by_what_differs_in_it(tmp_path, document, kinds):
    out = tmp_path / "run"
    stop_after(document, kinds, out, 3)
    session = Run.resume(out, kinds=kinds, overrides=['optimizer={kind="adam", learning_rate=0.01}'])
    display = Stopping(5)
    session.show(display)
    stopped(session, display)
    assert History(out).iterations()["learning_rate"].tolist() == [0.05] * 3 + [0.01] * 2
    (resumed,) = [event for event in History(out).events() if event["kind"] == "resumed"]
    assert resumed["details"]["set"] == ["optimizer.learning_rate"]


def test_a_setting_of_a_group(tmp_path, document, kinds):
    """Steps of a group whose rate was set to 0 are none."""
    document["optimizer"]["groups"] = [{"variables": ["x"], "learning_rate": 0.03}]
    out = tmp_path / "run"
    stop_after(document, kinds, out, 3)
    go_on(out, kinds, "optimizer.groups.0.learning_rate=0.0")
    steps = History(out).iterations()["step_norm"]
    assert np.all(steps[:3] > 0)
    assert steps[3:].tolist() == [0.0] * 4
    (group,) = settings(out)["groups"]
    assert group["learning_rate"] == 0.0


def test_a_group_may_set_something_else_from_here_on(tmp_path, document, kinds):
    """What it sets no more is the optimizer's again, not what was saved."""
    document["optimizer"] |= {"learning_rate": 0.0, "groups": [{"variables": ["x"], "learning_rate": 0.03}]}
    out = tmp_path / "run"
    stop_after(document, kinds, out, 3)
    go_on(out, kinds, 'optimizer.groups=[{variables=["x"], weight_decay=0.5}]')
    steps = History(out).iterations()["step_norm"]
    assert np.all(steps[:3] > 0)
    assert steps[3:].tolist() == [0.0] * 4
    assert settings(out)["groups"] == [{"variables": ["x"], "weight_decay": 0.5}]


def test_a_schedule_that_was_changed_begins_anew_and_one_that_stays_goes_on(tmp_path, document, kinds):
    plateau = {"kind": "plateau", "initial": 0.1, "factor": 0.5, "patience": 0, "threshold": 1e9}
    document["optimizer"] = {"kind": "gradient_descent", "learning_rate": plateau}
    document["blocks"] = [{"iterations": 6}]
    stop_after(document, kinds, tmp_path / "other", 3)
    shutil.copytree(tmp_path / "other", tmp_path / "same")
    before = History(tmp_path / "other").iterations()["learning_rate"].tolist()
    assert before == [0.1, 0.05, 0.025]  # each loss is a bad one but the first
    go_on(tmp_path / "other", kinds, "optimizer.learning_rate.initial=0.3")
    go_on(tmp_path / "same", kinds)
    assert History(tmp_path / "other").iterations()["learning_rate"].tolist() == [*before, 0.3, 0.15, 0.075]
    assert History(tmp_path / "same").iterations()["learning_rate"].tolist() == [*before, 0.0125, 0.00625, 0.003125]


@pytest.mark.parametrize(
    ("table", "change", "expected"),
    [
        ({"kind": "adamw", "convention": "torch"}, "convention=optax", {"weight_decay": 1e-4}),
        ({"kind": "adamw", "convention": "torch", "weight_decay": 0.05}, "convention=optax", {"weight_decay": 0.05}),
        ({"kind": "adamw", "convention": "torch", "weight_decay": 1e-2}, "convention=optax", {"weight_decay": 1e-2}),
        ({"kind": "adagrad"}, "convention=torch", {"epsilon": 1e-10}),
    ],
    ids=["its default", "written", "written as the default", "none before"],
)
def test_another_convention_brings_its_defaults(tmp_path, document, kinds, table, change, expected):
    """What is not written down is as in a new run with that convention."""
    document["optimizer"] = {"learning_rate": 0.05, **table}
    stop_after(document, kinds, tmp_path / "run", 3)
    go_on(tmp_path / "run", kinds, f"optimizer.{change}")
    run(document, kinds, tmp_path / "new", f"optimizer.{change}")
    here, new = (settings(tmp_path / name)["hyperparameters"] for name in ("run", "new"))
    assert here == new
    assert {name: here[name] for name in expected} == expected


def test_hooks_and_rates_for_each_element(tmp_path, document, kinds):
    rates = np.full(64, 0.05)
    document["optimizer"]["learning_rate"] = {"array": rates.tolist()}
    out = tmp_path / "run"
    stop_after(document, kinds, out, 3)
    other = np.where(np.arange(64) < 32, 0.0, 0.05)
    text = "[" + ", ".join(map(repr, other.tolist())) + "]"
    arrays, _, _ = CheckpointStore(out / "checkpoints").load()
    go_on(
        out,
        kinds,
        f"optimizer.learning_rate.array={text}",
        'optimizer.process_model={kind="bounds", lower=-9.0, upper=9.0}',
    )
    after, meta, _ = CheckpointStore(out / "checkpoints").load()
    assert after["optimizer/hyperparameters/learning_rate"].tolist() == other.tolist()
    assert after["variable/x"][:32].tobytes() == arrays["variable/x"][:32].tobytes()
    assert (after["variable/x"][32:] != arrays["variable/x"][32:]).all()
    assert "bounds" in str(meta["optimizer"]["process_model"])


def test_a_run_that_was_extended_is_the_longer_run(tmp_path, document, kinds):
    """Also with settings of blocks, which count from where they stand."""
    document["blocks"][1]["optimizer"] = {"learning_rate": 0.02}
    whole, out = tmp_path / "whole", tmp_path / "run"
    run(document, kinds, whole, "blocks.1.iterations=6")
    run(document, kinds, out)
    go_on(out, kinds, "blocks.1.iterations=6")
    a, b = (CheckpointStore(folder / "checkpoints").load() for folder in (whole, out))
    assert a[1] == b[1]
    assert {n: x.tobytes() for n, x in a[0].items()} == {n: x.tobytes() for n, x in b[0].items()}
