"""A kernel compiled from another text is never taken for this one's, and the same text is known in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from types import FunctionType, ModuleType
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest

from thalweg import rules
from thalweg.lowering import Batch, Part, address_of, objects
from thalweg.lowering import numpy as lowering
from thalweg.lowering.digest import reachable, text_digest
from thalweg.rules import Rule
from thalweg.rules.base import Number
from thalweg.rules.ranges import nonnegative

DOUBLE, SINGLE = np.dtype(np.float64), np.dtype(np.float32)


def functions(source: str) -> dict[str, Any]:
    """The functions of a text, as if it were a module."""
    space: dict[str, Any] = {"__name__": "a_module"}
    exec(compile(source, "a_file", "exec"), space)
    return space


TEXT = """
import math
scale = 2.0
def helper(x):
    return x + 1.0
def update(x):
    return helper(x) * scale
"""


def test_the_same_text_has_the_same_digest() -> None:
    assert text_digest(functions(TEXT)["update"]) == text_digest(functions("\n\n" + TEXT)["update"])


@pytest.mark.parametrize(
    ("old", "new"), [("x + 1.0", "x + 1.5"), ("* scale", "/ scale"), ("scale = 2.0", "scale = 3.0"), ("x + ", "x - ")]
)
def test_a_change_anywhere_below_changes_the_digest(old: str, new: str) -> None:
    assert text_digest(functions(TEXT.replace(old, new))["update"]) != text_digest(functions(TEXT)["update"])


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        ("def update(x, *, k=2.0): return k * x", "2.0", "3.0"),
        ("def update(x, k=2.0): return k * x", "2.0", "3.0"),
        ("def update(x):\n    def inner(y): return y + 1.0\n    return inner(x)", "1.0", "1.5"),
        ("half = (0.5, 1)\ndef update(x): return half[0] * x", "0.5", "0.25"),
        ("import math as m\ndef update(x): return m.sqrt(x)", "import math", "import cmath"),
        ("import math as m\ndef update(x): return m.sqrt(x)", "m.sqrt", "m.exp"),
        ("from numpy import float32 as cast\ndef update(x): return cast(x)", "float32", "float64"),
        ("import numpy as np\nhalf = np.float32(0.5)\ndef update(x): return half * x", "0.5", "0.25"),
        ("import numpy as np\nhalf = np.array([0.5])\ndef update(x): return half[0] * x", "0.5", "0.25"),
        ("from numpy import sqrt as f\ndef update(x): return f(x)", "sqrt", "exp"),
        ("from math import sqrt as f\ndef update(x): return f(x)", "sqrt", "exp"),
        ("def f(x): return x + 1.0\ndef update(x, f=f): return f(x)", "1.0", "1.5"),
        ("def f(x): return x + 1.0\ndef update(x, *, f=f): return f(x)", "1.0", "1.5"),
        ("def f(x): return x + 1.0\nseveral = (f, 1)\ndef update(x): return several[0](x)", "1.0", "1.5"),
        ("def f(x): return x + 1.0\nseveral = {'one': [f]}\ndef update(x): return several['one'][0](x)", "1.0", "1.5"),
        ("def count(*x): return len(x)\ndef update(x): return count((x, x))", "*x", "x"),
        ("from enum import Enum\nclass E(Enum): a = 1; b = 2\ne = E.a\ndef update(x): return x, e", "E.a", "E.b"),
        ("from enum import Enum\nclass E(Enum): a = 1; b = 2\ndef update(x): return x * E.a.value", "1;", "3;"),
        ("a, b = 'x=1', 2\ndef update(x): return a, b, x", "'x=1', 2", "'x=1, 2', 2"),
    ],
)
def test_what_a_text_refers_to_is_part_of_it(source: str, old: str, new: str) -> None:
    assert old in source
    assert text_digest(functions(source)["update"]) == text_digest(functions(source)["update"])
    assert text_digest(functions(source.replace(old, new, 1))["update"]) != text_digest(functions(source)["update"])


ALIAS = """
def outside(x): return x
def inside(x): return x * x
chosen = outside
def update(x): return chosen(x) + outside(x) - inside(x)
"""


def test_which_function_a_name_stands_for_is_part_of_it() -> None:
    """Both are called whatever `chosen` is, so both texts are there; it is known which of them it is all the same."""

    def digest(source: str) -> str:
        return text_digest(functions(source)["update"])

    assert digest(ALIAS) == digest(ALIAS)
    assert digest(ALIAS.replace("chosen = outside", "chosen = inside")) != digest(ALIAS)
    several = "first, second = outside, inside\nchosen = (first, second)"
    both = ALIAS.replace("chosen = outside", several).replace("chosen(x)", "chosen[0](x)")
    assert digest(both) == digest(both)
    assert digest(both.replace("(first, second)", "(second, first)")) != digest(both)


def test_functions_in_the_same_cells_in_another_order_are_another_text() -> None:
    def same(x: Any) -> Any:
        return x

    def negative(x: Any) -> Any:
        return -x

    def make(first: Any, second: Any, third: Any) -> Any:
        return lambda x: first(second(third(x)))

    chosen = [(a, b, c) for a in (same, negative) for b in (same, negative) for c in (same, negative)]
    found = {text_digest(make(*three)) for three in chosen}
    assert len(found) == len(chosen)
    assert {text_digest(make(*three)) for three in chosen} == found


@pytest.mark.parametrize("place", ["constants", "package.constants"])
def test_what_a_text_refers_to_in_a_module_is_part_of_it(place: str) -> None:
    """A constant or a function of a module, as `constants.half` names it; the kernel has its value in it."""
    source = f"def update(x): return {place}.double(x) * {place}.half"

    def digest(half: float, double: str, other: float) -> str:
        constants, package = ModuleType("constants"), ModuleType("package")
        exec(f"half = {half}\nother = {other}\ndef double(x): return {double}", vars(constants))
        vars(package)["constants"] = constants
        space: dict[str, Any] = {"constants": constants, "package": package}
        exec(source, space)
        return text_digest(space["update"])

    known = digest(0.5, "x + x", 1.0)
    assert digest(0.5, "x + x", 1.0) == known
    assert digest(0.5, "x + x", 2.0) == known  # nobody asks for it
    assert digest(0.25, "x + x", 1.0) != known
    assert digest(0.5, "x * x", 1.0) != known


def test_a_text_that_numba_has_wrapped_is_known_by_what_it_says() -> None:
    import numba

    def make(source: str) -> Any:
        return numba.njit(functions(source)["update"])

    plus, minus = "def update(x): return x + 1.0", "def update(x): return x - 1.0"
    assert text_digest(make(plus)) == text_digest(make(plus)) == text_digest(functions(plus)["update"])
    assert text_digest(make(plus)) != text_digest(make(minus))


def test_reachable_follows_globals_and_survives_recursion() -> None:
    space = functions(TEXT + "\ndef again(x):\n    return again(update(x))\n")
    names = {function.__name__ for function in reachable(space["again"])}
    assert names == {"again", "update", "helper"}
    assert all(isinstance(function, FunctionType) for function in reachable(space["again"]))


def test_closures_and_other_objects_count() -> None:
    def make(offset: float) -> Any:
        return lambda x: x + offset

    assert text_digest(make(1.0)) != text_digest(make(2.0))
    assert text_digest("avx2") != text_digest("avx512")


# ------------------------------------------------------------------ of a rule


SCRIPT = """
import numpy as np
from thalweg import rules
from thalweg.lowering.numpy import _digest
for name, rule in rules.registry.items():
    for library in (None, *rule.conventions):
        form = rules.decayed(rule) if library is None else rules.decayed(rule).convention(library)
        wrapped = form if form.evaluate else rules.averaged(rules.lookahead(form))
        for dtype in ("f4", "f8"):
            print(name, library, dtype, _digest(form, np.dtype(dtype)), _digest(wrapped, np.dtype(dtype)))
