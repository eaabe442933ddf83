"""From a run's result to a pipeline, and what is left of a search as a file."""

import json
from pathlib import Path

import numpy as np
import pytest

from thalweg.errors import RunError, SearchError, StudyError
from thalweg.graph import wait
from thalweg.problems.sklearn import load_pipeline
from thalweg.problems.sklearn.data import load, split
from thalweg.problems.sklearn.estimators import ESTIMATORS, SCORE_FUNCTIONS, make_pipeline
from thalweg.runs import Run, Study
from thalweg.runs.exporting import export
from thalweg.search.space import Space

PAGE = (Path(__file__).parents[3] / "docs" / "studies.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    document = {
        "title": "trees",
        "seed": 7,
        "problem": {
            "kind": "sklearn",
            "data": "wine",
            "steps": ["select", "model"],  # not in the order of the alphabet
            "folds": 3,
            "space": {
                "model": {
                    "type": "object",
                    "properties": {"kind": {"const": "decision_tree_classifier"}, "max_depth": {"enum": [1, 2, 3]}},
                },
                "select": {
                    "type": "object",
                    "properties": {
                        "kind": {"const": "select_k_best"},
                        "score_func": {"enum": ["f_classif", "mutual_info_classif", "chi2"]},
                        "k": {"type": "integer", "minimum": 2, "maximum": 6},
                    },
                },
            },
            "start": {
                "model": {"kind": "decision_tree_classifier", "max_depth": 1},
                "select": {"kind": "select_k_best", "score_func": "f_classif", "k": 2},
            },
        },
        "optimizer": {"kind": "random"},
        "blocks": [{"iterations": 4}],
        "output": {"figures": False},
    }
    place = tmp_path_factory.mktemp("winner") / "run"
    wait(Run(Study.from_document(document), out=place).execute())
    return place


def test_the_pipeline_that_was_chosen_scores_what_the_run_says(folder):
    pipeline = load_pipeline(folder)
    assert [name for name, _ in pipeline.steps] == ["select", "model"]
    assert pipeline.named_steps["model"].random_state == 7
    data, parts = load("wine"), split("wine", 3, 0.2, 0.2, 7)
    scores = []
    for item in range(6, 9):
        fit, score = parts.rows(item)
        pipeline.fit(data.features[fit], data.labels[fit])
        scores.append(pipeline.score(data.features[score], data.labels[score]))
    told = json.loads((folder / "summary.json").read_text())["search"]["winner"]["test"]["mean"]
    assert np.mean(scores) == pytest.approx(told, abs=1e-12)


def test_a_file_elsewhere_needs_the_order_of_the_steps(folder, tmp_path):
    (tmp_path / "mine.json").write_text((folder / "result.json").read_text())
    with pytest.raises(RunError, match=r"Give steps, some order of \['model', 'select'\]"):
        load_pipeline(tmp_path / "mine.json")
    with pytest.raises(RunError, match="has the steps"):
        load_pipeline(tmp_path / "mine.json", steps=["model"], seed=0)
    there = load_pipeline(tmp_path / "mine.json", steps=["select", "model"], seed=7)
    assert repr(there) == repr(load_pipeline(folder))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", RunError, "cannot be read"),
        ('{"prompt": {}}', RunError, "holds no pipeline"),
        ('{"pipeline": {"model": {"kind": "os.system"}}}', SearchError, "there is no estimator 'os.system'"),
    ],
)
def test_what_is_no_pipeline(tmp_path, text, error, words):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(error, match=words):
        load_pipeline(tmp_path, steps=["model"], seed=0)


def test_where_there_is_no_result_yet(tmp_path):
    with pytest.raises(RunError, match="thalweg export"):
        load_pipeline(tmp_path)


def test_a_search_has_values_and_no_empty_arrays(folder, tmp_path):
    assert not (folder / "result.npz").exists()
    exported = export(folder, tmp_path / "best.json")
    assert json.loads(exported.read_text()).keys() == {"pipeline"}
    assert load_pipeline(exported, steps=["select", "model"], seed=7).steps[0][0] == "select"
    with pytest.raises(RunError, match=r"let it end with \.json, such as best\.json"):
        export(folder, tmp_path / "best.npz")
    assert not (tmp_path / "best.npz").exists()


