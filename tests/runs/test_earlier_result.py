"""A run that goes on after it had ended: the result and the pictures of the earlier end are not shown as its own."""

import errno
import json
import shutil
import time

import numpy as np
import pytest

from tests.runs.going import Doing, every_byte, go_on, run, stop_after
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, Run, model_digest
from thalweg.runs.folder import RunFolder
from thalweg.runs.record import RunRecord
from thalweg.runs.report import write_report
from thalweg.runs.report.models import read_models

RATE = "optimizer.learning_rate=0.02"


@pytest.fixture
def document(document):
    return document | {"output": {"checkpoint_every": 1, "keep": 20}}


def killed(out, copy, kinds, at, **options):
    """What is there of a run that went on from an earlier checkpoint and was killed when an iteration was made."""

    def kill():
        while History(out).iterations()["iteration"][-1:].tolist() != [at] or newest(out)[1] != at - 1:
            time.sleep(0.001)
        shutil.copytree(out, copy)

    wait(Run.resume(out, kinds=kinds, display=Doing(at, kill), **options).execute())
    record = RunRecord.read(copy)
    assert (record.status, record.done) == ("killed", at)
    return record


def newest(folder):
    arrays, meta, _ = CheckpointStore(folder / "checkpoints").load()
    return model_digest({"x": arrays["variable/x"]}), meta["iteration"]


def test_of_a_killed_run_the_report_has_the_newest_checkpoint(tmp_path, document, kinds):
    out, copy = tmp_path / "run", tmp_path / "killed"
    whole = run(document, kinds, out)
    old = {name: (out / name).read_bytes() for name in ("result.npz", "figures/signal.png")}
    record = killed(out, copy, kinds, 4, iteration=2, overrides=[RATE])
    assert {name: (copy / name).read_bytes() for name in old} == old, "nothing else has that model any more"
    for found in (old, {}):
        for path in [copy / "result.npz", *(copy / "figures").glob("*.png")] if not found else ():
            path.unlink()
        digest, iteration = newest(copy)
        models = read_models(record)
        assert models.digests[-1] == (f"after iteration {iteration}", digest)
        assert models.panels["x"][-1][0] == f"after iteration {iteration}"
        page = write_report(copy, tmp_path / "report.html").read_text()
        assert whole.summary["digest"] not in page
        assert ("The problem draws when the run ends." in page) == (not found)
        assert ("They are of an earlier end of the run" in page) == bool(found)


def test_a_result_goes_where_the_run_goes_on_from_its_model(tmp_path, document, kinds):
    out, copy = tmp_path / "run", tmp_path / "killed"
    run(document, kinds, out)
    killed(out, copy, kinds, 8, overrides=["blocks.1.iterations=9"])
    assert not (copy / "result.npz").exists()
    assert not list((copy / "figures").glob("*.png"))


def test_a_result_whose_checkpoint_is_damaged_stays_until_there_is_another(tmp_path, document, kinds):
    """A process that is killed before leaves the model somewhere."""
    out, copy = tmp_path / "run", tmp_path / "killed"
    digest = run(document, kinds, out).summary["digest"]
    (out / "checkpoints" / "000007" / "state.safetensors").write_bytes(b"damaged")
    wait(Run.resume(out, kinds=kinds, display=Doing(7, lambda: shutil.copytree(out, copy)), overrides=[RATE]).execute())
    with np.load(copy / "result.npz") as result:
        assert model_digest({"x": result["x"]}) == digest
    assert (copy / "figures" / "signal.png").exists()
    with np.load(out / "result.npz") as result:
        assert model_digest({"x": result["x"]}) == newest(out)[0] != digest


def test_a_result_that_could_not_be_written_is_not_taken_from_before(tmp_path, document, kinds, monkeypatch):
    out = tmp_path / "run"
    before = run(document, kinds, out).summary["digest"]

    def full(self, arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_result", full)
    with pytest.raises(OSError, match="No space left"):
        go_on(out, kinds, "blocks.1.iterations=6")
    record = RunRecord.read(out)
    digest = record.summary["digest"]
    assert record.status == "failed"
    assert digest != before
    assert read_models(record).digests[-1] == ("after block 2", digest)
    assert not (out / "result.npz").exists()


def test_what_a_run_came_to_stays_until_it_really_goes_on(tmp_path, document, kinds):
    """A refusal, a plan, and a run that dies before its first step leave it."""
    out, copy = tmp_path / "run", tmp_path / "killed"
    run(document, kinds, out)
    (out / "figures" / "mine.png").write_bytes((out / "figures" / "signal.png").read_bytes())
    there = every_byte(out)
    with pytest.raises(RunError, match="has finished"):
        go_on(out, kinds)
    longer = {"overrides": ["blocks.1.iterations=6"], "kinds": kinds}
    wait(Run.resume(out, **longer).plan())
    assert every_byte(out) == there

    class Preparing(kinds["deconvolution"]):
        async def prepare(self, runtime, progress):
            shutil.copytree(out, copy)
            await super().prepare(runtime, progress)

    wait(Run.resume(out, **longer | {"kinds": {"deconvolution": Preparing}}).execute())
    assert RunRecord.read(copy).status == "killed"
    for name in ("result.npz", "figures/signal.png", "figures/misfit.png"):
        assert (copy / name).read_bytes() == there[name], name
    assert (out / "figures" / "mine.png").read_bytes() == there["figures/mine.png"], "a user's own picture stays"


def test_a_run_that_has_only_its_end_left_keeps_its_result(tmp_path, document, kinds):
    out = tmp_path / "run"
    stop_after(document, kinds, out, 7)
    there = (out / "result.npz").stat().st_ino
    seen = []

    class Looking(kinds["deconvolution"]):
        def results(self):
            seen.append((out / "result.npz").stat().st_ino)
            return super().results()

    go_on(out, {"deconvolution": Looking})
    assert seen == [there]


def test_without_a_summary_the_result_is_known_by_the_last_checkpoint(tmp_path, document, kinds):
    out = tmp_path / "run"
    digest = run(document, kinds, out).summary["digest"]
    (out / "summary.json").write_text("{")
    assert read_models(RunRecord.read(out)).digests[-1][1] == digest
    with np.load(out / "result.npz") as result:
        arrays = dict(result)
    np.savez(out / "result.npz", **arrays | {"x": arrays["x"] + 1})
    found = read_models(RunRecord.read(out))
    assert found.digests[-1][1] == digest
    shutil.rmtree(out / "checkpoints")
    np.savez(out / "result.npz", **arrays)
    (out / "summary.json").write_text(json.dumps({"status": "finished", "digest": digest}))
    shutil.rmtree(out / "models")
    assert read_models(RunRecord.read(out)).digests[-1] == ("result, after iteration 7", digest)
