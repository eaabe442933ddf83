"""Pipelines of scikit-learn as a problem."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from thalweg.errors import SearchError, StudyError
from thalweg.graph import wait
from thalweg.problems.sklearn.data import load, split
from thalweg.problems.sklearn.estimators import ESTIMATORS, estimator_class, make_pipeline
from thalweg.runs import Run, Study, find_study
from thalweg.runs.report import write_report
from thalweg.runs.search_figures import plot_search
from thalweg.runs.summary import closing_table
from thalweg.runtime import Dask, Local
from thalweg.search import digest_json


@pytest.fixture
def document():
    branch = {
        "type": "object",
        "properties": {
            "kind": {"const": "svc"},
            "C": {"type": "number", "minimum": 0.01, "maximum": 100.0, "x-scale": "log"},
        },
    }
    other = {
        "type": "object",
        "properties": {
            "kind": {"const": "k_neighbors_classifier"},
            "n_neighbors": {"type": "integer", "minimum": 1, "maximum": 9},
        },
    }
    return {
        "title": "irises",
        "problem": {
            "kind": "sklearn",
            "data": "iris",
            "steps": ["scale", "model"],
            "folds": 3,
            "start": {"scale": {"kind": "none"}, "model": {"kind": "svc", "C": 0.01}},
            "space": {
                "scale": {"type": "object", "properties": {"kind": {"enum": ["none", "standard_scaler"]}}},
                "model": {"oneOf": [branch, other]},
            },
        },
        "optimizer": {"kind": "tpe"},
        "blocks": [{"iterations": 8}],
        "output": {"figures": False},
    }


def run(document, out, runtime=None):
    return wait(Run(Study.from_document(document), out=out, runtime=runtime).execute())


def test_it_finds_a_better_pipeline_than_the_start(tmp_path, document):
    outcome = run(document, tmp_path / "run")
    search = outcome.summary["search"]
    assert search["winner"]["search"]["mean"] > search["start"]["search"]["mean"] + 0.02
    assert search["winner"]["test"]["mean"] > 0.85


def test_rewards_are_the_scores_that_scikit_learn_gives(document):
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline as theirs
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    problem = Study.from_document(document).build_problem()
    parts, data = split("iris", 3, 0.2, 0.2, 0), load("iris")
    value = {"scale": {"kind": "standard_scaler"}, "model": {"kind": "svc", "C": 2.5}}
    with Local(threads=1) as runtime:
        ours = [wait(problem.reward({"pipeline": value}, item, runtime)).reward for item in range(problem.items)]
    expected = cross_val_score(theirs(StandardScaler(), SVC(C=2.5)), data.features, data.labels, cv=parts.folds)
    assert ours == expected.tolist()


def test_parts_are_disjoint_whole_and_even():
    data = load("digits")
    parts = split("digits", 4, 0.25, 0.15, 3)
    scored = [rows for _, rows in parts.folds]
    everything = np.concatenate([*scored, *parts.held_out, *parts.test])
    assert sorted(everything.tolist()) == list(range(len(data.labels)))
    assert sorted(np.concatenate(scored)) == parts.search.tolist()
    for fit, score in parts.folds:
        assert not set(fit) & set(score)
    for chunk in (*scored, *parts.held_out, *parts.test):
        counts = np.bincount(data.labels[chunk], minlength=10)
        assert counts.max() - counts.min() <= 3
    fit, _ = parts.rows(4)
    assert fit.tolist() == parts.search.tolist()
    fit, _ = parts.rows(8)
    assert sorted(fit) == sorted(np.concatenate([parts.search, *parts.held_out]))
    other = split("digits", 4, 0.25, 0.15, 4)
    assert other.search.tolist() != parts.search.tolist()


def test_the_same_bits_on_a_cluster_and_with_more_threads(tmp_path, document):
    document["optimizer"]["candidates"] = 3
    document["blocks"] = [{"iterations": 3}]
    with Local(threads=1) as alone:
        one = run(document, tmp_path / "one", alone)
    with Local(threads=3) as threads:
        three = run(document, tmp_path / "three", threads)
    with Dask(workers=2) as cluster:
        dask = run(document, tmp_path / "dask", cluster)
    assert one.summary["search"] == three.summary["search"] == dask.summary["search"]


def test_own_data(tmp_path, document):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 3))
    np.savez(tmp_path / "own.npz", features=features, labels=(features[:, 0] > 0).astype(np.int64))
    document["problem"]["data"] = "own.npz"
    study = Study.from_document(document, folder=tmp_path)
    outcome = wait(Run(study, out=tmp_path / "run").execute())
    assert outcome.summary["search"]["winner"]["test"]["mean"] > 0.7
    np.savez(tmp_path / "own.npz", features=features, labels=np.array([{}] * 60), allow_pickle=True)
    with pytest.raises(StudyError, match="holds an array of Python objects, which are not read"):
        Study.from_document(document, folder=tmp_path).build_problem()


def test_own_data_that_cannot_be_used(tmp_path, document):
    document["problem"]["data"] = "own.npz"
    features = np.random.default_rng(0).normal(size=(60, 3))

    def refused(message, **arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        with pytest.raises(StudyError, match=message) as caught:
            Study.from_document(document, folder=tmp_path).build_problem()
        assert len(str(caught.value)) < 700

    refused(r"it has \['X', 'labels'\]", X=features, labels=features[:, 0])
    refused("save them as float64", features=features, labels=np.arange(60))  # no classes, but numbers
    refused("NaN or infinity", features=features * np.nan, labels=features[:, 0])
    refused("one label a row", features=features, labels=features)
    refused(
        r"all labels in \S*own\.npz are 3, so there is nothing to predict", features=features, labels=np.full(60, 3)
    )
    (tmp_path / "own.csv").write_text("a,b\n1,2\n")
    document["problem"]["data"] = "own.csv"
    with pytest.raises(StudyError, match=r"own\.csv is no \.npz file\. Save its arrays as one: np\.savez"):
        Study.from_document(document, folder=tmp_path).build_problem()


@pytest.mark.parametrize("kind", sorted(set(ESTIMATORS) - {"none"}))
def test_every_registered_estimator_is_there(kind):
    pipeline = make_pipeline({"one": {"kind": kind}}, ["one"], seed=0)
    assert isinstance(pipeline.steps[0][1], estimator_class(kind))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "digit"}, "neither one of"),
        ({"steps": ["model"]}, "each step has one schema"),
        (
            {"steps": ["model", "scale"]},
            r'model: \w+ predicts, so it is the last step; write steps = \["scale", "model"\]',
        ),
        ({"metric": "acuracy"}, '"accuracy"'),
        ({"start": {"scale": {"kind": "none"}, "model": {"kind": "svc", "C": 1000.0}}}, "does not fit"),
        ({"start": {"scale": {"kind": "none"}, "model": {"kind": "os.system"}}}, "model"),
        ({"folds": 60}, "cannot be dealt"),
        ({"held_out": 0.79}, "cannot be dealt"),
        ({"held_out": 0.9}, "leave no rows to search with"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_computed(document, change, message):
    document["problem"] |= change
    with pytest.raises(StudyError, match=message):
        Study.from_document(document).build_problem()


@pytest.mark.parametrize("kind", ["none", "pca"])
def test_a_pipeline_ends_with_what_predicts(document, kind):
    document["problem"]["space"]["model"]["oneOf"].append(
        {"properties": {"kind": {"const": kind}}, "required": ["kind"]}
    )
    with pytest.raises(StudyError, match=f"model: {kind} predicts nothing, and model is the last step"):
        Study.from_document(document).build_problem()


def test_names_resolve_through_the_registry_only(document):
    with pytest.raises(SearchError, match="there is no estimator"):
        make_pipeline({"model": {"kind": "os:system"}}, ["model"], seed=0)
    with pytest.raises(SearchError, match="has no parameter"):
        make_pipeline({"model": {"kind": "svc", "random_state": 3}}, ["model"], seed=0)
    document["problem"]["space"]["model"]["oneOf"][0]["properties"]["gama"] = {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
    }
    with pytest.raises(StudyError, match="svc has no parameter 'gama'"):
        Study.from_document(document).build_problem()


def test_the_shipped_study_is_valid_and_says_what_it_costs():
    study = Study.load(find_study("digits-search"))
    plan = dict(wait(Run(study).plan()))
    assert plan["evaluations"] == "at most 335, 35 for the final choice"


def test_what_decides_a_score_is_the_data_its_parts_the_steps_and_the_metric(tmp_path, document):
    def decided(**changes):
        study = Study.from_document({**document, "problem": {**document["problem"], **changes}}, folder=tmp_path)
        problem = study.build_problem()
        return digest_json([problem.decisive(study.settings.problem), problem.fingerprint()])

    before = decided()
    for name, value in (("folds", 4), ("held_out", 0.3), ("test", 0.1), ("metric", "f1_macro"), ("data", "wine")):
        assert decided(**{name: value}) != before, name
    assert decided(start={"scale": {"kind": "none"}, "model": {"kind": "svc", "C": 1.0}}) == before
    assert decided(held_out=0.2) == before, "a default that is spelled out"
    iris = load("iris")
    np.savez(tmp_path / "same.npz", features=iris.features, labels=iris.labels)
    np.savez(tmp_path / "other.npz", features=iris.features[::-1], labels=iris.labels)
    assert decided(data="same.npz") == before, "the name of the file does not matter"
    assert decided(data="other.npz") != before


@pytest.mark.parametrize(("metric", "named"), [(None, "accuracy"), ("balanced_accuracy", "balanced_accuracy")])
def test_the_metric_is_named_in_the_plan_and_with_the_rewards(tmp_path, document, metric, named):
    if metric is not None:
        document["problem"]["metric"] = metric
    document["blocks"] = [{"iterations": 2}]
    assert dict(wait(Run(Study.from_document(document)).plan()))["metric"] == named
    outcome = run(document, tmp_path / "run")
    assert dict(closing_table(outcome.summary))["metric"] == named
    page = write_report(outcome.folder).read_text()
    assert f"best reward in the search ({named}), on 3 of 3 folds" in page
    axes = Figure().subplots()
    plot_search(axes, outcome.history)
    assert axes.get_ylabel() == f"mean reward ({named})"


def test_of_numbers_it_is_their_own(document):
    document["problem"] |= {
        "data": "diabetes",
        "space": {
            "scale": document["problem"]["space"]["scale"],
            "model": {"type": "object", "properties": {"kind": {"const": "ridge"}}},
        },
        "start": {"scale": {"kind": "none"}, "model": {"kind": "ridge"}},
    }
    assert Study.from_document(document).build_problem().measure == "R²"
