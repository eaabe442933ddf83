"""Writing TOML: what is written is read back equal."""

import datetime
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.runs.toml import dumps

keys = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=6)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12),
    st.dates(),
    st.times().map(lambda time: time.replace(fold=0)),  # TOML does not know which of two equal times is meant
    st.datetimes(min_value=datetime.datetime(1000, 1, 1)).map(lambda time: time.replace(fold=0)),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(keys, values, max_size=5))
def test_written_and_read_back_is_equal_down_to_types(document):
    def typed(value):
        if isinstance(value, dict):
            return {key: typed(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [typed(entry) for entry in value]
        return (type(value).__name__, repr(value))

    assert typed(tomllib.loads(dumps(document))) == typed(document)


def test_it_reads_well():
    document = {
        "title": 'a "quoted" title',
        "problem": {"kind": "waves", "positions": [[1.0, 2.5]], "pml": {"cells": 20}},
        "blocks": [{"iterations": 3, "optimizer": {"learning_rate": 5.0}}, {"iterations": 4}],
        "empty": {},
    }
    assert dumps(document) == (
        'title = "a \\"quoted\\" title"\n\n[problem]\nkind = "waves"\npositions = [[1.0, 2.5]]\n'
        "\n[problem.pml]\ncells = 20\n"
        "\n[[blocks]]\niterations = 3\n\n[blocks.optimizer]\nlearning_rate = 5.0\n"
        "\n[[blocks]]\niterations = 4\n\n[empty]\n"
    )


def test_what_toml_does_not_have_is_refused():
    with pytest.raises(TypeError, match="NoneType"):
        dumps({"a": None})
