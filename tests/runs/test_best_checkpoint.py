"""`keep_best`: the checkpoint that stays is the one whose model had the lowest loss, not the one after it."""

import shutil

import numpy as np
import pytest
from pydantic import BaseModel

from tests.runs.going import Doing, fingerprint, go_on, run, stop_after
from tests.runs.searching import Valley
from thalweg.checkpoints import CheckpointStore
from thalweg.graph import Variable, wait
from thalweg.runs import Feedback, History, Problem, Run


class Nothing(BaseModel, extra="forbid"):
    pass


class Along(Problem):
    """Goes to 1, 2, 3, ...: at each place it has the loss that is written there."""

    kind, Settings, BlockSettings, items = "along", Nothing, Nothing, 1
    losses: tuple = ()

    def __init__(self):
        self.x = Variable(np.zeros(1), name="x", needs_grad=True)
        self.variables = (self.x,)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls()

    async def feedback(self, batch, runtime):
        return Feedback(self.losses[round(float(self.x.data[0]))], {"x": -np.ones(1)})


#         at x =  0    1    2    3    4    5    6    7    8    9
LOSSES = (5.0, 4.0, 1.0, 3.0, 7.0, 9.0, 6.0, 8.0, 2.0, 0.5)
KINDS = {"along": type("Along", (Along,), {"losses": LOSSES})}


def document(blocks=(9,), **output):
    return {
        "title": "along",
        "problem": {"kind": "along"},
        "optimizer": {"kind": "gradient_descent", "learning_rate": 1.0},
        "blocks": [{"iterations": count} for count in blocks],
        "output": {"figures": False, "checkpoint_every": 1, "keep": 1, "keep_best": True, **output},
    }


def kept(out):
    """By iteration, the loss of the model of each checkpoint."""
    store, found = CheckpointStore(out / "checkpoints"), {}
    for number in store.generations():
        arrays, meta, _ = store.load(number)
        found[meta["iteration"]] = LOSSES[round(float(arrays["variable/x"][0]))]
    return found


@pytest.mark.parametrize(
    ("blocks", "output", "expected"),
    [
        ((9,), {}, {2: 1.0, 9: 0.5}),
        ((6,), {}, {2: 1.0, 6: 6.0}),
        ((9,), {"keep": 2}, {2: 1.0, 8: 2.0, 9: 0.5}),
        ((9,), {"checkpoint_every": 3}, {3: 3.0, 9: 0.5}),
        ((9,), {"checkpoint_every": 4}, {8: 2.0, 9: 0.5}),
        ((9,), {"keep_every": 5}, {2: 1.0, 5: 9.0, 9: 0.5}),
        ((2,), {}, {1: 4.0, 2: 1.0}),
        ((1,), {}, {1: 4.0}),
        # The model at the end of a block counts for the block that begins there.
        ((2, 4), {}, {1: 4.0, 2: 1.0, 6: 6.0}),
        ((3, 6), {}, {2: 1.0, 8: 2.0, 9: 0.5}),
        ((3, 3), {}, {2: 1.0, 3: 3.0, 6: 6.0}),
        ((1, 1, 1), {}, {1: 4.0, 2: 1.0, 3: 3.0}),
    ],
)
def test_the_model_with_the_lowest_loss_of_each_block_stays(tmp_path, blocks, output, expected):
    run(document(blocks, **output), KINDS, tmp_path / "run")
    assert kept(tmp_path / "run") == expected


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("output", [{}, {"checkpoint_every": 3}, {"keep": 2}])
def test_a_run_that_was_killed_keeps_what_the_whole_one_does(tmp_path, k, output):
    out, killed = tmp_path / "run", tmp_path / "killed"
    run(document((4, 5), **output), KINDS, out, display=Doing(k, lambda: shutil.copytree(out, killed)))
    go_on(killed, KINDS)
    assert kept(killed) == kept(out)
    assert fingerprint(killed)[1] == fingerprint(out)[1]


@pytest.mark.parametrize("k", range(1, 9))
def test_a_run_that_was_stopped_keeps_what_the_whole_one_does(tmp_path, k):
    stop_after(document(), KINDS, tmp_path / "run", k)
    assert kept(tmp_path / "run") == {j: LOSSES[j] for j in {min(2, k), max(1, min(2, k - 1)), k}}
    go_on(tmp_path / "run", KINDS)
    assert kept(tmp_path / "run") == {2: 1.0, 9: 0.5}


def test_the_model_at_the_end_of_a_run_counts_when_it_goes_on(tmp_path):
    run(document((2,)), KINDS, tmp_path / "run")
    go_on(tmp_path / "run", KINDS, "blocks.0.iterations=7")
    assert kept(tmp_path / "run") == {2: 1.0, 7: 8.0}


def test_what_was_given_up_does_not_count(tmp_path):
    """Where the model goes on from an earlier checkpoint, it comes to other losses."""
    out = tmp_path / "run"
    run(document(keep=20), KINDS, out)
    other = {"along": type("Along", (Along,), {"losses": (5.0, 4.0, 9.5, 3.5, 7.0, 9.0, 6.0, 8.0, 3.75, 3.25)})}
    wait(Run.resume(out, kinds=other, iteration=1, overrides=["output.keep=1"]).execute())
    assert list(kept(out)) == [3, 9]


@pytest.mark.parametrize("keep_best", [False, True])
def test_one_that_is_asked_for_when_a_run_goes_on_knows_the_losses_of_before(tmp_path, keep_best):
    out = tmp_path / "run"
    stop_after(document(keep=20, keep_best=keep_best), KINDS, out, 6)
    go_on(out, KINDS, "output.keep=1", "output.keep_best=true")
    assert kept(out) == {2: 1.0, 9: 0.5}


def test_counts_of_items_stay_with_the_checkpoints(tmp_path):
    run(document((4, 5)), KINDS, tmp_path / "run")
    facts = History(tmp_path / "run").facts()
    counted = sorted(int(name.partition("/")[2]) for name in facts if name.startswith("items_by_worker_at/"))
    assert list(kept(tmp_path / "run")) == [2, 8, 9]
    assert counted == [2, 8, 9]


def test_what_a_search_has_found_is_in_the_checkpoint_after_it(tmp_path):
    search = {
        "title": "a valley",
        "problem": {"kind": "valley"},
        "optimizer": {"kind": "random"},
        "blocks": [{"iterations": 9}],
        "output": {"figures": False, "checkpoint_every": 1, "keep": 1, "keep_best": True},
    }
    kinds = {"valley": Valley}
    run(search, kinds, tmp_path / "run")
    misfits = History(tmp_path / "run").iterations()["misfit"]
    best = int(np.argmin(misfits)) + 1
    assert 1 < best < 9
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    assert [store.meta(number)["iteration"] for number in store.generations()] == [best, 9]
    assert go_on(tmp_path / "run", kinds, "blocks.0.iterations=11").status == "finished"
    misfits = History(tmp_path / "run").iterations()["misfit"]
    assert [store.meta(number)["iteration"] for number in store.generations()] == [int(np.argmin(misfits)) + 1, 11]
