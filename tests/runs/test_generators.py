"""A problem that draws random numbers in its feedback goes on with those that it would have drawn without the stop."""

import asyncio
import json
import shutil

import numpy as np
import pytest
from pydantic import BaseModel

from tests.runs.going import Doing, fingerprint, go_on, run, stop_after, stopped
from tests.runs.searching import Valley
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError, StudyError
from thalweg.graph import Variable, wait
from thalweg.runs import Feedback, History, Problem, QuietDisplay, Run, Study
from thalweg.runs.drawing import check_drawn
from thalweg.runs.position import Position

WHOLE = 8
BITS = (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)


class Nothing(BaseModel, extra="forbid"):
    pass


class Drawing(Problem):
    """½ |Σ s_i (x − d_i)|² with random signs s_i, drawn anew in each iteration; tasks are given children's numbers."""

    kind, Settings, BlockSettings, items, bits = "drawing", Nothing, Nothing, 6, np.random.PCG64

    def __init__(self, seed):
        self.signs = np.random.Generator(self.bits(seed))
        self.noise = np.random.Generator(self.bits([seed, 1]))
        self.generators = {"signs": self.signs, "noise": self.noise}
        self.data = np.random.default_rng([seed, 2]).standard_normal((self.items, 3))
        self.x = Variable(np.zeros(3), name="x", needs_grad=True)
        self.variables = (self.x,)
        self.calls = 0

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls(seed)

    async def prepare(self, runtime, progress):
        self.signs.random(7)  # the same in each process; where it goes on, it has no part in what comes

    async def feedback(self, batch, runtime):
        signs = self.signs.choice([-1.0, 1.0], len(batch)) + self.signs.random(len(batch), dtype=np.float32)
        children = dict(zip(batch.tolist(), self.signs.spawn(len(batch)), strict=True))
        self.calls += 1
        await self.middle()
        found = await runtime.map_reduce(
            lambda i: {"x": 1e-2 * children[int(i)].standard_normal(3) - self.data[i]}, batch
        )
        residual = signs.sum() * self.x.data + signs[0] * found["x"]
        return Feedback(0.5 * float(residual @ residual), {"x": signs.sum() * residual})

    async def middle(self):
        pass

    def metrics(self):
        return {"noise": float(self.noise.standard_normal())}


KINDS = {"drawing": Drawing}


def document(**output):
    return {
        "title": "signs",
        "seed": 5,
        "problem": {"kind": "drawing"},
        "optimizer": {"kind": "adam", "learning_rate": 0.05},
        "blocks": [{"iterations": 5, "selection": "random", "batch_size": 4}, {"iterations": WHOLE - 5}],
        "output": {"figures": False, "checkpoint_every": 1, "keep": 20, **output},
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    run(document(), KINDS, out)
    return out


@pytest.mark.parametrize("k", range(1, WHOLE))
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, whole, k):
    out = tmp_path / "run"
    stop_after(document(), KINDS, out, k)
    assert len(History(out).iterations()["iteration"]) == k
    go_on(out, KINDS)
    assert fingerprint(out) == fingerprint(whole)
    assert History(out).iterations()["noise"].tolist() == History(whole).iterations()["noise"].tolist()


@pytest.mark.parametrize("k", range(1, WHOLE + 1))
def test_what_an_iteration_drew_before_it_was_cancelled_is_drawn_again(tmp_path, whole, k):
    """Also in the first one, and in the first of a block."""

    class Stopped(Drawing):
        async def middle(self):
            if self.calls == k:
                display.task.cancel()
                await asyncio.sleep(30)

    out, display = tmp_path / "run", QuietDisplay()
    session = Run(Study.from_document(document(), kinds={"drawing": Stopped}), out=out, display=display)
    stopped(session, display)
    assert len(History(out).iterations()["iteration"]) == k - 1
    go_on(out, KINDS)
    assert fingerprint(out) == fingerprint(whole)


@pytest.mark.parametrize("killed_at", range(2, WHOLE + 1))
@pytest.mark.parametrize("shots", [False, True])
def test_after_a_kill_it_goes_on_from_an_older_checkpoint(tmp_path, killed_at, shots):
    output = {"checkpoint_every": 3, "checkpoint_shots": shots}
    out, killed = tmp_path / "run", tmp_path / "killed"
    run(document(**output), KINDS, out, display=Doing(killed_at, lambda: shutil.copytree(out, killed)))
    go_on(killed, KINDS)
    assert fingerprint(killed) == fingerprint(out)


@pytest.mark.parametrize("bits", BITS)
def test_each_of_numpys_bit_generators_goes_on(tmp_path, bits):
    kinds = {"drawing": type("Drawing", (Drawing,), {"bits": bits})}
    run(document(), kinds, tmp_path / "whole")
    stop_after(document(), kinds, tmp_path / "run", 3)
    go_on(tmp_path / "run", kinds)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
    go_on(tmp_path / "run", kinds, "blocks.1.iterations=5")
    longer = document()
    longer["blocks"][1]["iterations"] = 5
    run(longer, kinds, tmp_path / "longer")
    assert fingerprint(tmp_path / "run")[1] == fingerprint(tmp_path / "longer")[1]


