"""The benchmarks print every figure that the library promises, and tell what is missing instead of failing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent

EXACT = [
    *(
        f"error against the Green's function, order {order}, {place} grid points"
        for order in (4, 8)
        for place in ("on", "off")
    ),
    *(f"error against an enlarged domain, order {order}, 20 absorbing cells" for order in (4, 8)),
    *(
        f"dot product, {what}, {dtype}, points inside the {place}"
        for what in ("propagator", "Jacobian")
        for dtype in ("float64", "float32")
        for place in ("model", "absorbing layer")
    ),
    "Taylor slope without the gradient, float64",
    "Taylor slope with the gradient, float64",
]
SPEEDS = [
    f"forward + gradient, order {order}, {kept}"
    for order in (4, 8)
    for kept in ("every 4th step saved", "exact (every step saved)")
]


@pytest.fixture
def modules(monkeypatch):
    """Import from ``benchmarks`` of this repository, not from a package of that name that a peer brings along."""
    monkeypatch.syspath_prepend(str(ROOT))
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module


def run(tmp_path, *arguments):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", *arguments, "--quick", "--json", str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(file.read_text(encoding="utf-8"))
    assert "processor" in ended.stdout
    assert report["machine"]["thalweg"] in ended.stdout
    return {figure["name"]: figure for figure in report[arguments[0]]}, ended.stdout


@pytest.mark.slow
def test_waves(tmp_path):
    figures, printed = run(tmp_path, "waves", "--no-peers")
    for name in EXACT:
        assert figures[name]["verdict"] == "ok", figures[name]
    for name in SPEEDS:
        assert figures[name]["value"] > 0.0
        assert [peer["note"] for peer in figures[name]["peers"]] == ["left out (--no-peers)"] * 2
    for order in (4, 8):
        error = figures[f"error of the gradient with every 4th step saved, order {order}"]["value"]
        assert 0.0 < error < 1.0
    for name in figures:
        assert name in printed
    assert printed.count("left out (--no-peers)") == 2 * len(SPEEDS)


@pytest.mark.slow
def test_graph(tmp_path):
    figures, printed = run(tmp_path, "graph", "--no-peers")
    assert figures["chain of 100000 operators, an operator"]["verdict"] == "ok"
    assert figures["64 branches of 5 ms each way"]["value"] >= 9.0  # ms: both pauses are really waited for
    assert len(figures) == 5
    for name, figure in figures.items():
        assert figure["value"] > 0.0
        assert name in printed


@pytest.mark.slow
def test_steps(tmp_path):
    figures, printed = run(tmp_path, "steps", "--no-peers", "--rounds", "1")
    for rule, arrays in {"sgd": 3, "adam": 7}.items():
        title = f"{rule}, 2^18 float32"
        assert figures[title]["value"] > 0.0
        assert figures[f"{title}, over {arrays} + 1 streams"]["value"] > 0.0
        assert figures[f"{title}, over {arrays} + 1 streams"]["verdict"] == "not judged (--quick)"
        assert f"{title}, unchecked, over the fastest peer" not in figures, "there is no peer"
    assert figures["adam, 1,000 arrays of 1,000, an array"]["value"] > 0.0
    assert figures["adam, one array of 1,000, a call"]["value"] > 0.0
    alone = figures["a process that imports numpy only"]["value"]
    assert 0.0 < alone < figures["first step of the second process, from its start"]["value"]
    for name in figures:
        assert name in printed


@pytest.mark.slow
def test_search(tmp_path):
    figures, printed = run(tmp_path, "search", "--no-peers")
    functions = ("ackley", "rosenbrock", "rastrigin", "griewank", "levy", "ellipsoid", "steps", "mixed")
    for name in (*functions, "network", "formula", "program"):
        assert figures[f"{name}: best loss"]["value"] >= 0.0
        assert len(figures[f"{name}: best loss"]["samples"]) == 2
        kind = "auto" if name in functions else "evolution"
        assert figures[f"{name}, {kind}: better than random search"]["verdict"] == "not judged (--quick)"
    for kind in ("tpe", "auto"):
        assert figures[f"digits, {kind}: no worse than random search"]["value"] is not None
    assert "ackley, auto: no worse than nevergrad NGOpt" not in figures, "there is no peer"
    for name in figures:
        assert name in printed


def test_intervals_of_the_search_contest(modules):
    intervals = modules("benchmarks.search_intervals")
    low, high = intervals.mean_interval(range(30))
    error = (30 * 31 / 12 / 30) ** 0.5  # of the mean: variance n(n+1)/12
    assert low == pytest.approx(14.5 - 2.05 * error, abs=0.15 * error)
    assert high == pytest.approx(14.5 + 2.05 * error, abs=0.15 * error)
    assert intervals.mean_interval([2.0]) == (2.0, 2.0)
    assert intervals.difference([1.0, 2.0], [2.0, 3.0]) == (-1.0, -1.0)
    assert intervals.written([2.0, 2.0]) == "2 [2, 2]"


def test_instances_of_the_search_contest(modules):
    """Each has an optimum of its own, the same for all contenders; no set shares one, or a seed, with another."""
    job, functions = modules("benchmarks.contenders.search_job"), modules("benchmarks.contenders.search_functions")
    nested = modules("benchmarks.contenders.search_nested")
    sets = ("development", *job.STREAMS)
    for name in (*functions.LANDSCAPES, "mixed"):
        found = [job.task({"instances": one}, name, k) for one in sets for k in range(3)]
        again = [job.task({"instances": one}, name, k) for one in sets for k in range(3)]
        points = [one.start for one in found]
        losses = [[one.loss(point) for point in points] for one in found]
        assert len({tuple(some) for some in losses}) == len(found)
        assert losses == [[one.loss(point) for point in points] for one in again]
        assert np.min(losses) >= 0.0
    for name in nested.TASKS:
        seeds = {job.task({"instances": one}, name, k).seed for one in sets for k in range(3)}
        assert len(seeds) == 3 * len(sets)
    for name, shape in functions.LANDSCAPES.items():
        assert shape.f(np.zeros(8)) == pytest.approx(0.0, abs=1e-12), name


def test_calls(tmp_path):
    figures, _ = run(tmp_path, "calls")
    assert figures["200 stub evaluations of 50 ms, concurrency 16"]["value"] >= 0.65
    assert figures["answers paid for twice by a run killed after 100 of 200"]["verdict"] == "ok"
    assert figures["in flight when it was killed, and counted"]["verdict"] == "ok"


def test_the_interval_of_the_prompt_contest(modules):
    interval = modules("benchmarks.prompt").interval
    right, wrong = dict.fromkeys(range(200), 1.0), dict.fromkeys(range(200), 0.0)
    assert interval([(right, wrong)]) == (1.0, 1.0, 1.0)
    mixed = {item: float(item % 2) for item in range(200)}
    low, mean, high = interval([(mixed, wrong), (mixed, mixed)])
    assert mean == 0.25
    assert low == pytest.approx(0.25 - 1.96 * 0.25 / 200**0.5, abs=0.01)
    assert high == pytest.approx(0.25 + 1.96 * 0.25 / 200**0.5, abs=0.01)


def test_the_interval_leaves_out_samples_that_failed_in_a_run(modules):
    interval = modules("benchmarks.prompt").interval
    right, wrong = dict.fromkeys(range(9), 1.0), dict.fromkeys(range(1, 10), 0.0)
    assert interval([(right, wrong), (right, right)]) == (0.5, 0.5, 0.5)
    assert np.isnan(interval([(right, {})])).all()


def test_random_selection_spends_as_many_tokens_and_each_seed_is_told_when_it_is_there(modules, monkeypatch):
    prompt, contest = modules("benchmarks.prompt"), modules("benchmarks.contest")
    asked, told = [], []

    def searched(seed, method, options, iterations=None):
        asked.append((seed, method, iterations))
        count = iterations or 8
        reward = {"softmax": 0.75, "random": 0.5}[method]
        tokens = {"softmax": 1000 + 100 * seed, "random": 125 * count}[method]
        samples = [dict.fromkeys(range(4), value) for value in (reward, 0.25)]
        return prompt.Searched(*samples, tokens, 9 * count, 0.6, count)

    monkeypatch.setattr(prompt, "_run", searched)
    monkeypatch.setattr(prompt.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(prompt, "ROOT", ROOT / "none")
    assert prompt.figures(contest.Options())[0].note == "model or data are not here: make lm"
    monkeypatch.setattr(type(ROOT), "glob", lambda self, pattern: [self])
    accuracy, lower, tokens = prompt.figures(contest.Options(seeds=(0, 3), say=told.append))
    again = [(3, "random", count) for count in (None, 9, 10, 11)]
    assert asked == [(0, "softmax", None), (0, "random", None), (3, "softmax", None), *again]
    assert told == [
        "SEED 0: start 0.250, chosen 0.750, difference +0.500 (+0.500 to +0.500), 1,000 tokens; commonest label 0.600; "
        "random selection 0.500, 1,000 tokens",
        "SEED 3: start 0.250, chosen 0.750, difference +0.500 (+0.500 to +0.500), 1,300 tokens; commonest label 0.600; "
        "random selection 0.500, 1,375 tokens",
    ]
    assert (accuracy.name, accuracy.samples) == ("accuracy of the chosen program, seeds 0, 3", (0.75, 0.75))
    assert [peer.samples for peer in accuracy.peers] == [(0.25, 0.25), (0.6,), (0.5, 0.5)]
    assert (lower.value, lower.reached) == (0.5, True)
    assert [peer.samples for peer in tokens.peers] == [(1.0, 1.375)]


def test_a_part_of_the_search_contest_can_be_run_alone_and_is_told_when_it_is_there(modules, monkeypatch):
    search, contest, figures = (modules(f"benchmarks.{name}") for name in ("search", "contest", "figures"))
    said = []
    monkeypatch.setattr(search, "_functions", lambda options, of, names: [figures.Figure(names[0], (1.0,))])
    monkeypatch.setattr(search, "_overhead", lambda options, kind: figures.Figure(f"overhead, {kind}", (2.0,)))
    found = search.figures(contest.Options(only=("overhead", "levy"), say=said.append))
    assert [figure.name for figure in found] == ["levy", "overhead, tpe", "overhead, cma_es"]
    assert [text.partition(":")[0] for text in said] == ["levy", "overhead"]
    assert "overhead, cma_es" in said[1]


@pytest.mark.slow
def test_runs(tmp_path):
    figures, _ = run(tmp_path, "runs", "--no-peers", "--rounds", "1", "--whole")
    assert list(figures) == [
        "checkpoint of 0.00 GB, write",
        "checkpoint of 0.00 GB, read",
        "a checkpoint after every iteration",
        "a checkpoint after every iteration, whole runs",
        "bookkeeping of an iteration",
        "map_reduce of 100 trivial tasks ÷ by hand",
        "efficiency of shots on two threads",
    ]
    for figure in figures.values():
        assert figure["value"] is not None
        assert figure["verdict"] in ("", "not judged (--quick)")
    assert [peer["name"] for peer in figures["checkpoint of 0.00 GB, write"]["peers"]] == ["torch", "numpy"]
    targets = [figure["target"] for figure in figures.values()]
    assert targets == [None, None, "≤ 5", "≤ 5", "≤ 50", "≤ 1.2", "≥ 0.9"]


@pytest.mark.parametrize("late", [False, True])
def test_the_cost_of_checkpoints_is_that_of_neighbours_in_time(modules, late):
    """A machine that gets slower from iteration to iteration changes nothing, and a write that goes on is no value."""
    cost, contest = modules("benchmarks.checkpoint_cost").cost, modules("benchmarks.contest")
    after = threading.Event()

    class Demo:
        def run(self, *, iterations, every, display):
            assert (iterations, every) == (8, 2)
            now = 0.0
            for k in range(1, iterations + 1):
                now += (10.0 + 0.1 * k) * (
                    1.03 if k % 2 else 1.0
                )  # a checkpoint after 2, 4, 6 is written beside 3, 5, 7
                display.iteration(SimpleNamespace(iteration=k, seconds=now))

    if late:
        threading.Thread(target=after.wait, name="thalweg-checkpoint").start()
    try:
        figure = cost(contest.Options(rounds=3), Demo())
    finally:
        after.set()
    assert figure.samples == (() if late else (pytest.approx(3.0),) * 3)
    assert figure.verdict == ("NO VALUE" if late else "ok")
    assert figure.note == ("a write took longer than iteration 1: use --whole" if late else "iterations of 10.63 s")


def test_imports(tmp_path):
    figures, _ = run(tmp_path, "imports")
    assert list(figures) == ["import thalweg", "import numpy alone", "thalweg --help"]
    assert all(figure["value"] > 0.0 for figure in figures.values())


def test_a_missing_peer_is_told(modules, tmp_path, monkeypatch):
    for package in ("autograd", "pyadjoint"):
        (tmp_path / package).mkdir()
        text = f"raise ModuleNotFoundError('no {package}', name='{package}')"
        (tmp_path / package / "__init__.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    contest = modules("benchmarks.contest")
    contenders = {"thalweg": "graph_thalweg", "HIPS autograd": "graph_autograd", "pyadjoint": "graph_pyadjoint"}
    settings = {"figure": "chain", "count": 10, "at_least": 0.0, "warm": True}
    outcomes = contest.contest(contenders, settings, contest.Options(rounds=2))
    assert len(outcomes["thalweg"].samples) == 2
    lines = contest.peers(outcomes, scale=float, better=lambda our, their: their / our)
    assert [(line.samples, line.note) for line in lines] == [
        ((), "not installed (pip install -r benchmarks/requirements.txt)")
    ] * 2


def test_a_contender_that_fails_or_dies_is_a_line_in_the_table(modules):
    contest = modules("benchmarks.contest")
    settings = {"figure": "chain", "count": 10, "at_least": 0.0}  # without "warm"
    contenders = {"wrong": "graph_thalweg", "dead": "no_such_contender"}
    outcomes = contest.contest(contenders, settings, contest.Options(rounds=1))
    assert outcomes["wrong"].problem == "failed: KeyError: 'warm'"
    assert outcomes["dead"].problem.startswith("ended with code 1: ")
    assert "no_such_contender" in outcomes["dead"].problem


def test_each_of_several_processes_counts_once(modules):
    """A process that had luck with its pages is one among others; ratios are of turns that were next to each other."""
    contest, steps = modules("benchmarks.contest"), modules("benchmarks.steps")
    contenders = {"thalweg": "graph_thalweg", "again": "graph_thalweg"}
    settings = {"figure": "chain", "count": 10, "at_least": 0.0, "warm": True}
    outcomes = contest.contest(contenders, settings, contest.Options(), rounds=2, sittings=3)
    for outcome in outcomes.values():
        assert [(one["sitting"], one["turn"]) for one in outcome.rounds] == [(s, t) for s in range(3) for t in range(2)]
        assert len(outcome.samples) == 3
    ours, theirs = contest.Outcome("ours"), contest.Outcome("theirs")
    for sitting, (mine, other) in enumerate([([1.0, 9.0, 2.0], [2.0, 18.0, 2.0]), ([5.0, 5.0, 5.0], [1.0, 5.0, 10.0])]):
        ours.rounds += [{"samples": [value], "sitting": sitting} for value in mine]
        theirs.rounds += [{"samples": [value], "sitting": sitting} for value in other]
    assert (ours.samples, theirs.samples) == ((2.0, 5.0), (2.0, 5.0))
    assert steps._ratios(ours, theirs) == (0.5, 1.0)
    one = contest.Outcome("one", rounds=[{"samples": [1.0, 2.0]}, {"samples": [3.0]}])
    assert one.samples == (1.0, 2.0, 3.0)
    assert steps._ratios(one, one) == (1.0, 1.0, 1.0)
    assert steps._ratios(one, None) == ()


def test_the_part_of_memory_in_huge_pages_is_a_part_or_not_known(modules):
    found = modules("benchmarks.contenders.steps_job").huge_pages()
    assert found is None or 0.0 <= found <= 1.0


def test_verdicts_and_table(modules):
    figures = modules("benchmarks.figures")
    at_most = figures.Target(high=0.5)
    reached = figures.Figure("a", (0.1, 0.9, 0.2), unit="s", target=at_most)
    missed = figures.Figure("b", (0.1, 0.9, 0.2), unit="s", target=at_most, choose=max)
    quick = figures.Figure("c", (0.9,), target=at_most, judged=False)
    absent = figures.Figure("d", (), target=at_most, judged=False)
    undefined = figures.Figure("e", (float("nan"),), target=at_most)
    assert [f.reached for f in (reached, missed, quick, absent, undefined)] == [True, False, None, False, False]
    slope = figures.Target(0.95, 1.05)
    assert [slope.met(value) for value in (0.94, 0.95, 1.05, 1.06)] == [False, True, True, False]
    peer = figures.Peer("somebody 1.0", (0.3, 0.5), "ours 2.00 × as fast", "a remark")
    text = figures.table([figures.Figure("a", (0.1, 0.9, 0.2), unit="s", target=at_most, peers=(peer,)), missed])
    assert [part.strip() for part in text.splitlines()[2].split("  ") if part.strip()] == [
        "a", "0.2 s", "0.1 – 0.9", "≤ 0.5 s", "ok"
    ]  # fmt: skip
    assert "NOT REACHED" in text
    assert "    somebody 1.0  0.4 s" in text
    assert [figures.number(v) for v in (1.234e-13, 0.01234, 12.34, 100000.0)] == [
        "1.23e-13", "0.0123", "12.3", "100000"
    ]  # fmt: skip


def test_where_nothing_has_returned_from_the_layer(modules):
    job = modules("benchmarks.contenders.wave_job").WaveJob(cells=60, steps=50, order=8, save_every=1)
    early = job.undisturbed
    assert early.shape == (2, 50, 60)
    assert early[:, 0].all()
    # The source is 3 cells below the edge, the receivers 5: via the edge to the one above the source it is 8 cells.
    assert early[0, :, 15].sum() == int(8 * 10.0 / job.truth.max() / 1e-3) + 1


def test_a_killed_run_whose_answers_are_not_found_is_an_error(monkeypatch, modules):
    from thalweg.lm import requests

    key = requests.request_key
    monkeypatch.setattr(requests, "request_key", lambda body, sample: key(body, sample + 1))  # of none that was asked
    with pytest.raises(RuntimeError, match=r"^only 0 answers to \d+ requests are found on the disk$"):
        modules("benchmarks.lm_calls").killed(modules("benchmarks.contest").Options(quick=True))
