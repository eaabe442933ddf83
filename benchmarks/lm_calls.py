"""The figures of calling language models: how much at once, and what a killed run pays again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.contest import Options
from benchmarks.figures import Figure, Target

EVALUATIONS = 200
CONCURRENCY = 16
DELAY = 0.05  # s
NOTES = (
    f"Stub: a server of OpenAI's protocol on this machine, in a thread of the same process, that takes {DELAY * 1e3:g} "
    f"ms for an answer; {EVALUATIONS} evaluations are one iteration of a run, 4 candidates on 50 samples, with "
    "everything that a run does: budget, answers and rewards to the disk. Timed from the arrival of the first request "
    f"to the last answer; no client could do it in less than {-(-EVALUATIONS // CONCURRENCY) * DELAY:g} s.",
    f"Killed: the run's process gets SIGKILL once the server has had {EVALUATIONS // 2} requests, and is resumed. What "
    "was in flight then is asked again and counted; nothing else is.",
)


def figures(options: Options) -> list[Figure]:
    """Measure both."""
    return [throughput(options), *killed(options)]


def throughput(options: Options) -> Figure:
    """How long 200 evaluations of 50 ms take at concurrency 16."""
    import thalweg as tw
    from thalweg.lm.stub import Stub
    from thalweg.runs import Run, Study

    samples = []
    for turn in range(options.rounds):
        options.say(f"stub evaluations: {turn + 1} of {options.rounds}")
        arrivals: list[float] = []

        def answer(body: dict[str, Any], arrivals: list[float] = arrivals) -> str:
            arrivals.append(time.perf_counter())
            return "even"

        with tempfile.TemporaryDirectory() as folder, Stub(answer, delay=DELAY) as stub:
            study = Study.from_document(_document(Path(folder), stub.url), folder=folder)
            tw.wait(Run(study, out=Path(folder) / "run").execute())
        assert len(arrivals) == EVALUATIONS
        samples.append(arrivals[-1] - arrivals[0] + DELAY)
    title = f"{EVALUATIONS} stub evaluations of {DELAY * 1e3:g} ms, concurrency {CONCURRENCY}"
    return Figure(title, tuple(samples), unit="s", target=Target(high=1.0), judged=not options.quick)


def killed(options: Options) -> list[Figure]:
    """What a run pays again that was killed half-way."""
    from thalweg.lm import AnswerCache
    from thalweg.lm.requests import request_key
    from thalweg.lm.stub import Stub
    from thalweg.runs.toml import dumps

    repeated, flying = [], []
    for turn in range(1 if options.quick else min(options.rounds, 3)):
        options.say(f"killed run: {turn + 1}")
        with tempfile.TemporaryDirectory() as name, Stub(lambda body: "even", delay=DELAY) as stub:
            folder = Path(name)
            (folder / "study.toml").write_text(dumps(_document(folder, stub.url)), encoding="utf-8")
            child = _child(folder, "run")
            while len(stub.requests) < EVALUATIONS // 2:
                if child.poll() is not None:
                    raise RuntimeError(f"the run ended before it could be killed: {child.communicate()[1]}")
                time.sleep(0.001)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            before = len(stub.requests)
            with AnswerCache(folder / "run" / "answers") as cache:
                answered = {key for body in stub.requests if cache.get(key := request_key(body, 0)) is not None}
                flying.append(float(cache.lost()[0]))
            if len(answered) < EVALUATIONS // 2 - CONCURRENCY:
                raise RuntimeError(f"only {len(answered)} answers to {before} requests are found on the disk")
            child = _child(folder, "resume")
            _, said = child.communicate()
            if child.returncode:
                raise RuntimeError(f"the resumed run failed: {said}")
            repeated.append(float(sum(request_key(body, 0) in answered for body in stub.requests[before:])))
    return [
        Figure(
            f"answers paid for twice by a run killed after {EVALUATIONS // 2} of {EVALUATIONS}",
            tuple(repeated),
            target=Target(high=0.0),
            choose=max,
        ),
        Figure("in flight when it was killed, and counted", tuple(flying), target=Target(high=CONCURRENCY), choose=max),
    ]


CHILD = """
import sys
from pathlib import Path
import thalweg as tw
from thalweg.runs import Run, Study
folder = Path(sys.argv[1])
first = sys.argv[2] == "run"
run = Run(Study.load(folder / "study.toml"), out=folder / "run") if first else Run.resume(folder / "run")
tw.wait(run.execute())
"""


def _child(folder: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), what],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def _document(folder: Path, url: str) -> dict[str, Any]:
    rows = [{"number": f"{number}", "parity": "odd" if number % 2 else "even"} for number in range(EVALUATIONS // 4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    step = {
        "name": "parity",
        "instructions": "Is it odd or even?",
        "inputs": {"number": {"type": "string"}},
        "outputs": {"parity": {"type": "string"}},
        "examples": 4,
    }
    return {
        "title": "stub evaluations",
        "problem": {
            "kind": "program",
            "data": "rows.jsonl",
            "fields": {"number": "number", "label": "parity"},
            "expected": {"parity": "label"},
            "train": EVALUATIONS // 4,
            "steps": [step],
            "lm": {"base_url": url, "model": "stub", "concurrency": CONCURRENCY, "max_tokens": 4},
        },
        "optimizer": {"kind": "few_shot", "candidates": 4, "rescore": 0},
        "blocks": [{"iterations": 1}],
        "output": {"figures": False},
    }