@pytest.mark.parametrize("iteration", [0, 1, 3, 5])
def test_an_earlier_checkpoint_has_the_states_of_its_iteration(tmp_path, whole, iteration):
    shutil.copytree(whole, tmp_path / "run")
    wait(Run.resume(tmp_path / "run", kinds=KINDS, iteration=iteration).execute())
    assert fingerprint(tmp_path / "run") == fingerprint(whole)


def test_finished_sums_of_a_cancelled_iteration_are_of_the_same_draws(tmp_path):
    shots = document(checkpoint_shots=True)
    shots["blocks"] = [{"iterations": 4}]

    class Stopped(Drawing):
        async def feedback(self, batch, runtime):
            found = await super().feedback(batch, runtime)
            if self.calls == 3:  # all sums are made and kept
                display.task.cancel()
                await asyncio.sleep(30)
            return found

    class Told(QuietDisplay):
        def note(self, text):
            told.append(text)

    told, out, display = [], tmp_path / "run", QuietDisplay()
    stopped(Run(Study.from_document(shots, kinds={"drawing": Stopped}), out=out, display=display), display)
    go_on(out, KINDS, display=Told())
    assert any("6 of 6 shots were finished before" in text for text in told), told
    run(shots, KINDS, tmp_path / "whole")
    assert fingerprint(out) == fingerprint(tmp_path / "whole")


def test_a_generator_that_the_checkpoint_does_not_have_is_refused_and_nothing_changes(tmp_path):
    class Before(Drawing):
        generators = property(lambda self: {}, lambda self, value: None)

    class Other(Drawing):
        def __init__(self, seed):
            super().__init__(seed)
            self.generators = {**self.generators, "shots": np.random.default_rng(seed)}

    out = tmp_path / "run"
    stop_after(document(), {"drawing": Before}, out, 3)
    before = fingerprint(out)
    with pytest.raises(RunError, match=r"no state of the problem's random generator noise, signs: .*--iteration 0"):
        go_on(out, KINDS)
    with pytest.raises(RunError, match="no state of the problem's random generator"):
        wait(Run.resume(out, kinds=KINDS).plan())
    assert fingerprint(out) == before
    wait(Run.resume(out, kinds=KINDS, iteration=0).execute())
    run(document(), KINDS, tmp_path / "whole")
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
    stop_after(document(), KINDS, tmp_path / "next", 3)
    with pytest.raises(RunError, match=r"random generator shots \(it has that of noise, signs\): "):
        go_on(tmp_path / "next", {"drawing": Other})


def test_one_that_is_drawn_from_no_more_needs_no_state(tmp_path):
    class Less(Drawing):
        generators = property(lambda self: {"signs": self.signs}, lambda self, value: None)
        metrics = Problem.metrics

    stop_after(document(), KINDS, tmp_path / "run", 3)
    assert go_on(tmp_path / "run", {"drawing": Less}).status == "finished"


def test_another_bit_generator_is_refused(tmp_path):
    stop_after(document(), KINDS, tmp_path / "run", 3)
    other = {"drawing": type("Drawing", (Drawing,), {"bits": np.random.Philox})}
    with pytest.raises(RunError, match="'signs' is a Philox, and the checkpoint has the state of a 'PCG64'"):
        go_on(tmp_path / "run", other)


def hostile(bits, change):
    """A checkpoint's meta, changed."""
    problem = type("Drawing", (Drawing,), {"bits": bits})(5)
    meta = {**Position(selection={}).meta(), "generators": json.loads(json.dumps(saved(problem)))}
    change(meta["generators"]["signs"])
    return problem, meta


def saved(problem):
    from thalweg.runs.drawing import Draws

    draws = Draws(problem)
    assert draws.commit() is None
    return draws.meta()["generators"]


@pytest.mark.parametrize(
    ("bits", "change", "told"),
    [
        (np.random.MT19937, lambda s: s["state"]["state"].update(pos=10**6), "pos is 1000000"),
        (np.random.MT19937, lambda s: s["state"]["state"].update(key=[1, 2]), "key is no list of 624"),
        (np.random.MT19937, lambda s: s["state"]["state"]["key"].__setitem__(0, 2**32), "key is 4294967296"),
        (np.random.Philox, lambda s: s["state"].update(buffer_pos=10**6), "buffer_pos is 1000000"),
        (np.random.Philox, lambda s: s["state"].update(buffer_pos=-1), "buffer_pos is -1"),
        (np.random.SFC64, lambda s: s["state"].update(state=7), "state has other entries"),
        (np.random.PCG64, lambda s: s["state"].update(has_uint32=2), "has_uint32 is 2"),
        (np.random.PCG64, lambda s: s["state"].update(uinteger=True), "uinteger is True"),
        (np.random.PCG64, lambda s: s["state"]["state"].update(state=2**128), "state is 340282"),
        (np.random.PCG64, lambda s: s["state"]["state"].update(inc=0.5), "inc is 0.5"),
        (np.random.PCG64, lambda s: s["state"].update(state=[]), "state has other entries"),
        (np.random.PCG64, lambda s: s.update(state=3), "damaged"),
        (np.random.PCG64, lambda s: s.pop("state"), "'state'"),
        (np.random.PCG64, lambda s: s.update(spawned=-1), "-1 children"),
        (np.random.PCG64, lambda s: s.update(spawned=2**32), "4294967296 children"),
        (np.random.PCG64, lambda s: s.update(spawned="3"), "'3' children"),
        (np.random.PCG64, lambda s: s["state"].update(bit_generator=["PCG64"]), "state of a"),
    ],
)
def test_a_state_that_is_none_is_refused(bits, change, told):
    problem, meta = hostile(bits, change)
    before = saved(problem)
    with pytest.raises(RunError, match=told):
        check_drawn(problem, meta)
    assert saved(problem) == before


