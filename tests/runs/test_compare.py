"""``thalweg compare``: what is equal and what differs between runs."""

import io
import json
import re
import shutil

import numpy as np
import pytest
from rich.console import Console

from tests.runs.going import Stopping, go_on, run, stop_after, stopped
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import Run, Study
from thalweg.runs.compare import Comparison, draw_comparison, print_comparison
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import HistoryWriter


@pytest.fixture
def runs(tmp_path, document, kinds):
    """Two runs of one study, and one of another."""
    document["output"] = {"figures": False}
    for name, overrides in (("a", []), ("b", []), ("c", ["optimizer.learning_rate=0.02", "blocks.1.iterations=2"])):
        study = Study.from_document(document, kinds=kinds, overrides=overrides)
        wait(Run(study, out=tmp_path / name).execute())
    return [tmp_path / name for name in "abc"]


def printed(comparison, width=200, terminal=False):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, no_color=True, highlight=False)
    print_comparison(comparison, console)
    return stream.getvalue()


def test_the_table_says_what_is_equal_and_what_differs(runs):
    comparison = Comparison.read(runs)
    text = printed(comparison, 400)
    lines = {" ".join(line.split()[:2]): line for line in text.splitlines()}
    assert lines["status finished"].split()[1:] == ["finished"] * 3
    assert lines["iterations 7/7"].split()[1:] == ["7/7", "7/7", "6/6"]
    assert lines["blocks.1.iterations 3"].split()[1:] == ["3", "3", "2"]
    assert lines["optimizer.learning_rate 0.05"].split()[1:] == ["0.05", "0.05", "0.02"]
    assert text.count("blocks.") == 1, "only what differs"
    a, b = (str(run) for run in runs[:2])
    assert f"The same model, to the last bit: {a}, {b}." in text
    misfit = comparison.records[0].iterations["misfit"]
    assert f"{misfit[0]:.4g} → {misfit[3]:.4g}" in text
    assert "error end" in text
    assert "All ended with the same model" in printed(Comparison.read(runs[:2]))
    assert "the studies are the same" in printed(Comparison.read(runs[:2]))
    assert "No two of them" in printed(Comparison.read(runs[1:]))


def test_what_changed_on_the_way_is_said(tmp_path, document, kinds):
    """Two studies that end the same are not the same runs."""
    document["output"] = {"checkpoint_every": 1, "figures": False}
    stop_after(document, kinds, tmp_path / "changed", 3)
    go_on(tmp_path / "changed", kinds, "optimizer.learning_rate=0.02", "runtime.threads=1")
    document["optimizer"]["learning_rate"] = 0.02
    run(document, kinds, tmp_path / "same")
    comparison = Comparison.read([tmp_path / "same", tmp_path / "changed"])
    lines = {" ".join(line.split()[:2]): line for line in printed(comparison, 400).splitlines()}
    assert "the studies are the same" not in printed(comparison, 400)
    assert lines["optimizer.learning_rate 0.05"].split(maxsplit=1)[1].strip() == "0.05 → 0.02 after iteration 3"
    found = [entry["changes"] for entry in comparison.to_json()["runs"]]
    change = {"after_iteration": 3, "key": "optimizer.learning_rate", "before": "0.05", "after": "0.02"}
    assert found == [[], [change]]


def test_a_change_holds_from_where_the_run_went_on_at_last(tmp_path, document, kinds):
    """A run that begins again with what was changed is of one study, all of it."""
    document["output"] = {"checkpoint_every": 1, "figures": False}
    run(document, kinds, tmp_path / "whole", "optimizer.learning_rate=0.02")
    stop_after(document, kinds, tmp_path / "again", 1)
    display = Stopping(2)
    changes = ["optimizer.learning_rate=0.02"]
    stopped(Run.resume(tmp_path / "again", overrides=changes, kinds=kinds, display=display), display)
    assert wait(Run.resume(tmp_path / "again", iteration=0, kinds=kinds).execute()).status == "finished"
    comparison = Comparison.read([tmp_path / "whole", tmp_path / "again"])
    assert len(comparison.same_model()) == 1
    assert "the studies are the same" in printed(comparison)
    assert comparison.to_json()["runs"][1]["changes"] == []


