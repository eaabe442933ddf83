"""How long the rest of a run takes: by how many items the blocks to come have."""

import pytest

from tests.runs.test_watch import STUDY, Slow
from thalweg.graph import wait
from thalweg.runs import QuietDisplay, Run, Study, display
from thalweg.runs.display import Pace
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.record import RunRecord
from thalweg.runs.settings import GenericBlock
from thalweg.runs.watch import Sight

ALL = GenericBlock(iterations=5)
SOME = GenericBlock(iterations=5, selection="random", batch_size=2)


@pytest.fixture
def left(monkeypatch):
    """Seconds left after each iteration, by blocks of a problem of 40 items each of which takes 10 ms."""

    def driven(blocks, begun=0):
        now, found, k = [0.0], [], sum(block.iterations for block in blocks[:begun])
        monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
        pace = Pace()
        pace.plan(blocks)
        for index, block in list(enumerate(blocks))[begun:]:
            items = block.batch_size or 40
            pace.begin_block(index, float(items))
            for _ in range(block.iterations):
                k, now[0] = k + 1, now[0] + 0.01 * items
                pace.iteration(IterationRecord(k, index, k, items, 1.0, tuple(range(items)), now[0]))
                found.append(pace.left())
        return found

    return driven


def test_a_block_of_all_items_has_all(left):
    whole = 5 * 40 * 0.01
    first, second = [whole + 0.1 + 0.4 * k for k in (4, 3, 2, 1, 0)], [whole + 0.02 * k for k in (4, 3, 2, 1, 0)]
    assert left([ALL, SOME, ALL]) == pytest.approx([*first, *second, 1.6, 1.2, 0.8, 0.4, None])
    assert left([SOME, SOME]) == pytest.approx([*[k * 0.02 for k in range(9, 0, -1)], None])


@pytest.mark.parametrize(("blocks", "begun"), [([SOME, ALL], 0), ([ALL, SOME, ALL], 1)])
def test_nobody_knows_how_many_all_are_before_a_block_had_them(left, blocks, begun):
    """Those of the present batch are another number, and were taken for it."""
    assert left(blocks, begun) == pytest.approx([None] * 5 + [1.6, 1.2, 0.8, 0.4, None])


def test_a_run_knows_how_many_all_are_from_the_beginning(document, kinds, tmp_path):
    told = []

    class Told(QuietDisplay):
        def begin(self, title, folder, plan, blocks):
            told.extend(block.batch_size for block in blocks)

    run = Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run", display=Told())
    wait(run.execute())
    items = run.study.build_problem().items
    assert told == [block.batch_size or items for block in run.study.blocks]
    assert told[0] == 2 != items
    assert told[-1] == items


def test_watch_knows_them_by_the_history_or_by_a_block(tmp_path):
    slow = Slow(tmp_path / "run")
    try:
        text = STUDY.replace("batch_size = 5\n", "").replace('random"\n[[', 'all"\n[[')
        slow.writer.fact("study", text)
        for _ in range(2):
            slow.step()
        assert Sight.of(RunRecord.read(slow.folder.path)).left is None, "a history of before does not say"
        slow.writer.fact("items", 6)
        slow.writer.flush()
        assert Sight.of(RunRecord.read(slow.folder.path)).left == 1.0 * (2 * 2 + 3 * 6)
        slow.writer.forget_fact("items")
        slow.writer.fact("study", text.replace("batch_size = 2\n", ""))
        slow.writer.flush()
        assert Sight.of(RunRecord.read(slow.folder.path)).left == 1.0 * (2 * 2 + 3 * 2)
    finally:
        slow.writer.close()
        slow.folder.release()
