"""A rule of one's own that is wrong: what it returns and what it misspells is said in one way, whoever runs it.

And nothing of a rule that is right is run to find that out.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest

import thalweg as tw
from thalweg import rules
from thalweg.errors import RuleError
from thalweg.lowering import compile_rule
from thalweg.rules.base import NoSlots, Number, Rule
from thalweg.rules.ranges import nonnegative
from thalweg.rules.trying import fault


class Slots(NamedTuple):
    mean: Any


class Hyper(NamedTuple):
    learning_rate: Annotated[Number, nonnegative, "η"] = 0.1


class Scalars(NamedTuple):
    rate: Any


def good(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - h.learning_rate * grad, Slots(slots.mean + grad)


WRONG = {
    "no slots": (
        {"update": lambda param, grad, slots, h: param - h.learning_rate * grad},
        "update returns a float64; ",
    ),
    "nothing": (
        {"update": lambda param, grad, slots, h: None},
        "update returns None; it returns the new parameter and",
    ),
    "three": ({"update": lambda param, grad, slots, h: (param, slots, slots)}, "update returns a tuple of 3; "),
    "a slot": ({"update": lambda param, grad, slots, h: (param, slots.mean)}, "update returns for slots a float64; "),
    "two slots": (
        {"update": lambda param, grad, slots, h: (param, (slots.mean, slots.mean))},
        r"for slots a tuple of 2; it returns the new parameter and the new slots, \(param, Slots\(mean\)\)",
    ),
    "in update": (
        {"update": lambda param, grad, slots, h: (param - h.learning_rte * grad, slots)},
        r"update reads 'learning_rte', .* mean 'learning_rate'\? It may read learning_rate.* \(.*test_trying\.py, line",
    ),
    "a slot's name": (
        {"update": lambda param, grad, slots, h: (param - slots.men, slots)},
        "update reads 'men', which is not there; did you mean 'mean'",
    ),
    "another name": (
        {"update": lambda param, grad, slots, h: (param - h.zzz * grad, slots)},
        r"update reads 'zzz', which is not there; it may read learning_rate.* \(.*test_trying\.py, line",
    ),
    "in prepare": (
        {"update": good, "prepare": lambda t, h: Scalars(h.learning_rte)},
        "prepare reads 'learning_rte', which is not there; did you mean 'learning_rate'",
    ),
    "a number": (
        {"update": good, "prepare": lambda t, h: h.learning_rate},
        "prepare returns a float; it returns a named",
    ),
    "no t": (
        {"update": good, "prepare": lambda h: Scalars(h.learning_rate)},
        r"prepare takes \(h\); it is called with \(t",
    ),
    "in start": ({"update": good, "start": lambda param, h: (h.learning_rte,)}, "start reads 'learning_rte'"),
    "no start": ({"update": good, "start": lambda param, h: ()}, "start returns a tuple of 0; .* starts .mean."),
}


class Two(NamedTuple):
    mean: Any
    more: Any


def made(slots: type[Any] = Slots, **texts: Any) -> tuple[Rule, Any]:
    rule = Rule(name="mine", slots=slots, hyper=Hyper, **texts)
    return rule, type(tw.LocalOptimizer)("Mine", (tw.LocalOptimizer,), {"rule": rule})


def on_numpy(cls: Any, x: np.ndarray) -> np.ndarray:
    variable = tw.Variable(x.copy(), name="x")
    try:
        tw.wait(cls(variable).step(grad=x.copy()))
    except tw.ThalwegError:
        assert variable.data.tolist() == x.tolist()
        raise
    return variable.data


def on_jax(cls: Any, x: np.ndarray) -> np.ndarray:
    jnp = pytest.importorskip("jax.numpy")
    from thalweg.optimizers.jax import JaxOptimizer

    optimizer, params = JaxOptimizer(cls()), jnp.asarray(x, jnp.float32)
    return np.asarray(optimizer.step(params, params, optimizer.init(params))[0], np.float64)


def on_torch(cls: Any, x: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    param = torch.nn.Parameter(torch.tensor(x))
    param.grad = torch.tensor(x)
    try:
        TorchOptimizer([("x", param)], cls()).step()
    except tw.ThalwegError:
        assert param.tolist() == x.tolist()
        raise
    found: np.ndarray = param.detach().numpy()
    return found


def on_pytensor(cls: Any, x: np.ndarray) -> np.ndarray:
    pytensor = pytest.importorskip("pytensor")
    shared = pytensor.shared(x.copy(), name="x")
    cls().update((shared**2 / 2).sum(), [shared])
    return x


EVERYWHERE: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {
    "numpy": on_numpy,
    "jax": on_jax,
    "torch": on_torch,
    "pytensor": on_pytensor,
}
X = np.array([1.0, -2.0])


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_wherever_the_rule_is_used(wrong: str, where: str) -> None:
    texts, told = WRONG[wrong]
    _, cls = made(**texts)
    with pytest.raises(RuleError, match=f"rule 'mine': .*{told}") as caught:
        EVERYWHERE[where](cls, X)
    assert caught.value.details["rule"] == "mine"


@pytest.mark.parametrize("wrong", WRONG)
def test_and_by_the_pure_face_and_the_compiler(wrong: str) -> None:
    texts, told = WRONG[wrong]
    rule, _ = made(**texts)
    uses = [lambda: rule.step(X, X, Slots(X)), lambda: compile_rule(rule, X.dtype)]
    for use in [lambda: rule.init(X)] if "start" in texts else uses:
        with pytest.raises(RuleError, match=f"rule 'mine': .*{told}"):
            use()


@pytest.mark.parametrize("wrap", ["lookahead", "ema"])
def test_what_is_wrong_is_said_of_a_rule_inside_another(wrap: str) -> None:
    _, cls = made(update=lambda param, grad, slots, h: param - h.learning_rate * grad)
    for run in (on_numpy, on_torch, on_jax):
        with pytest.raises(RuleError, match="rule 'mine': update returns a float64; "):
            run(functools.partial(cls, wrap=[wrap]), X)


def test_and_of_one_whose_hyperparameter_is_an_array() -> None:
    _, cls = made(update=lambda param, grad, slots, h: param - h.learning_rate * grad)
    with pytest.raises(RuleError, match="rule 'mine': update returns a float64; "):
        on_numpy(functools.partial(cls, learning_rate=np.array([0.1, 0.2])), X)


SILENT = {
    "two": (Slots, lambda param, grad, slots, h: (param - grad, Two(slots.mean, slots.mean))),
    "one for none": (NoSlots, lambda param, grad, slots, h: (param - grad, (grad,))),
}


@pytest.mark.parametrize("name", SILENT)
def test_slots_that_the_rule_does_not_have_are_refused(name: str) -> None:
    slots, update = SILENT[name]
    rule, cls = made(slots, update=update)
    for run in EVERYWHERE.values():
        with pytest.raises(RuleError, match=r"update returns for slots a \w+ of [12]; "):
            run(cls, X)
    with pytest.raises(RuleError, match="update returns for slots"):
        rule.step(X, X, rule.init(X))


def test_an_array_is_not_taken_apart_by_its_rows() -> None:
    x = np.ones((2, 1))
    _, cls = made(update=lambda param, grad, slots, h: param - grad)
    _, other = made(update=lambda param, grad, slots, h: (param - grad, grad))
    for run in EVERYWHERE.values():
        with pytest.raises(RuleError, match="update returns a float64; "):
            run(cls, x)
        with pytest.raises(RuleError, match="update returns for slots a float64; "):
            run(other, x[:1])


# What is right is run as often as it is needed, in what forms it likes


def sgd(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - h.learning_rate * grad, slots


def scaled(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - h.rate * grad, slots


def of_its_form(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    """Each form has its own."""


def of_its_rate(t: Any, h: Any) -> Any:
    return Scalars(h.learning_rate)


RIGHT: dict[str, dict[str, Any]] = {
    "each form's text": {
        "update": of_its_form,
        "options": {"form": ("one", "two")},
        "variant": lambda form: {"update": sgd},
    },
    "each form's numbers": {
        "update": scaled,
        "options": {"form": ("one", "two")},
        "variant": lambda form: {"prepare": of_its_rate},
    },
    "a list of terms": {
        "update": scaled,
        "prepare": of_its_rate,
        "measure": lambda param, grad, slots, h: [grad * grad],
        "conclude": lambda h, sums: Scalars(h.rate * sums[0]),
    },
    "a list of starts": {"slots": Slots, "update": sgd, "start": lambda param, h: [0.0]},
    "a generator of starts": {"slots": Slots, "update": sgd, "start": lambda param, h: (param for _ in "a")},
}


@pytest.mark.parametrize("where", ["numpy", "jax", "torch"])
@pytest.mark.parametrize("name", RIGHT)
def test_what_every_backend_takes_is_taken(name: str, where: str) -> None:
    _, cls = made(**{"slots": NoSlots} | RIGHT[name])
    rate = 0.5 if "terms" in name else 0.1
    found = EVERYWHERE[where](functools.partial(cls, form="two") if "form" in name else cls, X)
    np.testing.assert_allclose(found, (1 - rate) * X, rtol=1e-6)


def test_a_list_in_a_text_is_run_in_a_second_process(tmp_path: Path) -> None:
    """It needs memory of numba's, which a pass from the cache has not."""
    text = """
        from typing import Annotated, NamedTuple
        import numpy as np
        import thalweg as tw
        from thalweg.rules.base import NoSlots, Number, Rule
        from thalweg.rules.ranges import nonnegative

        class Hyper(NamedTuple):
            learning_rate: Annotated[Number, nonnegative, "η"] = 0.1

        class Mine(tw.LocalOptimizer):
            rule = Rule(
                "mine",
                NoSlots,
                Hyper,
                lambda param, grad, slots, h: (param - h.learning_rate * grad, slots),
                measure=lambda param, grad, slots, h: [grad * grad],
                conclude=lambda h, sums: Hyper(h.learning_rate * sums[0]),
            )

        x = tw.Variable(np.array([1.0, -2.0]), name="x")
        tw.wait(Mine(x).step(grad=x.data.copy()))
        print(*x.data)
    """
    script = tmp_path / "mine.py"
    script.write_text(textwrap.dedent(text))
    for _ in range(2):
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
        assert done.stdout.split() == ["0.5", "-1.0"], (done.returncode, done.stderr)


