"""Kept sums of the iteration in progress: after a kill the finished shots are not computed again, to the same bits."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, namedtuple
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from tests.runs import slow_shots as slow
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.runs import QuietDisplay, Run
from thalweg.runs.flat import flatten, restore
from thalweg.runs.kept_shots import KeptSums
from thalweg.runtime import Pieces
from thalweg.runtime.tree import Absent

PROGRAM = Path(__file__).with_name("slow_shots.py")


KINDS = {"slow": slow.Slow}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The uninterrupted run, without any keeping: its summary, and the sums of the model before each iteration."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = tw.wait(Run(slow.study(folder, "one", checkpoint_shots=False), out=folder / "run").execute())
    lines = (folder / "shots").read_text().split("\n")[:-1]
    assert len(lines) == slow.ITEMS * slow.ITERATIONS
    models = list(dict.fromkeys(line.split()[0] for line in lines))
    return outcome, models


def shots(folder):
    """How often each shot of each model was begun."""
    return Counter(tuple(line.split()) for line in (folder / "shots").read_text().split("\n")[:-1])


def wait_for(what, timeout=100.0):
    end = time.monotonic() + timeout
    while not (found := what()):
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)
    return found


def kill_in_the_middle(folder, runtime, model, held, every=1):
    """Run until each worker has one of the shots ``held`` of the second iteration, and kill it there."""
    for _ in range(10):
        if done := killed_there(folder, runtime, model, held, every):
            return done
        shutil.rmtree(folder)  # who takes which shot is up to Dask: at first those that are held, and no other
        folder.mkdir()
    raise AssertionError("no shot is ever finished")


def killed_there(folder, runtime, model, held, every):
    """The shots that were finished, perhaps none."""
    for i in held:
        (folder / f"hold-{i}").write_text(model)
    command = [sys.executable, str(PROGRAM), str(folder), runtime, str(every)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    kept = folder / "run" / "shots" / "000002-0"
    with process:
        try:
            wait_for(lambda: len(list(folder.glob("held-*"))) == len(held) or process.poll() is not None)
            wait_for(lambda: covered(kept) >= finished(folder, model, held) or process.poll() is not None)
            assert process.poll() is None, process.stderr.read()
        finally:
            process.send_signal(signal.SIGKILL)
    for i in held:
        (folder / f"hold-{i}").unlink()
    return finished(folder, model, held)


def finished(folder, model, held):
    return {int(i) for m, i in shots(folder) if m == model} - set(held)


def covered(kept):
    """The items in the sums that are on the disk."""
    sums = KeptSums(kept, {}, lambda text: None)
    found = set()
    for generation in sums._store.generations():
        try:
            meta = sums._store.meta(generation)
        except tw.errors.CheckpointError:  # it has just become part of a larger one
            continue
        level, index = meta["level"], meta["index"]
        found |= set(range(index << level, min((index + 1) << level, slow.ITEMS)))
    return found


@pytest.mark.parametrize(
    ("runtime", "again", "held"),
    [
        ("one", "one", [6]),
        ("two", "two", [2, 7]),
        pytest.param("dask", "dask", [2, 7], marks=pytest.mark.slow),
        pytest.param("dask", "two", [0, 10], marks=pytest.mark.slow),
        pytest.param("two", "dask", [4, 5], marks=pytest.mark.slow),
    ],
)
def test_after_a_kill_only_what_was_not_finished_is_computed(tmp_path, expected, runtime, again, held):
    if "dask" in (runtime, again):
        pytest.importorskip("distributed")
    whole, models = expected
    done = kill_in_the_middle(tmp_path, runtime, models[1], held)
    before = shots(tmp_path)
    run = Run.resume(tmp_path / "run", kinds=KINDS, overrides=[f"runtime={toml(slow.RUNTIMES[again])}"])
    outcome = tw.wait(run.execute())
    assert outcome.summary["digest"] == whole.summary["digest"]
    assert outcome.history.iterations()["loss"].tolist() == whole.history.iterations()["loss"].tolist()
    computed = shots(tmp_path) - before
    left = {(models[1], str(i)) for i in range(slow.ITEMS) if i not in done}
    assert computed == Counter([*left, *((models[2], str(i)) for i in range(slow.ITEMS))])
    assert not (tmp_path / "run" / "shots").exists()
    assert not [event for event in outcome.history.events() if event["kind"] == "warning"]


def toml(table):
    return "{ " + ", ".join(f"{k} = {v!r}".replace("'", '"') for k, v in {"kind": "local", **table}.items()) + " }"


@pytest.fixture
def killed(tmp_path, expected):
    folder = tmp_path / "killed"
    folder.mkdir()
    done = kill_in_the_middle(folder, "two", expected[1][1], [2, 7])
    return folder, done


def go_on(folder, *overrides):
    before = shots(folder)
    outcome = tw.wait(Run.resume(folder / "run", kinds=KINDS, overrides=overrides).execute())
    warnings = [event["text"] for event in outcome.history.events() if event["kind"] == "warning"]
    return outcome, shots(folder) - before, warnings


def test_a_damaged_sum_is_computed_again_and_said(killed, expected):
    folder, _ = killed
    whole, models = expected
    files = sorted((folder / "run" / "shots" / "000002-0").glob("*/state.safetensors"))
    assert len(files) >= 2
    content = bytearray(files[0].read_bytes())
    content[-3] ^= 4
    files[0].write_bytes(content)
    files[1].unlink()
    outcome, computed, warnings = go_on(folder)
    assert outcome.summary["digest"] == whole.summary["digest"]
    assert sum("a sum of finished shots is damaged, so its shots are computed again" in text for text in warnings) == 2
    assert sum(n for (model, _), n in computed.items() if model == models[1]) > 2
    assert set(computed.values()) == {1}


def test_what_is_not_computed_again_is_said(tmp_path):
    told = []
    KeptSums(tmp_path, {}, print).keep(1, 1, {"loss": 3.0})
    KeptSums(tmp_path, {}, print).keep(0, 6, {"loss": 3.0})
    KeptSums(tmp_path, {}, print, tell=told.append).sums(7)
    KeptSums(tmp_path / "none", {}, print, tell=told.append).sums(7)
    assert told == ["3 of 7 shots were finished before, and are not computed again"]


def test_sums_of_another_study_are_not_used_and_that_is_said(killed):
    folder, _ = killed
    outcome, computed, warnings = go_on(folder, "problem.scale=2.0")
    assert any("sums of finished shots are not of this iteration" in text for text in warnings)
    assert sum(computed.values()) == 2 * slow.ITEMS
    assert outcome.status == "finished"


@pytest.mark.parametrize(("planned", "wanted"), [(5, 2), (2, 5)], ids=["now in the next block", "still in this block"])
def test_sums_of_another_block_are_not_used(tmp_path, monkeypatch, planned, wanted):
    """The third iteration is another block's, once the first block is made shorter or longer; the model is the same."""
    calls, shot = itertools.count(1), slow.shot

    def breaking(*arguments):
        task = shot(*arguments)

        def one(i):
            if next(calls) == 2 * slow.ITEMS + 8:
                raise OSError("the node is gone")
            return task(i)

        return one

    def two_blocks(folder, iterations):
        blocks = [{"iterations": iterations}, {"iterations": 2, "gain": 5.0}]
        folder.mkdir()
        return slow.Study.from_document({**slow.study(folder, "one").document, "blocks": blocks}, kinds=KINDS)

    with monkeypatch.context() as patch:
        patch.setattr(slow, "shot", breaking)
        with pytest.raises(OSError, match="the node is gone"):
            tw.wait(Run(two_blocks(tmp_path / "broken", planned), out=tmp_path / "broken" / "run").execute())
    broken = tmp_path / "broken" / "run"
    assert covered(broken / "shots" / "000003-0") == set(range(7))
    shutil.rmtree(broken / "checkpoints" / "000003", ignore_errors=True)  # of the end, which a kill would not have left
    outcome, _, warnings = go_on(tmp_path / "broken", f"blocks.0.iterations={wanted}")
    whole = tw.wait(Run(two_blocks(tmp_path / "whole", wanted), out=tmp_path / "whole" / "run").execute())
    assert outcome.history.iterations()["loss"].tolist() == whole.history.iterations()["loss"].tolist()
    assert outcome.summary["digest"] == whole.summary["digest"]
    assert any("sums of finished shots are not of this iteration" in text for text in warnings)