def test_a_change_that_was_taken_back_before_a_step_was_made_with_it_is_none(tmp_path, document, kinds):
    document["output"] = {"checkpoint_every": 1, "keep": 10, "figures": False}
    run(document, kinds, tmp_path / "whole")
    run(document, kinds, tmp_path / "back")
    for iteration, rate in ((5, 0.5), (3, 0.05)):
        change = f"optimizer.learning_rate={rate}"
        wait(Run.resume(tmp_path / "back", kinds=kinds, iteration=iteration, overrides=[change]).execute())
    comparison = Comparison.read([tmp_path / "whole", tmp_path / "back"])
    assert len(comparison.same_model()) == 1
    assert "the studies are the same" in printed(comparison)
    change = "optimizer.learning_rate=0.01"
    wait(Run.resume(tmp_path / "back", kinds=kinds, iteration=3, overrides=[change]).execute())
    [found] = Comparison.read([tmp_path / "back", tmp_path / "whole"]).to_json()["runs"][0]["changes"]
    assert (found["before"], found["after"], found["after_iteration"]) == ("0.05", "0.01", 3)


@pytest.mark.parametrize("edited", [False, True])
def test_what_was_edited_in_the_folder_and_then_named_is_a_change(tmp_path, document, kinds, edited):
    stop_after(document, kinds, tmp_path / "run", 3)
    if edited:
        study = tmp_path / "run" / "study.toml"
        text = study.read_text(encoding="utf-8")
        assert "learning_rate = 0.05" in text
        study.write_text(text.replace("learning_rate = 0.05", "learning_rate = 0.5"), encoding="utf-8")
    go_on(tmp_path / "run", kinds, "optimizer.learning_rate=0.5")
    run(document, kinds, tmp_path / "whole", "optimizer.learning_rate=0.5")
    comparison = Comparison.read([tmp_path / "run", tmp_path / "whole"])
    [found] = comparison.to_json()["runs"][0]["changes"]
    assert (found["before"], found["after"], found["after_iteration"]) == ("0.05", "0.5", 3)
    assert "the studies end as the same" in printed(comparison)


def test_an_edit_that_is_put_back_by_its_name_is_put_back_in_the_folder(tmp_path, document, kinds):
    stop_after(document, kinds, tmp_path / "run", 3)
    study = tmp_path / "run" / "study.toml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("learning_rate = 0.05", "learning_rate = 0.5"), encoding="utf-8")
    go_on(tmp_path / "run", kinds, "optimizer.learning_rate=0.05")
    run(document, kinds, tmp_path / "whole")
    comparison = Comparison.read([tmp_path / "run", tmp_path / "whole"])
    assert comparison.to_json()["runs"][0]["changes"] == []
    assert "learning_rate = 0.05" in study.read_text(encoding="utf-8")
    assert len(comparison.same_model()) == 1


def test_what_was_wanted_once_is_no_name_for_what_is_edited_later(tmp_path, document, kinds):
    """0.05 to iteration 1, 0.5 to 2, 0.05 to 3; then the file is edited to 0.5 again."""
    document["output"] = {"checkpoint_every": 1, "figures": False}
    out, change = tmp_path / "run", "optimizer.learning_rate="
    stop_after(document, kinds, out, 1)
    study = out / "study.toml"

    def edit(before, after):
        text = study.read_text(encoding="utf-8")
        assert f"learning_rate = {before}" in text
        study.write_text(text.replace(f"learning_rate = {before}", f"learning_rate = {after}"), encoding="utf-8")

    for iteration, rate in ((2, "0.5"), (3, "0.05")):
        if rate == "0.05":
            edit("0.5", rate)
        display = Stopping(iteration)
        stopped(Run.resume(out, overrides=[change + rate], kinds=kinds, display=display), display)
    edit("0.05", "0.5")
    with pytest.raises(RunError, match=r"was edited; (.|\n)*0\.05(.|\n)*0\.5"):
        Run.resume(out, kinds=kinds)
    go_on(out, kinds, change + "0.5")
    document["optimizer"]["learning_rate"] = 0.5
    run(document, kinds, tmp_path / "other")
    found = Comparison.read([out, tmp_path / "other"]).to_json()["runs"][0]["changes"]
    changes = [(one["before"], one["after"], one["after_iteration"]) for one in found]
    assert changes == [("0.05", "0.5", 1), ("0.5", "0.05", 2), ("0.05", "0.5", 3)]


def test_json_has_all_of_it(runs):
    comparison = Comparison.read(runs)
    found = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert [entry["iterations"] for entry in found["runs"]] == [7, 7, 6]
    assert found["same_model"] == [[str(runs[0]), str(runs[1])]]
    assert found["study_differences"] == {
        "optimizer.learning_rate": ["0.05", "0.05", "0.02"],
        "blocks.1.iterations": ["3", "3", "2"],
    }
    first = found["runs"][0]
    misfit = comparison.records[0].iterations["misfit"]
    assert first["blocks"][1] == {
        "name": "block 2",
        "iterations": 3,
        "misfit_start": misfit[4],
        "misfit_end": misfit[-1],
    }
    assert first["summary"]["error_end"] > 0
    assert len(first["digest"]) == 64


