"""A run that was stopped and goes on is, to the last bit, the run that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from tests.runs.going import Doing, fingerprint, go_on, run, stop_after
from thalweg import optimizers
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError, StudyError
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study
from thalweg.runs.differences import PLACING
from thalweg.runs.folder import RunFolder
from thalweg.runs.settings import DaskRuntime, LocalRuntime


@pytest.fixture(params=sorted(optimizers.registry))
def each_optimizer(request, document):
    """The study with each optimizer, with schedules where they can be."""
    rate = {"kind": "exp", "initial": 0.05, "gamma": 0.95, "decay_on_iteration": True}
    if "learning_rate" in optimizers.registry[request.param].rule.initial:
        rate = 0.05
    document["optimizer"] = {"kind": request.param, "learning_rate": rate}
    return document


def test_stopped_after_any_iteration_it_goes_on_to_the_same_bits(tmp_path, document, kinds):
    whole = run(document, kinds, tmp_path / "whole")
    expected = fingerprint(tmp_path / "whole")
    for k in range(1, 7):
        out = tmp_path / str(k)
        assert stop_after(document, kinds, out, k).status == "interrupted"
        outcome = go_on(out, kinds)
        assert outcome.status == "finished"
        assert outcome.summary["digest"] == whole.summary["digest"], k
        assert fingerprint(out) == expected, k
        events = [event["kind"] for event in outcome.history.events() if event["kind"] != "warning"]
        assert events == ["started", "interrupted", "resumed", "finished"]


def test_with_every_optimizer(tmp_path, each_optimizer, kinds):
    run(each_optimizer, kinds, tmp_path / "whole")
    for k in (2, 5):
        out = tmp_path / str(k)
        stop_after(each_optimizer, kinds, out, k)
        go_on(out, kinds)
        assert fingerprint(out) == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize("wrap", ["ema", "lookahead"])
def test_with_a_wrapper_around_the_rule(tmp_path, document, kinds, wrap):
    """Whose own hyperparameters may be set, also from a block on."""
    name, first, then = {"ema": ("ema_decay", 0.9, 0.5), "lookahead": ("slow_step_size", 0.5, 0.8)}[wrap]
    document["optimizer"] |= {"wrap": [wrap], name: first}
    document["blocks"][1]["optimizer"] = {name: then}
    run(document, kinds, tmp_path / "whole")
    for k in (3, 5):
        out = tmp_path / str(k)
        stop_after(document, kinds, out, k)
        go_on(out, kinds)
        assert fingerprint(out) == fingerprint(tmp_path / "whole")
    found = CheckpointStore(tmp_path / "whole" / "checkpoints").load()[1]["optimizer"]
    assert (found["wrap"], found["hyperparameters"][name]) == ([wrap], then)
    with pytest.raises(StudyError, match=f"{name}"):
        run({**document, "blocks": [{"iterations": 1, "optimizer": {name: -1.0}}]}, kinds, tmp_path / "bad")


@pytest.mark.parametrize("selection", [{"selection": "all"}, {"selection": "every", "batch_size": 2}])
@pytest.mark.parametrize("rate", ["cosine", "plateau", "one_cycle"])
def test_with_every_selection_and_schedule(tmp_path, document, kinds, selection, rate):
    document["blocks"] = [{"iterations": 5, **selection}, {"iterations": 3, "reset_optimizer": True, **selection}]
    document["optimizer"]["learning_rate"] = {
        "cosine": {"kind": "cosine", "initial": 0.1, "period": 4, "decay_on_iteration": True},
        "plateau": {"kind": "plateau", "initial": 0.1, "factor": 0.5, "patience": 0},
        "one_cycle": {"kind": "one_cycle", "peak": 0.1, "duration": 8},
    }[rate]
    run(document, kinds, tmp_path / "whole")
    for k in (3, 5, 6):
        out = tmp_path / str(k)
        stop_after(document, kinds, out, k)
        go_on(out, kinds)
        assert fingerprint(out) == fingerprint(tmp_path / "whole")


def test_iterations_after_the_checkpoint_are_forgotten_and_made_again(tmp_path, document, kinds):
    """As after a SIGKILL: the history knows more than the newest checkpoint."""
    run(document, kinds, tmp_path / "whole", "output.checkpoint_every=2")
    killed = tmp_path / "killed"
    run(document, kinds, killed, "output.checkpoint_every=2")
    store = CheckpointStore(killed / "checkpoints")
    generations = store.generations()
    shutil.rmtree(killed / "checkpoints" / f"{generations[-1]:06d}")
    (killed / "summary.json").write_text(json.dumps({"status": "running"}))
    assert store.load()[1]["iteration"] == 6
    outcome = go_on(killed, kinds)
    assert fingerprint(killed) == fingerprint(tmp_path / "whole")
    (resumed,) = [event for event in outcome.history.events() if event["kind"] == "resumed"]
    assert resumed["text"] == "from iteration 6; 1 iteration after its checkpoint is computed again"


def test_a_finished_run_says_so_and_can_be_given_more(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "longer", "blocks.1.iterations=5")
    out = tmp_path / "run"
    run(document, kinds, out)
    with pytest.raises(RunError, match=r"has finished: all 7 iterations.*--set blocks\.1\.iterations=6"):
        Run.resume(out, kinds=kinds)
    outcome = go_on(out, kinds, "blocks.1.iterations=5")
    assert outcome.summary["iterations"] == 9
    assert fingerprint(out) == fingerprint(tmp_path / "longer")
    assert "iterations = 5" in (out / "study.toml").read_text()


def test_a_changed_hyperparameter_counts_from_there_on(tmp_path, document, kinds):
    out = tmp_path / "run"
    stop_after(document, kinds, out, 3)
    before = History(out).iterations()["learning_rate"]
    go_on(out, kinds, "optimizer.learning_rate=0.01")
    rates = History(out).iterations()["learning_rate"]
    np.testing.assert_array_equal(rates[:3], before)
    np.testing.assert_array_equal(rates[3:], 0.01)


def test_what_is_past_cannot_change(tmp_path, document, kinds):
    out = tmp_path / "run"
    stop_after(document, kinds, out, 5)
    with pytest.raises(RunError, match="cannot change any more"):
        Run.resume(out, overrides=["blocks.0.iterations=3"], kinds=kinds)
    with pytest.raises(StudyError, match="optimizer"):
        Run.resume(out, overrides=["optimizer.learning_rate=-1"], kinds=kinds)


def test_another_study_is_refused_with_the_differences(tmp_path, document, kinds):
    out = tmp_path / "run"
    stop_after(document, kinds, out, 3)
    other = Study.from_document(document, kinds=kinds, overrides=["optimizer.learning_rate=0.5", "seed=4"])
    with pytest.raises(RunError) as caught:
        Run.resume(out, study=other, kinds=kinds)
    assert "optimizer.learning_rate: 0.05 → 0.5" in str(caught.value)
    assert "seed: 3 → 4" in str(caught.value)
    with pytest.raises(RunError, match="seed: 3 → 4"):
        Run.resume(out, study=other, named=["optimizer.learning_rate"], kinds=kinds)
    text = (out / "study.toml").read_text()
    (out / "study.toml").write_text(text.replace("0.05", "0.06"))
    with pytest.raises(RunError, match=r"was edited.*\n.*learning_rate: 0.05 → 0.06"):
        Run.resume(out, kinds=kinds)


def test_where_the_work_is_done_may_change_without_being_named(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "whole")
    out = tmp_path / "run"
    stop_after(document, kinds, out, 3)
    other = Study.from_document(document, kinds=kinds, overrides=["runtime.threads=1"])
    session = Run.resume(out, study=other, kinds=kinds)
    assert session.study.settings.runtime.threads == 1
    outcome = wait(session.execute())
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
    assert "threads = 1" in (out / "study.toml").read_text()
    (resumed,) = [event for event in outcome.history.events() if event["kind"] == "resumed"]
    assert resumed["details"]["set"] == ["runtime.threads"]
    assert "threads = 2" in resumed["details"]["study_before"]
    # And back again, though nothing says so; but not what decides the bits.
    back = Study.from_document(document, kinds=kinds, overrides=["blocks.1.iterations=4"])
    assert Run.resume(out, study=back, named=["blocks.1.iterations"], kinds=kinds).study.settings.runtime.threads == 2
    seeded = Study.from_document(document, kinds=kinds, overrides=["runtime.threads=1", "seed=4"])
    with pytest.raises(RunError) as caught:
        Run.resume(out, study=seeded, kinds=kinds)
    assert caught.value.details["differences"] == ["seed"]


def test_every_setting_of_the_runtime_is_known_to_decide_the_bits_or_not():
    settings = {f"runtime.{name}" for kind in (LocalRuntime, DaskRuntime) for name in kind.model_fields}
    decides: set[str] = set()
    assert settings == PLACING | decides


def test_a_damaged_checkpoint_is_passed_over_aloud(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "whole", "output.checkpoint_every=1")
    out = tmp_path / "run"
    document["output"] = {"checkpoint_every": 1}
    stop_after(document, kinds, out, 4)
    newest = max(CheckpointStore(out / "checkpoints").generations())
    state = out / "checkpoints" / f"{newest:06d}" / "state.safetensors"
    damaged = bytearray(state.read_bytes())
    damaged[-3] ^= 1
    state.write_bytes(damaged)
    heard = []

    class Listening(QuietDisplay):
        def note(self, text):
            heard.append(text)

    outcome = wait(Run.resume(out, kinds=kinds, display=Listening()).execute())
    assert any(f"checkpoint {newest} is damaged" in text and "state.safetensors" in text for text in heard)
    assert any(event["kind"] == "warning" and "is damaged" in event["text"] for event in outcome.history.events())
    assert fingerprint(out)[1] == fingerprint(tmp_path / "whole")[1]
    for generation in CheckpointStore(out / "checkpoints").generations():
        shutil.rmtree(out / "checkpoints" / f"{generation:06d}" / "manifest.json", ignore_errors=True)


@pytest.mark.parametrize("way", ["copy", "move", "tar", "zip", "copy of a live one"])
def test_a_run_goes_on_wherever_its_folder_is_taken(tmp_path, document, kinds, way):
    """And what is left behind is as it was."""
    run(document, kinds, tmp_path / "whole")
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "another name"
    there.parent.mkdir()
    if way == "copy of a live one":

        class Copying(QuietDisplay):
            def iteration(self, record):
                if record.iteration == 5:
                    shutil.copytree(here, there)

        wait(Run(Study.from_document(document, kinds=kinds), out=here, display=Copying()).execute())
    else:
        stop_after(document, kinds, here, 5)
        if way == "copy":
            shutil.copytree(here, there)
        elif way == "move":
            shutil.move(here, there)
        else:
            packed = shutil.make_archive(str(tmp_path / "packed"), way, here)
            shutil.unpack_archive(
                packed, there, **({"filter": "data"} if way == "tar" and hasattr(tarfile, "data_filter") else {})
            )
    before = fingerprint(here) if here.exists() else None
    assert go_on(there, kinds).status == "finished"
    assert fingerprint(there) == fingerprint(tmp_path / "whole")
    if here.exists():
        assert fingerprint(here) == before
        if way != "copy of a live one":
            assert go_on(here, kinds).status == "finished"
        assert fingerprint(here) == fingerprint(tmp_path / "whole")


def test_a_second_writer_is_told_who_has_the_run(tmp_path, document, kinds):
    out = tmp_path / "run"
    stop_after(document, kinds, out, 3)
    holder = RunFolder(out)
    holder.reopen()
    with pytest.raises(RunError, match=f"is going on: process {os.getpid()} on "):
        Run.resume(out, kinds=kinds)
    second = RunFolder(out)
    with pytest.raises(RunError, match="A run has one writer"):
        second.reopen()
    holder.release()
    assert go_on(out, kinds).status == "finished"


def test_the_lock_of_a_killed_process_is_recovered(tmp_path, document, kinds):
    out = tmp_path / "run"
    stop_after(document, kinds, out, 3)
    code = (
        "import sys, time; from pathlib import Path; from thalweg.runs.folder import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1])); folder.reopen(); print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"process {process.pid} on "):
            Run.resume(out, kinds=kinds)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert go_on(out, kinds).status == "finished"


def test_what_is_no_run_is_named(tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "run.sqlite").touch()
    (tmp_path / "a.toml").touch()
    for name, text in (
        ("two", r"There is no such folder; .* Runs near there: \S*one\."),
        ("a.toml", r"It is a study, which `thalweg run` makes a run of; .* Runs near there: \S*one\."),
        ("runs/one/run.sqlite", r"is no folder of a run; the run is in \S*one\.$"),
    ):
        with pytest.raises(RunError, match=text):
            Run.resume(tmp_path / name)


def test_models_of_blocks_that_are_computed_again_go_first(tmp_path, document, kinds):
    """Else a report would show what was, beside what is."""
    out = tmp_path / "run"
    document["output"] = {"checkpoint_every": 1, "keep": 20}
    run(document, kinds, out)
    shutil.rmtree(out / "checkpoints" / "000007")
    (out / "summary.json").write_text(json.dumps({"status": "running"}))
    with np.load(out / "models" / "block-1.npz") as file:
        before = file["x"].tobytes()
    seen = []

    def look():
        seen.extend(path.name for path in (out / "models").iterdir())

    go_on(out, kinds, "optimizer.learning_rate=0.5", display=Doing(7, look))
    assert seen == ["block-0.npz"]
    with np.load(out / "models" / "block-1.npz") as file:
        assert file["x"].tobytes() != before
