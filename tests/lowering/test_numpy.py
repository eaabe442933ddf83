"""The compiled pass over any number of arrays, against the pure face of the same rule."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest

from thalweg import rules
from thalweg.errors import HyperparameterError, RuleError
from thalweg.lowering import Batch, Part, address_of, compile_rule, threads
from thalweg.lowering import numpy as lowering
from thalweg.lowering.buffers import make_state
from thalweg.lowering.layout import BLOCK
from thalweg.rules import NoSlots, Rule
from thalweg.rules.arithmetic import absolute, cos, floor, isfinite, maximum, minimum, sign, sqrt, where
from thalweg.rules.base import Number
from thalweg.rules.ranges import nonnegative, positive

# As optimizers use them: decay is part of the text.
ALL = {name: rules.decayed(rule) for name, rule in rules.registry.items()}
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
SIZES = [0, 1, 7, 64, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5]

every_rule = pytest.mark.parametrize("rule", list(ALL.values()), ids=list(ALL))
both = pytest.mark.parametrize("dtype", DTYPES, ids=str)


class Seated:
    """Arrays and their state in a batch, and what the pure face makes of the same."""

    def __init__(
        self, rule: Rule, arrays: Sequence[np.ndarray], hypers: Sequence[Any], groups: Sequence[int] | None = None
    ) -> None:
        self.rule, self.hypers = rule, hypers
        self.groups = [0] * len(arrays) if groups is None else groups
        self.arrays = [array.copy() for array in arrays]
        self.states = [make_state(len(rule.slot_names), array) for array in arrays]
        for array, state, group in zip(self.arrays, self.states, self.groups, strict=True):
            for row, begin in zip(state, rule.beginning(array, hypers[group]), strict=True):
                row[: array.size] = begin
        parts = [
            Part(address_of(a), a.size, tuple(map(address_of, s)), g)
            for a, s, g in zip(self.arrays, self.states, self.groups, strict=True)
        ]
        self.batch = Batch(compile_rule(rule, arrays[0].dtype), parts, len(hypers))
        self.pure = [(a.copy(), rule.init(a, hypers[g])) for a, g in zip(arrays, self.groups, strict=True)]
        self.t = 0

    def step(self, grads: Sequence[np.ndarray], *, check: bool = True) -> int | None:
        self.grads = grads  # the batch has their addresses only
        for index, grad in enumerate(grads):
            self.batch.set_grad(index, address_of(grad))
        for group, hyper in enumerate(self.hypers):
            self.batch.set_hyper(group, hyper)
        self.batch.set_time(self.t + 1)
        found = self.batch.step(check=check)
        self.t += found is None
        return found

    def pure_step(self, grads: Sequence[np.ndarray]) -> None:
        self.pure = [
            self.rule.step(x, g, state, self.hypers[group], t=self.t)
            for (x, state), g, group in zip(self.pure, grads, self.groups, strict=True)
        ]

    def slots(self, index: int) -> np.ndarray:
        return self.states[index][:, : self.arrays[index].size]

    def bits(self) -> str:
        """A digest of all that a step may change."""
        state = hashlib.sha256()
        for index, array in enumerate(self.arrays):
            state.update(array.tobytes() + self.slots(index).tobytes())
        return state.hexdigest() + repr(self.batch.carried.tolist())

    def check(self) -> None:
        for index, ((x, state), array) in enumerate(zip(self.pure, self.arrays, strict=True)):
            tolerance = 1e-12 if array.dtype == np.float64 else 2e-5
            np.testing.assert_allclose(array, x, rtol=tolerance, atol=tolerance)
            for row, slot in zip(self.slots(index), state, strict=False):
                np.testing.assert_allclose(row, slot, rtol=tolerance, atol=tolerance)


def usual(rule: Rule, **hyper: float) -> Any:
    """Decay on, and steps large enough to see."""
    known = {"learning_rate": 0.01, "weight_decay": 0.1, **hyper}
    return rule.hyper(**{name: value for name, value in known.items() if name in rule.hyperparameters})


def random_arrays(sizes: Sequence[int], dtype: Any, seed: int = 1) -> list[np.ndarray]:
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size).astype(dtype) for size in sizes]


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have large batches divided among so many threads."""

    def use(count: int) -> None:
        threads._TEAMS.clear()
        monkeypatch.setattr(threads, "count", lambda: count)

    yield use
    threads._TEAMS.clear()


