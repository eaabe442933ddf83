"""What `thalweg resume` is asked to go on from, and cannot: what is damaged and which run is meant is said."""

import shutil

import pytest
from typer.testing import CliRunner

from tests.runs.going import run
from thalweg.cli import app
from thalweg.errors import CheckpointCorruptError, RunError
from thalweg.runs import Run


@pytest.fixture
def every(document):
    document["output"] = {"checkpoint_every": 1, "keep": 10, "figures": False}
    return document


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_a_damaged_manifest_is_named(tmp_path, every, kinds):
    out = tmp_path / "run"
    run(every, kinds, out)
    manifest = out / "checkpoints" / "000004" / "manifest.json"
    flip(manifest)
    with pytest.raises(RunError) as caught:
        Run.resume(out, kinds=kinds, iteration=4)
    first, second = str(caught.value).splitlines()
    assert first == (
        f"The run {out} has no checkpoint of iteration 4; it has those of iterations 1, 2, 3, 5, 6, 7, and 0 is its "
        "beginning."
    )
    said = f"Checkpoint 4 does not say of which iteration it is: damaged checkpoint: {manifest} "
    assert second.startswith(said)
    assert len(second) > len(said) + 10
    assert Run.resume(out, kinds=kinds, iteration=5)


def test_with_one_checkpoint_no_others_are_named(tmp_path, every, kinds):
    out = tmp_path / "run"
    run(every, kinds, out)
    for number in range(1, 7):
        shutil.rmtree(out / "checkpoints" / f"{number:06d}")
    with pytest.raises(RunError) as caught:
        Run.resume(out, kinds=kinds, iteration=4)
    assert str(caught.value) == (
        f"The run {out} has no checkpoint of iteration 4; it has those of iterations 7, and 0 is its beginning."
    )
    flip(out / "checkpoints" / "000007" / "state.safetensors")
    with pytest.raises(CheckpointCorruptError) as caught:
        Run.resume(out, kinds=kinds, iteration=7)
    assert "none" not in str(caught.value)
    assert str(caught.value).endswith("or load another generation; 0 is the run's beginning (--iteration)")
    shutil.rmtree(out / "checkpoints" / "000007")
    with pytest.raises(RunError) as caught:
        Run.resume(out, kinds=kinds, iteration=7)
    assert str(caught.value) == f"The run {out} has no checkpoint of iteration 7; 0 is its beginning."


def test_what_lies_in_the_folder_of_a_run_names_the_run(tmp_path, every, kinds, monkeypatch):
    out = tmp_path / "a run"
    run(every, kinds, out)
    for part in ("checkpoints", "checkpoints/000004", "checkpoints/000004/manifest.json", "summary.json", "models"):
        with pytest.raises(RunError) as caught:
            Run.resume(out / part, kinds=kinds)
        assert str(caught.value) == (f"{out / part} lies in the folder of the run {out}; write: thalweg resume '{out}'")
    answer = CliRunner().invoke(app, ["resume", str(out / "study.toml")])
    assert answer.exit_code == 2
    said = " ".join(answer.output.split())
    assert f"{out / 'study.toml'} is the study of the run {out}; write: thalweg resume '{out}'" in said
    monkeypatch.chdir(out)
    with pytest.raises(RunError, match=r"^study\.toml is the study of the run \.; write: thalweg resume \.$"):
        Run.resume("study.toml", kinds=kinds)
    with pytest.raises(RunError, match="There is no such folder"):
        Run.resume(out / "nothing", kinds=kinds)