@pytest.mark.parametrize("found", [[], "signs", {"signs": None, "noise": 3}, {"signs": [], "noise": {}}])
def test_a_table_that_is_none_is_refused(found):
    with pytest.raises(RunError, match="damaged"):
        check_drawn(Drawing(5), {**Position(selection={}).meta(), "generators": found})


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([np.random.default_rng(1)], "Drawing.generators is an object of type list; it is a dictionary"),
        (None, "Drawing.generators is None"),
        ({3: np.random.default_rng(1)}, "has 3, which is no name"),
        ({"a": np.random.RandomState(1)}, r"type RandomState for 'a'; give a .*default_rng\(seed\)"),
        ({"a": np.random.PCG64(1)}, "type PCG64 for 'a'"),
        ({"a": np.random.Generator(type("Mine", (np.random.PCG64,), {})(1))}, "'a' an object of type .*Mine, .* PCG64"),
    ],
)
def test_what_no_checkpoint_can_hold_is_refused_before_anything_is_computed(tmp_path, found, told):
    cls = type("Drawing", (Drawing,), {"generators": property(lambda self: found, lambda self, value: None)})
    with pytest.raises(StudyError, match=told):
        run(document(), {"drawing": cls}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_search_draws_from_none(tmp_path):
    class Noisy(Valley):
        generators = property(lambda self: {"noise": np.random.default_rng(1)})

    search = {"title": "noise", "problem": {"kind": "valley"}, "optimizer": {"kind": "random"}}
    study = Study.from_document({**search, "blocks": [{"iterations": 3}]}, kinds={"valley": Noisy})
    with pytest.raises(StudyError, match=r"Noisy.generators is not empty, and rewards .*\[seed, item\]"):
        study.build_problem()


def test_a_block_draws_from_a_generator_of_its_own(tmp_path):
    class Drawn(Drawing):
        async def begin_block(self, index):
            self.signs.random()

    class Anew(Drawing):
        generators = property(lambda self: {"signs": self.signs, "noise": self.noise}, lambda self, value: None)

        async def begin_block(self, index):
            self.signs = np.random.default_rng([5, index])

    with pytest.raises(RunError, match=r"Drawn.begin_block has drawn from the generator 'signs'\. .*\[seed, index\]"):
        run(document(), {"drawing": Drawn}, tmp_path / "drawn")
    run(document(), {"drawing": Anew}, tmp_path / "whole")
    for k in (3, 5, 6):
        stop_after(document(), {"drawing": Anew}, tmp_path / str(k), k)
        go_on(tmp_path / str(k), {"drawing": Anew})
        assert fingerprint(tmp_path / str(k)) == fingerprint(tmp_path / "whole")


def test_a_run_that_is_stopped_while_it_prepares_goes_on_as_it_would_have_begun(tmp_path, whole):
    class Stopped(Drawing):
        async def prepare(self, runtime, progress):
            self.signs.random(3)
            display.task.cancel()
            await asyncio.sleep(30)

    out, display = tmp_path / "run", QuietDisplay()
    stopped(Run(Study.from_document(document(), kinds={"drawing": Stopped}), out=out, display=display), display)
    go_on(out, KINDS)
    assert fingerprint(out) == fingerprint(whole)


def test_a_checkpoint_without_generators_says_nothing_of_them(tmp_path):
    class None_(Drawing):
        generators = property(lambda self: {}, lambda self, value: None)

    run(document(), {"drawing": None_}, tmp_path / "run")
    assert "generators" not in CheckpointStore(tmp_path / "run" / "checkpoints").meta()


def test_a_table_that_fails_midway_stops_the_run_and_its_checkpoint_is_not_gone_on_from(tmp_path):
    class Failing(Drawing):
        @property
        def generators(self):
            if self.x.data[0] and self.calls == 3:
                raise ValueError("gone")
            return {"signs": self.signs, "noise": self.noise}

        @generators.setter
        def generators(self, value):
            pass

    out = tmp_path / "run"
    with pytest.raises(ValueError, match="gone"):
        run(document(), {"drawing": Failing}, out)
    assert History(out).iterations()["iteration"].tolist() == [1, 2, 3]
    with pytest.raises(RunError, match="no state of the problem's random generator"):
        go_on(out, KINDS)
    wait(Run.resume(out, kinds=KINDS, iteration=2).execute())
    run(document(), KINDS, tmp_path / "whole")
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