def pieces(count: int, batch: Batch) -> int:
    """How many pieces so many threads divide a large pass into: at most a row each."""
    return 1 if count == 1 else min(32 * count, len(batch._table))


# ------------------------------------------------------------------ the same as the pure face


@every_rule
@both
def test_arrays_of_any_size_in_one_batch_are_the_pure_face(rule: Rule, dtype: np.dtype[Any]) -> None:
    seated = Seated(rule, random_arrays(SIZES, dtype), [usual(rule)])
    for t in range(1, 4):
        grads = random_arrays(SIZES, dtype, seed=10 + t)
        assert seated.step(grads) is None
        seated.pure_step(grads)
        seated.check()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["sgd", "adam", "amsgrad", "lamb"])
def test_an_array_alone_is_what_it_is_in_company(name: str, size: int) -> None:
    """To the same bits: rows do not know of each other."""
    rule = ALL[name]
    alone = Seated(rule, random_arrays([size], np.float32), [usual(rule)])
    company = Seated(rule, random_arrays([size, 5, 2 * BLOCK], np.float32), [usual(rule)])
    for t in range(1, 4):
        alone.step(random_arrays([size], np.float32, seed=10 + t))
        company.step(random_arrays([size, 5, 2 * BLOCK], np.float32, seed=10 + t))
    assert np.array_equal(alone.arrays[0], company.arrays[0])
    assert np.array_equal(alone.slots(0), company.slots(0))


@every_rule
def test_groups_have_hyperparameters_and_carried_numbers_of_their_own(rule: Rule) -> None:
    hypers = [
        usual(rule),
        usual(rule, learning_rate=0.02, beta1=0.5),
        usual(rule, learning_rate=0.03, weight_decay=0.0),
    ]
    sizes, groups = [5, 40, 0, 33, 2], [2, 0, 1, 1, 2]
    seated = Seated(rule, random_arrays(sizes, np.float64), hypers, groups)
    for t in range(1, 30):
        grads = random_arrays(sizes, np.float64, seed=100 + t)
        assert seated.step(grads) is None
        seated.pure_step(grads)
    seated.check()
    for index, group in enumerate(groups):
        carried = seated.pure[index][1][len(rule.slot_names) :]
        np.testing.assert_allclose(seated.batch.carried[group], carried, rtol=1e-12)


def test_hyperparameters_and_arrays_may_change_between_steps() -> None:
    rule = ALL["adam"]
    arrays = random_arrays([9, 70_000], np.float64)
    seated = Seated(rule, arrays, [usual(rule)])
    for t in range(1, 6):
        seated.hypers = [usual(rule, learning_rate=0.01 / t)]
        seated.arrays = [array.copy() for array in seated.arrays]
        for index, array in enumerate(seated.arrays):
            seated.batch.set_param(index, address_of(array))
        grads = random_arrays([9, 70_000], np.float64, seed=t)
        seated.step(grads)
        seated.pure_step(grads)
    seated.check()


def test_carried_numbers_start_again() -> None:
    rule = ALL["nadam"]
    seated = Seated(rule, random_arrays([4], np.float64), [usual(rule)])
    assert seated.batch.carried.tolist() == [[1.0]]
    seated.step(random_arrays([4], np.float64))
    assert seated.batch.carried.tolist() != [[1.0]]
    seated.batch.restart()
    assert seated.batch.carried.tolist() == [[1.0]]


def test_a_batch_of_nothing_does_nothing() -> None:
    kernel = compile_rule(ALL["adam"], np.dtype(np.float64))
    for parts in ([], [Part(0, 0, (0, 0))]):
        batch = Batch(kernel, parts)
        batch.set_hyper(0, usual(ALL["adam"]), t=1)
        assert batch.scan() is None
        assert batch.step() is None


