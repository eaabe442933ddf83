"""A run whose folder is moved, removed or replaced while it goes on writes nothing where it was any more."""

import itertools
import json
import os
import shutil

import numpy as np
import pytest

from tests.runs.going import Doing, fingerprint, go_on, run
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, Run, Study
from thalweg.runs.folder import RunFolder


@pytest.fixture
def whole(tmp_path, document, kinds):
    document["blocks"] = [{"iterations": 12}]
    document["output"] = {"checkpoint_every": 5}
    run(document, kinds, tmp_path / "whole")
    return tmp_path / "whole"


def session(document, kinds, out, iteration, work):
    return Run(Study.from_document(document, kinds=kinds), out=out, display=Doing(iteration, work))


def test_it_stops_says_where_the_folder_is_and_goes_on_there(tmp_path, whole, document, kinds):
    out, moved = tmp_path / "run", tmp_path / "moved"
    going = session(document, kinds, out, 11, lambda: os.rename(out, moved))  # the tenth waited for the fifth's
    with pytest.raises(RunError, match=rf"was moved to {moved}.*thalweg resume {moved}"):
        wait(going.execute())
    assert not out.exists()
    assert 5 <= len(History(moved).iterations()["loss"]) < 12
    assert going.outcome.status == "failed"
    assert History(moved).writer_alive() is False
    assert go_on(moved, kinds).status == "finished"
    assert fingerprint(moved) == fingerprint(whole)


def test_finished_sums_are_not_kept_where_it_was_either(tmp_path, document, kinds):
    out, moved = tmp_path / "run", tmp_path / "moved"
    document["output"] = {"checkpoint_shots": True, "checkpoint_every": 100}
    document["blocks"] = [{"iterations": 200}]
    with pytest.raises(RunError, match="was moved to"):
        wait(session(document, kinds, out, 3, lambda: os.rename(out, moved)).execute())
    assert not out.exists()


@pytest.mark.parametrize("what", ["checkpoints", "shots"])
def test_moved_when_a_write_is_about_to_begin_it_is_not_made_again(tmp_path, document, kinds, monkeypatch, what):
    """After it was asked whether the folder is there, and before the first byte."""
    out, moved = tmp_path / "run", tmp_path / "moved"
    document["output"] = {"checkpoint_shots": what == "shots", "checkpoint_every": 2}
    save, saves = CheckpointStore.save, itertools.count(1)

    def late(self, *arguments, **more):
        if what in self.folder.parts and next(saves) == 2:
            os.rename(out, moved)
        return save(self, *arguments, **more)

    monkeypatch.setattr(CheckpointStore, "save", late)
    with pytest.raises(RunError, match=f"was moved to {moved}"):
        run(document, kinds, out)
    assert not out.exists()


def test_nor_for_the_model_after_a_block(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "run")
    monkeypatch.setattr(folder, "refuse_if_moved", lambda: os.rename(tmp_path / "run", tmp_path / "moved"))
    with pytest.raises(RunError, match="models cannot be made: No such file"):
        folder.write_model(0, {"x": np.zeros(2)})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_nothing_is_written_where_somebody_elses_folder_is(tmp_path, whole, document, kinds, how):
    out = tmp_path / "run"

    def work():
        shutil.rmtree(out)
        if how == "replaced":
            shutil.copytree(whole, out)

    with pytest.raises(RunError, match="was removed"):
        wait(session(document, kinds, out, 4, work).execute())
    if how == "removed":
        assert not out.exists()
    else:
        assert json.loads((out / "summary.json").read_text())["status"] == "finished"
        assert fingerprint(out) == fingerprint(whole)
