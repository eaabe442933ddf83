"""A run on a cluster: the gradients of an iteration's shots are added on the workers, and one sum comes here."""

import numpy as np
import pytest

import thalweg as tw
from thalweg.runs import Run, Study, find_study
from thalweg.runtime import Dask

pytest.importorskip("distributed")

SHORT = ["output.figures=false", "blocks.0.iterations=2", "blocks.1.iterations=1", "problem.sources.count=6"]


def gradients_in(value, shape):
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return sum(gradients_in(entry, shape) for entry in inner)
    return int(isinstance(value, np.ndarray) and value.shape == shape)


@pytest.mark.parametrize(("keep_shots", "expected"), [("false", 3), ("true", 3 * 6)])
def test_one_gradient_an_iteration_comes_here(tmp_path, monkeypatch, keep_shots, expected):
    """Where finished shots are kept they come one by one, since this process writes them."""
    study = Study.load(find_study("inclusion"), overrides=[*SHORT, f"output.checkpoint_shots={keep_shots}"])
    shape, fetched = study.build_problem().variables[0].data.shape, []
    with Dask(workers=2) as runtime:
        tw.wait(runtime.start())
        fetch = runtime._client._gather_remote

        async def listening(direct, local_worker):
            response = await fetch(direct, local_worker)
            fetched.extend(response["data"].values())
            return response

        monkeypatch.setattr(runtime._client, "_gather_remote", listening)
        outcome = tw.wait(Run(study, out=tmp_path / "run", runtime=runtime).execute())
    assert outcome.history.iterations()["items"].tolist() == [6, 6, 6]
    assert gradients_in(fetched, shape) == expected