def test_a_rule_is_compiled_once_in_a_process() -> None:
    for dtype in DTYPES:
        assert compile_rule(ALL["sgd"], dtype) is compile_rule(ALL["sgd"], dtype)


def test_threads_may_compile_and_step_at_the_same_time() -> None:
    grads = random_arrays([1000], np.float64)
    several = [rules.lookahead(rule) for rule in (ALL["sgd"], ALL["momentum"])] * 3
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        seated = Seated(several[number], random_arrays([1000], np.float64), [usual(several[number])])
        for _ in range(50):
            seated.step(grads)
        found[number] = seated.arrays[0]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(len(several))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number in range(2, len(several)):
        np.testing.assert_array_equal(found[number], found[number - 2])


# ------------------------------------------------------------------ bounds


@both
def test_bounds_are_part_of_the_pass(dtype: np.dtype[Any]) -> None:
    rule = ALL["gradient_descent"]
    arrays = [np.array([0.0, 5.0, 10.0, 5.0], dtype) for _ in range(4)]
    seated = Seated(rule, arrays, [rule.hyper()])
    limits = [(0.0, 10.0), (-np.inf, np.inf), (5.5, np.inf), (-np.inf, 0.1)]
    for index, pair in enumerate(limits):
        seated.batch.set_limits(index, pair)
    seated.step([np.array([3.0, 0.0, -3.0, -1.0], dtype)] * 4)
    tenth = dtype.type(0.1)
    for array, expected in zip(
        seated.arrays, [[0, 5, 10, 6], [-3, 5, 13, 6], [5.5, 5.5, 13, 6], [-3, tenth, tenth, tenth]], strict=True
    ):
        assert array.tolist() == expected


def test_bounds_hold_across_rows_and_leave_nan_alone() -> None:
    rule = ALL["sgd"]
    (start,) = random_arrays([3 * BLOCK + 5], np.float32)
    seated = Seated(rule, [start], [rule.hyper(learning_rate=1.0)])
    seated.batch.set_limits(0, (-0.5, 0.25))
    (grad,) = random_arrays([3 * BLOCK + 5], np.float32, seed=2)
    grad[BLOCK + 3] = np.nan
    assert seated.step([grad], check=False) is None
    np.testing.assert_array_equal(seated.arrays[0], np.clip(start - grad, np.float32(-0.5), np.float32(0.25)))


# ------------------------------------------------------------------ what is not finite