"""


def test_every_process_finds_the_same_digests() -> None:
    """Whatever the order of its sets and the addresses of its functions."""
    said = []
    for seed in ("1", "2"):
        process = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        said.append(process.stdout.splitlines())
    assert said[0] == said[1]
    assert len(said[0]) > 100


def test_other_rules_and_wrappers_have_other_digests() -> None:
    """But for SGD, which is gradient descent with another default."""
    found = []
    for name, one in rules.registry.items():
        if name == "sgd":
            assert lowering._digest(one, SINGLE) == lowering._digest(rules.gradient_descent, SINGLE)
            continue
        whole = rules.decayed(one)
        several = [whole, *([rules.lookahead(whole), rules.averaged(whole)] if whole.evaluate is None else [])]
        found += [lowering._digest(form, dtype) for form in several for dtype in (SINGLE, DOUBLE)]
    assert len(set(found)) == len(found)


class Hyper(NamedTuple):
    """One hyperparameter."""

    learning_rate: Annotated[Number, nonnegative, "η"] = 0.5


class Slots(NamedTuple):
    """One slot."""

    memory: Any


def rule(**fields: Any) -> Rule:
    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param - h.learning_rate * grad, slots

    return Rule(**({"name": "own", "slots": Slots, "hyper": Hyper, "update": update} | fields))


def of(one: Rule, dtype: Any = DOUBLE) -> str:
    return lowering._digest(one, dtype)


def test_each_text_of_a_rule_is_part_of_its_digest() -> None:
    class Carried(NamedTuple):
        count: Any = 0.0

    class Scalars(NamedTuple):
        learning_rate: Any

    def ascend(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param + h.learning_rate * grad, slots

    carrying = {"carried": Carried, "prepare": lambda t, h, now: Scalars(h.learning_rate)}
    measuring = {"measure": lambda param, grad, slots, h: (param,), "conclude": lambda h, sums: h}
    several = [
        rule(),
        rule(update=ascend),
        rule(prepare=lambda t, h: Scalars(h.learning_rate)),
        rule(prepare=lambda t, h: Scalars(h.learning_rate / t)),
        rule(**carrying, carry=lambda t, h, now: now),
        rule(**carrying, carry=lambda t, h, now: Carried(now.count + h.learning_rate)),
        rule(**measuring),
        rule(**measuring | {"measure": lambda param, grad, slots, h: (grad,)}),
        rule(**measuring | {"conclude": lambda h, sums: Hyper(sums[0])}),
    ]
    digests = [of(one) for one in several]
    assert len(set(digests)) == len(digests)
    assert [of(one) for one in several] == digests


OWN = """
from thalweg.rules import sgd
from thalweg.rules.arithmetic import sqrt
from thalweg.rules.base import Rule
def outside(a): return a
def inside(a): return sqrt(a)
chosen = outside
def update(param, grad, slots, h):
    square = grad * grad
    return param - h.learning_rate * (chosen(square) + outside(square) - inside(square) * inside(square)), slots
