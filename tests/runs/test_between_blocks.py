"""Stopped where a block ends and the next one has made no step: either can go on from there."""

import asyncio

import numpy as np
import pytest

from tests.runs.going import fingerprint, go_on, run
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointCorruptError, RunError
from thalweg.graph import wait
from thalweg.runs import History, Run, Selection, Study
from thalweg.runs.loop import Loop


@pytest.fixture
def every(document):
    document["output"] = {"checkpoint_every": 1, "keep": 10, "figures": False}
    return document


@pytest.fixture
def stopped(every, kinds, tmp_path, monkeypatch):
    """Interrupted in the first iteration of block 2."""

    def make(*overrides):
        session = Run(Study.from_document(every, kinds=kinds, overrides=overrides), out=tmp_path / "run")

        async def stopping():
            task = asyncio.ensure_future(session.execute())

            async def iterate(loop, selection):
                if loop.position.block == 1:
                    task.cancel()
                await made(loop, selection)

            made = Loop._iterate
            with monkeypatch.context() as patched:
                patched.setattr(Loop, "_iterate", iterate)
                with pytest.raises(asyncio.CancelledError):
                    await task

        wait(stopping())
        return tmp_path / "run"

    return make


def by_an_earlier_version(out, kinds):
    """The checkpoint that versions before wrote there, too: of block 2, with the misfit of block 1."""
    study, store = Study.load(out / "study.toml", kinds=kinds), CheckpointStore(out / "checkpoints")
    arrays, meta, _ = store.load()
    assert (meta["block"], meta["block_iteration"]) == (0, 4)
    fresh = Selection.of(study.blocks[1], 1, items=6, seed=study.settings.seed)
    store.save(arrays, {**meta, "block": 1, "block_iteration": 0, "selection": fresh.state()})


def places(out):
    store = CheckpointStore(out / "checkpoints")
    metas = (store.meta(number) for number in store.generations())
    return [(meta["iteration"], meta["block"], meta["block_iteration"]) for meta in metas]


@pytest.mark.parametrize("earlier", [False, True])
def test_the_best_of_the_next_block_stays(stopped, kinds, earlier, tmp_path, every):
    """Few frequencies have small losses: they are no losses of the block after it."""
    every["blocks"][0]["cutoff"] = 0.05
    best = ["output.keep=1", "output.keep_best=true"]
    out = stopped(*best)
    if earlier:
        by_an_earlier_version(out, kinds)
    go_on(out, kinds)
    run(every, kinds, tmp_path / "whole", *best)
    columns = History(out).iterations()
    misfits = columns["misfit"]
    assert misfits[:4].min() < misfits[4:].min()
    expected = {int(np.argmin(misfits[1:4])) + 1, int(np.argmin(misfits[4:])) + 4, 7}  # of 4 it is that of iteration 5
    assert sorted({iteration for iteration, _, steps in places(out) if steps}) == sorted(expected)
    assert (4, 1, 0) not in places(out)
    assert fingerprint(out) == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("named", [None, 4])
def test_the_block_before_can_be_given_more(stopped, kinds, every, tmp_path, earlier, named):
    out = stopped()
    if earlier:
        by_an_earlier_version(out, kinds)
        assert places(out)[-2:] == [(4, 0, 4), (4, 1, 0)]
    else:
        assert places(out)[-1] == (4, 0, 4)
    wait(Run.resume(out, kinds=kinds, iteration=named, overrides=["blocks.0.iterations=6"]).execute())
    run(every, kinds, tmp_path / "whole", "blocks.0.iterations=6")
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
    assert (4, 1, 0) not in places(out)


@pytest.mark.parametrize("named", [None, 4])
def test_the_next_block_may_begin_otherwise(stopped, kinds, every, tmp_path, named):
    out, change = stopped(), "blocks.1.reset_optimizer=true"
    by_an_earlier_version(out, kinds)
    wait(Run.resume(out, kinds=kinds, iteration=named, overrides=[change]).execute())
    run(every, kinds, tmp_path / "whole", change)
    assert fingerprint(out) == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize("earlier", [False, True])
def test_without_changes_it_is_the_whole_run(stopped, kinds, every, tmp_path, earlier):
    out = stopped()
    if earlier:
        by_an_earlier_version(out, kinds)
    go_on(out, kinds)
    run(every, kinds, tmp_path / "whole")
    assert fingerprint(out) == fingerprint(tmp_path / "whole")


def test_a_refusal_names_the_checkpoint_that_the_change_fits(tmp_path, every, kinds):
    out = tmp_path / "run"
    run(every, kinds, out)
    for change, told in (
        ("blocks.0.iterations=6", rf"blocks before block 2, .* cannot change .* resume {out} --iteration 4 "),
        ("blocks.1.iterations=2", rf"has made 3 iterations of block 2 already; .* resume {out} --iteration 6 "),
        ("blocks.0.cutoff=0.5", rf"in iteration 3 of block 2 .* resume {out} --iteration 3 "),
    ):
        with pytest.raises(RunError, match=told):
            Run.resume(out, kinds=kinds, overrides=[change])
        wanted = int(told.split("--iteration ")[1])
        assert Run.resume(out, kinds=kinds, overrides=[change], iteration=wanted).study
    with pytest.raises(RunError) as error:
        Run.resume(out, kinds=kinds, overrides=["seed=4"])
    assert "--iteration" not in str(error.value)


@pytest.mark.parametrize("named", [None, 4])
def test_where_one_of_the_two_is_damaged_the_other_is_gone_on_from_and_that_is_told(
    stopped, kinds, every, tmp_path, named
):
    out = stopped()
    by_an_earlier_version(out, kinds)
    newest = CheckpointStore(out / "checkpoints").generations()[-1]
    (out / "checkpoints" / f"{newest:06d}" / "state.safetensors").write_bytes(b"damaged")
    session = Run.resume(out, kinds=kinds, iteration=named)
    [note] = [text for name, text in wait(session.plan()) if name == "note"]
    assert note.startswith(f"checkpoint {newest} is damaged, so the one before is used")
    wait(session.execute())
    run(every, kinds, tmp_path / "whole")
    assert fingerprint(out) == fingerprint(tmp_path / "whole")


def test_a_named_iteration_of_which_all_are_damaged_says_how(stopped, kinds):
    out = stopped()
    (out / "checkpoints" / "000004" / "state.safetensors").write_bytes(b"damaged")
    told = r"000004.*state\.safetensors.*; there are those of iterations 1, 2, 3, too, and 0 is the run's beginning"
    with pytest.raises(CheckpointCorruptError, match=told):
        Run.resume(out, kinds=kinds, iteration=4)
