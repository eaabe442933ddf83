"""Anything at all in the place of a result and its study: a pipeline, or an error of ours that says what is wrong."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

from tests.sampling import ALL
from thalweg.errors import RunError, SearchError
from thalweg.problems.sklearn import load_pipeline
from thalweg.problems.sklearn.estimators import ESTIMATORS
from thalweg.runs.toml import dumps

GOOD = {"kind": "ridge", "alpha": 0.5}
words = st.one_of(
    st.sampled_from(["m", "kind", "alpha", "score_func", "k", "a__b", "steps", "random_state", "pipeline", ""]),
    st.sampled_from(sorted(ESTIMATORS)),
    st.text(max_size=4),
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([2**32, -(2**64), 10**400]), words)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)
entries = st.one_of(anything, st.fixed_dictionaries({"kind": st.one_of(words, anything)}, optional={"k": anything}))
values = st.one_of(anything, st.dictionaries(words, entries, max_size=3))
orders = st.one_of(anything, st.lists(words, max_size=3), st.just(["m"]))


@settings(
    max_examples=3000 if ALL else 300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(values, orders, anything)
@example({"m": {"kind": ["ridge"]}}, ["m"], 0)
@example({"m": GOOD}, [1, "a"], 0)
@example({"m": GOOD}, [["m"]], 0)
@example({"m": GOOD}, [10**5000], 0)
@example({"m": GOOD}, ["m"], 2**32)
@example({"m": GOOD}, ["m"], True)
@example({"m": {"kind": "select_k_best", "score_func": ["chi2"]}}, ["m"], 0)
def test_of_anything_comes_a_pipeline_or_an_error_of_ours(tmp_path, value, steps, seed):
    (tmp_path / "result.json").write_text(json.dumps({"pipeline": value}))
    study = {"seed": seed, "problem": {"kind": "sklearn", "steps": steps}}
    try:
        text = dumps(study)
    except (TypeError, ValueError):  # what TOML cannot say, such as None
        text = "problem = 3"
    (tmp_path / "study.toml").write_text(text)
    for given_steps in (None, steps):
        with suppress(RunError, SearchError):
            assert isinstance(load_pipeline(tmp_path, steps=given_steps), Pipeline)


@pytest.mark.parametrize("content", [b"", b"\xff", b"null", b"[]", b"NaN", b'{"pipeline": 1e999}', b"[" * 10**5])
@pytest.mark.parametrize("name", ["result.json", "study.toml"])
def test_of_files_that_cannot_be_read_comes_an_error_of_ours(tmp_path, name, content):
    (tmp_path / "result.json").write_text(json.dumps({"pipeline": {"m": GOOD}}))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("path", ["x" * 9999, "a\0b", "/dev/zero", ""])
def test_of_paths_that_are_none_comes_an_error_of_ours(path):
    with pytest.raises(RunError):
        load_pipeline(path)


def test_what_is_nested_deeply_is_said_in_few_words(tmp_path):
    for levels in (*range(3, 1100, 3), 10**5):
        nested = "[" * levels + "]" * levels
        for entry in (nested, f'{{"kind": {nested}}}', f'{{"kind": "select_k_best", "score_func": {nested}}}'):
            (tmp_path / "result.json").write_text(f'{{"pipeline": {{"m": {entry}}}}}')
            with pytest.raises((RunError, SearchError)) as caught:
                load_pipeline(tmp_path, steps=["m"], seed=0)
            assert len(str(caught.value)) < 500


def test_what_is_wrong_is_named(tmp_path):
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"pipeline": {"m": {"kind": ["ridge"]}}}))
    with pytest.raises(SearchError, match="'m' has the kind \\['ridge'\\]"):
        load_pipeline(tmp_path, steps=["m"], seed=0)
    result.write_text(json.dumps({"pipeline": {"m": GOOD}}))
    (tmp_path / "study.toml").write_text('[problem]\nkind = "sklearn"\nsteps = [1, "a"]\n')
    with pytest.raises(RunError, match=r"steps are names"):
        load_pipeline(tmp_path)
    assert load_pipeline(tmp_path, steps=["m"], seed=0)["m"].alpha == 0.5


@pytest.mark.parametrize("seed", [7.0, "7", True, [7], -1, 2**40, 2**32])
def test_a_seed_that_is_none_is_refused_and_not_taken_for_0(tmp_path, seed):
    (tmp_path / "result.json").write_text(json.dumps({"pipeline": {"m": GOOD}}))
    with pytest.raises(RunError, match=r"seed .*is an integer"):
        load_pipeline(tmp_path, steps=["m"], seed=seed)
    (tmp_path / "study.toml").write_text(dumps({"seed": seed, "problem": {"kind": "sklearn", "steps": ["m"]}}))
    with pytest.raises(RunError, match=r"study\.toml.*seed .*is an integer"):
        load_pipeline(tmp_path)
    assert load_pipeline(tmp_path, seed=np.int64(7))["m"].random_state == 7