@both
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_value_that_is_not_finite_is_seen_in_any_row_and_nothing_is_changed(
    threaded: Any, dtype: np.dtype[Any], count: int
) -> None:
    threaded(count)
    rule = ALL["nadam"]
    sizes = [1, 0, 2 * BLOCK + 3, 65, 4 * BLOCK]
    seated = Seated(rule, random_arrays(sizes, dtype), [usual(rule)])
    assert len(seated.batch._calls) == pieces(count, seated.batch)
    grads = random_arrays(sizes, dtype, seed=2)
    seated.step(grads)
    before = seated.bits()
    for variable, size in enumerate(sizes):
        for place in sorted({0, 1, size // 2, BLOCK - 1, BLOCK, size - 1} & set(range(size))):
            for bad in (np.nan, np.inf, -np.inf):
                kept, grads[variable][place] = grads[variable][place], bad
                assert seated.batch.scan() == variable
                assert seated.step(grads) == variable
                assert seated.bits() == before
                grads[variable][place] = kept
    grads[2][5], grads[4][7] = np.inf, np.nan
    assert seated.step(grads) == 2, "the first"
    grads[2][5], grads[4][7] = 1.0, 1.0
    assert seated.batch.scan() is None
    assert seated.step(grads) is None
    assert seated.bits() != before


@both
@pytest.mark.parametrize("size", [1, 5, 64, 1001])
def test_the_largest_finite_values_are_finite(dtype: np.dtype[Any], size: int) -> None:
    """Their sum is not, nor is that of two infinities a number."""
    rule = ALL["sgd"]
    seated = Seated(rule, [np.zeros(size, dtype)], [rule.hyper()])
    grad = np.full(size, np.finfo(dtype).max, dtype)
    seated.batch.set_grad(0, address_of(grad))
    assert seated.batch.scan() is None
    grad[:] = np.finfo(dtype).smallest_subnormal
    assert seated.batch.scan() is None
    if size > 1:
        grad[:2] = np.inf, -np.inf
        assert seated.batch.scan() == 0


def test_without_a_check_a_nan_goes_its_way() -> None:
    rule = ALL["sgd"]
    seated = Seated(rule, [np.zeros(3)], [rule.hyper()])
    assert seated.step([np.array([1.0, np.nan, 1.0])], check=False) is None
    assert np.isnan(seated.arrays[0]).tolist() == [False, True, False]
    assert seated.step([np.array([1.0, 1.0, 1.0])]) is None, "the check is on again"
    assert seated.step([np.array([1.0, np.nan, 1.0])]) == 0


# ------------------------------------------------------------------ numbers that do not fit


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("adam", {"learning_rate": 3e38}),  # over 1 − β₁
        ("schedule_free_adamw", {"beta1": 1e-39}),  # over β₁
        ("lamb", {"learning_rate": 3e38}),  # times ‖θ‖/‖r‖
    ],
)
def test_a_scalar_that_does_not_fit_is_an_error_before_anything_is_changed(
    threaded: Any, count: int, name: str, hyper: dict[str, float]
) -> None:
    threaded(count)
    rule = ALL[name]
    sizes = [3, threads.WORTH_IT, 4]
    seated = Seated(rule, random_arrays(sizes, np.float32), [usual(rule), usual(rule)], [0, 0, 1])
    grads = random_arrays(sizes, np.float32, seed=2)
    seated.step(grads)
    seated.arrays[2][:] = 1e3
    before, seated.hypers = seated.bits(), [usual(rule), usual(rule, **hyper)]
    with pytest.raises(HyperparameterError, match="does not fit into float32; use smaller values") as caught:
        seated.step(grads)
    assert repr(*hyper.values()) in str(caught.value), "the group's own hyperparameters"
    assert seated.bits() == before
    seated.hypers = [usual(rule), usual(rule)]
    assert seated.step(grads) is None


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["adam", "lamb"])
def test_a_group_without_arrays_need_not_fit(threaded: Any, count: int, name: str) -> None:
    threaded(count)
    rule = ALL[name]
    sizes = [3, threads.WORTH_IT]
    seated = Seated(rule, random_arrays(sizes, np.float32), [usual(rule, learning_rate=1e39), usual(rule)], [1, 1])
    alone = Seated(rule, random_arrays(sizes, np.float32), [usual(rule), usual(rule)], [1, 1])
    for seed in (2, 3):
        grads = random_arrays(sizes, np.float32, seed=seed)
        assert seated.step(grads) is alone.step(grads) is None
    assert seated.bits() == alone.bits()


# ------------------------------------------------------------------ threads


@pytest.mark.parametrize("name", ["lamb", "adam", "schedule_free_adamw", "rprop"])
@both
def test_bits_do_not_depend_on_the_number_of_threads(threaded: Any, name: str, dtype: np.dtype[Any]) -> None:
    rule = ALL[name]
    sizes = [BLOCK + 1, 100, 3 * BLOCK + 5, 0, 2 * BLOCK]
    found = set()
    for count in (1, 2, 3, 8):
        threaded(count)
        seated = Seated(rule, random_arrays(sizes, dtype), [usual(rule)])
        assert len(seated.batch._calls) == pieces(count, seated.batch)
        for t in range(1, 4):
            assert seated.step(random_arrays(sizes, dtype, seed=t)) is None
        found.add(seated.bits())
    assert len(found) == 1