def test_a_decorator_that_passes_for_what_it_wraps() -> None:
    def without_slots(text: Any) -> Any:
        @functools.wraps(text)
        def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
            return text(param, grad, h), slots

        return update

    _, cls = made(NoSlots, update=without_slots(lambda param, grad, h: param - h.learning_rate * grad))
    for run in (on_jax, on_torch):
        np.testing.assert_allclose(run(cls, X), 0.9 * X, rtol=1e-6)
    with pytest.raises(RuleError, match="rule 'mine' cannot be compiled for float64: "):  # numba asks what it wraps
        on_numpy(cls, X)


def test_a_text_is_called_by_the_step_alone() -> None:
    torch = pytest.importorskip("torch")
    seen: list[type] = []

    def update(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        seen.append(type(param))
        return param - h.learning_rate * grad, slots

    _, cls = made(update=update)
    cls()
    assert seen == []
    on_torch(cls, X)  # cannot be compiled: natively
    assert seen == [torch.Tensor] or seen == [torch.nn.Parameter]


@pytest.mark.parametrize(("run", "draw"), [(on_jax, 1), (on_torch, 3)])
def test_a_prepare_that_draws_gives_the_numbers_that_it_gave(run: Any, draw: int) -> None:
    source = np.random.default_rng(0)
    _, cls = made(NoSlots, update=scaled, prepare=lambda t, h: Scalars(h.learning_rate * source.uniform()))
    drawn = np.random.default_rng(0).uniform(size=4)[draw]
    np.testing.assert_allclose(run(cls, X), X - 0.1 * drawn * X, rtol=1e-6)


def test_a_helper_is_compiled_for_the_numbers_of_the_pass_alone() -> None:
    numba = pytest.importorskip("numba")

    @numba.njit
    def less(a: Any, b: Any) -> Any:
        return a - b

    _, cls = made(NoSlots, update=lambda param, grad, slots, h: (less(param, h.learning_rate * grad), slots))
    variable = tw.Variable(X.astype(np.float32), name="x")
    tw.wait(cls(variable).step(grad=X.astype(np.float32)))
    np.testing.assert_allclose(variable.data, 0.9 * X, rtol=1e-6)
    assert numba.float64 not in {kind for signature in less.signatures for kind in signature}


def test_making_an_optimizer_starts_no_library() -> None:
    pytest.importorskip("jax")
    text = """
        from typing import Annotated, NamedTuple
        import jax, jax.numpy as jnp
        import thalweg as tw
        from thalweg.rules.base import NoSlots, Number, Rule
        from thalweg.rules.ranges import nonnegative

        class Hyper(NamedTuple):
            learning_rate: Annotated[Number, nonnegative, "η"] = 0.1

        def update(param, grad, slots, h):
            return param - h.learning_rate * jnp.tanh(grad), slots

        class Mine(tw.LocalOptimizer):
            rule = Rule("mine", NoSlots, Hyper, update)

        Mine(learning_rate=0.1)
        jax.config.update("jax_num_cpu_devices", 2)
        print(jax.device_count())
    """
    command = [sys.executable, "-c", textwrap.dedent(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2"], done.stderr


def test_what_only_a_backend_can_tell_is_left_to_it() -> None:
    def strange(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param.at_a_place_of_jax(grad), slots

    rule, cls = made(update=strange)
    assert fault(rule) is None
    assert cls().rule.name == "mine"
    with pytest.raises(AttributeError, match="at_a_place_of_jax"):
        rule.step(X, X, rule.init(X))


@pytest.mark.parametrize("name", rules.registry)
def test_ours_are_right_in_all_their_forms(name: str) -> None:
    rule = rules.registry[name]
    for form in (rule, rules.decayed(rule), *(rule.convention(library) for library in rule.conventions)):
        assert fault(form) is None