@pytest.mark.parametrize("every", [1, 2])
def test_a_checkpoint_that_could_not_be_written_costs_no_shot(tmp_path, monkeypatch, expected, every):
    """Every checkpoint but the first fails, and each is written while the next iteration computes."""
    whole, models = expected
    save, saves = CheckpointStore.save, itertools.count(1)

    def full(self, *arguments, **more):
        if self.folder.name == "checkpoints" and next(saves) > 1:
            raise tw.errors.CheckpointError("no space left")
        return save(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", full)
        study = slow.Study.from_document(
            {
                **slow.study(tmp_path, "one", checkpoint_every=every).document,
                "blocks": [{"iterations": every}, {"iterations": slow.ITERATIONS - every}],
            },
            kinds=KINDS,
        )
        with pytest.raises(tw.errors.CheckpointError, match="no space left"):
            tw.wait(Run(study, out=tmp_path / "run").execute())
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["000001"]
    outcome, computed, _ = go_on(tmp_path)
    assert outcome.summary["digest"] == whole.summary["digest"]
    assert max(shots(tmp_path).values()) == 1
    assert {model for model, _ in computed} <= set(models[every + 1 :])


def test_without_a_checkpoint_sums_go_with_the_iteration(tmp_path, expected):
    there = []

    class Looking(QuietDisplay):
        def iteration(self, record):
            there.append(sorted(path.name for path in (tmp_path / "run" / "shots").iterdir()))

    outcome = tw.wait(
        Run(slow.study(tmp_path, "one", checkpoint_every=9), out=tmp_path / "run", display=Looking()).execute()
    )
    assert outcome.summary["digest"] == expected[0].summary["digest"]
    assert there == [["000001-0"], ["000002-0"], ["000003-0"]]


def test_another_runtime_and_more_iterations_leave_them_valid(killed, expected):
    folder, done = killed
    outcome, computed, warnings = go_on(folder, "blocks.0.iterations=4", "runtime.threads=3")
    assert not warnings
    assert outcome.summary["iterations"] == 4
    again = {int(i) for model, i in computed if model == expected[1][1]}
    assert again == set(range(slow.ITEMS)) - done


def test_two_sums_in_one_feedback_are_kept_apart(tmp_path, expected):
    study = slow.Study.from_document(
        {**slow.study(tmp_path, "two").document, "problem": {"kind": "slow", "folder": str(tmp_path), "twice": True}},
        kinds=KINDS,
    )
    outcome = tw.wait(Run(study, out=tmp_path / "run").execute())
    assert outcome.summary["digest"] == expected[0].summary["digest"]
    assert set(shots(tmp_path).values()) == {2}


def test_two_sums_at_once_are_refused(tmp_path):
    import asyncio

    class Both(slow.Slow):
        async def feedback(self, batch, runtime):
            task = slow.shot(self.x.data, self.settings.folder, 1.0)
            await asyncio.gather(*(runtime.map_reduce(task, [0, 1]) for _ in range(2)))

    study = slow.Study.from_document(slow.study(tmp_path, "two").document, kinds={"slow": Both})
    with pytest.raises(RunError, match="Two sums over items are asked for at the same time"):
        tw.wait(Run(study, out=tmp_path / "run").execute())


def test_without_the_key_nothing_is_written(tmp_path):
    tw.wait(Run(slow.study(tmp_path, "two", checkpoint_shots=False), out=tmp_path / "run").execute())
    assert not (tmp_path / "run" / "shots").exists()


def test_sums_of_a_later_iteration_wait_for_it(tmp_path, expected):
    """A checkpoint of every third iteration only: what was kept of the second is used when it comes again."""
    whole, models = expected
    done = kill_in_the_middle(tmp_path, "two", models[1], [2, 7], every=3)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    outcome, computed, _ = go_on(tmp_path)
    assert outcome.summary["digest"] == whole.summary["digest"]
    assert {int(i) for model, i in computed if model == models[0]} == set(range(slow.ITEMS))
    assert {int(i) for model, i in computed if model == models[1]} == set(range(slow.ITEMS)) - done


@pytest.mark.parametrize(
    "value",
    [
        {"loss": 0.1, "g": np.arange(6, dtype=np.float32).reshape(2, 3)},
        [(1, -2.5, 3 + 4j, float("nan"), float("-inf"), -0.0), np.float32(0.1), np.complex64(1 - 2j), np.int8(3)],
        (Absent(), Pieces({3: {"item": "shot 3", "none": None}, 0: True})),
        [np.zeros((0, 2)), np.array(2.0), np.array([1j, np.nan], np.complex128), np.array([2**63], np.uint64)],
        {"a": {"b": [[], (), {}]}, 7: 10**40},
    ],
    ids=["sum", "numbers", "pieces", "arrays", "nested"],
)
def test_a_sum_comes_back_from_the_disk_as_it_was(tmp_path, value):
    structure, arrays = flatten(value)
    assert same(restore(structure, arrays), value)
    KeptSums(tmp_path, {}, print).keep(2, 1, value)
    (found,) = KeptSums(tmp_path, {}, print).sums(7).values()
    assert same(found, value)


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float | complex):
        return np.complex128(a).tobytes() == np.complex128(b).tobytes()
    return isinstance(a, Absent) or a == b


