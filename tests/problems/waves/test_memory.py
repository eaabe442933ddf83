"""What a wave study says of the memory that it will need: in threads, in worker processes, on a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from thalweg.problems.waves import WaveProblem
from thalweg.problems.waves.memory import PROCESS, memory_needed
from thalweg.runs import Study
from thalweg.runtime import Dask, Local

STUDIES = Path(__file__).parents[3] / "studies"


@pytest.fixture(scope="module")
def setup():
    return Study.load(STUDIES / "inclusion.toml", kinds={"waves": WaveProblem}).build_problem().setup


def mebibytes(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"(\d+) MiB", text)]


def test_threads_share_python_and_the_observed_data(setup):
    one, four = (mebibytes(memory_needed(setup, Local(threads=n))) for n in (1, 4))
    total, shot, observed, python = four
    assert python == PROCESS / 2**20
    assert total >= 4 * shot + observed + python
    assert total - one[0] < python


def test_each_worker_process_has_its_own_python_and_observed_data(setup):
    pytest.importorskip("distributed")
    text = memory_needed(setup, Dask(workers=3))
    total, client, worker, shot, observed, python = mebibytes(text)
    assert "3 × " in text
    assert total == pytest.approx(3 * worker + client, abs=3)
    assert worker >= shot + observed + python
    assert client >= python == PROCESS / 2**20


def test_on_a_cluster_of_others_it_is_what_one_worker_needs(setup):
    pytest.importorskip("distributed")
    text = memory_needed(setup, Dask("tcp://127.0.0.1:1"))
    own = memory_needed(setup, Dask(workers=1))
    assert "for each worker" in text
    assert mebibytes(text)[0] == mebibytes(own)[2]