@pytest.mark.parametrize("score", SCORE_FUNCTIONS)
@pytest.mark.parametrize("kind", ["select_k_best", "select_percentile"])
def test_features_are_selected_by_name_and_to_the_same_ones_each_time(kind, score):
    size = {"k": 3} if kind == "select_k_best" else {"percentile": 40}
    data = load("diabetes" if "regression" in score else "wine")
    features = np.abs(data.features)
    chosen = []
    for _ in range(2):
        pipeline = make_pipeline({"select": {"kind": kind, "score_func": score, **size}}, ["select"], seed=3)
        chosen.append(pipeline.fit_transform(features, data.labels))
    assert chosen[0].shape[1] in (3, 4, 5)
    assert chosen[0].tobytes() == chosen[1].tobytes()


def selecting(data, *branches, **score):
    properties = {"kind": {"const": "select_k_best"}, **score}
    union = {"anyOf": [{"properties": branch} for branch in branches]} if branches else {}
    score = branches[0] if branches else score
    model = "ridge" if data == "diabetes" else "svc"
    document = {
        "title": "selecting",
        "problem": {
            "kind": "sklearn",
            "data": data,
            "steps": ["select", "model"],
            "space": {
                "select": {"type": "object", "properties": properties, **union},
                "model": {"type": "object", "properties": {"kind": {"const": model}}},
            },
            "start": {
                "select": {"kind": "select_k_best", **{k: v.get("const", "f_regression") for k, v in score.items()}},
                "model": {"kind": model},
            },
        },
        "optimizer": {"kind": "random"},
        "blocks": [{"iterations": 1}],
    }
    return Study.from_document(document).build_problem()


def test_score_functions_of_classes_are_refused_for_numbers():
    selecting("iris")
    selecting("diabetes", score_func={"const": "f_regression"})
    with pytest.raises(StudyError, match="by f_classif, its own, which is of classes"):
        selecting("diabetes")
    with pytest.raises(StudyError, match="by chi2 which is of classes"):
        selecting("diabetes", score_func={"const": "chi2"})
    with pytest.raises(StudyError, match="there is no score function 'anova'"):
        selecting("iris", score_func={"const": "anova"})
    with pytest.raises(StudyError, match="needs a score_func that is named"):
        selecting("iris", score_func={"type": "string"})


def test_what_stands_beside_branches_is_checked_with_each_of_them():
    by = {name: {"score_func": {"const": name}} for name in ("f_regression", "r_regression", "chi2")}
    either = {"anyOf": [{"const": "f_regression"}, {"enum": ["r_regression", "mutual_info_regression"]}]}
    problem = selecting("diabetes", by["f_regression"], by["r_regression"])
    space = Space.of_variables(problem.variables)
    assert [space.at(k)["pipeline"]["select"] for k in range(int(space.size()))] == [
        {"kind": "select_k_best", "score_func": "f_regression"},
        {"kind": "select_k_best", "score_func": "r_regression"},
    ]
    selecting("diabetes", score_func=either)
    with pytest.raises(StudyError, match="by chi2 which is of classes"):
        selecting("diabetes", by["f_regression"], by["chi2"])
    with pytest.raises(StudyError, match="by f_classif, its own, which is of classes"):
        selecting("diabetes", by["f_regression"], {"k": {"const": 3}})
    with pytest.raises(StudyError, match="select_k_best has no parameter 'kk'"):
        selecting("iris", by["chi2"], {"kk": {"const": 3}})


def test_the_page_lists_every_estimator_and_score_function():
    part = PAGE.split("### Estimators of a pipeline")[1].split("\n#")[0]
    listed = [name for line in part.splitlines() if line.startswith("| `") for name in line.split("`")[1::2]]
    classes = {place.partition(":")[2]: name for name, place in {**ESTIMATORS, **SCORE_FUNCTIONS}.items() if place}
    pairs = dict(zip(listed[::2], listed[1::2], strict=True))
    expected = {name: cls for cls, name in classes.items()} | {"none": "none"}
    assert pairs == {name: cls for name, cls in expected.items() if name != "none"}