@every_rule
@pytest.mark.parametrize("offset", [1, 7, 15])
@both
def test_bits_do_not_depend_on_where_an_array_lies(
    threaded: Any, rule: Rule, offset: int, dtype: np.dtype[Any]
) -> None:
    """So no row may begin where the processor would like it to: what is left over at its end is rounded otherwise."""
    threaded(2)
    size = 5 * BLOCK + 11
    found = []
    for place in (0, offset):
        raw = np.zeros(size + 64, dtype)
        begin = -raw.ctypes.data % 64 // raw.itemsize + place
        x = raw[begin : begin + size]
        x[:] = random_arrays([size], dtype)[0]
        state = make_state(len(rule.slot_names), x)
        batch = Batch(compile_rule(rule, dtype), [Part(address_of(x), size, tuple(map(address_of, state)))])
        for t in range(1, 4):
            grad = random_arrays([size], dtype, seed=t)[0]
            batch.set_grad(0, address_of(grad))
            batch.set_hyper(0, usual(rule), t=t)
            assert batch.step() is None
        found.append((x.tobytes(), state[:, :size].tobytes()))
        assert not raw[:begin].any()
        assert not raw[begin + size :].any()
    assert found[0] == found[1]


SCRIPT = """
import hashlib
import numpy as np
from thalweg import rules
from thalweg.lowering import Batch, Part, address_of, compile_rule, threads
from thalweg.lowering.buffers import make_state

rng = np.random.default_rng(7)
x, g = (rng.normal(size=200_001).astype("f4") for _ in range(2))
rule = rules.decayed(rules.lamb)
state = make_state(2, x)
batch = Batch(compile_rule(rule, x.dtype), [Part(address_of(x), x.size, tuple(map(address_of, state)))])
batch.set_grad(0, address_of(g))
for t in range(1, 6):
    batch.set_hyper(0, rule.hyper(learning_rate=0.1), t=t)
    batch.step()
divided = 1 if threads.count() == 1 else len(batch._table)
print(threads.count(), len(batch._calls) == divided, hashlib.sha256(x.tobytes()).hexdigest())
"""


def test_the_number_of_threads_is_what_omp_num_threads_says() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {}
    for wish, expected in (("1", 1), ("2", min(2, cores)), ("1,4", 1), ("100000", cores), ("many", cores), ("0", 1)):
        process = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT],
            env={**os.environ, "OMP_NUM_THREADS": wish},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        count, divided, bits = process.stdout.split()
        assert (int(count), divided) == (expected, "True"), wish
        found[wish] = bits
    assert len(set(found.values())) == 1


# ------------------------------------------------------------------ what is compiled


def optimized(monkeypatch: pytest.MonkeyPatch, rule: Rule, dtype: Any = np.float32) -> str:
    """The LLVM code that the object file is made of."""
    import llvmlite.binding as llvm

    texts = []
    parse = llvm.parse_assembly

    def listening(text: str, *args: Any) -> Any:
        texts.append(text)
        return parse(text, *args)

    with monkeypatch.context() as patch:
        patch.setattr(llvm, "parse_assembly", listening)
        lowering._compile(rule, np.dtype(dtype), lowering.shape_of(rule))
    return texts[-1]  # those before it are numba's own


VECTOR = re.compile(r"\bf(?:add|sub|mul)\b[^\n]*<\d+ x float>")
DIVISION = re.compile(r"\bfdiv\b[^\n]*<\d+ x float>")
ROOT = re.compile(r"@llvm\.sqrt\.v\d+f32")
DOUBLES = re.compile(r"<\d+ x double>")
PLAIN = {"gradient_descent", "sgd", "momentum", "nesterov", "lion", "rprop"}  # no division, no root


