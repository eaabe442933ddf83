"""Whoever waits for a cluster is told when it loses workers."""

from __future__ import annotations

import os
import re
import signal
import time
from functools import partial
from pathlib import Path

import pytest

import thalweg as tw
from thalweg.runtime import Dask

pytest.importorskip("distributed")


def fatal_once(flag, item):
    """The item, whose first worker is killed as a machine without memory does it."""
    if item == 2 and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_the_death_of_a_worker_is_told_once_and_by_its_name(tmp_path):
    notes = []
    with Dask(workers=2, note=notes.append) as cluster:
        task = partial(fatal_once, str(tmp_path / "died"))
        assert tw.wait(cluster.map_reduce(task, range(5))) == 10
        for _ in range(2):  # whoever died after the last look of a call is missed at the first of the next
            assert tw.wait(cluster.map_reduce(task, range(5))) == 10
    told = [note for note in notes if "is gone" in note]
    assert len(told) == 1, notes
    assert re.match(r"worker tcp://127.0.0.1:\d+ \(worker [01]\) is gone", told[0])
    assert "computed again" in told[0]


def test_the_end_of_a_cluster_is_no_loss():
    notes = []
    with Dask(workers=2, note=notes.append) as cluster:
        for _ in range(2):
            tw.wait(cluster.map_reduce(abs, range(5)))
            cluster.close()
    assert not [note for note in notes if "gone" in note]


def test_a_worker_that_comes_again_between_two_calls_is_waited_for():
    """Who was silent while nobody asked had nothing to do."""
    with Dask(workers=1, patience=8.0) as cluster:
        assert tw.wait(cluster.map_reduce(abs, range(3))) == 3
        [pid] = cluster._client.run(os.getpid).values()
        time.sleep(9.0)
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
        assert tw.wait(cluster.map_reduce(abs, range(3))) == 3