@pytest.mark.parametrize(
    "value", [{"f": open}, [object()], {(1, 2): 3.0}, np.array(["text"])], ids=["function", "object", "key", "text"]
)
def test_what_cannot_be_kept_is_refused(value):
    with pytest.raises(RunError, match="kept on disk"):
        flatten(value)


@pytest.mark.parametrize("structure", [None, {}, {"eval": "1"}, {"array": "9"}, {"list": 3}, {"float": "x"}, [1]])
def test_what_is_no_sum_is_refused(structure):
    with pytest.raises(RunError, match="no result"):
        restore(structure, {})


@pytest.mark.parametrize("place", [(5, 0), (0, 7), (-1, 0), (1.0, 0), ("0", 0), (3, 1), (0, -1), (70, 0)])
def test_a_sum_that_says_it_is_none_of_the_tree_is_not_used(tmp_path, place):
    level, index = place
    notes = []
    sums = KeptSums(tmp_path, {}, notes.append)
    sums._store.save({}, {"about": {}, "level": level, "index": index, "sum": {"float": "0x1p+0"}})
    found = sums.sums(7)
    if place == (5, 0):  # higher than the tree, and it holds all items: the root under another name
        assert list(found) == [(5, 0)]
    else:
        assert found == {}
        assert len(notes) == 1


