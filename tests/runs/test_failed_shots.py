"""A shot that fails for good stops the run with shot, worker and traceback, or is left out: counted, told, shown."""

import io
import re

import numpy as np
import pytest
from pydantic import BaseModel

import thalweg as tw
from thalweg.errors import RunError, StudyError
from thalweg.runs import Feedback, History, PlainDisplay, Problem, Run, Study
from thalweg.runs.record import RunRecord
from thalweg.runs.report.page import page


class Shots(Problem):
    """Each shot pulls x towards its own number; those in ``broken`` cannot be computed."""

    kind = "shots"
    item_name = "shot"

    class Settings(BaseModel, extra="forbid"):
        items: int = 7
        broken: list[int] = []
        integers: bool = False
        own_metric: bool = False

    class BlockSettings(BaseModel, extra="forbid"):
        pass

    def __init__(self, settings):
        self.settings, self.items = settings, settings.items
        self.x = tw.Variable(np.zeros(40, np.float32), name="x", needs_grad=True)
        self.variables = (self.x,)
        self.goals = np.random.default_rng(0).standard_normal((self.items, 40)) * 10.0 ** np.arange(self.items)[:, None]

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls(settings)

    async def feedback(self, batch, runtime):
        total = await runtime.map_reduce(shot(self.x.data, self.goals, self.settings), [int(i) for i in batch])
        return Feedback(total["loss"], {"x": total["x"]})

    def metrics(self):
        return {"failed_items": 7.0} if self.settings.own_metric else {}


def shot(x, goals, settings):
    broken, integers = list(settings.broken), settings.integers

    def task(i):
        if i in broken:
            raise FloatingPointError(f"the simulation of shot {i} has become unstable")
        residual = x - goals[i].astype(np.float32)
        loss = float(0.5 * np.sum(residual.astype(np.float64) ** 2))
        return {"loss": loss, "x": residual, **({"count": 1} if integers else {})}

    return task


def study(broken=(), *, on="reweight", iterations=6, **problem):
    return Study.from_document(
        {
            "title": "shots",
            "seed": 4,
            "on_failed_shot": on,
            "problem": {"kind": "shots", "broken": list(broken), **problem},
            "optimizer": {"kind": "adam", "learning_rate": 0.1},
            "blocks": [{"iterations": iterations, "selection": "random", "batch_size": 4}],
            "output": {"figures": False, "checkpoint_every": 1},
            "runtime": {"threads": 2},
        },
        kinds={"shots": Shots},
    )


def execute(made, out, **arguments):
    return tw.wait(Run(made, out=out, **arguments).execute())


def failures(folder):
    return [event for event in History(folder).events() if event["kind"] == "failed_item"]


def test_a_failed_shot_stops_the_run_with_shot_worker_and_traceback(tmp_path):
    with pytest.raises(FloatingPointError, match="shot 3") as error:
        execute(study([3], on="stop"), tmp_path / "run")
    item, worker = error.value.__notes__
    assert re.fullmatch(r"while working on item 3 \(number \d of \d\)", item)
    assert re.fullmatch(r"on the thread thalweg_\d", worker)
    record = RunRecord.read(tmp_path / "run")
    assert record.status == "failed"
    last = [event for event in record.events if event["kind"] == "failed"][-1]
    assert last["details"]["notes"] == [item, worker]
    assert "raise FloatingPointError" in last["details"]["traceback"]
    assert record.summary["error"]["traceback"] == last["details"]["traceback"]
    assert "failed_items" not in record.iterations
    html = page(record)
    assert worker in html
    assert "raise FloatingPointError" in html


def test_a_failed_shot_is_left_out_of_loss_and_gradient_and_the_rest_is_weighted(tmp_path):
    broken = [1, 5]
    outcome = execute(study(broken), tmp_path / "run")
    columns, batches = outcome.history.iterations(), outcome.history.batches()
    missing = [[i for i in batch if i in broken] for batch in batches]
    assert columns["failed_items"].tolist() == [len(m) for m in missing]
    assert 0 < outcome.summary["failed_items"] == sum(map(len, missing))
    told = [(event["iteration"], int(event["details"]["item"])) for event in failures(outcome.folder)]
    assert told == [(k, i) for k, m in enumerate(missing, start=1) for i in m]
    # The same steps by hand.
    problem = Shots(Shots.Settings())
    optimizer = tw.Adam(problem.x, learning_rate=0.1)
    for batch, left_out, loss in zip(batches, missing, columns["loss"], strict=True):
        good = [i for i in batch if i not in left_out]
        parts = [shot(problem.x.data.copy(), problem.goals, problem.settings)(i) for i in batch]
        tree = [None if i in left_out else part for i, part in zip(batch, parts, strict=True)]
        sums = {}
        for name in ("loss", "x"):
            level = [None if part is None else part[name] for part in tree]
            while len(level) > 1:
                pairs = zip(level[::2], level[1::2], strict=False)
                level = [b if a is None else a if b is None else a + b for a, b in pairs] + level[
                    len(level) - len(level) % 2 :
                ]
            sums[name] = level[0]
        weight = len(batch) / len(good)
        expected = sums["loss"] * weight if left_out else sums["loss"]
        assert loss == expected
        gradient = sums["x"] * np.float32(weight) if left_out else sums["x"]
        tw.wait(optimizer.apply(Feedback(float(expected), {"x": gradient})))
    with np.load(outcome.folder / "result.npz") as result:
        assert result["x"].tobytes() == problem.x.data.tobytes()


