"""Programs that are refused before there is a run: nothing to choose, or no key."""

import pytest

import thalweg as tw
from tests.problems.programs.labels import answer, document
from thalweg.errors import LanguageModelError, StudyError
from thalweg.lm.stub import Stub
from thalweg.runs import Run, Study


def study(folder, url, *, kind="tpe", iterations=47, examples=0, **lm):
    made = document(folder, url)
    made["problem"]["lm"] |= lm
    for step in made["problem"]["steps"]:
        step["examples"] = examples
    made["optimizer"] = {"kind": kind}
    made["blocks"] = [{"iterations": iterations}]
    made.pop("budget", None)
    return Study.from_document(made, folder=folder)


@pytest.mark.parametrize("kind", ["tpe", "random", "auto"])
def test_a_program_with_nothing_to_choose_is_refused_before_anything_is_asked(tmp_path, kind):
    with Stub(answer) as stub:
        run = Run(study(tmp_path, stub.url, kind=kind), out=tmp_path / "run")
        with pytest.raises(StudyError, match=r"nothing to choose: .*examples = 2, say"):
            tw.wait(run.plan())
        with pytest.raises(StudyError, match="nothing to choose"):
            tw.wait(run.execute())
    assert not stub.requests
    assert not (tmp_path / "run").exists()


def test_the_start_alone_can_be_scored(tmp_path):
    with Stub(answer) as stub:
        outcome = tw.wait(Run(study(tmp_path, stub.url, iterations=1), out=tmp_path / "run").execute())
    assert outcome.status == "finished"
    assert outcome.summary["search"]["winner"]["candidate"] == 0


def test_a_missing_key_is_refused_before_there_is_a_folder_and_told_in_the_plan(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with Stub(answer) as stub:
        wanted = study(tmp_path, stub.url, examples=2, iterations=1, api_key_env="NO_SUCH_KEY")
        plan = dict(tw.wait(Run(wanted, out=tmp_path / "run").plan()))
        assert plan["key"] == "missing: set the environment variable NO_SUCH_KEY, or the run is refused"
        run = Run(wanted, out=tmp_path / "run")
        with pytest.raises(LanguageModelError, match="NO_SUCH_KEY"):
            tw.wait(run.execute())
        assert run.outcome is None
        assert not (tmp_path / "run").exists()
        monkeypatch.setenv("NO_SUCH_KEY", "a key")
        assert "key" not in dict(tw.wait(Run(wanted, out=tmp_path / "run").plan()))
        assert tw.wait(Run(wanted, out=tmp_path / "run").execute()).status == "finished"
