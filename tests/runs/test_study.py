"""Studies: read, changed, refused with everything that is wrong at once."""

import copy
import tomllib

import pytest
from pydantic import BaseModel

from thalweg.errors import StudyError
from thalweg.runs.problem import Problem
from thalweg.runs.study import Study
from thalweg.runs.toml import dumps


def refused(document, kinds, *overrides):
    with pytest.raises(StudyError) as error:
        Study.from_document(document, kinds=kinds, overrides=overrides)
    return dict(error.value.details["faults"])


def test_a_study_is_read_validated_and_frozen_with_its_comments(tmp_path, document, kinds):
    text = "# my own words\n" + dumps(document)
    (tmp_path / "blur.toml").write_text(text)
    study = Study.load(tmp_path / "blur.toml", kinds=kinds)
    assert study.name == "blur"
    assert study.text == text
    assert study.folder == tmp_path
    assert study.iterations == 7
    assert study.settings.seed == 3
    assert study.blocks[0].name == "low"
    assert [block.cutoff for block in study.problem_blocks] == [0.3, 1.0]
    assert study.problem_settings.length == 64
    assert study.problem_class is kinds["deconvolution"]


def test_changes_are_applied_and_frozen(tmp_path, document, kinds):
    (tmp_path / "blur.toml").write_text("# my own words\n" + dumps(document))
    overrides = ["blocks.0.iterations=9", "problem.noise=0.5", "runtime.threads=1", "title=a new one"]
    study = Study.load(tmp_path / "blur.toml", kinds=kinds, overrides=overrides)
    assert study.blocks[0].iterations == 9
    assert study.problem_settings.noise == 0.5
    frozen = tomllib.loads(study.text)
    again = Study.from_document(frozen, kinds=kinds)
    assert again.document == study.document
    assert again.settings == study.settings
    assert frozen["title"] == "a new one"


def test_every_fault_is_reported_at_once_with_its_path(document, kinds):
    document["sed"] = 1
    document["problem"]["lenght"] = 3
    document["problem"]["noise"] = "loud"
    document["blocks"][0]["iteratons"] = 3
    document["blocks"][0]["cutof"] = 0.5
    document["blocks"][1]["iterations"] = 0
    document["runtime"]["treads"] = 2
    found = refused(document, kinds)
    assert found.keys() == {
        "sed",
        "problem.lenght",
        "problem.noise",
        "blocks.0.iteratons",
        "blocks.0.cutof",
        "blocks.1.iterations",
        "runtime.treads",
    }
    for path, near in [
        ("sed", "seed"),
        ("problem.lenght", "length"),
        ("blocks.0.iteratons", "iterations"),
        ("blocks.0.cutof", "cutoff"),
        ("runtime.treads", "threads"),
    ]:
        assert f'the nearest known one is "{near}"' in found[path]
    assert found["problem.noise"] == "got 'loud' (text), expected a number"
    assert found["blocks.1.iterations"] == "got 0 (an integer), expected at least 1"


@pytest.mark.parametrize(
    ("change", "path", "text"),
    [
        ({"problem": {"kind": "deconvolutoin"}}, "problem.kind", 'the nearest known one is "deconvolution"'),
        ({"problem": {"kind": 3}}, "problem.kind", "expected one of: "),
        ({"problem": {}}, "problem.kind", "is missing"),
        ({"problem": 3}, "problem", "got 3 (an integer), expected a table"),
        ({"blocks": []}, "blocks", "expected at least 1 entries"),
        ({"blocks": {"iterations": 3}}, "blocks", "expected a list"),
        ({"blocks": [3]}, "blocks.0", "expected a table"),
        ({"blocks": [{"iterations": 3, "batch_size": 2}]}, "blocks.0", "batch_size is given"),
        ({"blocks": [{"iterations": 3, "selection": "random"}]}, "blocks.0", "batch_size is missing"),
        (
            {"blocks": [{"iterations": 3, "selection": "some"}]},
            "blocks.0.selection",
            "one of 'all', 'every' or 'random'",
        ),
        ({"seed": -1}, "seed", "at least 0"),
        ({"seed": 1.0}, "seed", "expected an integer"),
        ({"title": ""}, "title", "at least 1 characters"),
        ({"runtime": {"kind": "slurm"}}, "runtime", "one of 'local', 'dask'"),
        ({"runtime": {"threads": 0}}, "runtime.threads", "at least 1"),
        ({"output": {"figures": "yes"}}, "output.figures", "true or false"),
        ({"optimizer": {}}, "optimizer.kind", "is missing"),
        ({"optimizer": {"kind": "adma"}}, "optimizer.kind", "adam"),
        ({"optimizer": {"kind": "adam", "lerning_rate": 1.0}}, "optimizer.lerning_rate", "learning_rate"),
        ({"optimizer": {"kind": "adam", "learning_rate": -1.0}}, "optimizer.learning_rate", "-1.0"),
        ({"optimizer": {"kind": "adam", "learning_rate": "fast"}}, "optimizer.learning_rate", "fast"),
        ({"optimizer": {"kind": "adam", "learning_rate": {"kind": "exq"}}}, "optimizer.learning_rate", "exp"),
        (
            {"optimizer": {"kind": "adam", "process_grad": [{"kind": "smoth"}]}},
            "optimizer.process_grad.0",
            "smooth",
        ),
        (
            {"optimizer": {"kind": "adam", "process_model": {"kind": "bounds", "uper": 1}}},
            "optimizer.process_model",
            "upper",
        ),
        (
            {"blocks": [{"iterations": 3, "optimizer": {"learning_rte": 1.0}}]},
            "blocks.0.optimizer.learning_rte",
            "learning_rate",
        ),
        (
            {"blocks": [{"iterations": 3, "optimizer": {"learning_rate": -2}}]},
            "blocks.0.optimizer.learning_rate",
            "-2",
        ),
        (
            {"blocks": [{"iterations": 3, "optimizer": {"kind": "sgd"}}]},
            "blocks.0.optimizer.kind",
            "learning_rate",
        ),
    ],
)
def test_wrong_values_name_path_got_and_expected(document, kinds, change, path, text):
    found = refused({**document, **change}, kinds)
    assert path in found
    assert text in found[path]