def test_a_sum_that_a_kill_left_beside_one_that_contains_it_goes(tmp_path):
    sums = KeptSums(tmp_path, {}, print)
    sums.keep(0, 0, 1.0)
    saved = tmp_path / "000001"
    shutil.copytree(saved, tmp_path / "copy")
    sums.keep(1, 0, 3.0)
    assert not saved.exists()
    os.rename(tmp_path / "copy", saved)
    again = KeptSums(tmp_path, {}, print)
    assert again.sums(5) == {(1, 0): 3.0}
    assert again._store.generations() == [2]


@pytest.mark.parametrize("runtime", ["one", "two"])
def test_the_room_of_kept_sums_is_reckoned_with(tmp_path, monkeypatch, runtime):
    """As many as there are at most, and not as many as there are shots."""
    rooms, seen = [], []
    save = CheckpointStore.save

    def counting(self, arrays, meta):
        path = save(self, arrays, meta)
        all_kept = self.folder.parent
        if all_kept.name == "shots":
            with contextlib.suppress(FileNotFoundError):  # another thread has just removed one
                seen.append((len(list(all_kept.glob("*/0*"))), sum(f.stat().st_size for f in all_kept.glob("*/0*/*"))))
        return path

    monkeypatch.setattr(CheckpointStore, "save", counting)
    monkeypatch.setattr("thalweg.runs.room.Room.check", lambda self: rooms.append(self))
    tw.wait(Run(slow.study(tmp_path, runtime), out=tmp_path / "run").execute())
    (room,) = rooms
    assert len(seen) >= slow.ITEMS
    assert max(count for count, _ in seen) <= room.sums < slow.ITEMS
    assert max(size for _, size in seen) <= room.sums * room.sum
    others = room.checkpoints * room.each + room.models * room.model + room.history
    assert room.needed - room.sums * room.sum == others
    assert f"{room.sums} sums of finished items" in room.line[1]


def test_a_run_that_has_no_room_for_its_sums_is_refused(tmp_path, monkeypatch):
    study = slow.study(tmp_path, "two")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 110_000))
    tw.wait(Run(slow.study(tmp_path, "two", checkpoint_shots=False), out=tmp_path / "without").execute())
    with pytest.raises(
        RunError, match=r"9 sums of finished items of 4\.\d KiB, .*no sums \(output\.checkpoint_shots\)"
    ):
        tw.wait(Run(study, out=tmp_path / "run").execute())
    assert not (tmp_path / "run").exists()