def test_it_is_told_shown_and_reported(tmp_path):
    stream = io.StringIO()
    outcome = execute(study([3]), tmp_path / "run", display=PlainDisplay(stream, interval=0.0))
    shown = stream.getvalue()
    notes = re.findall(
        r"iteration (\d+): 1 of [34] shots failed and were left out, the sum is weighted with [34]/[23]; shot 3 on the "
        r"thread thalweg_\d: FloatingPointError: the simulation of shot 3 has become unstable",
        shown,
    )
    found = failures(outcome.folder)
    assert [int(n) for n in notes] == [event["iteration"] for event in found]
    assert re.search(rf"failed items +{len(found)}\n", shown)
    assert all("raise FloatingPointError" in event["details"]["traceback"] for event in found)
    html = page(RunRecord.read(outcome.folder))
    assert f"{len(found)} failed items were left out" in html
    assert "raise FloatingPointError" in html


def test_without_a_failure_nothing_changes_but_that_it_is_counted(tmp_path):
    plain = execute(study(on="stop"), tmp_path / "plain")
    outcome = execute(study(), tmp_path / "run")
    assert outcome.summary["digest"] == plain.summary["digest"]
    assert outcome.history.iterations()["failed_items"].tolist() == [0.0] * 6
    assert outcome.summary["failed_items"] == 0
    assert "failed_items" not in plain.summary


def test_all_shots_failed_stops_the_run(tmp_path):
    with pytest.raises(RunError, match=r"All 4 items failed.*FloatingPointError: the simulation of shot"):
        execute(study(range(7)), tmp_path / "run")
    summary = RunRecord.read(tmp_path / "run").summary
    assert summary["status"] == "failed"
    assert "raise FloatingPointError" in summary["error"]["notes"][0]


def test_a_sum_that_cannot_be_weighted_stops_the_run(tmp_path):
    with pytest.raises(RunError, match=r"1 of [34] items failed, and result\['count'\] holds integers.*shot 3"):
        execute(study([3], integers=True), tmp_path / "run")
    assert execute(study(integers=True), tmp_path / "whole").status == "finished"


def test_the_name_of_the_metric_is_the_runs_own(tmp_path):
    with pytest.raises(RunError, match=r"metrics \['failed_items'\] have names that the history uses itself"):
        execute(study(own_metric=True), tmp_path / "run")


def test_the_key_is_validated():
    with pytest.raises(StudyError, match="on_failed_shot"):
        study(on="ignore")


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_resumed_run_has_the_same_bits_and_each_failure_once(tmp_path, k):
    whole = execute(study([1, 5]), tmp_path / "whole")
    execute(study([1, 5], iterations=k), tmp_path / "run")
    run = Run.resume(tmp_path / "run", overrides=["blocks.0.iterations=6"], kinds={"shots": Shots})
    again = tw.wait(run.execute())
    assert again.summary["digest"] == whole.summary["digest"]
    assert again.summary["failed_items"] == whole.summary["failed_items"]

    def told(folder):
        return [(event["iteration"], event["details"]["item"]) for event in failures(folder)]

    assert told(tmp_path / "run") == told(tmp_path / "whole")


def test_what_is_computed_again_is_told_once(tmp_path):
    outcome = execute(study([3]), tmp_path / "run")
    from thalweg.runs.history import HistoryWriter

    before = [event["iteration"] for event in failures(outcome.folder)]
    with HistoryWriter(outcome.folder / "run.sqlite") as writer:
        writer.forget_after(before[0])
    assert [event["iteration"] for event in failures(outcome.folder)] == before[:1]


@pytest.mark.slow
def test_every_runtime_has_the_same_bits(tmp_path):
    pytest.importorskip("distributed")
    from thalweg.runtime import Dask, Local

    found = []
    with Local(1) as one, Local(3) as three, Dask(workers=2) as cluster:
        for name, runtime in {"one": one, "three": three, "cluster": cluster}.items():
            outcome = execute(study([1, 5]), tmp_path / name, runtime=runtime)
            events = [(e["iteration"], e["details"]["item"], e["details"]["error"]) for e in failures(outcome.folder)]
            losses = outcome.history.iterations()["loss"].tolist()
            found.append((outcome.summary["digest"], losses, events))
            workers = {event["details"]["worker"] for event in failures(outcome.folder)}
            start = "worker tcp://127.0.0.1:" if name == "cluster" else "thread thalweg_"
            assert all(worker.startswith(start) for worker in workers)
    assert found[0] == found[1] == found[2]
