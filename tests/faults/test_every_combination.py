"""run(n) is run(k) and resume, for every k, optimizer, schedule and selection of items: to the same bits."""

import asyncio
import itertools
import random

import pytest

from tests.faults import victim
from tests.faults.bits import fingerprint
from tests.sampling import ALL, sample
from thalweg import optimizers, schedules
from thalweg.graph import wait
from thalweg.runs import QuietDisplay, Run, Study

ITERATIONS = 9

SCHEDULES = {
    "fixed": {"initial": 0.05},
    "exp": {"initial": 0.05, "gamma": 0.9, "decay_on_iteration": True},
    "inv": {"initial": 0.05, "decay_on_iteration": True},
    "step": {"initial": 0.05, "period": 2, "gamma": 0.5},
    "piecewise": {"initial": 0.05, "boundaries": [2, 5], "factor": 0.5, "decay_on_iteration": True},
    "polynomial": {"initial": 0.05, "duration": 8, "final": 0.01, "power": 2.0, "decay_on_iteration": True},
    "cosine": {"initial": 0.05, "period": 3, "restarts": True, "decay_on_iteration": True},
    "one_cycle": {"peak": 0.05, "duration": 9},
    "cyclic": {"initial": 0.01, "peak": 0.05, "up": 2, "down": 3},
    "warm_up": {"then": {"kind": "exp", "initial": 0.05}, "duration": 4},
    "chain": {"factors": [{"kind": "exp", "initial": 0.05}, 0.5]},
    "join": {"schedules": [{"kind": "fixed", "initial": 0.05}, 0.01], "boundaries": [4], "decay_on_iteration": True},
    "plateau": {"initial": 0.05, "factor": 0.5, "patience": 0, "threshold": 0.3},
}
SELECTIONS = {
    "all": {"selection": "all"},
    "every": {"selection": "every", "batch_size": 2},
    "random": {"selection": "random", "batch_size": 4},
}
NO_SCHEDULE = {"rprop"}  # whose steps have lengths of their own

EVERYTHING = [
    (rule, schedule, selection)
    for rule, schedule, selection in itertools.product(sorted(optimizers.registry), SCHEDULES, SELECTIONS)
    if rule not in NO_SCHEDULE or schedule == "fixed"
]


class Stopping(QuietDisplay):
    def __init__(self, iteration):
        self.at = iteration

    def iteration(self, record):
        if record.iteration == self.at:
            self.task.cancel()


def study_of(rule, schedule, selection):
    rate = {"kind": schedule, **SCHEDULES[schedule]} if rule not in NO_SCHEDULE else 0.05
    document = victim.document(ITERATIONS)
    document["optimizer"] = {"kind": rule, "learning_rate": rate}
    first, rest = ({**SELECTIONS[selection], "iterations": n} for n in (4, ITERATIONS - 4))
    document["blocks"] = [{**first, "cutoff": 0.3}, {**rest, "reset_optimizer": True}]
    document["output"] = {"checkpoint_every": 3, "figures": False}
    return Study.from_document(document, kinds=victim.kinds())


def stop(session, display):
    async def work():
        display.task = asyncio.ensure_future(session.execute())
        with pytest.raises(asyncio.CancelledError):
            await display.task

    wait(work())


def test_there_is_a_table_for_every_schedule():
    assert SCHEDULES.keys() == schedules.registry.keys()


@pytest.mark.parametrize(("rule", "schedule", "selection"), sample(EVERYTHING, 24, seed=11))
def test_stopped_twice_it_is_the_run_that_was_not(tmp_path, rule, schedule, selection):
    """With THALWEG_TESTS=all, also stopped once: after each iteration."""
    study = study_of(rule, schedule, selection)
    wait(Run(study, out=tmp_path / "whole").execute())
    expected = fingerprint(tmp_path / "whole")
    first, second = sorted(random.Random(f"{rule} {schedule} {selection}").sample(range(1, ITERATIONS), 2))
    out = tmp_path / "run"
    display = Stopping(first)
    stop(Run(study, out=out, display=display), display)
    display = Stopping(second)
    stop(Run.resume(out, kinds=victim.kinds(), display=display), display)
    assert wait(Run.resume(out, kinds=victim.kinds()).execute()).status == "finished"
    assert fingerprint(out) == expected, (first, second)
    for k in range(1, ITERATIONS) if ALL else ():
        out = tmp_path / f"run-{k}"
        display = Stopping(k)
        stop(Run(study, out=out, display=display), display)
        assert wait(Run.resume(out, kinds=victim.kinds()).execute()).status == "finished"
        assert fingerprint(out) == expected, k


def test_stopped_after_each_iteration(tmp_path):
    """Every k of one of them, each time in a process state that knows nothing of the time before."""
    study, out = study_of("adam", "plateau", "random"), tmp_path / "run"
    wait(Run(study, out=tmp_path / "whole").execute())
    display = Stopping(1)
    stop(Run(study, out=out, display=display), display)
    for k in range(2, ITERATIONS):
        display = Stopping(k)
        stop(Run.resume(out, kinds=victim.kinds(), display=display), display)
    wait(Run.resume(out, kinds=victim.kinds()).execute())
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