@pytest.mark.sampled(6)
@every_rule
def test_float32_is_vectorized_and_never_lifted_to_double(monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    text = optimized(monkeypatch, rule)
    assert VECTOR.search(text)
    assert bool(DIVISION.search(text)) == (rule.name not in PLAIN)
    assert bool(ROOT.search(text)) == (rule.name not in PLAIN | {"adamax"})
    assert bool(DOUBLES.search(text)) == (rule.measure is not None), "sums are in double precision, and nothing else"


def test_float64_is_vectorized(monkeypatch: pytest.MonkeyPatch) -> None:
    text = optimized(monkeypatch, ALL["adam"], np.float64)
    assert re.search(r"\bfdiv\b[^\n]*<\d+ x double>", text)
    assert re.search(r"@llvm\.sqrt\.v\d+f64", text)


class OneRate(NamedTuple):
    """One hyperparameter."""

    learning_rate: Annotated[Number, nonnegative, "η"] = 0.5


class OneSlot(NamedTuple):
    """One slot."""

    memory: Any


def float_literal(param: Any, grad: Any, slots: Any, h: OneRate) -> Any:
    return param - h.learning_rate * grad * 2.0, slots


def integer_literal(param: Any, grad: Any, slots: Any, h: OneRate) -> Any:
    return param - h.learning_rate * grad * 2, slots


def literal_in_slot(param: Any, grad: Any, slots: OneSlot, h: OneRate) -> Any:
    return param - h.learning_rate * grad, OneSlot(slots.memory + 1.0)


@pytest.mark.parametrize(
    ("text", "slots", "what"),
    [
        (float_literal, NoSlots, "the new parameter is float64, not float32"),
        (integer_literal, NoSlots, "the new parameter is float64, not float32"),
        (literal_in_slot, OneSlot, "the new slots are .*float64.*, not float32"),
    ],
)
def test_a_number_literal_beside_float32_is_an_error_that_says_so(text: Any, slots: Any, what: str) -> None:
    rule = Rule("literal", slots, OneRate, text)
    with pytest.raises(TypeError, match="rule 'literal' cannot be compiled for float32") as caught:
        compile_rule(rule, np.dtype(np.float32))
    assert re.search(what + ": a number literal in the text", str(caught.value))
    compile_rule(rule, np.dtype(np.float64))  # where it does no harm


def attribute_of_a_number(param: Any, grad: Any, slots: OneSlot, h: OneRate) -> Any:
    return grad.nothing, slots


def import_inside(param: Any, grad: Any, slots: OneSlot, h: OneRate) -> Any:
    import math

    return param - h.learning_rate * math.sin(grad), slots


def file_inside(param: Any, grad: Any, slots: OneSlot, h: OneRate) -> Any:
    with open("log") as file:
        file.read()
    return param, slots


def number_for_slots(param: Any, grad: Any, slots: OneSlot, h: OneRate) -> Any:
    return param - grad, slots if grad == grad else grad  # a number as far as the compiler knows


def nothing_for_slots(param: Any, grad: Any, slots: OneSlot, h: OneRate) -> Any:
    return param - grad, slots if grad >= param else None


UNUSABLE = [attribute_of_a_number, import_inside, file_inside, number_for_slots, nothing_for_slots]


@pytest.mark.parametrize("text", UNUSABLE, ids=lambda text: text.__name__)
def test_a_text_that_cannot_be_compiled_is_an_error_that_names_the_rule(text: Any) -> None:
    """Whatever numba calls the error: typing, lowering, unsupported, unsupported bytecode."""
    with pytest.raises(TypeError, match=r"rule 'odd' cannot be compiled for float64: \w") as caught:
        compile_rule(Rule("odd", OneSlot, OneRate, text), np.dtype(np.float64))
    assert type(caught.value.__cause__).__module__ == "numba.core.errors"


def misspelt_name(param: Any, grad: Any, slots: OneSlot, h: OneRate) -> Any:
    return param - h.learning_rate * grod, slots  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (misspelt_name, r"update: name 'grod' is not defined \(.*test_numpy.py, line \d+\)"),
        (
            attribute_of_a_number,
            r"cannot be compiled for float64: Unknown attribute 'nothing' of type float64 \(.*test_numpy.py, line .*",
        ),
    ],
)
def test_the_reason_is_one_line(text: Any, what: str) -> None:
    """Not numba's account of every function on the way there, which is the error's cause still."""
    with pytest.raises(TypeError) as caught:
        compile_rule(Rule("odd", OneSlot, OneRate, text), np.dtype(np.float64))
    assert re.fullmatch("rule 'odd':? " + what, str(caught.value))


def test_what_a_text_returns_for_its_slots_is_named() -> None:
    def a_number(param: Any, grad: Any, slots: OneSlot, h: OneRate) -> Any:
        return param - grad, grad

    with pytest.raises(TypeError, match=r"returns for slots a float64; .* the new slots, \(param, Slots\(memory\)\)"):
        compile_rule(Rule("odd", OneSlot, OneRate, a_number), np.dtype(np.float64))