own = Rule(name="own", slots=sgd.slots, hyper=sgd.hyper, update=update)
"""


def stepped(one: Rule, grad: np.ndarray) -> np.ndarray:
    """What the compiled pass makes of zeros in a step of learning rate 1."""
    param = np.zeros_like(grad)
    batch = Batch(lowering.compile_rule(one, param.dtype), [Part(address_of(param), param.size, ())])
    batch.set_grad(0, address_of(grad))
    batch.set_hyper(0, one.hyper(learning_rate=1.0), t=1)
    batch.step()
    return param


def test_a_rule_file_whose_name_stands_for_another_function_gets_a_kernel_of_its_own() -> None:
    before, after = (
        functions(OWN.replace("chosen = outside", f"chosen = {name}"))["own"] for name in ("outside", "inside")
    )
    grad = np.array([2.0, 3.0])
    np.testing.assert_allclose(stepped(before, grad), [-4.0, -9.0])
    np.testing.assert_allclose(stepped(after, grad), [-2.0, -3.0])


def test_rules_of_a_factory_get_kernels_of_their_own() -> None:
    def same(x: Any) -> Any:
        return x

    def negative(x: Any) -> Any:
        return -x

    def make(first: Any, second: Any, third: Any) -> Rule:
        def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
            return param - h.learning_rate * first(second(third(grad))), slots

        return Rule(name="own", slots=rules.sgd.slots, hyper=rules.sgd.hyper, update=update)

    grad = np.array([1.0, 2.0])
    np.testing.assert_array_equal(stepped(make(same, same, negative), grad), grad)
    np.testing.assert_array_equal(stepped(make(same, negative, negative), grad), -grad)


def test_names_and_dtype_are_part_of_it_and_defaults_are_not() -> None:
    Other = NamedTuple("Slots", [("remembered", Any)])  # noqa: UP014
    assert of(rule()) != of(rule(slots=Other))
    assert of(rule()) != of(rule(), SINGLE)
    assert of(rule()) == of(rule().with_defaults(learning_rate=0.25))
    assert of(rule()) == of(rule(name="another"))  # and its file holds the name of the function


def test_versions_and_processor_are_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import llvmlite

    found = {of(rule())}
    with monkeypatch.context() as patch:
        patch.setattr(objects, "numba_release", lambda: "0.99")
        found.add(of(rule()))
    with monkeypatch.context() as patch:
        patch.setattr(llvmlite, "__version__", "0.99")
        found.add(of(rule()))
    with monkeypatch.context() as patch:
        patch.setattr(np, "__version__", "9.9")
        found.add(of(rule()))
    for name, features in (("generic", None), ("generic", "+sse4.2"), ("skylake", "+avx2")):
        with monkeypatch.context() as patch:
            patch.setenv("NUMBA_CPU_NAME", name)
            patch.delenv("NUMBA_CPU_FEATURES", raising=False)
            if features is not None:
                patch.setenv("NUMBA_CPU_FEATURES", features)
            assert objects.processor()[0] == name
            assert features is None or objects.processor()[1] == features
            found.add(of(rule()))
    assert len(found) == 7


def test_the_lowerings_own_sources_are_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    read = Path.read_bytes
    found = {of(rule())}
    for name in ("loops.py", "memory.py", "layout.py", "numpy.py"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda self, n=name: read(self) + (b"#" if self.name == n else b""))
            found.add(of(rule()))
    assert len(found) == 5