@pytest.mark.parametrize(("name", "begins"), [("x.png", b"\x89PNG"), ("x.svg", b"<?xml"), ("x.pdf", b"%PDF")])
def test_the_picture_is_what_its_suffix_says(runs, tmp_path, name, begins):
    draw_comparison(Comparison.read(runs), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_what_cannot_be_drawn_or_compared_is_refused(runs, tmp_path):
    comparison = Comparison.read(runs)
    with pytest.raises(RunError, match=r"must be \.png, \.svg or \.pdf"):
        draw_comparison(comparison, tmp_path / "x.docx")
    with pytest.raises(RunError, match="There is no folder"):
        draw_comparison(comparison, tmp_path / "no" / "x.png")
    with pytest.raises(RunError, match="Name two or more"):
        Comparison.read(runs[:1])
    with pytest.raises(RunError, match="There is no run"):
        Comparison.read([runs[0], tmp_path / "d"])


def test_runs_that_have_not_ended_and_names_that_look_like_markup(tmp_path, runs):
    path = tmp_path / "[red]$x_"
    folder = RunFolder.create(path)
    with HistoryWriter(folder.history) as writer:
        writer.fact("study", "damaged [")
    comparison = Comparison.read([path, runs[0]])
    text = printed(comparison)
    assert "running" in text
    assert "[red]$x_" in text
    assert comparison.to_json()["runs"][0]["digest"] is None
    draw_comparison(comparison, tmp_path / "x.png")
    folder.release()
    assert "killed" in printed(Comparison.read([path, runs[0]]))


def test_where_the_summary_is_torn_the_last_checkpoint_says_which_model_it_was(runs):
    digest = Comparison.read(runs).to_json()["runs"][0]["digest"]
    (runs[1] / "summary.json").write_text('{"status": "fini')
    comparison = Comparison.read(runs)
    assert comparison.to_json()["runs"][1]["digest"] == digest
    assert f"The same model, to the last bit: {runs[0]}, {runs[1]}." in printed(comparison)
    shutil.rmtree(runs[1] / "checkpoints")  # then nothing says what of the result is the model
    comparison = Comparison.read(runs)
    assert comparison.to_json()["runs"][1]["digest"] is None
    text = printed(comparison, 400)
    assert f"No two of {runs[0]}, {runs[2]} ended with the same model, to the last bit." in text
    assert f"Not known is the model of {runs[1]} (no digest of its end is left)." in text


def test_nothing_is_said_of_models_that_are_not_known(tmp_path, runs):
    paths = [tmp_path / "x", tmp_path / "y"]
    folders = [RunFolder.create(path) for path in paths]
    for folder in folders:
        HistoryWriter(folder.history, {"title": "T"}).close()
    folders[0].release()
    text = printed(Comparison.read(paths), 400)
    assert f"Not known is the model of {paths[0]} (it was killed), {paths[1]} (it has not ended)." in text
    assert "No two" not in text
    text = printed(Comparison.read([*paths, *runs[:2]]), 400)
    assert f"The same model, to the last bit: {runs[0]}, {runs[1]}." in text
    assert "Not known is the model of" in text
    folders[1].release()


def test_a_narrow_terminal_gets_the_runs_below_each_other(runs):
    text = printed(Comparison.read([*runs, *runs]), width=80, terminal=True)
    assert text.count("digest") == 3
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("The same"))


def test_the_curve_has_gaps_between_blocks(runs):
    from thalweg.runs.compare import _curve

    x, y = _curve(Comparison.read(runs[:2]).records[0])
    assert np.flatnonzero(np.isnan(x)).tolist() == [4]
    assert np.isnan(y[4])
    assert x[-1] == 7


def test_where_there_is_no_terminal_no_line_is_broken(tmp_path, document, kinds):
    for name, rate in (("one", 0.05), ("two", 0.01)):
        document["blocks"][1]["optimizer"] = {"learning_rate": rate}
        document["output"] = {"figures": False}
        run(document, kinds, tmp_path / name)
    text = io.StringIO()
    print_comparison(Comparison.read([tmp_path / "one", tmp_path / "two"]), Console(file=text, width=60))
    row = next(line for line in text.getvalue().splitlines() if "learning_rate" in line)
    assert row.split() == ["blocks.1.optimizer.learning_rate", "0.05", "0.01"]