class Pair(NamedTuple):
    """One of its fields has a default."""

    one: Any = 1.0
    other: Any = 2.0


def plain_step(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - grad * h.one * h.other, slots


SHORT: dict[str, dict[str, Any]] = {
    "prepare": {"prepare": lambda t, h: Pair(h.learning_rate), "update": plain_step},
    "update": {"slots": Pair, "update": lambda param, grad, slots, h: (param - slots.other * grad, Pair(grad))},
    "carry": {
        "carried": Pair,
        "carry": lambda t, h, now: Pair(now.one),
        "prepare": lambda t, h, now: Pair(h.learning_rate, now.other),
        "update": plain_step,
    },
    "conclude": {
        "prepare": lambda t, h: Pair(h.learning_rate, h.learning_rate),
        "measure": lambda param, grad, slots, h: (grad,),
        "conclude": lambda h, sums: Pair(h.one),
        "update": plain_step,
    },
}


@pytest.mark.parametrize("wrap", [lambda rule: rule, rules.decayed])
@pytest.mark.parametrize("text", SHORT)
def test_a_named_tuple_without_all_of_its_fields_is_refused(text: str, wrap: Any) -> None:
    """The pure face has the default in its place; compiled code would have whatever lies there."""
    own = wrap(Rule(**{"name": "odd", "slots": NoSlots, "hyper": OneRate} | SHORT[text]))
    with pytest.raises(RuleError, match="'odd' cannot be compiled for float64: Pair is made without other: compiled"):
        compile_rule(own, np.dtype(np.float64))


def test_a_named_tuple_with_all_of_its_fields_may_have_defaults() -> None:
    own = Rule("own", NoSlots, OneRate, plain_step, prepare=lambda t, h: Pair(h.learning_rate, 3.0 * h.learning_rate))
    seated = Seated(rules.decayed(own), [np.zeros(2)], [rules.decayed(own).hyper(learning_rate=0.5)])
    seated.step([np.array([1.0, 2.0])])
    np.testing.assert_array_equal(seated.arrays[0], [-0.75, -1.5])


def test_a_call_with_too_few_arguments_is_an_error_that_names_the_rule() -> None:
    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param - h.learning_rate * grad, OwnSlots(slots.velocity)  # type: ignore[call-arg]

    with pytest.raises(RuleError, match=r"rule 'odd' cannot be compiled for float64: .*missing a required argument"):
        compile_rule(Rule("odd", OwnSlots, OneRate, update), np.dtype(np.float64))


# ------------------------------------------------------------------ a rule of one's own
# A reduction, every name of the arithmetic, a helper function, a carried number: its text is all that is needed.


class OwnSlots(NamedTuple):
    """The state."""

    velocity: Any
    largest: Any
    smallest: Any


class OwnHyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η"] = 0.1
    epsilon: Annotated[Number, positive, "ε"] = 1e-8


class OwnScalars(NamedTuple):
    """What the text uses."""

    learning_rate: Number
    epsilon: Number
    zero: Number
    ratio: Number


class OwnCarried(NamedTuple):
    """What goes from step to step."""

    even: Number = 1.0


def own_prepare(t: Number, h: OwnHyper, carried: OwnCarried) -> OwnScalars:
    return OwnScalars(h.learning_rate * carried.even, h.epsilon, 0.0, 1.0)


def own_carry(t: Number, h: OwnHyper, carried: OwnCarried) -> OwnCarried:
    return OwnCarried(where(floor(t / 2) == t / 2, 1.0, 0.5))


def own_measure(param: Any, grad: Any, slots: OwnSlots, h: OwnScalars) -> tuple[Any, Any, Any]:
    return param * param, grad * grad, absolute(slots.velocity)


def own_conclude(h: OwnScalars, sums: tuple[float, float, float]) -> OwnScalars:
    return OwnScalars(h.learning_rate, h.epsilon, h.zero, sqrt(sums[0]) / (sqrt(sums[1]) + sums[2] + h.epsilon))


def helper(x: Any) -> Any:
    return sqrt(x * x)


def own_update(param: Any, grad: Any, slots: OwnSlots, h: OwnScalars) -> tuple[Any, OwnSlots]:
    velocity = where(grad > h.zero, slots.velocity + helper(grad), slots.velocity - sign(grad))
    largest = maximum(slots.largest, where(isfinite(grad / param), grad, param))
    moved = param - h.learning_rate * h.ratio * cos(grad) * floor(velocity)
    return moved, OwnSlots(velocity, largest, minimum(slots.smallest, grad))


OWN = Rule(
    "own",
    OwnSlots,
    OwnHyper,
    own_update,
    prepare=own_prepare,
    carried=OwnCarried,
    carry=own_carry,
    measure=own_measure,
    conclude=own_conclude,
)


@both
def test_a_rule_of_ones_own(dtype: np.dtype[Any]) -> None:
    sizes = [33, 0, BLOCK + 1]
    arrays = random_arrays(sizes, dtype)
    arrays[0][4] = 0.0
    seated = Seated(OWN, arrays, [OWN.hyper()])
    for t in range(1, 4):
        grads = random_arrays(sizes, dtype, seed=t)
        seated.step(grads)
        with np.errstate(divide="ignore"):
            seated.pure_step(grads)
    seated.check()


def test_nan_goes_through_every_name_as_in_numpy() -> None:
    """What is allowed of fast arithmetic never assumes that there is none."""

    def text(param: Any, grad: Any, slots: Any, h: OneRate) -> Any:
        return where(grad == grad, maximum(minimum(param, grad), param - h.learning_rate), param + grad), slots

    rule = Rule("nans", NoSlots, OneRate, text)
    nan = np.nan
    x, g = np.array([1.0, nan, 1.0, 2.0, nan]), np.array([nan, 1.0, 3.0, -5.0, nan])
    seated = Seated(rule, [x], [rule.hyper()])
    seated.step([g], check=False)
    np.testing.assert_array_equal(seated.arrays[0], [nan, nan, 1.0, 1.5, nan])
    np.testing.assert_array_equal(rule.step(x, g, rule.init(x))[0], seated.arrays[0])


def test_any_number_of_slots_is_vectorized(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = NamedTuple("Crowd", [(f"slot{k}", Any) for k in range(11)])  # type: ignore[misc]

    def text(param: Any, grad: Any, slots: Any, h: OneRate) -> Any:
        return param - h.learning_rate * grad, crowd(
            grad + slots.slot10, slots.slot0, slots.slot1, slots.slot2, slots.slot3, slots.slot4, slots.slot5,
            slots.slot6, slots.slot7, slots.slot8, slots.slot9,
        )  # fmt: skip

    rule = Rule("crowd", crowd, OneRate, text)
    assert VECTOR.search(optimized(monkeypatch, rule))
    seated = Seated(rule, random_arrays([100], np.float32), [rule.hyper()])
    for t in range(1, 15):
        grads = random_arrays([100], np.float32, seed=t)
        seated.step(grads)
        seated.pure_step(grads)
    seated.check()


def test_more_sums_than_there_is_room_for_are_refused() -> None:
    rule = Rule(
        "four",
        NoSlots,
        OneRate,
        lambda param, grad, slots, h: (param, slots),
        measure=lambda param, grad, slots, h: (param, param, grad, grad),
        conclude=lambda h, sums: h,
    )
    with pytest.raises(TypeError, match="rule 'four' measures 4 terms; there is room for 3"):
        compile_rule(rule, np.dtype(np.float64))


# Wrappers are compiled, too: floor, a condition that is one number, a slot that starts at the parameter.


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "nadam", "lamb"])
@both
def test_wrapped_rules_are_the_pure_face(name: str, dtype: np.dtype[Any]) -> None:
    rule = rules.averaged(rules.lookahead(ALL[name]))
    seated = Seated(rule, random_arrays([65, BLOCK + 1], dtype), [usual(rule, sync_period=3.0, ema_decay=0.8)])
    for t in range(1, 8):
        grads = random_arrays([65, BLOCK + 1], dtype, seed=t)
        assert seated.step(grads) is None
        seated.pure_step(grads)
    seated.check()