@pytest.mark.parametrize("key", ["title", "problem", "optimizer", "blocks"])
def test_missing_tables_are_named(document, kinds, key):
    del document[key]
    assert refused(document, kinds)[key] == "is missing"


@pytest.mark.parametrize(
    ("override", "path", "text"),
    [
        ("blocks.7.iterations=3", "blocks.7", "entries 0 to 1"),
        ("problm.noise=0.1", "problm", 'nearest known one is "problem"'),
        ("problem.nois=0.1", "problem.nois", 'nearest known one is "noise"'),
        ("seed.x=1", "seed.x", "seed is 3, which has no keys"),
        ("seed=1O", "seed", "got '1O' (text), expected an integer"),
        ("seed", "seed", "not of the form path=value"),
    ],
)
def test_overrides_get_the_same_kind_of_error(document, kinds, override, path, text):
    assert text in refused(document, kinds, override)[path]


def test_the_document_is_not_changed(document, kinds):
    before = copy.deepcopy(document)
    Study.from_document(document, kinds=kinds, overrides=["seed=9"])
    assert document == before


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"title = ", "is no TOML"),
        (b"title = 'a'\ntitle = 'b'", "is no TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a = " + b"[" * 100_000, "is no TOML"),
        (b"a = " + b"9" * 5000, "is no TOML"),
        (b"#" * (5 << 20), "should have less than 524289"),
    ],
    ids=["broken", "twice", "binary", "deep", "digits", "large"],
)
def test_a_file_that_is_no_study_is_our_error(tmp_path, content, text):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(StudyError) as error:
        Study.load(tmp_path / "a.toml")
    assert text in str(error.value)
    with pytest.raises(StudyError, match="cannot be read"):
        Study.load(tmp_path / "b.toml")


def test_a_batch_larger_than_the_problem_is_refused(document, kinds):
    document["blocks"][0]["batch_size"] = 7
    study = Study.from_document(document, kinds=kinds)
    with pytest.raises(StudyError, match=r"blocks\.0\.batch_size: got 7, and there are only 6 items"):
        study.build_problem()


def test_a_problem_may_not_take_the_runs_own_keys(document):
    class Own(BaseModel, extra="forbid"):
        iterations: int = 3

    class Empty(BaseModel, extra="forbid"):
        pass

    class Bad(Problem):
        kind, Settings, BlockSettings = "bad", Empty, Own
        build = feedback = None

    with pytest.raises(StudyError, match="declares iterations"):
        Study.from_document({**document, "problem": {"kind": "bad"}}, kinds={"bad": Bad})


def test_a_kind_that_cannot_be_imported_is_named(document, monkeypatch):
    from importlib.metadata import EntryPoint

    from thalweg.runs import kinds

    point = EntryPoint("broken", "no_such_package.problem:Problem", kinds.GROUP)
    wrong = EntryPoint("wrong", "json:dumps", kinds.GROUP)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point, wrong])
    assert "cannot be imported" in refused({**document, "problem": {"kind": "broken"}}, None)["problem.kind"]
    assert "no thalweg.runs.Problem" in refused({**document, "problem": {"kind": "wrong"}}, None)["problem.kind"]


def test_settings_that_would_ignore_misspelled_keys_are_refused(document, kinds):
    class Lenient(BaseModel):
        length: int = 8

    class Outer(BaseModel, extra="forbid"):
        inner: list[Lenient] | None = None

    class Empty(BaseModel, extra="forbid"):
        pass

    for settings, blocks, words in [
        (Lenient, Empty, "Bad.Settings would silently ignore misspelled keys"),
        (Empty, Lenient, "Bad.BlockSettings would silently ignore"),
        (Outer, Empty, "in its table"),
        (dict, Empty, "must be a pydantic model"),
    ]:
        bad = type("Bad", (Problem,), {"kind": "bad", "Settings": settings, "BlockSettings": blocks})
        document["problem"] = {"kind": "bad"}
        document["blocks"] = [{"iterations": 1}]
        assert words in refused(document, {"bad": bad})["problem.kind"]


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 9 TiB"), OverflowError("too large"), KeyError("x")])
def test_an_error_of_building_becomes_our_own_with_the_original_in_it(document, kinds, monkeypatch, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(kinds["deconvolution"], "build", fail)
    with pytest.raises(StudyError) as caught:
        Study.from_document(document, kinds=kinds).build_problem()
    assert caught.value.__cause__ is error
    first, advice = str(caught.value).splitlines()
    assert f"cannot be built by Deconvolution: {type(error).__name__}: {error}" in first
    assert ("make them smaller" in advice) == isinstance(error, MemoryError)
