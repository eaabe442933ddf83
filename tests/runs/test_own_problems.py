"""A problem of the user's own: what it may get wrong, and what a schedule is told of it."""

import numpy as np
import pytest
from pydantic import BaseModel

from tests.runs.searching import valley
from thalweg.errors import StudyError, ThalwegError
from thalweg.graph import Variable, wait
from thalweg.runs import Feedback, Problem, Study, run_study


class Nothing(BaseModel, extra="forbid"):
    pass


class Squares(Problem):
    """½ Σ (x − i)² over the items i of a batch."""

    kind, Settings, BlockSettings, items = "squares", Nothing, Nothing, 8

    def __init__(self):
        self.x = Variable(np.array([9.0]), name="x", needs_grad=True)
        self.variables = (self.x,)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls()

    async def feedback(self, batch, runtime):
        return Feedback(
            0.5 * float(np.sum((self.x.data - batch) ** 2)), {"x": np.sum(self.x.data - batch, keepdims=True)}
        )


def run(cls, folder, blocks=None, rate=1e-3):
    document = {
        "title": "squares",
        "problem": {"kind": "squares"},
        "optimizer": {"kind": "sgd", "learning_rate": rate},
        "blocks": blocks or [{"iterations": 2}],
        "output": {"figures": False},
    }
    return wait(run_study(Study.from_document(document, kinds={"squares": cls}), out=folder / "run"))


def answering(loss=1.0, gradient=0.0):
    async def feedback(self, batch, runtime):
        return Feedback(loss, {"x": gradient})

    return type("Squares", (Squares,), {"feedback": feedback})


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (answering(loss=np.ones(1)), "the loss is an object of type ndarray, no number"),
        (answering(loss=Variable(1.0)), r"float\(loss.data\)"),
        (answering(loss=[1.0]), "the loss is an object of type list"),
        (answering(loss="1.0"), r"the loss is an object of type str, no number; .*float\(loss\)"),
        (answering(loss=float("nan")), "which is no finite number"),
        (answering(gradient=None), "the gradient of 'x' is None; nothing was changed"),
        (answering(gradient=np.array(["a"])), "variable 'x', iteration 1: the gradient has dtype <U1"),
        (type("Squares", (Squares,), {"metrics": lambda self: None}), "Squares.metrics returned None"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_in_the_users_words(tmp_path, cls, text):
    with pytest.raises(ThalwegError, match=text):
        run(cls, tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"items": None}, "Squares.items is None, no whole number"),
        ({"items": [1]}, "Squares.items is an object of type list"),
        ({"items": 0}, "Squares.items is 0: a problem has one item"),
        ({"build": classmethod(lambda cls, *a, **k: None)}, "Squares.build returned None, no problem"),
    ],
)
def test_a_problem_that_lacks_what_all_have_is_refused_before_there_is_a_run(tmp_path, changes, text):
    with pytest.raises(StudyError, match=text):
        run(type("Squares", (Squares,), changes), tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "count"), [("held_out", -1), ("test", 1.0), ("test", True), ("items", 0)])
def test_a_number_of_samples_that_is_none_is_refused_before_anything_is_evaluated(name, count):
    cls = valley()

    class Counted(cls):
        @classmethod
        def build(cls, *args, **named):
            problem = super().build(*args, **named)
            setattr(problem, name, count)
            return problem

    document = {
        "title": "a valley",
        "problem": {"kind": "valley"},
        "optimizer": {"kind": "random"},
        "blocks": [{"iterations": 1}],
    }
    with pytest.raises(StudyError, match=rf"Counted\.{name} is {count}"):
        Study.from_document(document, kinds={"valley": Counted}).build_problem()


def test_a_number_of_items_may_be_numpys(tmp_path):
    cls = type("Squares", (Squares,), {"items": np.int64(Squares.items)})
    assert run(cls, tmp_path).status == "finished"

    class Fixed(Squares):
        items = property(lambda self: np.int64(8))

    with pytest.raises(StudyError, match=r"Fixed.items is .*int64 that cannot be set; return int\(...\)"):
        run(Fixed, tmp_path / "fixed")


def test_captions_that_are_no_dictionary_are_refused(tmp_path):
    with pytest.raises(StudyError, match=r"Squares\.summary_captions is an object of type list; it is a dictionary"):
        run(type("Squares", (Squares,), {"summary_captions": ["one"]}), tmp_path)


def test_one_variable_is_no_tuple_of_variables(tmp_path):
    class Single(Squares):
        def __init__(self):
            super().__init__()
            self.variables = self.x

    with pytest.raises(StudyError, match=r"self.variables = \(self.x,\)"):
        run(Single, tmp_path)


def test_plateau_is_told_the_loss_an_item_whatever_the_batch(tmp_path):
    """Passes of 3, 3 and 2 items, then all 8: their sums are no sequence that could be compared."""
    rate = {"kind": "plateau", "initial": 1e-3, "factor": 0.5, "patience": 0, "threshold": 0.0}
    blocks = [{"iterations": 3, "selection": "every", "batch_size": 3}, {"iterations": 5}]

    class Falling(Squares):
        async def feedback(self, batch, runtime):
            self.calls = getattr(self, "calls", 0) + 1
            return Feedback(len(batch) * (10.0 - self.calls), {"x": np.ones(1)})

    outcome = run(Falling, tmp_path, blocks, rate)
    columns = outcome.history.iterations()
    assert (np.diff(columns["misfit"]) == -1.0).all()
    assert (np.diff(columns["loss"]) > 0).any(), "the sums do rise"
    assert columns["learning_rate"].tolist() == [1e-3] * 8


@pytest.mark.parametrize("reset", [False, True])
def test_plateau_does_not_compare_the_misfits_of_two_blocks(tmp_path, reset):
    """As of two frequency bands: the second falls from its own beginning, far above the first one's end."""
    rate = {"kind": "plateau", "initial": 1e-3, "factor": 0.5, "patience": 0, "threshold": 0.0}
    blocks = [{"iterations": 4}, {"iterations": 4, "reset_optimizer": reset}]

    class Bands(Squares):
        misfits = iter([4.0, 3.0, 3.5, 2.0, 90.0, 80.0, 85.0, 70.0])

        async def feedback(self, batch, runtime):
            return Feedback(len(batch) * next(self.misfits), {"x": np.ones(1)})

    columns = run(Bands, tmp_path, blocks, rate).history.iterations()
    assert columns["learning_rate"].tolist() == [1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 5e-4, 2.5e-4, 2.5e-4]
