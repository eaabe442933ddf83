"""SIGKILL at any moment of a search: the same result, and no answer that was received is paid for twice."""

import json
import random
import time

import pytest

from tests.faults import search_victim
from tests.faults.killing import kill, start
from tests.sampling import ALL
from thalweg.runs import History

KILLS = 60 if ALL else 4
SEED = 20261128


def strike(process, log, rng, most):
    """After so many calls, and a little later."""
    left = rng.randint(1, most)
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < 120:
        if log.exists() and log.read_bytes().count(b"\n") >= left:
            break
        time.sleep(0.001)
    time.sleep(rng.random() * 0.01)
    kill(process)


def result(folder):
    history = History(folder)
    search = {**history.facts()["search"], "spent": None, "lost_in_flight": None}
    rewards = sorted((row.key, row.item, row.reward) for row in history.evaluations() if row.status == "done")
    return json.dumps([search, rewards, [c["values"] for c in history.candidates()]])


@pytest.mark.slow
def test_killed_searches_come_to_the_same_result_and_pay_for_no_answer_twice(tmp_path):
    search_victim.go(tmp_path / "whole", tmp_path / "whole.log", "run")
    expected = result(tmp_path / "whole")
    calls = (tmp_path / "whole.log").read_text().splitlines()
    assert len(calls) == len(set(calls)) > 190
    rng = random.Random(SEED)
    lost_in_all = 0
    for number in range(KILLS):
        folder, log = tmp_path / str(number), tmp_path / f"{number}.log"
        deaths = 1 + number % 2  # some of them twice
        strike(start("search_victim", folder, log, "run"), log, rng, len(calls) - 20)
        if deaths == 2:
            before = log.read_bytes().count(b"\n")
            strike(start("search_victim", folder, log, "resume"), log, rng, before + 20)
        outcome = search_victim.go(folder, log, "resume")
        assert result(folder) == expected, number
        made = log.read_text().splitlines()
        assert set(made) == set(calls)
        repeated = len(made) - len(calls)
        rows = History(folder).evaluations()
        lost = [row for row in rows if row.status == "lost"]
        assert repeated <= len(lost), "what was repeated had been in flight, and is counted"
        assert len(lost) <= deaths * search_victim.CONCURRENCY
        spent = outcome.summary["search"]["spent"]["tokens"]
        assert spent == search_victim.TOKENS * len(calls) + search_victim.BOUND * len(lost)
        assert spent >= search_victim.TOKENS * len(made), "more was never paid than is said"
        lost_in_all += len(lost)
    print(f"{KILLS} searches killed, {lost_in_all} evaluations were in flight")
