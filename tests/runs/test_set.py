"""What ``--set`` brings into a study is not the fault of the file."""

import pytest

from tests.runs.going import stop_after
from thalweg.errors import StudyError
from thalweg.runs import Run, Study


def test_what_set_has_brought_is_not_blamed_on_the_file(document, kinds):
    document["problem"]["lenght"] = 3
    with pytest.raises(StudyError) as caught:
        Study.from_document(document, kinds=kinds, overrides=["bloks=3", "blocks.0={}"], source="x.toml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "x.toml cannot be run with what --set says, 3 faults:"
    assert [line.partition(": ")[0].strip() for line in lines[1:]] == [
        "--set bloks",
        "problem.lenght",
        "--set blocks.0.iterations",
    ]
    assert [path for path, _ in caught.value.details["faults"]] == ["bloks", "problem.lenght", "blocks.0.iterations"]
    with pytest.raises(StudyError, match=r"x\.toml cannot be run, 1 fault:\n  problem\.lenght"):
        Study.from_document(document, kinds=kinds, overrides=["seed=3"], source="x.toml")


def test_nor_when_a_run_goes_on(tmp_path, document, kinds):
    stop_after(document, kinds, tmp_path / "run", 2)
    with pytest.raises(StudyError, match=r"cannot be run with what --set says, 1 fault:\n  --set bloks: unknown key"):
        Run.resume(tmp_path / "run", kinds=kinds, overrides=["bloks=3"])
